"""What a plan says of its report: figures beside goals, charts, who owns what, the declaration's prose."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .toml import TomlTable

CHART_KINDS = ("bars", "total")
#: What a text of a figure may ask for: see ``review.figure_lines``.
FIELDS = (
    *("value", "values", "short", "count", "sum", "min", "max", "unit"),
    *("expected", "expected_sum", "limit", "checks", "failed"),
)
_FIELD = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureLine:
    """A sentence with figures in it: ``name`` and ``checks`` are patterns of what it is made from."""

    text: str
    name: str
    checks: str = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture of figures: ``bars``, each against its limit, or the running ``total`` of one amount."""

    title: str
    name: str
    checks: str = "*"
    kind: str = "bars"
    #: Of a total, in the figures' unit; 0 where there is none.
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A team, and the goals, checks (patterns) and services (keys of the inventory) that are its own."""

    team: str
    contact: str = ""
    runbook: str = ""
    goals: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prose:
    """What the declaration says in words when it is ``when``."""

    when: str
    text: str


def figure_lines(table: TomlTable) -> tuple[FigureLine, ...]:
    """Read the figures of a goal, an operational item or a way back; an unknown field is refused."""
    found = []
    for each in table.tables("figure"):
        line = FigureLine(text=each.text("text"), name=each.text("name"), checks=each.text("checks", "*"))
        for field in _FIELD.findall(line.text):
            if field not in FIELDS:
                each.refuse("text", f"unknown field {{{field}}}", allowed=", ".join(FIELDS))
        each.finish()
        found.append(line)
    return tuple(found)


def chart(table: TomlTable) -> Chart:
    """Read a chart."""
    return Chart(
        title=table.text("title"),
        name=table.text("name"),
        checks=table.text("checks", "*"),
        kind=table.choice("kind", CHART_KINDS, "bars"),
        limit=table.integer("limit", 0),
    )


def owner(table: TomlTable, goal_ids: Iterable[str]) -> Owner:
    """Read an owner, who owns something; a runbook is a web address, for reports link to it."""
    found = Owner(
        team=table.text("team"),
        contact=table.text("contact", ""),
        runbook=table.text("runbook", ""),
        goals=table.texts("goals", ()),
        checks=table.texts("checks", ()),
        services=table.texts("services", ()),
    )
    known = [*goal_ids]
    for goal in found.goals:
        if goal not in known:
            table.refuse("goals", f"unknown goal {goal!r}", allowed=", ".join(known))
    if found.runbook and not found.runbook.startswith(("https://", "http://")):
        table.refuse("runbook", f"{found.runbook!r} is not a web address", allowed="https://…")
    if not (found.goals or found.checks or found.services):
        table.refuse("goals", "an owner without anything", allowed="goals, checks or services")
    return found


def prose(table: TomlTable) -> Prose:
    """Read what is said beside one declaration."""
    return Prose(when=table.text("when"), text=table.text("text"))


def fill(text: str, values: dict[str, str]) -> str:
    """Put values into the fields of a text."""
    return _FIELD.sub(lambda match: values[match[1]], text)
