"""The status of each launch goal, from this run's checks, the ledger's streaks, and the plan's exemptions.

Deferrals and waivers are exemptions: they have a state, and the checks that they cover do not affect the
verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from .formats import counted, format_moment, matching
from .history import Streak
from .model import UNREAD, CheckResult, FailureClass, GoalStatus, Outcome, Scope, Severity
from .plan import Deferral, Goal, Plan, Waiver
from .verdict import BEHIND, NOT_OURS, by_cause, is_broken, is_degrading, is_not_applicable, is_open, root_of

#: An exemption that ends this soon must be renewed, or its check fixed, before the next run loses it.
SOON = timedelta(hours=72)
_FAILING = frozenset({Outcome.FAILED, Outcome.FLAKY, Outcome.SKIPPED, Outcome.NOT_RUN})


class ExemptionState(StrEnum):
    """The state of a deferral or waiver at the time of a run.

    UNNEEDED: everything it covers passed. UNKNOWN: its pattern matches no check of the run. REFUSED: the plan
    says that the failed check is not waivable.
    """

    ACTIVE = "active"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    UNNEEDED = "unneeded"
    UNKNOWN = "unknown"
    EARLY = "upcoming"
    ELSEWHERE = "elsewhere"
    REFUSED = "refused"


_NONE = "it covers no check of this run"
_NOT_IN_FORCE = (ExemptionState.EXPIRED, ExemptionState.EARLY, ExemptionState.ELSEWHERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """The effect of a deferral or waiver: ids that it covered, ids that it may not cover, and a sentence."""

    origin: Deferral | Waiver
    state: ExemptionState
    text: str
    checks: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """Whether it is in force at the time of the run."""
        return self.state not in _NOT_IN_FORCE


def apply_exemptions(
    results: Sequence[CheckResult], plan: Plan, now: datetime, environment: str, scope: Scope = Scope.FULL
) -> tuple[tuple[CheckResult, ...], tuple[Exemption, ...]]:
    """Return the results with covered failures as DEFERRED, and the effect of each exemption.

    Classes are kept. Covered checks that passed stay passed. An expired one is ignored. A P0 that
    matches ``not_waivable`` is never covered, nor is anything on an ``environment`` other than a deferral's.
    """
    origins: tuple[Deferral | Waiver, ...] = (*plan.deferrals, *plan.waivers)
    exemptions = tuple(_exemption(origin, results, plan, now, environment, scope) for origin in origins)
    covered = {check for exemption in exemptions for check in exemption.checks}
    return tuple(_deferred(check) if check.id in covered else check for check in results), exemptions


def _exemption(
    origin: Deferral | Waiver,
    results: Sequence[CheckResult],
    plan: Plan,
    now: datetime,
    environment: str,
    scope: Scope,
) -> Exemption:
    if origin.expires is not None and now >= origin.expires:
        text = f"expired on {format_moment(origin.expires)}; ignored"
        return Exemption(origin=origin, state=ExemptionState.EXPIRED, text=text)
    if isinstance(origin, Waiver) and now < origin.issued:
        text = f"in force from {format_moment(origin.issued)}; ignored until then"
        return Exemption(origin=origin, state=ExemptionState.EARLY, text=text)
    matched = _matched(origin, results)
    fixed = {*matching(plan.not_waivable, [check.id for check in matched if check.severity is Severity.P0])}
    failing = [check.id for check in matched if check.outcome in _FAILING and not _is_unasked_drill(check)]
    passed = sum(check.outcome is Outcome.PASSED for check in matched)
    held = tuple(check for check in failing if check not in fixed)
    refused = tuple(check for check in failing if check in fixed)
    named = origin.environments if isinstance(origin, Deferral) else ()
    # without a run, the environment is unknown
    elsewhere = environment and named and environment not in named
    if elsewhere and (failing or not matched or scope is Scope.PARTIAL):
        text = f"covers nothing on {environment}: it is for {', '.join(named)}"
        return Exemption(origin=origin, state=ExemptionState.ELSEWHERE, text=text)
    if refused:
        state = ExemptionState.REFUSED
        text = f"cannot cover {', '.join(refused)}: the plan lists it under not_waivable"
    elif passed and not held and scope is Scope.FULL:
        state, text = ExemptionState.UNNEEDED, f"no longer needed: {counted(passed, 'check')} passed"
    elif origin.check and not matched:
        state, text = ExemptionState.UNKNOWN, f"no check of this run matches {origin.check}"
    else:
        state = ExemptionState.ACTIVE
        text = f"{counted(passed, 'check')} passed in this partial run" if passed else _NONE
        text = f"covers {', '.join(held)}" if held else text
        if origin.expires is not None and origin.expires - now <= SOON:
            hours = int(SOON.total_seconds() // 3600)
            state, text = ExemptionState.EXPIRING, f"{text}; expires within {hours} hours"
    return Exemption(origin=origin, state=state, text=text, checks=held, refused=refused)


def _matched(origin: Deferral | Waiver, results: Sequence[CheckResult]) -> list[CheckResult]:
    if isinstance(origin, Deferral) and origin.goal:
        return [check for check in results if check.goal == origin.goal]
    pattern = (origin.check,) if origin.check else ()
    ids = set(matching(pattern, (check.id for check in results)))
    return [check for check in results if check.id in ids]


def _is_unasked_drill(check: CheckResult) -> bool:
    """Tell whether a drill did not run because drills were not requested: that needs no exemption."""
    return check.drill and is_not_applicable(check)


def _deferred(check: CheckResult) -> CheckResult:
    kept = FailureClass.FLAKE if check.outcome is Outcome.FLAKY else check.failure_class
    return replace(check, outcome=Outcome.DEFERRED, failure_class=kept)


_PASSED = frozenset({Outcome.PASSED, Outcome.FLAKY})


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalRow:
    """One goal as the report shows it."""

    id: str
    title: str
    status: GoalStatus
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The context in which a run's goals are judged: the environment, the scope, and the ledger.

    ``streaks`` maps each environment with a ledger, and each known live one, to its streak (None: no run in
    it). ``checkout`` names the real checkout that static checks looked at, if any.
    """

    environment: str
    live: bool
    scope: Scope = Scope.FULL
    checkout: str = ""
    streaks: Mapping[str, Streak | None]
    live_environments: tuple[str, ...] = ()


def goal_statuses(
    results: Sequence[CheckResult], plan: Plan, exemptions: Sequence[Exemption], standing: Standing
) -> list[GoalRow]:
    """Return a row for each goal of the plan, in its order. ``results`` have the exemptions applied."""
    return [_row(goal, results, exemptions, standing) for goal in plan.goals]


def _row(
    goal: Goal, results: Sequence[CheckResult], exemptions: Sequence[Exemption], standing: Standing
) -> GoalRow:
    mine = [check for check in results if check.goal == goal.id]
    deferral = next(
        (exemption for exemption in exemptions if exemption.live and _defers(exemption, goal)), None
    )
    status, evidence = _from_failures(mine, results)
    if status is None and deferral is not None:
        status, evidence = _from_deferral(deferral, mine, standing)
    elif status is None and goal.streak and not mine:
        status, evidence = _from_streaks(standing)
    elif status is None:
        status, evidence = _from_passes(mine, standing)
    return GoalRow(id=goal.id, title=goal.title, status=status, evidence=evidence)


def _defers(exemption: Exemption, goal: Goal) -> bool:
    return isinstance(exemption.origin, Deferral) and exemption.origin.goal == goal.id


def _from_deferral(
    exemption: Exemption, mine: Sequence[CheckResult], standing: Standing
) -> tuple[GoalStatus, str]:
    """Judge a deferred goal: once all of its checks pass, its deferral is no longer needed there."""
    origin = exemption.origin
    rationale = origin.rationale if isinstance(origin, Deferral) else ""
    if exemption.state is not ExemptionState.UNNEEDED:
        return GoalStatus.DEFERRED, rationale
    status, evidence = _from_passes(mine, standing)
    return status, f"{evidence}; its deferral is no longer needed on {standing.environment} ({rationale})"


def _from_failures(
    mine: Sequence[CheckResult], results: Sequence[CheckResult]
) -> tuple[GoalStatus | None, str]:
    """Judge failures, worst first; None if there are none. Checks without a result make it PENDING."""
    broken = [check for check in mine if is_broken(check)]
    if broken:
        return GoalStatus.FAIL, _described(broken, len(mine))
    unsettled = [check for check in mine if is_open(check, results)]
    degrading = [check for check in mine if is_degrading(check, results)]
    bad = [check for check in degrading if not _is_unseen(check)]
    if bad and not unsettled:
        return GoalStatus.DEGRADED, _described(bad, len(mine))
    unseen = [check for check in mine if check in unsettled or (check in degrading and _is_unseen(check))]
    return (GoalStatus.PENDING, _missing_of(unseen, mine, results)) if unseen else (None, "")


def _is_unseen(check: CheckResult) -> bool:
    """Tell whether a check says nothing about the platform: it did not run, or failed for other causes."""
    return check.outcome not in (Outcome.FAILED, Outcome.FLAKY) or check.failure_class in NOT_OURS


def _missing_of(
    unseen: Sequence[CheckResult], mine: Sequence[CheckResult], results: Sequence[CheckResult]
) -> str:
    """Say how many checks gave no result and what they lacked; the most common reason first.

    A cause in another goal's check is explained there: here its name is enough.
    """
    first, *others = sorted(by_cause(unseen, results), key=lambda cause: -len(cause.checks))
    more = f"; and {counted(len(others), 'other cause')}" if others else ""
    if len(mine) == 1:
        silent = "its only check gave no result"
    elif len(unseen) == len(mine):
        silent = f"none of its {len(mine)} checks gave a result"
    else:
        silent = f"no result from {len(unseen)} of {len(mine)} checks"
    check = first.checks[0]
    known = {each.id: each for each in results}
    if check.cause.startswith(BEHIND) and check.cause.removeprefix(BEHIND) in known:
        root = root_of(check, known).id
        if all(other.id != root for other in mine):
            return f"{silent}, because of {root}{more}"
    return f"{silent}: {_ended(check)}{more}"


def _described(checks: Sequence[CheckResult], total: int) -> str:
    others = f", and {len(checks) - 1} more" if len(checks) > 1 else ""
    return f"{_ended(checks[0])}{others}{out_of(total)}"


def out_of(total: int) -> str:
    """Return the total that a sentence about some of its checks refers to; empty for a single check."""
    return f" (of {total} checks)" if total > 1 else ""


def _ended(check: CheckResult) -> str:
    named = f" ({check.failure_class})" if check.failure_class else ""
    return f"{check.id} {check.outcome}{named}" + (f": {check.reason}" if check.reason else "")


def _from_passes(mine: Sequence[CheckResult], standing: Standing) -> tuple[GoalStatus, str]:
    """Judge a goal without failures: is there enough evidence for it?"""
    passed = [check for check in mine if check.outcome in _PASSED]
    deferred = [check for check in mine if check.outcome is Outcome.DEFERRED]
    if not mine:
        return GoalStatus.PENDING, _missing(standing)
    if not passed:
        if deferred:
            return (
                GoalStatus.DEFERRED,
                "its only check is deferred by the plan"
                if len(mine) == 1
                else f"{len(deferred)} of {len(mine)} checks deferred by the plan",
            )
        none = "its only check cannot" if len(mine) == 1 else f"none of its {len(mine)} checks could"
        return GoalStatus.PENDING, f"{none} run here: {mine[0].summary}"
    evidence = _counted(mine, passed, deferred)
    if standing.scope is Scope.PARTIAL:
        return GoalStatus.PENDING, f"partial run: {evidence}; only a full run settles a goal"
    where = provenance(passed, live=standing.live, checkout=standing.checkout)
    real = standing.live or (standing.checkout and all(check.static for check in passed))
    return GoalStatus.PASS if real else GoalStatus.READY, f"{evidence}{where}"


def provenance(passed: Sequence[CheckResult], *, live: bool, checkout: str) -> str:
    """Return where the checks passed, to end a sentence; empty for a live environment."""
    if checkout and all(check.static for check in passed):
        return f", on {checkout}"
    return "" if live else ", not on a live environment"


def _missing(standing: Standing) -> str:
    return "not in this partial run" if standing.scope is Scope.PARTIAL else "no check covers it"


def _counted(
    mine: Sequence[CheckResult], passed: Sequence[CheckResult], deferred: Sequence[CheckResult]
) -> str:
    blocking = sum(check.severity is Severity.P0 for check in passed)
    parts = [f"{counted(len(passed), 'check')} passed{f' ({blocking} P0)' if blocking else ''}"]
    away = sum(is_not_applicable(check) for check in mine)
    covered = len(mine) - len(passed) - len(deferred) - away
    parts += [f"{count} {word}" for count, word in (
        (sum(map(_is_in_part, passed)), "of them examined only in part"),
        (len(deferred), "deferred"),
        (covered, "covered by another check"),
        (away, "not applicable here"),
    ) if count]  # fmt: skip
    return ", ".join(parts)


def _is_in_part(check: CheckResult) -> bool:
    """Tell whether a passed check notes something that it could not examine."""
    notes = (str(entry.get("text")) for entry in check.evidence if entry.get("kind") == "note")
    return any(note.startswith(UNREAD) for note in notes)


def _from_streaks(standing: Standing) -> tuple[GoalStatus, str]:
    """Judge the goal that consecutive green runs decide; only live environments count."""
    found = []
    if not standing.live:
        own = standing.streaks.get(standing.environment)
        found.append(f"{standing.environment} (not live): {_in_a_row(own)}")
    found += [f"{name}: {_in_a_row(standing.streaks.get(name))}" for name in standing.live_environments]
    if not standing.live_environments:
        found.append("no live environment has a run in the ledger")
    reached = [
        name
        for name in standing.live_environments
        if (own := standing.streaks.get(name)) is not None and own.reached
    ]
    return (GoalStatus.PASS if reached else GoalStatus.PENDING), "; ".join(found)


def _in_a_row(streak: Streak | None) -> str:
    if streak is None:
        return "no run in the ledger"
    if streak.length > streak.required:
        return str(streak)
    return f"{streak} in a row" if streak.reached else f"{streak} in a row ({streak.why})"
