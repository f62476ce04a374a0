"""What each service uses as it runs, what services share, and which secrets their roles may read."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from smoke.source.ownership import EXECUTION_ROLE, FAMILY, LOGS, NETWORK, SECRET, TASK_ROLE, Use

from .account import AwsAccount, at_once
from .ecs import EcsService, TaskDefinition

READ = "secretsmanager:GetSecretValue"
_GONE = ("NoSuchEntity",)
#: AWS's own policy that tasks start with, in any partition: it reads images and writes logs.
_STARTS_TASKS = re.compile(r"arn:aws[\w-]*:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy")


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


def read_policies(account: AwsAccount, roles: Iterable[str], secrets: Iterable[str]) -> RolePolicies:
    """Read the inline policies of roles and what is attached to them; a role that does not exist has none.

    AWS's own policy that tasks start with is left out: it allows reading no secret.
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


def _listed(account: AwsAccount, name: str) -> list[Callable[[], Mapping[str, Any]]]:
    """How to read each policy of a role."""
    inline = account.find("iam", "list_role_policies", _GONE, RoleName=name)
    if inline is None:
        return []
    attached = account.ask("iam", "list_attached_role_policies", RoleName=name)["AttachedPolicies"]
    managed = [each["PolicyArn"] for each in attached if not _STARTS_TASKS.fullmatch(each["PolicyArn"])]
    return [
        *(partial(_inline, account, name, policy) for policy in inline["PolicyNames"]),
        *(partial(_managed, account, arn) for arn in managed),
    ]


def _inline(account: AwsAccount, role: str, policy: str) -> Mapping[str, Any]:
    answer = account.ask("iam", "get_role_policy", RoleName=role, PolicyName=policy)
    document: Mapping[str, Any] = answer["PolicyDocument"]
    return document


def _managed(account: AwsAccount, arn: str) -> Mapping[str, Any]:
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


def uses_of(
    owner: str, definition: TaskDefinition, service: EcsService | None, policies: RolePolicies
) -> list[Use]:
    """Everything that a service or task uses; a secret also where only its roles may read it."""
    found = [
        (FAMILY, [definition.family]),
        (EXECUTION_ROLE, [definition.execution_role]),
        (TASK_ROLE, [definition.task_role]),
        (NETWORK, service.security_groups if service else ()),
        (LOGS, [each.log_group for each in definition.containers]),
        (SECRET, [secret_of(each) for box in definition.containers for each in box.secrets.values()]),
    ]
    uses = [
        Use(kind, identity, owner, _named(identity))
        for kind, identities in found
        for identity in identities
        if identity
    ]
    roles = (definition.execution_role, definition.task_role)
    return [*uses, *(Use(SECRET, arn, owner, _named(arn), "may read") for arn in policies.readable(roles))]


def secret_of(value_from: str) -> str:
    """The secret that a container's reference names, without the key or version inside it."""
    parts = value_from.split(":")
    return (
        ":".join(parts[:7]) if value_from.startswith("arn:") and parts[2] == "secretsmanager" else value_from
    )


def _named(identity: str) -> str:
    """The part of an ARN that names; anything else as it is."""
    return (
        identity.split(":", 5)[5].removeprefix("role/").removeprefix("secret:")
        if identity.startswith("arn:")
        else identity
    )
