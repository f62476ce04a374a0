"""Reading the tables of a launch plan, each with the rules of its own."""

from __future__ import annotations

from collections.abc import Iterable

from .plan_items import (
    OPERATIONAL_RULES,
    ROLLBACK_KINDS,
    SEVERITIES,
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
from .toml import TomlTable

LEDGER_SCHEMES = ("file:", "s3://")


def goals(top: TomlTable) -> tuple[Goal, ...]:
    """Read the goals: at least one, ids unique, at most one decided by the streak."""
    tables = top.tables("goal")
    if not tables:
        top.refuse("goal", "missing", allowed="at least one [[goal]] with id and title")
    read = tuple(_goal(table) for table in tables)
    for number, goal in enumerate(read):
        if goal.id in [earlier.id for earlier in read[:number]]:
            tables[number].refuse("id", f"{goal.id!r} is used twice", allowed="an id of its own")
        if goal.streak and any(earlier.streak for earlier in read[:number]):
            tables[number].refuse(
                "streak", "a second streak goal", allowed="at most one goal with streak = true"
            )
    return read


def phases(top: TomlTable) -> tuple[str, ...]:
    """Read the order of the run, each phase once."""
    names = top.texts("phases", ())
    for name in names:
        if names.count(name) > 1:
            top.refuse("phases", f"{name!r} is used twice", allowed="each phase once")
    return names


def policy(table: TomlTable) -> Policy:
    """Read the policy; every figure has a default."""
    usual = Policy()
    read = Policy(
        streak_length=table.integer("streak_length", usual.streak_length, minimum=1),
        streak_min_spacing_s=table.integer("streak_min_spacing_s", usual.streak_min_spacing_s),
        streak_max_age_days=table.integer("streak_max_age_days", usual.streak_max_age_days, minimum=1),
        max_uncounted_runs=table.integer("max_uncounted_runs", usual.max_uncounted_runs),
        allowed_deferral_severity=table.choice(
            "allowed_deferral_severity", SEVERITIES, usual.allowed_deferral_severity
        ),
        require_evidence=table.boolean("require_evidence", usual.require_evidence),
    )
    table.finish()
    return read


def ledger_url(table: TomlTable, usual: str) -> str:
    """Read the ledger's URL template; ``{env}`` stands for the environment's name."""
    url = table.text("url", usual)
    if not url.startswith(LEDGER_SCHEMES):
        table.refuse("url", f"{url!r} is not a ledger", allowed="file:PATH, s3://BUCKET/PREFIX")
    table.finish()
    return url


def deferral(table: TomlTable, goal_ids: Iterable[str]) -> Deferral:
    """Read a deferral: of a goal, of checks, or of an item alone."""
    read = Deferral(
        item=table.text("item"),
        severity=table.choice("severity", SEVERITIES),
        rationale=table.text("rationale"),
        goal=table.choice("goal", goal_ids, ""),
        check=table.text("check", ""),
        expires=table.optional_moment("expires"),
    )
    if read.goal and read.check:
        table.refuse("check", "a deferral names a goal and a check", allowed="goal, check, or neither")
    table.finish()
    return read


def waiver(table: TomlTable) -> Waiver:
    """Read a waiver: every key is mandatory, and it ends after it begins."""
    check, reason, approver = table.text("check"), table.text("reason"), table.text("approver")
    issued, expires = table.moment("issued"), table.moment("expires")
    if expires <= issued:
        table.refuse("expires", "not after issued", allowed="a time after issued")
    table.finish()
    return Waiver(check=check, reason=reason, approver=approver, issued=issued, expires=expires)


def inventory_item(table: TomlTable) -> InventoryItem:
    """Read a declared service."""
    read = InventoryItem(
        service=table.text("service"),
        key=table.text("key", ""),
        url=table.text("url", "", empty=True),
        cpu=table.integer("cpu", 0),
        memory=table.integer("memory", 0),
        image=table.text("image", "", empty=True),
        ecs=table.text("ecs", "", empty=True),
    )
    table.finish()
    return read


def operational_item(table: TomlTable) -> OperationalItem:
    """Read an operational item: ticked by checks or by a rule, never by hand."""
    read = OperationalItem(
        item=table.text("item"),
        checks=table.texts("checks", ()),
        rule=table.choice("rule", OPERATIONAL_RULES, ""),
        live=table.boolean("live", False),
    )
    if bool(read.checks) == bool(read.rule):
        table.refuse(
            "checks", "an item is ticked by checks or by a rule", allowed="exactly one of checks, rule"
        )
    table.finish()
    return read


def rollback(table: TomlTable) -> Rollback:
    """Read one way back, with at least one step."""
    read = Rollback(
        title=table.text("title"),
        kind=table.choice("kind", ROLLBACK_KINDS),
        steps=table.texts("steps"),
        checks=table.texts("checks", ()),
    )
    if not read.steps:
        table.refuse("steps", "empty", allowed="at least one step")
    table.finish()
    return read


def decisions(table: TomlTable) -> tuple[tuple[Decision, ...], int]:
    """Read the decisions and how many rows the plan's ``ignore_source`` calls noise."""
    noise = table.text("ignore_source", "")
    rows = tuple(_decision(entry) for entry in table.tables("row"))
    table.finish()
    kept = tuple(row for row in rows if not noise or row.source != noise)
    return kept, len(rows) - len(kept)


def self_test(table: TomlTable) -> SelfTest:
    """Read how the suite is tested against faults."""
    read = SelfTest(platform=table.texts("platform", ()), catalogue=table.text("catalogue", ""))
    table.finish()
    return read


def _goal(table: TomlTable) -> Goal:
    read = Goal(id=table.text("id"), title=table.text("title"), streak=table.boolean("streak", False))
    table.finish()
    return read


def _decision(table: TomlTable) -> Decision:
    read = Decision(
        date=table.day("date"),
        decision=table.text("decision"),
        rationale=table.text("rationale", "", empty=True),
        source=table.text("source", "", empty=True),
    )
    table.finish()
    return read
