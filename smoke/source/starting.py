"""Whether tasks can start: the role that starts one may do what its containers need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .checkout import Examined
from .definitions import Definitions, containers, covers
from .iam import ROLE, Attached, attached, fits, policy_name, statements
from .identities import entries, items, referenced, thing
from .ownership import SECRET, Use
from .terraform import Configuration, Resource
from .values import Text, Value, flat, hidden, is_known, plain, text

#: Policies of AWS with which a task may pull its image and write its logs.
_EXECUTION_POLICIES = {"AmazonECSTaskExecutionRolePolicy", "AdministratorAccess", "PowerUserAccess"}
_PULL, _LOG = "ecr:batchgetimage", "logs:putlogevents"
_SERVICE = "ecs-tasks.amazonaws.com"


class Roles:
    """What the roles of a configuration may do, as far as the files say."""

    def __init__(self, configuration: Configuration) -> None:
        self._policies = list(attached(configuration))
        self._roles = {thing(each.reference, ROLE).key: each for each in configuration.of_type(ROLE)}

    def role(self, key: str) -> Resource | None:
        """The role of this identity."""
        return self._roles.get(key)

    def assumed(self, role: Resource) -> bool | None:
        """Whether a task may act under a role; None where the files do not say."""
        why: list[str] = []
        for each in statements(role.attribute("assume_role_policy"), why):
            principal = each.parts.get("Principal")
            services = {text(flat(one)) for one in items(entries(principal).get("Service", principal))}
            if _SERVICE in services and _allows(each.parts, "sts:assumerole"):
                return True
            if hidden(principal):
                why.append(hidden(principal))
        return None if why else False

    def may(self, key: str, action: str) -> bool | None:
        """Whether the policies of a role allow an action, on whatever; None where one cannot be read."""
        unread = False
        for each in self._policies:
            if key not in each.roles:
                continue
            allowed = self._allows(each, action)
            if allowed:
                return True
            unread |= allowed is None
        return None if unread else False

    def _allows(self, each: Attached, action: str) -> bool | None:
        if each.arn is not None:
            name = policy_name(each.arn)
            return (
                True
                if name in _EXECUTION_POLICIES
                else None
                if "${" in name or "aws:policy/" not in text(each.arn)
                else False
            )
        why: list[str] = []
        if any(_allows(one.parts, action) for one in statements(each.document, why)):
            return True
        return None if why else False


def _allows(parts: Mapping[str, Value], action: str) -> bool:
    if (text(parts.get("Effect")) or "Allow") != "Allow":
        return False
    name = "NotAction" if "NotAction" in parts else "Action"
    named = any(fits(action, str(plain(each)).lower()) for each in items(parts.get(name)) if is_known(each))
    return named != (name == "NotAction")


def starts(configuration: Configuration, defined: Definitions) -> Examined:
    """Return what keeps tasks from starting: a role that nothing assumes, or may not read, pull or write."""
    result, roles = Examined(), Roles(configuration)
    unclear = {role for held, _ in defined.held for role in held}
    for definition in defined.definitions:
        given = [use for use in defined.uses if use.owner == definition.name and use.kind == SECRET]
        given = [use for use in given if use.how == "uses" and not use.why]
        for task in definition.tasks:
            for value in items(task.attribute("execution_role_arn")):
                key = thing(value, ROLE).key
                role = roles.role(key)
                if role is None:
                    what = f"the execution role of {definition.name}: {hidden(value) or text(flat(value))}"
                    result.not_examined.append(task.finding(what, value))
                    continue
                wanted = list(_wanted(roles, key, role, task))
                for use in given:
                    read = _reads(defined, key, use) or (None if key in unclear else False)
                    wanted.append((f"read the secret {use.name}", read))
                _judge(result, role, definition.name, wanted)
    return result


def _wanted(roles: Roles, key: str, role: Resource, task: Resource) -> Iterator[tuple[str, bool | None]]:
    """What a task's containers demand of its role, and whether it has that."""
    yield "be assumed by a task", roles.assumed(role)
    found = [each.entries for each in containers(task)[0]]
    if any(_of_ecr(each) for each in found):
        yield "pull an image", roles.may(key, _PULL)
    if any(text(entries(each.get("logConfiguration")).get("logDriver")) == "awslogs" for each in found):
        yield "write logs", roles.may(key, _LOG)


def _judge(result: Examined, role: Resource, owner: str, wanted: list[tuple[str, bool | None]]) -> None:
    for what, may in wanted:
        if may is None:
            result.not_examined.append(role.finding(f"whether {role.address} may {what}"))
        elif not may:
            result.findings.append(role.finding(f"{role.address} may not {what}: {owner} never starts"))


def _of_ecr(container: Mapping[str, Value]) -> bool:
    """Whether an image comes from a registry of AWS that asks who pulls it."""
    for each in items(container.get("image")):
        first = each.content.parts[0] if isinstance(each.content, Text) else each
        resource = referenced(first) if isinstance(first, Value) else None
        if resource is not None and resource.type == "aws_ecr_repository":
            return True
        if ".dkr.ecr." in text(flat(each)):
            return True
    return False


def _reads(defined: Definitions, role: str, use: Use) -> bool:
    """Whether a policy lets a role read the secret of a use."""
    return any(
        grant.target.key == use.identity
        if grant.target is not None
        else grant.pattern == "*"
        or (use.identity.startswith(f"{grant.service} ") and covers(grant, use.name))
        for grant in defined.grants
        if role in grant.roles
    )
