"""Turns the reports that the controller receives into the result of each check's attempts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest

from ..core.formats import counted, text_of
from ..core.model import CheckResult, FailureClass, Outcome
from ..core.redaction import Redactor
from ..core.verdict import BEHIND
from .checks import Check, Checks, Down

_OURS = str(FailureClass.PLATFORM_BUG)
UNREPORTED = "pytest reported no result for it"


# not frozen: creating three for every check would take three times as long
@dataclass(slots=True, kw_only=True)
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
        """True if a report lacks the facts that every report of a check has."""
        return not all(phase.facts for phase in self.phases.values())

    @property
    def is_complete(self) -> bool:
        """True if the attempt finished: a passed check has all three phases."""
        return "teardown" in self.phases and (
            "call" in self.phases or self.first("skipped", "failed") is not None
        )

    def first(self, *outcomes: str) -> PhaseReport | None:
        """Return the first report that ended in one of these ways."""
        return next((phase for phase in self.phases.values() if phase.outcome in outcomes), None)


def settle(check: Check, attempts: Iterable[Attempt], unreported: str = UNREPORTED) -> CheckResult:
    """Return the result of one check. The last attempt decides, and an earlier failure makes a pass FLAKY.

    A safety violation always counts. So do a failure that no pass followed, and one that is not a transport
    error, even if another plugin ran the check again. A check whose last attempt is unfinished counts as not
    run, with the evidence found until then. So does a check without any attempt: ``unreported`` says why.
    """
    ordered = sorted(attempts, key=lambda attempt: attempt.number)
    red = [attempt for attempt in ordered if attempt.is_red]
    violation = next(filter(_is_violation, red), None)
    last = ordered[-1] if ordered else None
    crash = _crash(last) if last else None
    if violation is not None:
        return _failed(check, violation, ordered)
    if last is None:
        return _result(check, ordered, Outcome.NOT_RUN, summary=unreported)
    if crash is not None:
        return _result(
            check,
            ordered,
            Outcome.NOT_RUN,
            FailureClass.SETUP_ERROR,
            summary=f"not run to its end: {crash.text}",
        )
    lasting = [attempt for attempt in red if _is_lasting(attempt) or attempt is last]
    broken = max(lasting, key=lambda attempt: _red_phase(attempt).facts.get("class") == _OURS, default=None)
    if broken is not None:
        return _failed(check, broken, ordered)
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
    """Tell whether a missing capability overrides a result: not a drill's skip, not a safety violation."""
    if result.outcome is Outcome.NOT_RUN or (check.drill and result.outcome is Outcome.SKIPPED):
        return False
    return not any(_is_violation(attempt) for attempt in attempts)


def _failed(check: Check, attempt: Attempt, attempts: Sequence[Attempt]) -> CheckResult:
    phase = _red_phase(attempt)
    named = FailureClass(phase.facts.get("class") or FailureClass.CHECK_ERROR)
    result = _result(check, attempts, Outcome.FAILED, named, summary=_summary(phase))
    where, cause, advice = (str(phase.facts.get(name, "")) for name in ("where", "cause", "advice"))
    return replace(result, where=where, cause=cause, advice=advice)


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
        cause=cause,
    )


def _red_phase(attempt: Attempt) -> PhaseReport:
    """Return the phase or subtest that decides: a safety violation, then a PLATFORM_BUG, then the first."""
    red = [phase for phase in attempt.phases.values() if phase.is_red]
    return min(red, key=lambda phase: (not phase.facts.get("safety"), phase.facts.get("class") != _OURS))


def _crash(attempt: Attempt) -> PhaseReport | None:
    return next((phase for phase in attempt.phases.values() if phase.crashed), None)


def _is_violation(attempt: Attempt) -> bool:
    return any(phase.facts.get("safety") for phase in attempt.phases.values())


def _is_lasting(attempt: Attempt) -> bool:
    return any(phase.is_red and phase.facts.get("passing") is False for phase in attempt.phases.values())


def _summary(phase: PhaseReport) -> str:
    return str(phase.facts.get("summary") or phase.text)


_ANSWERED = (Outcome.PASSED, Outcome.FLAKY)


def _controlled(
    check: Check, result: CheckResult, known: Mapping[str, CheckResult], elsewhere: Collection[str]
) -> CheckResult:
    """Cancel the pass of a check if its control did not pass: the platform may refuse everything.

    Controls in other shards are examined when the shards are merged.
    """
    if result.outcome not in _ANSWERED:
        return result
    for name in check.controls:
        control = known.get(name)
        if name in elsewhere or (control is not None and control.outcome in _ANSWERED):
            continue
        how = f"{control.outcome}: {control.summary}" if control else "not in this run"
        summary = f"proves nothing: its positive control did not pass ({name} {how})"
        return replace(
            result, outcome=Outcome.NOT_RUN, failure_class=None, summary=summary, cause=f"{BEHIND}{name}"
        )
    return result


class Tally:
    """Collects reports by node id and attempt; nothing is judged while a run lasts."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._attempts: dict[str, dict[int, Attempt]] = {}
        self.collection_errors: dict[str, str] = {}
        #: Why the run ended early; "" if it finished.
        self.interrupted = ""
        #: Why a check has no report.
        self.unreported_because = UNREPORTED

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """File a report under its node id and attempt."""
        if hasattr(report, "context"):  # pytest.SubtestReport, since pytest 9
            self._file_part(report)
            return
        crashed = str(report.when) == "???"
        attempts = self._attempts.setdefault(report.nodeid, {})
        number = max(attempts, default=0) if crashed else int(getattr(report, "rerun", 0))
        if number in attempts and report.when in attempts[number].phases:
            # Rerun by a plugin that does not number attempts: earlier reports must not be overwritten.
            number = max(attempts)
            number += report.when in attempts[number].phases
        attempt = attempts.setdefault(number, Attempt(number))
        facts = getattr(report, "readiness", {})
        if owner := facts.get("of"):
            self._file_behind(owner, report, facts)
            attempt.phases[str(report.when)] = PhaseReport(
                outcome="passed", facts={"attempt": facts["attempt"]}
            )
            return
        is_raised = bool(facts.get("raised")) and not hasattr(report, "wasxfail")
        attempt.phases[str(report.when)] = PhaseReport(
            outcome="failed" if report.passed and is_raised else report.outcome,
            duration_s=float(getattr(report, "duration", 0.0) or 0.0),
            expected=hasattr(report, "wasxfail"),
            crashed=crashed,
            text=self._last_line(report),
            facts=facts,
        )

    def _file_part(self, report: pytest.TestReport) -> None:
        """File a failed subtest beside the phases of its attempt."""
        if not report.failed:
            return
        facts = getattr(report, "readiness", {})
        attempts = self._attempts.setdefault(report.nodeid, {})
        number = int(facts["attempt"]) - 1 if facts else max(attempts, default=0)
        phases = attempts.setdefault(number, Attempt(number)).phases
        phases[f"part {len(phases)}"] = PhaseReport(outcome=report.outcome, facts=facts)

    def _file_behind(self, nodeid: str, report: pytest.TestReport, facts: Mapping[str, Any]) -> None:
        """File a failed fixture teardown after the last attempt of a check that used the fixture."""
        attempts = self._attempts.setdefault(nodeid, {})
        number = max(attempts, default=0)
        phases = attempts.setdefault(number, Attempt(number)).phases
        phases[f"shared {len(phases)}"] = PhaseReport(
            outcome="failed", text=self._last_line(report), facts=facts
        )

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep collection errors."""
        if report.failed:
            self.collection_errors[report.nodeid or "."] = self._collection_error(report)

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note an interrupt or ``pytest.exit``; collection errors have their own reports."""
        if excinfo.typename != "Interrupted":
            self._stop(excinfo)
        elif not self.collection_errors:
            self.stop(text_of(excinfo.value))

    @pytest.hookimpl
    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note an error inside pytest or a plugin."""
        self._stop(excinfo, "internal error: ")

    def failed_at_the_end(self, problem: BaseException, place: str) -> None:
        """Note a hook that failed at the end of the session."""
        what = f"{type(problem).__name__}: {text_of(problem)} {place}".rstrip()
        self.stop(f"pytest_sessionfinish: {what}")

    def stop(self, why: str) -> None:
        """Note why the run ended early; the first reason is kept."""
        self.interrupted = self.interrupted or self._redactor.shown(why)

    def _collection_error(self, report: pytest.CollectReport) -> str:
        """Return the last line of a traceback; for a text without one, what is wrong and what to do."""
        lines = [line for line in self._redactor.shown(report.longreprtext).splitlines() if line.strip()]
        raised = [line for line in lines if line.startswith("E ")]
        best = raised[-1:] or dict.fromkeys((*lines[:1], *lines[-1:]))
        return " ".join(line.removeprefix("E ").strip() for line in best)

    def _last_line(self, report: pytest.TestReport | pytest.CollectReport) -> str:
        """Return the last line of a traceback from its redacted text: a single line may be half a secret."""
        if not report.longrepr:
            return ""
        return (self._redactor.shown(report.longreprtext).strip().splitlines() or [""])[-1]

    def _stop(self, excinfo: pytest.ExceptionInfo[BaseException], lead: str = "") -> None:
        self.stop(f"{lead}{': '.join(filter(None, (excinfo.typename, text_of(excinfo.value))))}")

    def result(self, check: Check, nodeid: str) -> CheckResult:
        """Return the result of one check's attempts, without regard to other checks."""
        attempts = self._attempts.get(nodeid, {}).values()
        result = settle(check, attempts, self.unreported_because)
        if result.outcome in _ANSWERED and any(one.is_foreign for one in attempts):
            summary = "a hook replaced its report: its result is unknown"
            return replace(result, outcome=Outcome.NOT_RUN, failure_class=None, summary=summary)
        return result

    def results(self, checks: Checks) -> list[CheckResult]:
        """Return one result for each selected check, reported or not, in the order of the run.

        A check that requires a capability that an earlier check found down counts as not run, even if another
        worker ran it before that was known.
        """
        down: dict[str, Down] = {}
        results = []
        for nodeid, check in checks.selected.items():
            attempts = self._attempts.get(nodeid, {}).values()
            result = self.result(check, nodeid)
            lacking = next((name for name in check.requires if name in down), None)
            if lacking and is_overruled(check, result, attempts):
                summary = f"not counted: {down[lacking].said_of(lacking)}"
                cause = down[lacking].cause
                result = replace(
                    result, outcome=Outcome.NOT_RUN, failure_class=None, summary=summary, cause=cause
                )
            if result.outcome in (Outcome.FAILED, Outcome.NOT_RUN):
                found = Down.by(check.id, result.summary, result.failure_class)
                down |= {name: found for name in check.establishes if name not in down}
            results.append(result)
        return self._controlled(checks, results)

    def _controlled(self, checks: Checks, results: list[CheckResult]) -> list[CheckResult]:
        """Cancel passes that prove nothing, and those of the checks that they control."""
        known = {result.id: result for result in results}
        found = [
            _controlled(check, result, known, checks.elsewhere)
            for check, result in zip(checks.selected.values(), results, strict=True)
        ]
        return found if found == results else self._controlled(checks, found)

    def as_data(self) -> dict[str, Any]:
        """Return all reports as plain data, which a shard leaves for the merge."""
        return {
            nodeid: {
                str(number): {when: asdict(phase) for when, phase in attempt.phases.items()}
                for number, attempt in attempts.items()
            }
            for nodeid, attempts in self._attempts.items()
        }

    def take(self, data: Mapping[str, Any]) -> None:
        """Add the reports of a shard from :meth:`as_data`.

        Tests outside the suite run in each shard: a failure in one shard counts even if they pass in another.
        """
        for nodeid, attempts in data.items():
            known = self._attempts.get(nodeid)
            if known and known[max(known)].is_red:
                continue
            self._attempts[nodeid] = {
                int(number): Attempt(
                    int(number), {when: PhaseReport(**phase) for when, phase in phases.items()}
                )
                for number, phases in attempts.items()
            }

    def unreported(self, checks: Checks) -> str:
        """Say how many selected checks have no report; "" when all have one or the suite has errors."""
        if self.collection_errors:
            return ""
        lost = [check.id for nodeid, check in checks.selected.items() if nodeid not in self._attempts]
        return f"{counted(len(lost), 'check')} never reported, first {lost[0]}" if lost else ""

    def foreign_failures(self, checks: Checks) -> list[str]:
        """Return the node ids of failed tests that are not checks because they are outside the suite."""
        return [
            nodeid
            for nodeid, attempts in self._attempts.items()
            if nodeid not in checks.selected and attempts[max(attempts)].is_red
        ]
