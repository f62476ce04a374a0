"""Rules on single Terraform resources: pinned images, one-shot migrations, alarms that notify someone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .checkout import Finding
from .definitions import SERVICE, TASK, containers
from .terraform import Module, Resource

ALARM = "aws_cloudwatch_metric_alarm"
#: Tags that say where an image goes, or that it is the newest; never what is in it.
MOVING = frozenset(
    {"latest", "main", "master", "stable", "edge", "nightly", "dev", "prod", "production", "staging"}
)
_TAG = re.compile(r":(\$\{.*\}|[^:/@{}]+)$")
_MIGRATES = re.compile(r"migrat|drizzle|db:push|db push|prisma", re.IGNORECASE)


def images(module: Module) -> list[tuple[str, Finding | None]]:
    """Return every container image, with what is wrong with it: no tag, or one that can come to mean another.

    A tag that is a variable without a default is whatever the pipeline has built: pinned.
    """
    found: list[tuple[str, Finding | None]] = []
    for task in module.of_type(TASK):
        for container in containers(module, task):
            image = container.entries.get("image")
            text = module.text(image)
            tag = _TAG.search(text)
            finding = None
            if "@sha256:" not in text and (tag is None or tag.group(1) in MOVING):
                state = f"the moving tag {tag.group(1)!r}" if tag else "no tag"
                finding = task.finding(f"an image of {task.label} has {state}: {text}", image)
            found.append((text, finding))
    return found


def startup_migrations(module: Module, migrations: Sequence[str]) -> list[Finding]:
    """Return what keeps migrations from being one-shot tasks.

    `migrations` are the labels of their task definitions. Each must exist and belong to no service, and no
    service may migrate by its own command.
    """
    tasks = {task.label: task for task in module.of_type(TASK)}
    findings = [
        Finding(module.directory, 0, f"no task definition {label}")
        for label in migrations
        if label not in tasks
    ]
    for service in module.of_type(SERVICE):
        for address in module.addresses(service.attribute("task_definition")):
            task = module.resources[address]
            if task.label in migrations:
                what = f"the service {service.label} keeps the migration {task.label} running"
                findings.append(service.finding(what, service.attribute("task_definition")))
                continue
            for container in containers(module, task):
                for name in ("command", "entryPoint"):
                    words = container.entries.get(name)
                    text = " ".join(module.text(item) for item in words.items()) if words is not None else ""
                    if _MIGRATES.search(text):
                        findings.append(
                            task.finding(f"{service.label} migrates when it starts: {text}", words)
                        )
    return findings


@dataclass(frozen=True, slots=True)
class Threshold:
    """An alarm's threshold; `value` is None when the files alone do not say it."""

    alarm: Resource
    value: float | None

    def finding(self, what: str) -> Finding:
        """Return a finding at the threshold."""
        return self.alarm.finding(what, self.alarm.attribute("threshold"))


def connection_alarms(module: Module) -> list[Threshold]:
    """Return the alarms on the number of database connections."""
    return [
        Threshold(alarm, value if isinstance(value, int | float) else None)
        for alarm in module.of_type(ALARM)
        if module.text(alarm.attribute("namespace")) == "AWS/RDS"
        and module.text(alarm.attribute("metric_name")) == "DatabaseConnections"
        for value in [module.value(alarm.attribute("threshold"))]
    ]


def mute_alarms(module: Module) -> list[Finding]:
    """Return the alarms that notify no one: without an action, or with their actions switched off."""
    findings = []
    for alarm in module.of_type(ALARM):
        actions = alarm.attribute("alarm_actions")
        switch = alarm.attribute("actions_enabled")
        if actions is None or (actions.kind == "list" and not actions.value):
            findings.append(alarm.finding(f"the alarm {alarm.label} has no action", actions))
        elif module.value(switch) is False:
            findings.append(alarm.finding(f"the actions of the alarm {alarm.label} are switched off", switch))
    return findings
