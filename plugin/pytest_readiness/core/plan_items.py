"""What a launch plan is made of: goals, policy, cover, inventory, operational items, ways back, decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

SEVERITIES = ("Low", "Medium", "High")
OPERATIONAL_RULES = ("live-run", "streak")
ROLLBACK_KINDS = ("full", "partial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A launch goal. ``streak`` marks the goal that consecutive green live runs decide, not checks."""

    id: str
    title: str
    streak: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of the streak, of deferral and of evidence."""

    streak_length: int = 3
    streak_min_spacing_s: int = 0
    streak_max_age_days: int = 14
    max_uncounted_runs: int = 3
    allowed_deferral_severity: str = "Medium"
    require_evidence: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferral:
    """Something left for later: a whole goal, checks by pattern, or an item that no check covers."""

    item: str
    severity: str
    rationale: str
    goal: str = ""
    check: str = ""
    expires: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A named person's time-limited acceptance that one check (or pattern) fails."""

    check: str
    reason: str
    approver: str
    issued: datetime
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryItem:
    """A declared service. ``cpu`` in CPU units, ``memory`` in MiB; 0 and "" where nothing is declared."""

    service: str
    key: str = ""
    url: str = ""
    cpu: int = 0
    memory: int = 0
    image: str = ""
    ecs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationalItem:
    """An item that is ticked from evidence: check patterns that must all pass, or a rule over the ledger."""

    item: str
    checks: tuple[str, ...] = ()
    rule: str = ""
    #: True: only a live environment's checks can tick it.
    live: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """One way back, with the checks that verify its steps without doing them."""

    title: str
    kind: str
    steps: tuple[str, ...]
    checks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One row of the decisions table."""

    date: str
    decision: str
    rationale: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """How the suite shows that it can fail: the command of a platform that takes faults, their catalogue."""

    platform: tuple[str, ...] = ()
    catalogue: str = ""
