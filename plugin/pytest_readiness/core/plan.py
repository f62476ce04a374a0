"""The launch plan (readiness.toml): what must hold for a launch, as data, refused whole when malformed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import plan_reading as read
from .digest import digest
from .errors import PlanError
from .plan_items import (
    Decision,
    Deferral,
    Goal,
    InventoryItem,
    OperationalItem,
    Policy,
    Rollback,
    SelfTest,
    Waiver,
)
from .toml import TomlTable, load_toml

__all__ = [
    "Decision",
    "Deferral",
    "Goal",
    "InventoryItem",
    "OperationalItem",
    "Plan",
    "Policy",
    "Rollback",
    "SelfTest",
    "Waiver",
]

DEFAULT_LEDGER = "file:.readiness/{env}.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The parsed plan. ``digest`` covers its meaning, not its layout; ``facts`` is the suite's own table."""

    source: str
    title: str
    suite: str
    digest: str
    goals: tuple[Goal, ...]
    phases: tuple[str, ...] = ()
    not_waivable: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)
    ledger_url: str = DEFAULT_LEDGER
    deferrals: tuple[Deferral, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    inventory: tuple[InventoryItem, ...] = ()
    operational: tuple[OperationalItem, ...] = ()
    rollback: tuple[Rollback, ...] = ()
    decisions: tuple[Decision, ...] = ()
    #: Rows of the decisions table that the plan's own rule calls noise.
    decisions_ignored: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    self_test: SelfTest = field(default_factory=SelfTest)

    @property
    def goal_ids(self) -> tuple[str, ...]:
        """The ids of all goals, in the plan's order."""
        return tuple(goal.id for goal in self.goals)

    @classmethod
    def parse(cls, text: str, source: str) -> Plan:
        """Parse a plan; PlanError naming ``source``, key and allowed values for anything malformed."""
        top = load_toml(text, source, PlanError)
        if top.integer("schema_version", minimum=1) != 1:
            top.refuse("schema_version", f"unknown version {top.data['schema_version']}", allowed="1")
        goals = read.goals(top)
        ids = [goal.id for goal in goals]
        decisions, ignored = read.decisions(top.table("decisions"))
        plan = cls(
            source=source,
            title=top.text("title"),
            suite=top.text("suite"),
            digest=_digest(top),
            goals=goals,
            phases=read.phases(top),
            not_waivable=top.texts("not_waivable", ()),
            policy=read.policy(top.table("policy")),
            ledger_url=read.ledger_url(top.table("ledger"), DEFAULT_LEDGER),
            deferrals=tuple(read.deferral(entry, ids) for entry in top.tables("deferral")),
            waivers=tuple(read.waiver(entry) for entry in top.tables("waiver")),
            inventory=tuple(read.inventory_item(entry) for entry in top.tables("inventory")),
            operational=tuple(read.operational_item(entry) for entry in top.tables("operational")),
            rollback=tuple(read.rollback(entry) for entry in top.tables("rollback")),
            decisions=decisions,
            decisions_ignored=ignored,
            facts=top.free("facts"),
            self_test=read.self_test(top.table("self_test")),
        )
        top.finish()
        return plan


def _digest(top: TomlTable) -> str:
    try:
        return digest(top.data)
    except ValueError:
        top.refuse("facts", "a number that is not finite", allowed="numbers other than nan and inf")
