"""What each service uses as it runs, what services share, and which secrets their roles may read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from smoke.source.definitions import Ownership

from .account import Account, at_once
from .ecs import Definition, Service

READ = "secretsmanager:GetSecretValue"
_GONE = ("NoSuchEntity",)


@dataclass(frozen=True, slots=True)
class RolePolicies:
    """The statements of each role's policies, by the role's ARN, and the secrets that are asked about."""

    statements: Mapping[str, Sequence[Mapping[str, Any]]]
    secrets: frozenset[str] = field(default_factory=frozenset)

    def readable(self, roles: Iterable[str]) -> list[str]:
        """Those of the secrets that at least one of the roles may read."""
        held = [self.statements.get(role, ()) for role in dict.fromkeys(roles)]
        return sorted(arn for arn in self.secrets if any(allows(each, READ, arn) for each in held))


def allows(statements: Sequence[Mapping[str, Any]], action: str, resource: str) -> bool:
    """Whether policies allow an action, conditions taken as met by what allows and unmet by what denies."""
    hit = [
        each for each in statements if _covers(each, "Action", action) and _covers(each, "Resource", resource)
    ]
    denied = any(each.get("Effect") == "Deny" and not each.get("Condition") for each in hit)
    return not denied and any(each.get("Effect") == "Allow" for each in hit)


def read_policies(account: Account, roles: Iterable[str], secrets: Iterable[str]) -> RolePolicies:
    """Read the inline policies of roles and what is attached to them; a role that does not exist has none.

    AWS's own managed policies are left out: none of those that tasks start with lets anybody read a secret.
    """
    wanted = sorted({role for role in roles if role})
    listed = at_once(lambda role: _listed(account, _name(role)), wanted)
    found: dict[str, list[Any]] = {role: [] for role in wanted}
    jobs = [(role, read) for role, reads in zip(wanted, listed, strict=True) for read in reads]
    documents = at_once(lambda job: job[1](), jobs)
    for (role, _), document in zip(jobs, documents, strict=True):
        statement = document.get("Statement", [])
        found[role] += [statement] if isinstance(statement, Mapping) else statement
    return RolePolicies(found, frozenset(secrets))


def _listed(account: Account, name: str) -> list[Callable[[], Mapping[str, Any]]]:
    """How to read each policy of a role."""
    inline = account.find("iam", "list_role_policies", _GONE, RoleName=name)
    if inline is None:
        return []
    attached = account.ask("iam", "list_attached_role_policies", RoleName=name)["AttachedPolicies"]
    own = [each["PolicyArn"] for each in attached if not each["PolicyArn"].startswith("arn:aws:iam::aws:")]
    return [
        *(partial(_inline, account, name, policy) for policy in inline["PolicyNames"]),
        *(partial(_managed, account, arn) for arn in own),
    ]


def _inline(account: Account, role: str, policy: str) -> Mapping[str, Any]:
    answer = account.ask("iam", "get_role_policy", RoleName=role, PolicyName=policy)
    document: Mapping[str, Any] = answer["PolicyDocument"]
    return document


def _managed(account: Account, arn: str) -> Mapping[str, Any]:
    version = account.ask("iam", "get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"]
    answer = account.ask("iam", "get_policy_version", PolicyArn=arn, VersionId=version)
    document: Mapping[str, Any] = answer["PolicyVersion"]["Document"]
    return document


def _covers(statement: Mapping[str, Any], key: str, value: str) -> bool:
    if key in statement:
        return _matches(statement[key], key, value)
    return f"Not{key}" in statement and not _matches(statement[f"Not{key}"], key, value)


def _matches(patterns: Any, key: str, value: str) -> bool:
    listed = [patterns] if isinstance(patterns, str) else patterns
    if key == "Action":  # actions are the same in any case, resources are not
        return any(fnmatchcase(value.lower(), each.lower()) for each in listed)
    return any(fnmatchcase(value, each) for each in listed)


def _name(role: str) -> str:
    return role.rpartition("/")[2]


FAMILY, EXECUTION_ROLE, TASK_ROLE = "task family", "execution role", "task role"
NETWORK, LOGS, SECRET = "security group", "log group", "secret"
#: What no two definitions may have in common.
OWN = (FAMILY, EXECUTION_ROLE, TASK_ROLE, NETWORK, LOGS)
#: What each service must have.
REQUIRED = (FAMILY, EXECUTION_ROLE, NETWORK, LOGS)


@dataclass(frozen=True, slots=True)
class Use:
    """`owner`, a service or a one-shot task, uses the thing of this kind and identity; `how` it does."""

    kind: str
    identity: str
    owner: str
    how: str = "uses"


def uses_of(owner: str, definition: Definition, service: Service | None, policies: RolePolicies) -> list[Use]:
    """Everything that a service or task uses; a secret also where only its roles may read it."""
    found = [
        (FAMILY, [definition.family]),
        (EXECUTION_ROLE, [definition.execution_role]),
        (TASK_ROLE, [definition.task_role]),
        (NETWORK, service.security_groups if service else ()),
        (LOGS, [each.log_group for each in definition.containers]),
        (SECRET, [secret_of(each) for box in definition.containers for each in box.secrets.values()]),
    ]
    uses = [Use(kind, identity, owner) for kind, identities in found for identity in identities if identity]
    roles = (definition.execution_role, definition.task_role)
    return [*uses, *(Use(SECRET, arn, owner, "may read") for arn in policies.readable(roles))]


def secret_of(value_from: str) -> str:
    """The secret that a container's reference names, without the key or version inside it."""
    parts = value_from.split(":")
    return (
        ":".join(parts[:7]) if value_from.startswith("arn:") and parts[2] == "secretsmanager" else value_from
    )


def owner_of(identity: str, ownership: Ownership) -> str | None:
    """The definition whose name is part of a secret's path; None for one that is nobody's in particular."""
    return ownership.of_secret(identity.rpartition(":")[2])


def lacking(uses: Sequence[Use], ownership: Ownership, group: str, services: Iterable[str]) -> list[str]:
    """What a definition must have and has not."""
    told = []
    for member in (each for each in services if ownership.of(each) == group):
        kinds = {use.kind for use in uses if use.owner == member}
        told += [f"{member} has no {kind}" for kind in REQUIRED if kind not in kinds]
    secrets = [use for use in uses if use.kind == SECRET and ownership.of(use.owner) == group]
    if not any(owner_of(use.identity, ownership) == group for use in secrets):
        told.append(f"{group} has no secret of its own")
    return told


def shared(uses: Sequence[Use], ownership: Ownership, kinds: Iterable[str]) -> dict[str, list[str]]:
    """By definition, what of these kinds it has in common with another, or takes from it.

    A secret that is one definition's by its name belongs to it even where it does not refer to it; one
    that is nobody's in particular does not count here.
    """
    wanted = set(kinds)
    found: dict[str, set[str]] = defaultdict(set)
    for (kind, identity), users in _by_thing(uses).items():
        if kind not in wanted:
            continue
        if kind == SECRET:
            owner = owner_of(identity, ownership)
            for use in users if owner else ():
                user = ownership.of(use.owner)
                if user != owner:
                    told = f"{use.owner} {use.how} the secret {_named(identity)} of {owner}"
                    found[user].add(told)
                    found[str(owner)].add(told)
            continue
        parties = {ownership.of(use.owner) for use in users}
        owners = " and ".join(sorted({use.owner for use in users}))
        for party in parties if len(parties) > 1 else ():
            found[party].add(f"{owners} have the {kind} {_named(identity)} in common")
    return {group: sorted(told) for group, told in found.items()}


def communal(uses: Sequence[Use], ownership: Ownership) -> list[str]:
    """The secrets that are nobody's in particular and serve several definitions."""
    told = []
    for (kind, identity), users in _by_thing(uses).items():
        parties = sorted({ownership.of(use.owner) for use in users})
        if kind == SECRET and owner_of(identity, ownership) is None and len(parties) > 1:
            told.append(f"the secret {_named(identity)} serves {' and '.join(parties)}")
    return sorted(told)


def _by_thing(uses: Sequence[Use]) -> Mapping[tuple[str, str], list[Use]]:
    found: dict[tuple[str, str], list[Use]] = defaultdict(list)
    for use in uses:
        found[use.kind, use.identity].append(use)
    return found


def _named(identity: str) -> str:
    """The part of an ARN that names; anything else as it is."""
    return (
        identity.split(":", 5)[5].removeprefix("role/").removeprefix("secret:")
        if identity.startswith("arn:")
        else identity
    )
