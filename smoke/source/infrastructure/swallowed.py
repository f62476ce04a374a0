"""Migrations whose task ends in success although they failed: by the shell that its command starts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from smoke.source.checkout import Examined
from smoke.source.scripts import shell
from smoke.source.scripts.state import State, TooMany, options_of
from smoke.source.scripts.ways import Ways
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.references import items
from smoke.source.terraform.values import flat, text

from .definitions import Container, Definitions, containers


def swallowed(defined: Definitions, migrations: Sequence[str]) -> Examined:
    """Return how the command of a migration's container loses its failure."""
    result = Examined()
    for each in defined.definitions:
        for task in each.tasks if each.name in migrations else ():
            for container in containers(task)[0]:
                _judge(result, each.name, task, container)
    return result


def _judge(result: Examined, name: str, task: Resource, container: Container) -> None:
    words = [word for part in ("entryPoint", "command") for word in items(container.entries.get(part))]
    inline = shell.inline_script([re.sub(r"\$\{[^{}]*\}", "$unknown", text(flat(word))) for word in words])
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
