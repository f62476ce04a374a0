"""The launch plan (readiness.toml): its types and its parser, which refuses a malformed plan."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from .errors import PlanError
from .formats import digest, is_one_line, one_line
from .plan_tables import (
    Chart,
    Decision,
    FigureLine,
    InventoryItem,
    OperationalItem,
    Owner,
    Prose,
    Rollback,
    figure_lines,
    operational_item,
    owner,
    rollback,
)
from .toml import TomlTable, load_toml

PLAN_NAME = "readiness.toml"
DEFAULT_LEDGER = "file:.readiness/{env}.jsonl"
LEDGER_SCHEMES = ("file:", "s3://")
SEVERITIES = ("Low", "Medium", "High")
MAX_LIMIT_S = 86_400
#: Bytes that a file system allows in one name.
LONGEST_NAME = 255
_PLACE = {"getter": "place"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A launch goal. ``streak`` marks the goal that consecutive green live runs decide instead of checks."""

    id: str
    title: str
    streak: bool = False
    figures: tuple[FigureLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of the streak, of deferral, of evidence and of redaction.

    ``secret_prefixes`` are prefixes of the platform's API keys; words with them never reach a report.
    """

    streak_length: int = field(default=3, metadata={"minimum": 1, "maximum": 1000})
    streak_min_spacing_s: int = 0
    streak_max_age_days: int = field(default=14, metadata={"minimum": 1, "maximum": 36500})
    max_uncounted_runs: int = 3
    streak_accepts_degraded: bool = False
    allowed_deferral_severity: str = field(default="Medium", metadata={"allowed": SEVERITIES})
    require_evidence: bool = True
    #: Time limit of one attempt of a check in seconds, unless its marker ``timeout`` sets another.
    check_limit_s: int = field(default=300, metadata={"minimum": 1, "maximum": MAX_LIMIT_S})
    secret_prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferral:
    """Something postponed: a goal with all its checks, checks by pattern, or an item without a check."""

    item: str
    severity: str = field(metadata={"allowed": SEVERITIES})
    rationale: str
    goal: str = ""
    check: str = ""
    expires: datetime | None = None
    #: The environments in which it applies; empty: all.
    environments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A named person's time-limited acceptance that a check (or pattern) fails; its owner is someone else."""

    check: str
    reason: str
    approver: str
    owner: str = ""
    issued: datetime
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """What only one run at a time may use: the profile's values ``of`` these names, else a live environment.

    Another run waits for ``wait_s`` seconds.
    """

    of: tuple[str, ...] = ()
    wait_s: int = field(default=120, metadata={"maximum": MAX_LIMIT_S})


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """How the suite proves that it detects faults: a platform's command, and the catalogue of its faults.

    ``variants`` is a file of clean variants, which the command starts with ``--variant ID``. ``judges`` are
    patterns of checks that judge the answers to other checks.
    """

    platform: tuple[str, ...] = ()
    catalogue: str = field(default="", metadata=_PLACE)
    variants: str = field(default="", metadata=_PLACE)
    judges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The parsed plan. ``digest`` covers its content, not its layout; ``facts`` is the suite's own table."""

    source: str
    title: str
    suite: str
    digest: str
    goals: tuple[Goal, ...]
    phases: tuple[str, ...] = ()
    not_waivable: tuple[str, ...] = ()
    #: Patterns of checks that were removed on purpose.
    retired: tuple[str, ...] = ()
    #: Earlier id of a check -> its current id; parameters in brackets do not change.
    renamed: Mapping[str, str] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    ledger_url: str = DEFAULT_LEDGER
    lease: Exclusion = field(default_factory=Exclusion)
    deferrals: tuple[Deferral, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    inventory: tuple[InventoryItem, ...] = ()
    operational: tuple[OperationalItem, ...] = ()
    rollback: tuple[Rollback, ...] = ()
    decisions: tuple[Decision, ...] = ()
    owners: tuple[Owner, ...] = ()
    charts: tuple[Chart, ...] = ()
    declaration_title: str = "Declaration"
    prose: tuple[Prose, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    self_test: SelfTest = field(default_factory=SelfTest)

    @property
    def goal_ids(self) -> tuple[str, ...]:
        """The ids of all goals, in the plan's order."""
        return tuple(goal.id for goal in self.goals)

    @classmethod
    def parse(cls, text: str, source: str) -> Plan:
        """Parse a plan; PlanError naming ``source``, key and allowed values for anything malformed."""
        top = load_toml(text, source, PlanError, collect=True)
        if (version := top.integer("schema_version", minimum=1)) != 1:
            top.refuse("schema_version", f"unknown version {version}", allowed="1")
        goals = _goals(top)
        declaration = top.table("declaration")
        ids = [goal.id for goal in goals]
        plan = cls(
            source=source,
            title=top.text("title"),
            suite=_suite(top),
            digest=_digest(top),
            goals=goals,
            phases=_phases(top),
            not_waivable=top.texts("not_waivable", ()),
            retired=_retired(top),
            renamed=_renamed(top.table("renamed")),
            policy=_policy(top.table("policy")),
            ledger_url=_ledger_url(top.table("ledger")),
            lease=top.table("lease").read(Exclusion),
            deferrals=tuple(_deferral(table, ids) for table in top.tables("deferral")),
            waivers=tuple(map(_waiver, top.tables("waiver"))),
            inventory=top.read_all("inventory", InventoryItem),
            operational=tuple(map(operational_item, top.tables("operational"))),
            rollback=tuple(map(rollback, top.tables("rollback"))),
            decisions=top.read_all("decision", Decision),
            owners=tuple(owner(table, ids) for table in top.tables("owner")),
            charts=top.read_all("chart", Chart),
            declaration_title=declaration.text("title", "Declaration"),
            prose=declaration.read_all("prose", Prose),
            facts=top.free("facts"),
            self_test=top.table("self_test").read(SelfTest),
        )
        declaration.finish()
        top.finish()
        top.settle()
        return plan


def _digest(top: TomlTable) -> str:
    """Digest all but what only the report shows and how runs wait, which do not affect the streak."""
    meaning = {
        key: [_without_figures(entry) for entry in value] if isinstance(value, list) else value
        for key, value in top.data.items()
        if key not in ("chart", "declaration", "lease", "owner")
    }
    try:
        return digest(meaning)
    except ValueError:
        where = _not_finite(top.data)
        top.refuse(where, "a number that is not finite", allowed="numbers other than nan and inf")
        return ""


def _not_finite(value: Any) -> str:
    """Return the key of a nan or inf, "" if there is none."""
    members: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        members = ((f".{key}", member) for key, member in value.items())
    elif isinstance(value, list):
        members = ((f"[{place}]", member) for place, member in enumerate(value, start=1))
    for key, member in members:
        if isinstance(member, float) and not math.isfinite(member):
            return key.lstrip(".")
        if inner := _not_finite(member):
            return f"{key}{'' if inner.startswith('[') else '.'}{inner}".lstrip(".")
    return ""


def _without_figures(entry: Any) -> Any:
    return (
        {key: value for key, value in entry.items() if key != "figure"} if isinstance(entry, dict) else entry
    )


def _goals(top: TomlTable) -> tuple[Goal, ...]:
    """Read the goals: at least one, ids unique, at most one decided by the streak."""
    tables = top.tables("goal")
    if not tables:
        top.refuse("goal", "missing", allowed="at least one [[goal]] with id and title")
    goals = tuple(table.read(Goal, figures=figure_lines(table)) for table in tables)
    for number, goal in enumerate(goals):
        if goal.id in [earlier.id for earlier in goals[:number]]:
            tables[number].refuse("id", f"{goal.id!r} is used twice", allowed="a unique id")
        if goal.streak and any(earlier.streak for earlier in goals[:number]):
            tables[number].refuse(
                "streak", "a second streak goal", allowed="at most one goal with streak = true"
            )
    return goals


def is_directory_name(name: str) -> bool:
    """Tell whether a directory can have this name on any system."""
    return bool(name) and is_one_line(name) and len(name.encode()) <= LONGEST_NAME


def _suite(top: TomlTable) -> str:
    """Read the suite's directory, which is below the plan's."""
    name = top.text("suite")
    path = PurePosixPath(name)
    if not top.is_wrong("suite") and (
        not is_directory_name(name) or path.is_absolute() or ".." in path.parts
    ):
        shown = one_line(name, 60)
        top.refuse(
            "suite", f"{shown!r} is not a directory under the plan's", allowed="a relative path without .."
        )
    return name


def _retired(top: TomlTable) -> tuple[str, ...]:
    """Read the checks that were removed on purpose; a pattern without a phase would hide them all."""
    patterns = top.texts("retired", ())
    for pattern in patterns:
        if not re.fullmatch(r"[^/*?]+/.+", pattern, re.DOTALL):
            top.refuse(
                "retired",
                f"{pattern!r} does not begin with a phase",
                allowed='ids of checks, such as "auth/old-*"',
            )
    return patterns


def _phases(top: TomlTable) -> tuple[str, ...]:
    """Read the order of the run, each phase once."""
    names = top.texts("phases", ())
    for name in names:
        if names.count(name) > 1:
            top.refuse("phases", f"{name!r} is used twice", allowed="each phase once")
    return names


def _renamed(table: TomlTable) -> dict[str, str]:
    """Read the current ids by the earlier ones; each entry must name a check's current id."""
    names = {old: table.text(old) for old in table.data}
    for old, new in names.items():
        if new in names:
            table.refuse(old, f"{new!r} is itself renamed", allowed="the id that the check has now")
    return names


def _policy(table: TomlTable) -> Policy:
    """Read the policy; a prefix of ordinary letters would redact words."""
    policy = table.read(Policy)
    for prefix in policy.secret_prefixes:
        if not re.fullmatch(r"[A-Za-z0-9]{2,}[_-][A-Za-z0-9_-]*", prefix):
            table.refuse(
                "secret_prefixes",
                f"{prefix!r} is not the prefix of an API key",
                allowed='two letters or more, then "_" or "-", such as "sk_"',
            )
    return policy


def _ledger_url(table: TomlTable) -> str:
    """Read the ledger's URL template; ``{env}`` stands for the environment's name."""
    url = table.place("url", DEFAULT_LEDGER)
    if not url.startswith(LEDGER_SCHEMES):
        table.refuse("url", f"{url!r} is not a ledger", allowed="file:PATH, s3://BUCKET/PREFIX")
    table.finish()
    return url


def _deferral(table: TomlTable, goal_ids: Iterable[str]) -> Deferral:
    deferral = table.read(Deferral, goal=table.choice("goal", goal_ids, ""))
    if deferral.goal and deferral.check:
        table.refuse("check", "a deferral names a goal and a check", allowed="goal, check, or neither")
    return deferral


def _waiver(table: TomlTable) -> Waiver:
    """Read a waiver: it must expire after it was issued, and its owner must not be its approver."""
    waiver = table.read(Waiver)
    if waiver.expires <= waiver.issued:
        table.refuse("expires", "not after issued", allowed="a time after issued")
    if waiver.owner and waiver.owner.strip().casefold() == waiver.approver.strip().casefold():
        table.refuse(
            "approver", f"{waiver.approver!r} is also the owner", allowed="someone other than the owner"
        )
    return waiver
