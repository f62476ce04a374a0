"""From the reports of a check's attempts to its one result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.model import CheckResult, FailureClass, Outcome
from .checks import Check

_OURS = str(FailureClass.PLATFORM_BUG)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseReport:
    """One report of one attempt. ``outcome``: passed, failed, skipped or rerun; xfail sets ``expected``."""

    outcome: str
    duration_s: float = 0.0
    expected: bool = False
    crashed: bool = False
    text: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_red(self) -> bool:
        """True when this phase failed, whether or not the check is run again."""
        return self.outcome in {"failed", "rerun"}


@dataclass(slots=True)
class Attempt:
    """The reports of one attempt by phase: setup, call, teardown, or "???" for a crash of the worker."""

    number: int
    phases: dict[str, PhaseReport] = field(default_factory=dict)

    @property
    def is_red(self) -> bool:
        """True when any phase failed."""
        return any(phase.is_red for phase in self.phases.values())

    @property
    def is_foreign(self) -> bool:
        """True when a report lacks the facts that every report of a check carries."""
        return not all(phase.facts for phase in self.phases.values())

    @property
    def is_complete(self) -> bool:
        """True when the attempt came to its end: a passed check has all three phases."""
        return "teardown" in self.phases and (
            "call" in self.phases or self.first("skipped", "failed") is not None
        )

    def first(self, *outcomes: str) -> PhaseReport | None:
        """Return the first report that ended in one of these ways."""
        return next((phase for phase in self.phases.values() if phase.outcome in outcomes), None)


def settle(check: Check, attempts: Iterable[Attempt]) -> CheckResult:
    """Return the result of one check. The last attempt decides, and an earlier failure makes a pass FLAKY.

    Not green, whatever came after it: a safety violation, and a failure that no pass followed. A check whose
    attempt did not come to its end was not run; what it had found until then is kept as evidence.
    """
    ordered = sorted(attempts, key=lambda attempt: attempt.number)
    red = [attempt for attempt in ordered if attempt.is_red]
    violation = next((attempt for attempt in red if _is_violation(attempt)), None)
    last = ordered[-1] if ordered else None
    crash = _crash(last) if last else None
    if violation is not None:
        return _failed(check, violation, ordered)
    if last is None:
        return _result(check, ordered, Outcome.NOT_RUN, summary="not run: no report came for it")
    if crash is not None:
        return _result(
            check,
            ordered,
            Outcome.NOT_RUN,
            FailureClass.SETUP_ERROR,
            summary=f"not run to its end: {crash.text}",
        )
    if last.is_red:
        return _failed(check, last, ordered)
    skipped = last.first("skipped")
    if skipped is not None and not red:
        return _skipped(check, skipped, ordered)
    if not last.is_complete and not red:
        return _result(check, ordered, Outcome.NOT_RUN, summary="not run to its end: the run stopped")
    if skipped is not None or not last.is_complete:
        return _failed(check, red[-1], ordered)
    unexpected = next((phase for phase in last.phases.values() if phase.expected), None)
    if unexpected is not None:
        return _result(check, ordered, Outcome.SKIPPED, summary=_summary(unexpected))
    if red:
        summary = f"passed on attempt {len(ordered)}; before: {_summary(_red_phase(red[-1]))}"
        return _result(check, ordered, Outcome.FLAKY, FailureClass.FLAKE, summary=summary)
    return _result(check, ordered, Outcome.PASSED)


def is_overruled(check: Check, result: CheckResult, attempts: Iterable[Attempt]) -> bool:
    """Tell whether a lacking capability takes a result back: not a drill's skip, not a safety violation."""
    if result.outcome is Outcome.NOT_RUN or (check.drill and result.outcome is Outcome.SKIPPED):
        return False
    return not any(_is_violation(attempt) for attempt in attempts)


def _failed(check: Check, attempt: Attempt, attempts: Sequence[Attempt]) -> CheckResult:
    phase = _red_phase(attempt)
    named = FailureClass(phase.facts.get("class") or FailureClass.CHECK_ERROR)
    where, cause = (str(phase.facts.get(name, "")) for name in ("where", "cause"))
    return _result(check, attempts, Outcome.FAILED, named, summary=_summary(phase), where=where, cause=cause)


def _skipped(check: Check, phase: PhaseReport, attempts: Sequence[Attempt]) -> CheckResult:
    named = phase.facts.get("class")
    return _result(
        check,
        attempts,
        Outcome.NOT_RUN if phase.facts.get("not_run") else Outcome.SKIPPED,
        FailureClass(named) if named else None,
        summary=_summary(phase),
        applicable=bool(phase.facts.get("applicable", True)),
        cause=str(phase.facts.get("cause", "")),
    )


def _result(
    check: Check,
    attempts: Sequence[Attempt],
    outcome: Outcome,
    failure_class: FailureClass | None = None,
    *,
    summary: str = "",
    applicable: bool = True,
    where: str = "",
    cause: str = "",
) -> CheckResult:
    phases = [phase for attempt in attempts for phase in attempt.phases.values()]
    evidence = [
        {**entry, "attempt": place} if len(attempts) > 1 else entry
        for place, attempt in enumerate(attempts, start=1)
        for phase in attempt.phases.values()
        for entry in phase.facts.get("evidence", ())
    ]
    return CheckResult(
        id=check.id,
        nodeid=check.nodeid,
        goal=check.goal,
        phase=check.phase,
        severity=check.severity,
        outcome=outcome,
        failure_class=failure_class,
        attempts=len(attempts),
        duration_s=round(sum(phase.duration_s for phase in phases), 4),
        summary=summary,
        evidence=tuple(evidence),
        applicable=applicable,
        covered_by=check.covered_by,
        requires=tuple(check.requires),
        drill=check.drill,
        static=check.static,
        where=where,
        cause=cause,
    )


def _red_phase(attempt: Attempt) -> PhaseReport:
    """Return the phase or part that decides: a safety violation, the platform, then the first."""
    red = [phase for phase in attempt.phases.values() if phase.is_red]
    return min(red, key=lambda phase: (not phase.facts.get("safety"), phase.facts.get("class") != _OURS))


def _crash(attempt: Attempt) -> PhaseReport | None:
    return next((phase for phase in attempt.phases.values() if phase.crashed), None)


def _is_violation(attempt: Attempt) -> bool:
    return any(phase.facts.get("safety") for phase in attempt.phases.values())


def _summary(phase: PhaseReport) -> str:
    return str(phase.facts.get("summary") or phase.text)
