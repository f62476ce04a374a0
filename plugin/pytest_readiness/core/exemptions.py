"""Deferrals and waivers: the states of their lives, and the checks that they keep from moving the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from .formats import counted, format_moment, matching
from .model import CheckResult, FailureClass, Outcome, Severity
from .plan import Deferral, Plan, Waiver
from .verdict import is_not_applicable

#: A cover that ends so soon is to be renewed, or its check mended, before the next run is without it.
SOON = timedelta(hours=72)
_FAILING = frozenset({Outcome.FAILED, Outcome.FLAKY, Outcome.SKIPPED, Outcome.NOT_RUN})


class ExemptionState(StrEnum):
    """Where a deferral or a waiver is in its life, at the time of one run.

    UNNEEDED: all that it covers passed. UNKNOWN: its pattern matches no check of the run. REFUSED: the plan
    says that what fails is not waivable.
    """

    ACTIVE = "active"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    UNNEEDED = "unneeded"
    UNKNOWN = "unknown"
    EARLY = "upcoming"
    ELSEWHERE = "elsewhere"
    REFUSED = "refused"


_NOT_IN_FORCE = (ExemptionState.EXPIRED, ExemptionState.EARLY, ExemptionState.ELSEWHERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """What one deferral or waiver did: ids that it covered, ids that it may not cover, and a sentence."""

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
    results: Sequence[CheckResult], plan: Plan, now: datetime, environment: str
) -> tuple[tuple[CheckResult, ...], tuple[Exemption, ...]]:
    """Return the results with what is covered and did not pass as DEFERRED, and what each exemption did.

    Their class is kept. Covered checks that passed stay passed. An expired one is ignored. A P0 that
    matches ``not_waivable`` is never covered, nor is anything on an ``environment`` other than a deferral's.
    """
    origins: tuple[Deferral | Waiver, ...] = (*plan.deferrals, *plan.waivers)
    exemptions = tuple(_exemption(origin, results, plan, now, environment) for origin in origins)
    covered = {check for exemption in exemptions for check in exemption.checks}
    return tuple(_deferred(check) if check.id in covered else check for check in results), exemptions


def _exemption(
    origin: Deferral | Waiver, results: Sequence[CheckResult], plan: Plan, now: datetime, environment: str
) -> Exemption:
    if origin.expires is not None and now >= origin.expires:
        text = f"expired on {format_moment(origin.expires)}; ignored"
        return Exemption(origin=origin, state=ExemptionState.EXPIRED, text=text)
    if isinstance(origin, Waiver) and now < origin.issued:
        text = f"in force from {format_moment(origin.issued)}; ignored until then"
        return Exemption(origin=origin, state=ExemptionState.EARLY, text=text)
    matched = _matched(origin, results)
    fixed = {check.id for check in matched if _is_fixed(check, plan)}
    failing = [check.id for check in matched if check.outcome in _FAILING and not _is_unasked_drill(check)]
    passed = sum(check.outcome is Outcome.PASSED for check in matched)
    held = tuple(check for check in failing if check not in fixed)
    refused = tuple(check for check in failing if check in fixed)
    named = origin.environments if isinstance(origin, Deferral) else ()
    if failing and named and environment not in named:
        text = f"covers nothing on {environment}: it is for {', '.join(named)}"
        return Exemption(origin=origin, state=ExemptionState.ELSEWHERE, text=text)
    if refused:
        state = ExemptionState.REFUSED
        text = f"cannot cover {', '.join(refused)}: the plan lists it under not_waivable"
    elif passed and not held:
        state, text = ExemptionState.UNNEEDED, f"no longer needed: {counted(passed, 'check')} passed"
    elif origin.check and not matched:
        state, text = ExemptionState.UNKNOWN, f"no check of this run matches {origin.check}"
    else:
        state = ExemptionState.ACTIVE
        text = f"covers {', '.join(held)}" if held else "it covers no check of this run"
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
    """Tell whether a drill did not run because this run asked for none: that needs no cover."""
    return check.drill and is_not_applicable(check)


def _is_fixed(check: CheckResult, plan: Plan) -> bool:
    return check.severity is Severity.P0 and bool(matching(plan.not_waivable, [check.id]))


def _deferred(check: CheckResult) -> CheckResult:
    kept = FailureClass.FLAKE if check.outcome is Outcome.FLAKY else check.failure_class
    return replace(check, outcome=Outcome.DEFERRED, failure_class=kept)
