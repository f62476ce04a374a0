"""Rules on task definitions: they pin images, fit the inventory, and run migrations that fail visibly."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from smoke.source.checkout import Examined, Finding
from smoke.source.rules import LOGS
from smoke.source.scripts import shell
from smoke.source.scripts.commands import MIGRATION
from smoke.source.scripts.state import State, TooMany, options_of
from smoke.source.scripts.ways import Ways
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.references import items, objects, referenced
from smoke.source.terraform.values import Text, Value, hidden, number, options, settle, size, text

from .definitions import TASK, Container, Definition, Definitions, containers
from .starting import unreplaceable, without_task

#: Tags that say where an image is deployed, or that it is the newest, but not what it contains.
MOVING = frozenset({
    "latest", "main", "master", "stable", "edge", "nightly", "dev", "develop", "prod", "production",
    "staging", "current", "head", "release", "test", "trunk",
})  # fmt: skip
#: Images of AWS and Docker whose `stable` is the release that their makers recommend.
_CHANNEL = re.compile(
    r"(?:(?:docker\.io/)?(?:amazon/|library/)?|public\.ecr\.aws/(?:aws-observability|docker/library)/)[\w.-]+:stable"
    r"|\d{12}\.dkr\.ecr\.[\w-]+\.amazonaws\.com/aws-for-fluent-bit:stable"
)
_TAG = re.compile(r":([^:/@]*|[^:/@]*\$\{.*\}[^:/@]*)$")
_MIGRATES = re.compile(rf"{MIGRATION.pattern}|drizzle|db:push|db push|prisma", re.IGNORECASE)
#: Words of a command that say nothing about what it does: references, and options that decline something.
_ASIDE = re.compile(
    r"\$\{[^}]*\}|(?<!\S)--?(?:no|skip|without)-\S+|(?<!\S)\S+=(?:false|0|no|off)(?!\S)", re.IGNORECASE
)


def migrates(command: str) -> bool:
    """Whether a command migrates a database when a container starts with it."""
    return _MIGRATES.search(_ASIDE.sub("", command)) is not None


def images(configuration: Configuration) -> tuple[list[str], Examined]:
    """Return every container image, with those that have no tag, or a tag that can move to another image.

    A tag that is a variable without a value in the files comes from the pipeline: pinned.
    """
    seen: list[str] = []
    result = Examined()
    for task in configuration.of_type(TASK):
        found, unread = containers(task)
        result.not_examined.extend(unread)
        for container in found:
            for image in options(container.entries.get("image")):
                written = text(image)
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
    if "@sha256:" in image or _CHANNEL.fullmatch(image) or re.search(r"@\$\{[^}]*digest[^}]*\}$", image):
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
    program of its own, which may be named when the task is run (`overridden`). No service may migrate by its
    command.
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
    result.findings.extend(_scheduled(configuration, defined, migrations))
    return result


def _scheduled(
    configuration: Configuration, defined: Definitions, migrations: Sequence[str]
) -> Iterator[Finding]:
    """Migrations that a schedule runs repeatedly."""
    plans: list[tuple[Resource, Resource, Value | None]] = []
    for target in configuration.of_type("aws_cloudwatch_event_target"):
        rule = referenced(target.attribute("rule"))
        if rule is not None:
            plans += [(rule, target, each.attribute("task_definition_arn"))
                      for each in target.blocks("ecs_target")]  # fmt: skip
    for one in configuration.of_type("aws_scheduler_schedule"):
        plans += [(one, one, each.attribute("task_definition_arn"))
                  for target in one.blocks("target") for each in target.blocks("ecs_parameters")]  # fmt: skip
    for rule, made, value in plans:
        task, when = referenced(value), rule.attribute("schedule_expression")
        again = re.match(r"(?:rate|cron)\(", text(when))
        states = (text(rule.attribute(name)).lower() for name in ("state", "is_enabled"))
        on = not {"disabled", "false"} & {*states}
        if task is not None and again and on and (name := _called(task, defined)) in migrations:
            yield made.finding(f"{rule.address} runs the migration {name} on a schedule", value)


def _serving(defined: Definitions, migrations: Sequence[str]) -> Iterator[Finding]:
    """Migrations that start a service, because they have only its containers without a command."""
    tasks = [(_called(task, defined), task, containers(task)[0])
             for each in defined.definitions for task in each.tasks]  # fmt: skip
    for name, task, own in tasks:
        if name not in migrations or not own:
            continue
        for other, _, theirs in tasks:
            if other not in migrations and all(any(_runs_as(one, each) for each in theirs) for one in own):
                what = f"{name} runs the same program as {other}: the same image and the same command"
                yield task.finding(what)
                break


def _runs_as(container: Container, other: Container) -> bool:
    """Whether two containers run the same: image, command, and no different mode variable."""
    both = (container.entries, other.entries)
    if any("image" not in each or "environmentFiles" in each for each in both):
        return False
    programs = [
        [text(word) for key in ("image", "entryPoint", "command") for word in items(each.get(key))]
        for each in both
    ]
    return programs[0] == programs[1] and modes(container) <= modes(other)


#: Names of variables that say how a program runs, not which program.
_HOW = re.compile(r"(?:.*_)?(?:ENV|REGION|TZ|LEVEL|LOG|LOGGING|FORMAT|TIMEOUT|TIMEOUT_MS|PORT|HOST|URL|URI)")
_ADDRESS_OR_SIZE, _REFERENCE = re.compile(r"[:/.]|\A\d{2,}\Z"), re.compile(r"\$\{[^}]*\}")


def modes(container: Container) -> set[str]:
    """A container's variables that may select what its image runs: no addresses, sizes and levels."""
    given = objects(container.entries.get("environment"))
    found = {text(one.get("name")): text(one.get("value")) for one in given}
    return {
        f"{name}={value}"
        for name, value in found.items()
        if not _HOW.fullmatch(name) and not _ADDRESS_OR_SIZE.search(_REFERENCE.sub("", value))
    }


def _called(task: Resource, defined: Definitions) -> str:
    owners = [each.name for each in defined.definitions if task in each.tasks and each.service is None]
    return owners[0] if owners else task.label


def _starts(result: Examined, definition: Definition, task: Resource) -> None:
    """Record a service's containers that run a migration."""
    found, unread = containers(task)
    result.not_examined.extend(unread)
    for container in found:
        for name in ("name", "command", "entryPoint"):
            for option in options(container.entries.get(name)):
                words = " ".join(text(item) for item in items(option))
                if migrates(words):
                    what = f"{definition.name} migrates when it starts: {words}"
                    result.findings.append(task.finding(what, option))
                elif hidden(option):
                    what = f"the {name} of {definition.name}: {hidden(option)}"
                    result.not_examined.append(task.finding(what, option))


def inventory(
    configuration: Configuration, defined: Definitions, row: Mapping[str, Any]
) -> tuple[dict[str, str], Examined]:
    """Compare a service's task definition with its row of the plan: CPU, memory and the image's repository.

    Returns the values by column, and the differences. An image that the plan leaves empty is not compared.
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
    result.findings.extend(without_task(configuration, service, definition.name))
    result.findings.extend(unreplaceable(service, definition.name))
    for task in definition.tasks:
        for column in ("cpu", "memory"):
            _compare(result, seen, task, column, row[column])
        if row["image"]:
            _repository(result, seen, task, row["image"])
    return seen, result


def one_build(
    defined: Definitions, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]
) -> list[Finding]:
    """Return where a service runs another build than the services with the same image in the plan.

    Tags that the files leave open come from the pipeline; one is wrong only if another image also has it.
    """

    def tags(of: Sequence[Mapping[str, Any]]) -> set[str]:
        return {tag for each in of for _, _, tag in _tagged(defined, each)}

    same = [each for each in rows if row["image"] and each["image"] == row["image"]]
    beside = tags([each for each in same if each is not row])
    foreign = tags([each for each in rows if each not in same])
    others = " or ".join(sorted(beside))
    return [
        task.finding(f"{row['ecs']} runs its image as {tag}, the other service with it as {others}", image)
        for task, image, tag in _tagged(defined, row)
        if beside and tag not in beside
        if tag in foreign or (same[0] is not row and "${" not in " ".join([tag, *beside]))
    ]


def of_another(
    defined: Definitions, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]
) -> Iterator[Finding]:
    """Where a one-shot task runs another service's image by the plan."""
    named = (each for each in reversed(rows) if each["image"] and each["image"] != row["image"])
    others = {each["image"]: each["ecs"] for each in named}
    for each in defined.definitions:
        for container in each.containers if each.name == row["ecs"] and row["image"] else ():
            for image in container.images:
                if (other := others.get(repository(image))) is not None:
                    what = f"{each.name} runs {repository(image)}, the image of {other}"
                    yield container.finding(what, image)


def twins(defined: Definitions, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> list[Finding]:
    """Return where a service runs the same program as another one with the same image in the plan."""
    boxes = {each.name: [*each.containers] for each in defined.definitions if each.service is not None}
    before = [each["ecs"] for each in rows[: rows.index(row)] if each["image"] == row["image"] != ""]
    return [
        box.finding(f"{row['ecs']} runs the same program as {other}: the same image and the same command")
        for other in before
        for box in boxes.get(row["ecs"], ())
        if row["image"] in map(repository, box.images)
        if any(_runs_as(box, each) and _runs_as(each, box) for each in boxes.get(other, ()))
    ]


def logged(defined: Definitions, directory: str, services: Collection[str]) -> list[Finding]:
    """Return which of these services log to other groups than the one with their name in a directory."""
    result = []
    for service in sorted({*services} & defined.services):
        uses = [use for use in defined.uses if (use.owner, use.kind) == (service, LOGS)]
        wanted = f"{directory}{service}"
        if uses and not any(use.why or "${" in use.name or use.name == wanted for use in uses):
            result.append(uses[0].finding(f"{service} logs to {uses[0].name}, not to {wanted}"))
    return result


def _tagged(defined: Definitions, row: Mapping[str, Any]) -> Iterator[tuple[Resource, Value, str]]:
    """The images of a row's service, or task, from the row's repository: the task, the image, its tag."""
    for each in defined.definitions:
        for container in each.containers if each.name == row["ecs"] and row["image"] else ():
            for image in container.images:
                if repository(image) == row["image"]:
                    yield container.task, image, re.split(r":(?![^{]*\})", text(image))[-1]


def _compare(result: Examined, seen: dict[str, str], task: Resource, column: str, wanted: float) -> None:
    value = task.attribute(column)
    if value is None:
        value = _of_containers(task, column)
    if value is None:
        result.findings.append(task.finding(f"{task.title} sets no {column}, but the plan says {wanted}"))
        return
    for option in options(value):
        found = size(option)
        seen[column] = text(option)
        if found is None:
            result.not_examined.append(
                task.finding(f"the {column} of {task.title}: {hidden(option)}", option)
            )
        elif found != wanted:
            what = f"the {column} of {task.title} is {seen[column]}, but the plan says {wanted}"
            result.findings.append(task.finding(what, option))


def _of_containers(task: Resource, column: str) -> Value | None:
    """The size of a task without its own: the sum of its containers'."""
    sizes = [each.entries[column] for each in containers(task)[0] if column in each.entries]
    known = [number(each) for each in sizes]
    if not sizes or None in known:
        return sizes[0] if sizes else None
    return Value(int(sum(filter(None, known))), sizes[0].at)


def _repository(result: Examined, seen: dict[str, str], task: Resource, wanted: str) -> None:
    """The first container is the service's own, unless another one has the plan's image."""
    found, unread = containers(task)
    result.not_examined.extend(unread)
    listed = [image for each in found for image in each.images]
    names = [repository(image) for image in listed]
    if not listed:
        if not unread:
            result.findings.append(task.finding(f"no container of {task.title} has an image"))
        return
    own = [index for index, name in enumerate(names) if name == wanted]
    first = found[0].images if found else iter(())
    for image in first if not own else (listed[own[0]],):
        name = repository(image)
        seen["image"] = name
        if "${" in name:
            why = hidden(image) or f"the repository is {name}"
            result.not_examined.append(task.finding(f"the image of {task.title}: {why}", image))
        elif name != wanted:
            what = f"the image of {task.title} comes from the repository {name}, but the plan says {wanted}"
            result.findings.append(task.finding(what, image))


def repository(image: Value) -> str:
    """The name of an image's repository, without registry, tag and digest."""
    value = settle(image)
    first = value.content.parts[0] if isinstance(value.content, Text) else value
    resource = referenced(first) if isinstance(first, Value) else None
    if resource is not None and resource.type == "aws_ecr_repository" and resource.attribute("name"):
        return text(resource.attribute("name"))
    written = text(image).partition("@")[0]
    last = re.split(r"/(?![^{]*\})", written)[-1]
    return re.split(r":(?![^{]*\})", last)[0]


def swallowed(defined: Definitions, migrations: Sequence[str]) -> Examined:
    """Return how a migration's container command hides its failure."""
    result = Examined()
    for each in defined.definitions:
        for container in each.containers if each.name in migrations else ():
            _judge(result, each.name, container.task, container)
    return result


#: Options with which a program changes nothing, and words behind one that switch it off, or may.
_IDLE, _OFF = ("--dry-run", "--dryrun", "--pretend"), re.compile(r"false|no|off|none|0|.*\$\{.*")


def _judge(result: Examined, name: str, task: Resource, container: Container) -> None:
    words = [word for part in ("entryPoint", "command") for word in items(container.entries.get(part))]
    pairs = zip(words, [*words[1:], None], strict=False)
    idling = (word for word, then in pairs if text(word) in _IDLE and not _OFF.fullmatch(text(then)))
    if idle := next(idling, None):
        what = f"{name} migrates nothing: {text(idle)} only shows what it would do"
        result.findings.append(task.finding(what, idle))
    inline = shell.inline_script([re.sub(r"\$\{[^{}]*\}", "$unknown", text(word)) for word in words])
    if inline is None:
        return
    ways, at = Ways(lambda _: None, task.at.path), words[-1]
    try:
        states = ways.through(inline[0], {options_of(State(), inline[1])})
    except TooMany:
        what = f"whether {name} fails where it must: too many paths"
        result.not_examined.append(task.finding(what, at))
        return
    lost = [each for each in states if each.ok and each.failed]
    if ways.unread or any(each.guess for each in lost):
        why = next((each.guess for each in lost if each.guess), "") or ways.unread[0].command
        result.not_examined.append(task.finding(f"whether {name} fails where it must: {why}", at))
    elif lost:
        how = min(each.how for each in lost) or "the shell goes on"
        result.findings.append(task.finding(f"{name} succeeds even if its migration failed: {how}", at))
