"""Whether the roles of tasks exist, let tasks act under them, and read the secrets that tasks are given."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smoke.source.checkout import Examined, Finding

from .account import AwsAccount, at_once
from .ecs import TaskDefinition
from .reader import READ, AwsReader, allows, covers, secret_of

_TASKS = "ecs-tasks.amazonaws.com"
_ACCOUNT, _SERVICE = 4, 2


def kept_from_starting(aws: AwsReader, one_shots: Sequence[str]) -> tuple[int, Examined]:
    """Return the number of roles, and what keeps tasks from starting under theirs.

    A role of another account, and a secret that has a policy of its own, are not examined.
    """
    owners, held = aws.owners(one_shots), aws.policies(one_shots)
    home = aws.cluster().split(":")[_ACCOUNT]
    wanted = {role: name for name, each in owners.items() for role in _roles(each)}
    roles = [role for role in wanted if not role.startswith("arn:") or role.split(":")[_ACCOUNT] == home]
    documents = at_once(lambda role: _trust(aws.account, role), roles)
    result = Examined([], [_finding(f"{role} of {wanted[role]}") for role in wanted if role not in roles])
    for role, document in zip(roles, documents, strict=True):
        assumed = document is not None and is_assumed(document)
        if assumed is None:
            result.not_examined.append(_finding(f"whether a task may act under {role}"))
        elif not assumed:
            why = "does not exist" if document is None else "lets no task act under it"
            result.findings.append(_finding(f"{wanted[role]} never starts again: its role {role} {why}"))
    there = {role for role, document in zip(roles, documents, strict=True) if document is not None}
    for name, definition in owners.items():
        role = definition.execution_role
        unread = [each for each in _given(definition) if not may_read(held.statements.get(role, ()), each)]
        for secret in unread if role in there else ():
            if _has_policy(aws.account, secret):
                result.not_examined.append(_finding(f"whether the policy of {secret} lets {role} read it"))
            else:
                result.findings.append(_finding(f"{name} never starts again: {role} may not read {secret}"))
    return len(roles), result


def is_assumed(document: Mapping[str, Any]) -> bool | None:
    """Whether a trust policy lets tasks act under its role, conditions met; None where that is unclear."""
    statement = document.get("Statement", [])
    listed = [statement] if isinstance(statement, Mapping) else statement
    assuming = [each for each in listed if covers(each, "Action", "sts:AssumeRole")]
    denied = {who for each in assuming if each.get("Effect") == "Deny" and not each.get("Condition")
              for who in _principals(each)}  # fmt: skip
    allowed = {who for each in assuming if each.get("Effect") == "Allow" for who in _principals(each)}
    if _TASKS in denied:
        return False
    if _TASKS in allowed and "*" not in denied:
        return True
    return None if "*" in denied | allowed else False


def may_read(statements: Sequence[Mapping[str, Any]], secret: str) -> bool:
    """Whether policies let a role read a secret; its ARN may be without the six characters that AWS adds."""
    listed = [each.get("Resource", ()) for each in statements]
    patterns = [one for each in listed for one in ([each] if isinstance(each, str) else each)]
    longer = [each for each in patterns if each.startswith(f"{secret}-")]
    return any(allows(statements, READ, each) for each in (secret, *longer))


def _principals(statement: Mapping[str, Any]) -> Iterator[str]:
    principal = statement.get("Principal", "*")  # without one it names all but some
    named = principal.items() if isinstance(principal, Mapping) else [("AWS", principal)]
    for kind, value in named:
        if kind == "Service" or value == "*":
            yield from [value] if isinstance(value, str) else value


def _roles(definition: TaskDefinition) -> list[str]:
    return [each for each in (definition.execution_role, definition.task_role) if each]


def _finding(what: str) -> Finding:
    return Finding("", 0, what)


def _given(definition: TaskDefinition) -> list[str]:
    """The secrets of Secrets Manager that a task's containers are given."""
    found = [secret_of(each) for box in definition.containers for each in box.secrets.values()]
    return [
        each for each in found if each.startswith("arn:") and each.split(":")[_SERVICE] == "secretsmanager"
    ]


def _trust(account: AwsAccount, role: str) -> Mapping[str, Any] | None:
    name = role.rpartition("/")[2]
    answer = account.find("iam", "get_role", ("NoSuchEntity",), RoleName=name)
    return None if answer is None else answer["Role"]["AssumeRolePolicyDocument"]


def _has_policy(account: AwsAccount, secret: str) -> bool:
    gone = ("ResourceNotFoundException",)
    answer = account.find("secretsmanager", "get_resource_policy", gone, SecretId=secret)
    return bool((answer or {}).get("ResourcePolicy"))
