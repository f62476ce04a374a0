"""Rules on task definitions: pinned images, one-shot migrations, the plan's inventory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .checkout import Examined
from .definitions import TASK, Definition, Definitions, containers
from .identities import items, referenced
from .terraform import Configuration, Resource
from .values import Text, Value, flat, hidden, number, options, settle, text

#: Tags that say where an image goes, or that it is the newest; never what is in it.
MOVING = frozenset({
    "latest", "main", "master", "stable", "edge", "nightly", "dev", "develop", "prod", "production",
    "staging", "current", "head", "release", "test", "trunk",
})  # fmt: skip
_TAG = re.compile(r":([^:/@]*|[^:/@]*\$\{.*\}[^:/@]*)$")
_MIGRATES = re.compile(r"migrat|drizzle|db:push|db push|prisma", re.IGNORECASE)


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
    configuration: Configuration, defined: Definitions, migrations: Sequence[str]
) -> Examined:
    """Return what keeps migrations from being one-shot tasks.

    `migrations` are the names of their task definitions. Each must exist and belong to no service, and no
    service may migrate by its own command.
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
    return result


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
    for count in items(service.attribute("desired_count")):
        if number(count) == 0:
            result.findings.append(service.finding(f"{definition.name} runs no task", count))
    for task in definition.tasks:
        for column in ("cpu", "memory"):
            _compare(result, seen, task, column, row[column])
        if row["image"]:
            _repository(result, seen, task, row["image"])
    return seen, result


def _compare(result: Examined, seen: dict[str, str], task: Resource, column: str, wanted: float) -> None:
    value = task.attribute(column)
    if value is None:
        result.findings.append(task.finding(f"{task.title} sets no {column}, the plan says {wanted}"))
        return
    for option in options(value):
        found = number(option)
        seen[column] = text(flat(option))
        if found is None:
            result.not_examined.append(
                task.finding(f"the {column} of {task.title}: {hidden(option)}", option)
            )
        elif found != wanted:
            what = f"the {column} of {task.title} is {seen[column]}, the plan says {wanted}"
            result.findings.append(task.finding(what, option))


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
