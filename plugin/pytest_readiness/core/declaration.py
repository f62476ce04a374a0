"""The declaration: what may be said of the platform, in words, and what stands against saying more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .blockers import check_blockers, deferral_blockers, goal_blockers, launch_blockers, run_blockers
from .exemptions import Exemption
from .goals import GoalRow
from .model import CheckResult, GoalStatus, RunRecord, Verdict
from .plan import Plan
from .streak import Streak

LAUNCH = "READY FOR LAUNCH"
FIRST_DEPLOY = "READY FOR FIRST DEPLOY"
DEGRADED = "DEGRADED"
NOT_READY = "NOT READY"
_HOLDS = frozenset({GoalStatus.PASS, GoalStatus.READY, GoalStatus.DEFERRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The words, the sentence that explains them, and what stands against more, most important first."""

    text: str
    why: str
    blockers: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveHistory:
    """What the ledgers know of live environments: the best streak among them, and whether any was green."""

    streak: Streak | None = None
    deployed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that a declaration rests on: the run, judged with its exemptions applied, and the live history."""

    run: RunRecord
    plan: Plan
    verdict: Verdict
    results: Sequence[CheckResult]
    goals: Sequence[GoalRow]
    exemptions: Sequence[Exemption]
    operational: Sequence[Mapping[str, Any]]
    live: LiveHistory

    @property
    def against_ready(self) -> list[dict[str, Any]]:
        """What keeps the run from READY."""
        return [*run_blockers(self.run, self.results, self.plan), *check_blockers(self.run, self.results)]


def declare(found: Findings) -> Declaration:
    """Compute the declaration of a full run; for a partial run see :func:`carried_over`.

    BROKEN and NO_VERDICT are NOT READY, DEGRADED is DEGRADED. A READY run is NOT READY while a goal other
    than the streak's is open, READY FOR FIRST DEPLOY before the first live run, IN VALIDATION k/N until all
    goals PASS on a live environment with its streak and its operational items, and READY FOR LAUNCH then.
    """
    against = tuple(found.against_ready)
    if found.verdict in (Verdict.BROKEN, Verdict.NO_VERDICT):
        return Declaration(text=NOT_READY, why=f"the run is {found.verdict}", blockers=against)
    if found.verdict is Verdict.DEGRADED:
        return Declaration(text=DEGRADED, why="no P0 check failed, but the run is DEGRADED", blockers=against)
    streak_goals = {goal.id for goal in found.plan.goals if goal.streak}
    checked = [row for row in found.goals if row.id not in streak_goals]
    if any(row.status not in _HOLDS for row in checked):
        missing = goal_blockers(found.run, checked, found.results)
        return Declaration(text=NOT_READY, why="a goal has not enough evidence", blockers=tuple(missing))
    if not found.run.live and not found.live.deployed:
        return Declaration(
            text=FIRST_DEPLOY, why="every goal holds, and no live environment has been run yet"
        )
    return _validated(found)


def carried_over(found: Findings, entries: Sequence[Mapping[str, Any]]) -> Declaration:
    """Return the declaration that a partial run leaves in force: that of the newest full run."""
    against = tuple(found.against_ready)
    if not entries:
        why = f"a partial run declares nothing, and no full run of {found.run.environment} is in the ledger"
        return Declaration(text=NOT_READY, why=why, blockers=against)
    newest = entries[-1]
    why = f"a partial run declares nothing; this stands since full run {newest.get('run_id')}"
    return Declaration(text=str(newest.get("declaration", NOT_READY)), why=why, blockers=against)


def _validated(found: Findings) -> Declaration:
    """Declare a platform that has been run live and whose goals all hold: what does a launch still lack?"""
    live = found.live.streak
    against = (
        *deferral_blockers(found.exemptions, found.plan),
        *launch_blockers(found.run, found.plan, found.operational, live),
    )
    settled = all(row.status in (GoalStatus.PASS, GoalStatus.DEFERRED) for row in found.goals)
    if settled and not against:
        return Declaration(
            text=LAUNCH, why="every goal passed on a live environment, and nothing is left to do"
        )
    return Declaration(
        text=f"IN VALIDATION {live.length if live else 0}/{found.plan.policy.streak_length}",
        why=against[0]["summary"] if against else "only a run of the live environment can settle its goals",
        blockers=against,
    )
