"""Rules on task definitions: they can start, pin images, run migrations once, and fit the inventory."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from .checkout import Examined, Finding
from .commands import MIGRATION
from .definitions import TASK, Container, Definition, Definitions, containers
from .iam import ROLE, Attached, allows, attached, policy_name, statements
from .notifications import key_of
from .references import entries, items, referenced, thing
from .rules import LOGS, SECRET, Use
from .terraform import Configuration, Resource
from .values import Text, Value, flat, hidden, number, options, settle, size, symbols, text

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
            if allows(one.parts, action):
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
        else grant.pattern == "*" or (use.identity.startswith(f"{grant.service} ") and grant.covers(use.name))
        for grant in defined.grants
        if role in grant.roles and not grant.misses
    )


#: Tags that say where an image goes, or that it is the newest; never what is in it.
MOVING = frozenset({
    "latest", "main", "master", "stable", "edge", "nightly", "dev", "develop", "prod", "production",
    "staging", "current", "head", "release", "test", "trunk",
})  # fmt: skip
_TAG = re.compile(r":([^:/@]*|[^:/@]*\$\{.*\}[^:/@]*)$")
_MIGRATES = re.compile(rf"{MIGRATION.pattern}|drizzle|db:push|db push|prisma", re.IGNORECASE)


def images(configuration: Configuration) -> tuple[list[str], Examined]:
    """Return every container image, with those that have no tag, or one that can come to mean another image.

    A tag that is a variable without a value in the files is whatever the pipeline has built: pinned.
    """
    seen: list[str] = []
    result = Examined()
    for task in configuration.of_type(TASK):
        found, unread = containers(task)
        result.not_examined.extend(unread)
        for container in found:
            for image in options(container.entries["image"]) if "image" in container.entries else ():
                written = text(flat(image))
                seen.append(written)
                wrong = _moving(written)
                if wrong and written.startswith("${") and written.endswith("}") and hidden(image):
                    result.not_examined.append(
                        task.finding(f"the image of {task.title}: {hidden(image)}", image)
                    )
                elif wrong:
                    result.findings.append(
                        task.finding(f"an image of {task.title} has {wrong}: {written}", image)
                    )
    return seen, result


def _moving(image: str) -> str:
    """What is wrong with an image's tag."""
    if "@sha256:" in image or re.search(r"@\$\{[^}]*digest[^}]*\}$", image):
        return ""
    tag = _TAG.search(re.sub(r"\$\{[^}]*\}", lambda found: found[0].replace(":", "").replace("/", ""), image))
    if tag is None or not tag[1]:
        return "no tag"
    words = tag[1].lower().split("-")
    return f"the moving tag {tag[1]!r}" if tag[1].lower() in MOVING or "latest" in words else ""


def startup_migrations(
    configuration: Configuration, defined: Definitions, migrations: Sequence[str], *, overridden: bool = False
) -> Examined:
    """Return what keeps migrations from being one-shot tasks.

    `migrations` are the names of their task definitions. Each must exist, belong to no service and run a
    program of its own, which whoever runs it may name (`overridden`). No service may migrate by its command.
    """
    result = Examined([], [finding for each in defined.definitions for finding in each.not_examined])
    tasks = {_called(task, defined) for each in defined.definitions for task in each.tasks}
    for label in migrations:
        if label not in tasks:
            configuration.lacks(result, f"there is no task definition {label}", (label, "migrat"))
    for each in defined.definitions:
        if each.service is None:
            continue
        for task in each.tasks:
            if _called(task, defined) in migrations:
                what = f"the service {each.name} keeps the migration {_called(task, defined)} running"
                result.findings.append(each.service.finding(what, each.service.attribute("task_definition")))
            else:
                _starts(result, each, task)
    if not overridden:
        result.findings.extend(_serving(defined, migrations))
    return result


def _serving(defined: Definitions, migrations: Sequence[str]) -> Iterator[Finding]:
    """Migrations that start a service: their containers are some of its own, and none has a command."""
    tasks = [(_called(task, defined), task, containers(task)[0])
             for each in defined.definitions for task in each.tasks]  # fmt: skip
    for name, task, own in tasks:
        if name not in migrations or not own:
            continue
        for other, _, theirs in tasks:
            if other not in migrations and all(any(_runs_as(one, each) for each in theirs) for one in own):
                what = f"{name} runs what {other} runs: the same image, and no command of its own"
                yield task.finding(what)
                break


def _runs_as(container: Container, other: Container) -> bool:
    """Whether one runs what the other does: its image and command, and no variable with a word of its own."""
    both = (container.entries, other.entries)
    if any("image" not in each or "environmentFiles" in each for each in both):
        return False
    programs = [
        [text(flat(word)) for key in ("image", "entryPoint", "command") for word in items(each.get(key))]
        for each in both
    ]
    return programs[0] == programs[1] and _modes(container.entries) <= _modes(other.entries)


#: Names of variables that say how a program runs, never which one.
_HOW = re.compile(r"(?:.*_)?(?:ENV|REGION|TZ|LEVEL|LOG|LOGGING|FORMAT|TIMEOUT|TIMEOUT_MS|PORT|HOST|URL|URI)")


_ADDRESS_OR_SIZE, _REFERENCE = re.compile(r"[:/.]|\A\d{2,}\Z"), re.compile(r"\$\{[^}]*\}")


def _modes(given: Mapping[str, Value]) -> set[str]:
    """The variables of a container that may tell its image what to run: no addresses, sizes and levels."""
    found = {}
    for one in map(entries, items(given.get("environment"))):
        found[text(one.get("name"))] = text(flat(one["value"])) if "value" in one else ""
    return {
        f"{name}={value}"
        for name, value in found.items()
        if not _HOW.fullmatch(name) and not _ADDRESS_OR_SIZE.search(_REFERENCE.sub("", value))
    }


def _called(task: Resource, defined: Definitions) -> str:
    owners = [each.name for each in defined.definitions if task in each.tasks and each.service is None]
    return owners[0] if owners else task.label


def _starts(result: Examined, definition: Definition, task: Resource) -> None:
    """Record the containers of a service that migrate, by what they run."""
    found, unread = containers(task)
    result.not_examined.extend(unread)
    for container in found:
        for name in ("name", "command", "entryPoint"):
            value = container.entries.get(name)
            for option in options(value) if value is not None else ():
                words = " ".join(text(flat(item)) for item in items(option))
                if _MIGRATES.search(re.sub(r"\$\{[^}]*\}", "", words)):
                    what = f"{definition.name} migrates when it starts: {words}"
                    result.findings.append(task.finding(what, option))
                elif hidden(option):
                    what = f"the {name} of {definition.name}: {hidden(option)}"
                    result.not_examined.append(task.finding(what, option))


def inventory(
    configuration: Configuration, defined: Definitions, row: Mapping[str, Any]
) -> tuple[dict[str, str], Examined]:
    """Compare a service's task definition with its row of the plan: CPU, memory and the image's repository.

    Returns what was seen by column, and what differs. An image that the plan leaves empty is not compared.
    """
    result, seen = Examined(), dict[str, str]()
    definition = next(
        (each for each in defined.definitions if each.service and each.name == row["ecs"]), None
    )
    service = definition.service if definition is not None else None
    if definition is None or service is None or not definition.tasks:
        result.not_examined.extend(definition.not_examined if definition else ())
        if not result.not_examined:
            configuration.lacks(
                result, f"there is no service {row['ecs']} with a task definition", (row["ecs"],)
            )
        return seen, result
    result.findings.extend(_idle(configuration, service, definition.name))
    result.findings.extend(_stuck(service, definition.name))
    for task in definition.tasks:
        for column in ("cpu", "memory"):
            _compare(result, seen, task, column, row[column])
        if row["image"]:
            _repository(result, seen, task, row["image"])
    return seen, result


def _idle(configuration: Configuration, service: Resource, name: str) -> Iterator[Finding]:
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


def _stuck(service: Resource, name: str) -> Iterator[Finding]:
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


def one_build(
    defined: Definitions, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]
) -> list[Finding]:
    """Return where a service runs another build than those that have its image by the plan.

    Tags that the files leave open are the pipeline's: one is wrong only where another image has it, too.
    """

    def tags(of: Sequence[Mapping[str, Any]]) -> set[str]:
        return {tag for each in of for _, _, tag in _tagged(defined, each)}

    same = [each for each in rows if row["image"] and each["image"] == row["image"]]
    beside = tags([each for each in same if each is not row])
    foreign = tags([each for each in rows if each not in same])
    return [
        task.finding(
            f"{row['ecs']} runs its image as {tag}, its twin as {' or '.join(sorted(beside))}", image
        )
        for task, image, tag in _tagged(defined, row)
        if beside and tag not in beside
        if tag in foreign or (same[0] is not row and "${" not in " ".join([tag, *beside]))
    ]


def twins(defined: Definitions, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> list[Finding]:
    """Return where a service runs what another one runs that has its image by the plan: one program twice."""
    boxes = {each.name: [(task, box) for task in each.tasks for box in containers(task)[0]]
             for each in defined.definitions if each.service is not None}  # fmt: skip
    before = [each["ecs"] for each in rows[: rows.index(row)] if each["image"] == row["image"] != ""]
    return [
        task.finding(f"{row['ecs']} runs what {other} runs: the same image, and no other command")
        for other in before
        for task, box in boxes.get(row["ecs"], ())
        if any(repository(image) == row["image"] for image in items(box.entries.get("image")))
        if any(_runs_as(box, each) and _runs_as(each, box) for _, each in boxes.get(other, ()))
    ]


def logged(defined: Definitions, directory: str, services: Collection[str]) -> list[Finding]:
    """Return which of these services log into other groups than the one of their name in a directory."""
    result = []
    for service in sorted({*services} & defined.services):
        uses = [use for use in defined.uses if (use.owner, use.kind) == (service, LOGS)]
        wanted = f"{directory}{service}"
        if uses and not any(use.why or "${" in use.name or use.name == wanted for use in uses):
            result.append(uses[0].finding(f"{service} logs into {uses[0].name}, not into {wanted}"))
    return result


def _tagged(defined: Definitions, row: Mapping[str, Any]) -> Iterator[tuple[Resource, Value, str]]:
    """The images of a row's service, or task, from the row's repository: the task, the image, its tag."""
    for each in defined.definitions:
        for task in each.tasks if each.name == row["ecs"] else ():
            for container in containers(task)[0]:
                for image in items(container.entries.get("image")):
                    if row["image"] and repository(image) == row["image"]:
                        yield task, image, re.split(r":(?![^{]*\})", text(flat(image)))[-1]


def _compare(result: Examined, seen: dict[str, str], task: Resource, column: str, wanted: float) -> None:
    value = task.attribute(column)
    if value is None:
        value = _of_containers(task, column)
    if value is None:
        result.findings.append(task.finding(f"{task.title} sets no {column}, the plan says {wanted}"))
        return
    for option in options(value):
        found = size(option)
        seen[column] = text(flat(option))
        if found is None:
            result.not_examined.append(
                task.finding(f"the {column} of {task.title}: {hidden(option)}", option)
            )
        elif found != wanted:
            what = f"the {column} of {task.title} is {seen[column]}, the plan says {wanted}"
            result.findings.append(task.finding(what, option))


def _of_containers(task: Resource, column: str) -> Value | None:
    """The size of a task that sets none of its own: its containers' together."""
    sizes = [each.entries[column] for each in containers(task)[0] if column in each.entries]
    known = [number(each) for each in sizes]
    if not sizes or None in known:
        return sizes[0] if sizes else None
    return Value(int(sum(filter(None, known))), sizes[0].at)


def _repository(result: Examined, seen: dict[str, str], task: Resource, wanted: str) -> None:
    """The first container is the service's own, unless another one has the plan's image."""
    found, unread = containers(task)
    result.not_examined.extend(unread)
    listed = [image for each in found for image in items(each.entries.get("image"))]
    names = [repository(image) for image in listed]
    if not listed:
        if not unread:
            result.findings.append(task.finding(f"no container of {task.title} has an image"))
        return
    own = [index for index, name in enumerate(names) if name == wanted]
    first = items(found[0].entries.get("image")) if found else iter(())
    for image in first if not own else (listed[own[0]],):
        name = repository(image)
        seen["image"] = name
        if "${" in name:
            why = hidden(image) or f"the repository is {name}"
            result.not_examined.append(task.finding(f"the image of {task.title}: {why}", image))
        elif name != wanted:
            what = f"the image of {task.title} comes from the repository {name}, the plan says {wanted}"
            result.findings.append(task.finding(what, image))


def repository(image: Value) -> str:
    """The name of an image's repository, without registry, tag and digest."""
    value = settle(image)
    first = value.content.parts[0] if isinstance(value.content, Text) else value
    resource = referenced(first) if isinstance(first, Value) else None
    if (
        resource is not None
        and resource.type == "aws_ecr_repository"
        and resource.attribute("name") is not None
    ):
        return text(resource.attribute("name"))
    written = text(flat(image)).partition("@")[0]
    last = re.split(r"/(?![^{]*\})", written)[-1]
    return re.split(r":(?![^{]*\})", last)[0]
