"""Whether tasks start again: their roles, and the secrets with their keys that they are given."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from smoke.source.checkout import Examined, Finding

from . import ecs
from .account import at_once
from .ecs import TaskDefinition
from .policies import (
    LOGGING,
    PULL_TOKEN,
    RolePolicies,
    allows,
    has_policy,
    is_anybodys,
    is_assumed,
    may_read,
    resources,
    trust_of,
    undecrypted,
)
from .policy_conditions import Context
from .reader import AwsReader, secret_of

_ACCOUNT, _REGION, _PARTITION = 4, 3, 1


def kept_from_starting(aws: AwsReader, one_shots: Sequence[str]) -> tuple[int, Examined]:
    """Return the number of roles, and what keeps tasks from starting under theirs, or lets anybody use them.

    A role of another account, a secret that has a policy of its own, and what this runner may not read are
    not examined; the rest is.
    """
    owners, place, result = aws.owners(one_shots), aws.cluster().split(":"), Examined()
    wanted = {role: name for name, each in owners.items() for role in _roles(each)}
    there = _examine_roles(aws, wanted, place, result)
    held = result.attempt(lambda: aws.policies(one_shots))
    context = _acting(place, place[_REGION])
    for name, definition in owners.items() if held is not None else ():
        role = definition.execution_role
        own = held.statements.get(role, ()) if held else ()
        for secret in _given(definition) if role in there else ():
            if not may_read(own, secret, context):
                result.attempt(partial(_unreadable, aws, name, role, secret, result))
        if definition.fargate and role in there:
            result.findings.extend(
                _finding(f"{name} cannot start again: {role} may not {action}")
                for action in _unstarted(definition, place, own)
            )
    _examine_secrets(aws, owners, held, there, result)
    return len([role for role in wanted if _is_here(role, place)]), result


def _is_here(role: str, place: Sequence[str]) -> bool:
    """Whether a role is the cluster's account's."""
    return not role.startswith("arn:") or role.split(":")[_ACCOUNT] == place[_ACCOUNT]


def _acting(place: Sequence[str], region: str) -> Context:
    """What is known of a request that a task's role makes in a region, when the task starts."""
    keys = ("aws:principalaccount", "aws:resourceaccount", "aws:sourceaccount")
    own = {key: [place[_ACCOUNT]] for key in keys}
    return {**own, "aws:requestedregion": [region], "aws:securetransport": ["true"]}


def _starting(place: Sequence[str]) -> Context:
    """What is known of ECS when it acts under a role for a task; which of its ARNs it names is not."""
    arn = ":".join(place[:5])
    sources = [f"{arn}:{kind}/{place[5].rpartition('/')[2]}/x" for kind in ("task", "service")]
    sources += [":".join(place), f"{arn}:task-definition/x:1"]
    return {"aws:sourceaccount": [place[_ACCOUNT]], "aws:sourcearn": sources}


def _examine_roles(
    aws: AwsReader, wanted: Mapping[str, str], place: Sequence[str], result: Examined
) -> set[str]:
    """Whether tasks may act under their roles; the roles that are there."""
    there = set()
    for role, name in wanted.items():
        if not _is_here(role, place):
            result.not_examined.append(_finding(f"{role} of {name}"))
    roles = [role for role in wanted if _is_here(role, place)]
    documents = at_once(lambda role: result.attempt(lambda: (trust_of(aws.account, role),)), roles)
    for role, found in zip(roles, documents, strict=True):
        if found is None:
            continue
        (document,) = found
        assumed = document is not None and is_assumed(document, _starting(place))
        if assumed is None:
            result.not_examined.append(_finding(f"whether a task may assume {role}"))
        elif not assumed:
            why = "does not exist" if document is None else "cannot be assumed by a task"
            result.findings.append(_finding(f"{wanted[role]} cannot start again: its role {role} {why}"))
        if document is not None:
            there.add(role)
            if is_anybodys(document):
                result.findings.append(_finding(f"anybody may assume {role}, the role of {wanted[role]}"))
    return there


def _unreadable(aws: AwsReader, name: str, role: str, secret: str, result: Examined) -> None:
    """A role's own policies do not let it read a secret: then the secret's own policy may."""
    place, parts = aws.cluster().split(":"), secret.split(":")
    if parts[_REGION] != place[_REGION] or parts[_ACCOUNT] != place[_ACCOUNT]:
        other = "region" if parts[_REGION] != place[_REGION] else "account"
        result.not_examined.append(_finding(f"whether {role} may read {secret} of another {other}"))
    elif has_policy(aws.account, secret):
        result.not_examined.append(_finding(f"whether the policy of {secret} lets {role} read it"))
    else:
        result.findings.append(_finding(f"{name} cannot start again: {role} may not read {secret}"))


def _unstarted(
    definition: TaskDefinition, place: Sequence[str], own: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """What a task on Fargate needs to pull images from ECR and to write logs, and its role may not."""
    images = (ecs.IN_ECR.fullmatch(box.image) for box in definition.containers)
    regions = {found["region"] for found in images if found}
    if any(not allows(own, PULL_TOKEN, "*", _acting(place, each)) for each in regions):
        yield PULL_TOKEN
    streams = {each.partition(":log-stream:")[2] for each in resources(own)}  # by their prefix
    for box in definition.containers:
        group = f"arn:{place[_PARTITION]}:logs:{box.log_region}:{place[_ACCOUNT]}:log-group:{box.log_group}"
        named = [group, f"{group}:*", *(f"{group}:log-stream:{each or 'x'}" for each in streams)]
        for action in LOGGING if box.log_region and box.log_group else ():
            if not any(allows(own, action, each, _acting(place, box.log_region)) for each in named):
                yield f"{action} in {box.log_group}"


def _examine_secrets(
    aws: AwsReader,
    owners: Mapping[str, TaskDefinition],
    held: RolePolicies | None,
    there: Collection[str],
    result: Examined,
) -> None:
    """Whether the secrets that tasks are given are there, and can be decrypted under their roles, if `there`.

    Those of another account or region are not looked up.
    """
    place, gone = aws.cluster().split(":")[3:5], ("ResourceNotFoundException",)
    given = {
        (name, definition.execution_role, secret): None
        for name, definition in owners.items()
        for secret in _given(definition)
        if secret.split(":")[3:5] == place
    }
    secrets = [*dict.fromkeys(secret for *_, secret in given)]

    def read(secret: str) -> tuple[dict[str, Any] | None] | None:
        find = partial(aws.account.find, "secretsmanager", "describe_secret", gone)
        return result.attempt(lambda: (find(SecretId=secret),))

    described = dict(zip(secrets, at_once(read, secrets), strict=True))
    for name, role, secret in given:
        if (told := described[secret]) is None:
            continue
        (found,) = told
        key = (found or {}).get("KmsKeyId", "")
        why: str | None = "does not exist" if found is None else ""
        if found and found.get("DeletedDate"):
            why = "is marked for deletion"
        elif key and role in there and held and not key.endswith(SECRETS_KEY):
            own = held.statements.get(role, ())
            answer = result.attempt(lambda: (undecrypted(aws.account, key, role, own, place),))  # noqa: B023
            if answer is None:
                continue
            (why,) = answer
        if why is None:
            unread = f"whether the policy of {key}, which is another account's, lets {role} decrypt {secret}"
            result.not_examined.append(_finding(unread))
        elif why:
            result.findings.append(_finding(f"{name} cannot start again: {secret} {why}"))


#: AWS's own key for secrets, which every role of the account may use through Secrets Manager.
SECRETS_KEY = "alias/aws/secretsmanager"


def _roles(definition: TaskDefinition) -> list[str]:
    return [each for each in (definition.execution_role, definition.task_role) if each]


def _finding(what: str) -> Finding:
    return Finding("", 0, what)


def _given(definition: TaskDefinition) -> list[str]:
    """The secrets of Secrets Manager that a task's containers are given."""
    found = [secret_of(each) for box in definition.containers for each in box.secrets.values()]
    return [each for each in found if re.match(r"arn:[\w-]+:secretsmanager:", each)]
