"""What keeps tasks from starting: their roles, the number of them, or how they are replaced."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from smoke.source.checkout import Examined, Finding
from smoke.source.rules import SECRET, Use
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.references import entries, items, referenced, thing
from smoke.source.terraform.values import Text, Value, flat, hidden, number, settle, symbols, text

from .definitions import Definitions, containers
from .iam import ROLE, Attached, allows, attached, never, policy_name, statements
from .resource_policies import key_of

#: Policies of AWS with which a task may pull its image and write its logs.
_ANYTHING = {"AdministratorAccess", "PowerUserAccess"}
_EXECUTION_POLICIES = {"AmazonECSTaskExecutionRolePolicy", *_ANYTHING}
_DECRYPT = "kms:decrypt"
_PULL, _LOG = "ecr:batchgetimage", "logs:putlogevents"
_SERVICE = "ecs-tasks.amazonaws.com"


class Roles:
    """What the roles of a configuration may do, as far as the files say."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration, self._policies = configuration, list(attached(configuration))
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
            if _SERVICE in services and allows(each.parts, "sts:assumerole"):
                if never(each.parts, self._configuration.home):
                    continue
                return True
            why += _left_open(each.parts)
        return None if why else False

    def may(self, key: str, action: str) -> bool | None:
        """Whether the policies of a role allow an action, on whatever; None where one cannot be read."""
        unread = self.open(key)
        for each in self._policies:
            if key not in each.roles:
                continue
            allowed = self._allows(each, action)
            if allowed:
                return True
            unread |= allowed is None
        return None if unread else False

    def open(self, key: str) -> bool:
        """Whether a role may have policies of which the files do not say: by a module, or a variable."""
        role = self.role(key)
        named = {each for policy in self._policies for each in policy.roles} - self._roles.keys()
        given = role is not None and self._configuration.receivers(role)
        return bool(given) or any("${" in each or not each.startswith(f"{ROLE} ") for each in named)

    def _allows(self, each: Attached, action: str) -> bool | None:
        if each.arn is not None:
            name = policy_name(each.arn)
            return (
                True
                if name in (_ANYTHING if action == _DECRYPT else _EXECUTION_POLICIES)
                else None
                if "${" in name or "aws:policy/" not in text(each.arn)
                else False
            )
        why: list[str] = []
        for one in statements(each.document, why):
            if allows(one.parts, action) and not never(one.parts, self._configuration.home):
                return True
            why += _left_open(one.parts)
        return None if why else False


def _left_open(parts: Mapping[str, Value]) -> list[str]:
    """Why a statement may allow more than it says."""
    return [
        why for name in ("Effect", "Principal", "Action", "NotAction") if (why := hidden(parts.get(name)))
    ]


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
                decrypts = roles.may(key, _DECRYPT)
                wanted += [
                    (f"decrypt what {locked.address} encrypts, as the secrets of its task", decrypts)
                    for locked in _locked(configuration, task)
                ]
                for use in given:
                    read = _reads(defined, key, use) or (None if key in unclear or roles.open(key) else False)
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


def _locked(configuration: Configuration, task: Resource) -> list[Resource]:
    """The keys of a task's secrets that leave it to the policies of roles who uses them."""
    found = {}
    for container in containers(task)[0]:
        for each in map(entries, items(container.entries.get("secrets"))):
            held = referenced(each["valueFrom"]) if "valueFrom" in each else None
            by = (
                held.attribute(_ENCRYPTED[held.type])
                if held is not None and held.type in _ENCRYPTED
                else None
            )
            key = key_of(configuration, by) if by is not None else None
            if key is not None and key.attribute("policy") is None and not configuration.receivers(key):
                found[key.address] = key
    for other in [*configuration.of_type("aws_kms_key_policy"), *configuration.of_type("aws_kms_grant")]:
        of = other.attribute("key_id")
        key = key_of(configuration, of) if of is not None else None
        if key is None:
            return []
        found.pop(key.address, None)
    return [*found.values()]


#: Where a secret, or a parameter, says which key encrypts it.
_ENCRYPTED = {"aws_secretsmanager_secret": "kms_key_id", "aws_ssm_parameter": "key_id"}


def _judge(result: Examined, role: Resource, owner: str, wanted: list[tuple[str, bool | None]]) -> None:
    for what, may in wanted:
        if may is None:
            result.not_examined.append(role.finding(f"whether {role.address} may {what}"))
        elif not may:
            result.findings.append(role.finding(f"{role.address} may not {what}, so {owner} never starts"))


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
        else grant.pattern == "*" or (use.identity.startswith(f"{grant.service} ") and grant.covers(use.name))
        for grant in defined.grants
        if role in grant.roles and not grant.misses
    )


def without_task(configuration: Configuration, service: Resource, name: str) -> Iterator[Finding]:
    """What leaves a service without a task: its own number, or that of what scales it."""
    for target in configuration.of_type("aws_appautoscaling_target"):
        most = target.attribute("max_capacity") if _scales(target, service) else None
        if most is not None and number(flat(most)) == 0:
            yield target.finding(f"{name} is scaled to 0 tasks at most", most)
    for action in configuration.of_type("aws_appautoscaling_scheduled_action"):
        for block in action.blocks("scalable_target_action") if _scales(action, service) else ():
            most = block.attribute("max_capacity")
            if most is not None and number(flat(most)) == 0:
                yield block.finding(f"{name} is scaled to 0 tasks by {action.address}", most)
    for count in items(service.attribute("desired_count")):
        if number(count) == 0:
            yield service.finding(f"{name} runs no task", count)


def _scales(scaling: Resource, service: Resource) -> bool:
    """Whether a target or an action of autoscaling is of the tasks of a service."""
    of = scaling.attribute("resource_id")
    named = {each.resource for each in symbols(settle(of))} if of is not None else set()
    own = service.attribute("name")
    written = text(flat(of)) if of is not None else ""
    return service in named or (own is not None and written.endswith(f"/{text(flat(own))}"))


def unreplaceable(service: Resource, name: str) -> Iterator[Finding]:
    """A service of which no task may be stopped, and none started: its deployments never end."""
    low, high, wanted = (
        service.attribute(each)
        for each in ("deployment_minimum_healthy_percent", "deployment_maximum_percent", "desired_count")
    )
    tasks = number(flat(wanted)) if wanted is not None else None
    least = 100.0 if low is None else number(flat(low))
    most = 200.0 if high is None else number(flat(high))
    rolling = not service.blocks("deployment_controller") and not service.blocks("deployment_configuration")
    if rolling and tasks and least is not None and most is not None and stuck(int(tasks), least, most):
        what = f"{name} keeps {least:g} to {most:g} percent of {tasks:g} tasks: no deployment can replace one"
        yield service.finding(what, high or low)


def stuck(tasks: int, least: float, most: float) -> bool:
    """Whether a rolling deployment can neither stop nor start a task; ECS rounds up, and down."""
    return math.floor(tasks * most / 100) <= tasks <= math.ceil(tasks * least / 100)
