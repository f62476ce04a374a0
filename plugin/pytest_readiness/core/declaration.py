"""The declaration: what may be said of the platform, in words, and what stands against saying more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .blockers import check_blockers, deferral_blockers, goal_blockers, launch_blockers, run_blockers
from .cover import Cover
from .goals import GoalRow
from .model import CheckResult, GoalStatus, Scope, Verdict
from .plan import Plan
from .record import RunRecord
from .streak import Streak

LAUNCH = "READY FOR LAUNCH"
FIRST_DEPLOY = "READY FOR FIRST DEPLOY"
DEGRADED = "DEGRADED"
NOT_READY = "NOT READY"


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


def declare(
    run: RunRecord,
    verdict: Verdict,
    results: Sequence[CheckResult],
    goals: Sequence[GoalRow],
    covers: Sequence[Cover],
    operational: Sequence[Mapping[str, Any]],
    plan: Plan,
    live: LiveHistory,
) -> Declaration:
    """Compute the declaration of a full run, cover applied; for a partial run see :func:`carried_over`.

    BROKEN and NO_VERDICT are NOT READY, DEGRADED is DEGRADED. A READY run is NOT READY while a goal other
    than the streak's is open, READY FOR FIRST DEPLOY before the first live run, IN VALIDATION k/N until all
    goals PASS on a live environment with its streak and its operational items, and READY FOR LAUNCH then.
    """
    found = [*run_blockers(run, results, plan), *check_blockers(run, results)]
    if verdict in (Verdict.BROKEN, Verdict.NO_VERDICT):
        return Declaration(text=NOT_READY, why=f"the run is {verdict}", blockers=tuple(found))
    if verdict is Verdict.DEGRADED:
        return Declaration(
            text=DEGRADED, why="no P0 check failed, but the run is DEGRADED", blockers=tuple(found)
        )
    streak_goals = {goal.id for goal in plan.goals if goal.streak}
    checked = [row for row in goals if row.id not in streak_goals]
    if any(row.status not in (GoalStatus.PASS, GoalStatus.READY, GoalStatus.DEFERRED) for row in checked):
        missing = goal_blockers(run, checked, results)
        return Declaration(text=NOT_READY, why="a goal has not enough evidence", blockers=(*found, *missing))
    if not run.live and not live.deployed:
        return Declaration(
            text=FIRST_DEPLOY, why="every goal holds, and no live environment has been run yet"
        )
    found += deferral_blockers(covers, plan)
    found += launch_blockers(run, plan, operational, live.streak)
    settled = all(row.status in (GoalStatus.PASS, GoalStatus.DEFERRED) for row in goals)
    if settled and not found:
        return Declaration(
            text=LAUNCH, why="every goal passed on a live environment, and nothing is left to do"
        )
    length = live.streak.length if live.streak else 0
    return Declaration(
        text=f"IN VALIDATION {length}/{plan.policy.streak_length}",
        why=found[0]["summary"] if found else "only a run of the live environment can settle its goals",
        blockers=tuple(found),
    )


def carried_over(
    run: RunRecord, results: Sequence[CheckResult], plan: Plan, entries: Sequence[Mapping[str, Any]]
) -> Declaration:
    """Return the declaration that a partial run leaves in force: that of the newest full run."""
    assert run.scope is Scope.PARTIAL
    found = (*run_blockers(run, results, plan), *check_blockers(run, results))
    newest = entries[-1] if entries else None
    if newest is None:
        why = f"a partial run declares nothing, and no full run of {run.environment} is in the ledger"
        return Declaration(text=NOT_READY, why=why, blockers=found)
    why = f"a partial run declares nothing; this stands since full run {newest.get('run_id')}"
    return Declaration(text=str(newest.get("declaration", NOT_READY)), why=why, blockers=found)
