"""What the services have for themselves and what they share, as it runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from smoke.source.definitions import Ownership

from .ecs import Definition, Service
from .policies import RolePolicies

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
