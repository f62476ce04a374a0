"""The tables of a plan that only the report shows: figures, charts, owners, prose, and the launch tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .toml import TomlTable

CHART_KINDS = ("bars", "curve", "total")
#: Fields in a figure's text: see ``review.figure_lines``.
FIELDS = (
    *("value", "values", "short", "count", "sum", "min", "max", "unit"),
    *("expected", "expected_sum", "limit", "checks", "failed"),
)
_FIELD = re.compile(r"\{(\w*)\}")
_EMPTY = {"empty": True}


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
    kind: str = field(default="bars", metadata={"allowed": CHART_KINDS})
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
    found = [(each, each.read(FigureLine)) for each in table.tables("figure")]
    for each, line in found:
        for name in _FIELD.findall(line.text):
            if name not in FIELDS:
                each.refuse("text", f"unknown field {{{name}}}", allowed=", ".join(FIELDS))
    return tuple(line for _, line in found)


def owner(table: TomlTable, goal_ids: Iterable[str]) -> Owner:
    """Read an owner of at least one thing; a runbook is a web address, because reports link to it."""
    found = table.read(Owner)
    known = [*goal_ids]
    for goal in found.goals:
        if goal not in known:
            table.refuse("goals", f"unknown goal {goal!r}", allowed=", ".join(known))
    if found.runbook and not found.runbook.startswith(("https://", "http://")):
        table.refuse("runbook", f"{found.runbook!r} is not a web address", allowed="https://…")
    if not (found.goals or found.checks or found.services):
        table.refuse("goals", "owns nothing", allowed="goals, checks or services")
    return found


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
    url: str = field(default="", metadata={"getter": "place", **_EMPTY})
    cpu: int = 0
    memory: int = 0
    image: str = field(default="", metadata=_EMPTY)
    ecs: str = field(default="", metadata=_EMPTY)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationalItem:
    """A checklist item that evidence ticks: check patterns that must all pass, or a rule over the ledger."""

    item: str
    checks: tuple[str, ...] = ()
    rule: str = field(default="", metadata={"allowed": OPERATIONAL_RULES})
    #: True: only checks in a live environment can tick it.
    live: bool = False
    #: True: checks that do not apply in this run, such as drills without ``--drills``, need not pass.
    applicable: bool = False
    figures: tuple[FigureLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """A rollback procedure, with the checks that verify its steps without taking them."""

    title: str
    kind: str = field(metadata={"allowed": ROLLBACK_KINDS})
    steps: tuple[str, ...]
    checks: tuple[str, ...] = ()
    figures: tuple[FigureLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision on which the launch is based."""

    date: str = field(metadata={"getter": "day"})
    decision: str
    rationale: str = field(default="", metadata=_EMPTY)
    source: str = field(default="", metadata=_EMPTY)


def operational_item(table: TomlTable) -> OperationalItem:
    """Read an operational item: ticked by checks or by a rule, never by hand."""
    item = table.read(OperationalItem, figures=figure_lines(table))
    if bool(item.checks) == bool(item.rule) and not table.is_wrong("checks", "rule"):
        table.refuse(
            "checks", "an item is ticked by checks or by a rule", allowed="exactly one of checks, rule"
        )
    return item


def rollback(table: TomlTable) -> Rollback:
    """Read a rollback procedure with at least one step."""
    rollback = table.read(Rollback, figures=figure_lines(table))
    if not rollback.steps:
        table.refuse("steps", "empty", allowed="at least one step")
    return rollback
