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
from .toml import TomlTable, load_toml

PLAN_NAME = "readiness.toml"
DEFAULT_LEDGER = "file:.readiness/{env}.jsonl"
LEDGER_SCHEMES = ("file:", "s3://")
SEVERITIES = ("Low", "Medium", "High")
MAX_LIMIT_S = 86_400
#: Bytes that a file system allows in one name.
LONGEST_NAME = 255
CHART_KINDS = ("bars", "curve", "total")
#: Fields in a figure's text: see ``review.figure_lines``.
FIELDS = (
    *("value", "values", "short", "count", "sum", "min", "max", "unit"),
    *("expected", "expected_sum", "limit", "checks", "failed"),
)
FIELD = re.compile(r"\{(\w*)\}")
_EMPTY, _PLACE = {"empty": True}, {"getter": "place"}
OPERATIONAL_RULES = ("live-run", "streak")
ROLLBACK_KINDS = ("full", "partial")
#: What a run can declare; k/N follows IN VALIDATION.
DECLARATIONS = ("READY FOR LAUNCH", "READY FOR FIRST DEPLOY", "IN VALIDATION", "DEGRADED", "NOT READY")


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
    """The text that the report shows if the declaration is ``when``, of a validation at any k/N."""

    when: str = field(metadata={"allowed": DECLARATIONS})
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryItem:
    """A declared service. ``cpu`` in CPU units, ``memory`` in MiB; 0 and "" if nothing is declared."""

    service: str
    key: str = ""
    url: str = field(default="", metadata=_PLACE | _EMPTY)
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
            operational=tuple(map(_operational, top.tables("operational"))),
            rollback=tuple(map(_rollback, top.tables("rollback"))),
            decisions=top.read_all("decision", Decision),
            owners=tuple(_owner(table, ids) for table in top.tables("owner")),
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


def _not_finite(value: Any, at: str = "") -> str:
    """Return the key of a nan or inf, "" if there is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return at.lstrip(".")
    members: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        members = ((f"{at}.{key}", member) for key, member in value.items())
    elif isinstance(value, list):
        members = ((f"{at}[{place}]", member) for place, member in enumerate(value, start=1))
    return next(filter(None, (_not_finite(member, key) for key, member in members)), "")


def _without_figures(entry: Any) -> Any:
    return {key: each for key, each in entry.items() if key != "figure"} if isinstance(entry, dict) else entry


def _goals(top: TomlTable) -> tuple[Goal, ...]:
    """Read the goals: at least one, ids unique, at most one decided by the streak."""
    tables = top.tables("goal")
    if not tables:
        top.refuse("goal", "missing", allowed="at least one [[goal]] with id and title")
    goals = tuple(table.read(Goal, figures=_figure_lines(table)) for table in tables)
    for number, (goal, table) in enumerate(zip(goals, tables, strict=True)):
        earlier = goals[:number]
        if goal.id in [each.id for each in earlier]:
            table.refuse("id", f"{goal.id!r} is used twice", allowed="a unique id")
        if goal.streak and any(each.streak for each in earlier):
            table.refuse("streak", "a second streak goal", allowed="at most one goal with streak = true")
    return goals


def is_directory_name(name: str) -> bool:
    """Tell whether a directory can have this name on any system."""
    return bool(name) and is_one_line(name) and len(name.encode()) <= LONGEST_NAME


def _suite(top: TomlTable) -> str:
    """Read the suite's directory, which is below the plan's."""
    name = top.text("suite")
    path = PurePosixPath(name)
    is_below = is_directory_name(name) and not path.is_absolute() and ".." not in path.parts
    if not is_below and not top.is_wrong("suite"):
        what = f"{one_line(name, 60)!r} is not a directory under the plan's"
        top.refuse("suite", what, allowed="a relative path without ..")
    return name


def _retired(top: TomlTable) -> tuple[str, ...]:
    """Read the checks that were removed on purpose; a pattern without a phase would hide them all."""
    patterns = top.texts("retired", ())
    for pattern in patterns:
        if not re.fullmatch(r"[^/*?]+/.+", pattern, re.DOTALL):
            what = f"{pattern!r} does not begin with a phase"
            top.refuse("retired", what, allowed='ids of checks, such as "auth/old-*"')
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
            allowed = 'two letters or more, then "_" or "-", such as "sk_"'
            table.refuse("secret_prefixes", f"{prefix!r} is not the prefix of an API key", allowed=allowed)
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
        what = f"{waiver.approver!r} is also the owner"
        table.refuse("approver", what, allowed="someone other than the owner")
    return waiver


def _figure_lines(table: TomlTable) -> tuple[FigureLine, ...]:
    """Read the figures of a goal, an operational item or a rollback; an unknown field is refused."""
    found = [(each, each.read(FigureLine)) for each in table.tables("figure")]
    for each, line in found:
        for name in FIELD.findall(line.text):
            if name not in FIELDS:
                each.refuse("text", f"unknown field {{{name}}}", allowed=", ".join(FIELDS))
    return tuple(line for _, line in found)


def _owner(table: TomlTable, goal_ids: Iterable[str]) -> Owner:
    """Read an owner of goals, checks or services; reports link to its runbook, a web address."""
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


def _operational(table: TomlTable) -> OperationalItem:
    """Read an operational item: ticked by checks or by a rule, never by hand."""
    item = table.read(OperationalItem, figures=_figure_lines(table))
    if bool(item.checks) == bool(item.rule) and not table.is_wrong("checks", "rule"):
        what = "an item is ticked by checks or by a rule"
        table.refuse("checks", what, allowed="exactly one of checks, rule")
    return item


def _rollback(table: TomlTable) -> Rollback:
    """Read a rollback procedure with at least one step."""
    rollback = table.read(Rollback, figures=_figure_lines(table))
    if not rollback.steps:
        table.refuse("steps", "empty", allowed="at least one step")
    return rollback
