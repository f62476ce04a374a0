"""The tables of a plan that only the report shows: figures, charts, owners, prose, and the launch tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .toml import TomlTable

CHART_KINDS = ("bars", "curve", "total")
#: Fields in a figure's text: see ``review.figure_lines``.
FIELDS = (
    *("value", "values", "short", "count", "sum", "min", "max", "unit"),
    *("expected", "expected_sum", "limit", "checks", "failed"),
)
_FIELD = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureLine:
    """A sentence with figures: ``name`` and ``checks`` are patterns that select them."""

    text: str
    name: str
    checks: str = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart of figures: ``bars`` with limits, a ``curve``, or the running ``total`` of one amount."""

    title: str
    name: str
    checks: str = "*"
    kind: str = "bars"
    #: Of a total, in the figures' unit; 0 for none.
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A team, and the goals, checks (patterns) and services (keys of the inventory) that it owns."""

    team: str
    contact: str = ""
    runbook: str = ""
    goals: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prose:
    """The text that the report shows if the declaration is ``when``."""

    when: str
    text: str


def figure_lines(table: TomlTable) -> tuple[FigureLine, ...]:
    """Read the figures of a goal, an operational item or a rollback; an unknown field is refused."""
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
    """Read an owner of at least one thing; a runbook is a web address, because reports link to it."""
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
        table.refuse("goals", "owns nothing", allowed="goals, checks or services")
    return found


def prose(table: TomlTable) -> Prose:
    """Read the text for one declaration."""
    return Prose(when=table.text("when"), text=table.text("text"))


def fill(text: str, values: dict[str, str]) -> str:
    """Fill the fields of a text with values."""
    return _FIELD.sub(lambda match: values[match[1]], text)


OPERATIONAL_RULES = ("live-run", "streak")
ROLLBACK_KINDS = ("full", "partial")


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryItem:
    """A declared service. ``cpu`` in CPU units, ``memory`` in MiB; 0 and "" if nothing is declared."""

    service: str
    key: str = ""
    url: str = ""
    cpu: int = 0
    memory: int = 0
    image: str = ""
    ecs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationalItem:
    """A checklist item that evidence ticks: check patterns that must all pass, or a rule over the ledger."""

    item: str
    checks: tuple[str, ...] = ()
    rule: str = ""
    #: True: only checks in a live environment can tick it.
    live: bool = False
    #: True: checks that do not apply in this run, such as drills without ``--drills``, need not pass.
    applicable: bool = False
    figures: tuple[FigureLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """A rollback procedure, with the checks that verify its steps without taking them."""

    title: str
    kind: str
    steps: tuple[str, ...]
    checks: tuple[str, ...] = ()
    figures: tuple[FigureLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision on which the launch is based."""

    date: str
    decision: str
    rationale: str = ""
    source: str = ""


def inventory_item(table: TomlTable) -> InventoryItem:
    """Read a declared service."""
    return InventoryItem(
        service=table.text("service"),
        key=table.text("key", ""),
        url=table.place("url", "", empty=True),
        cpu=table.integer("cpu", 0),
        memory=table.integer("memory", 0),
        image=table.text("image", "", empty=True),
        ecs=table.text("ecs", "", empty=True),
    )


def operational_item(table: TomlTable) -> OperationalItem:
    """Read an operational item: ticked by checks or by a rule, never by hand."""
    item = OperationalItem(
        item=table.text("item"),
        checks=table.texts("checks", ()),
        rule=table.choice("rule", OPERATIONAL_RULES, ""),
        live=table.boolean("live", False),
        applicable=table.boolean("applicable", False),
        figures=figure_lines(table),
    )
    if bool(item.checks) == bool(item.rule) and not table.is_wrong("checks", "rule"):
        table.refuse(
            "checks", "an item is ticked by checks or by a rule", allowed="exactly one of checks, rule"
        )
    return item


def rollback(table: TomlTable) -> Rollback:
    """Read a rollback procedure with at least one step."""
    rollback = Rollback(
        title=table.text("title"),
        kind=table.choice("kind", ROLLBACK_KINDS),
        steps=table.texts("steps"),
        checks=table.texts("checks", ()),
        figures=figure_lines(table),
    )
    if not rollback.steps:
        table.refuse("steps", "empty", allowed="at least one step")
    return rollback


def decision(table: TomlTable) -> Decision:
    """Read a decision."""
    return Decision(
        date=table.day("date"),
        decision=table.text("decision"),
        rationale=table.text("rationale", "", empty=True),
        source=table.text("source", "", empty=True),
    )
