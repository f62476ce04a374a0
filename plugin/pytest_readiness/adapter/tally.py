"""What the controller hears during a run: reports, collection errors, interruptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from ..core.causes import BEHIND
from ..core.formats import counted, text_of
from ..core.model import CheckResult, Outcome
from ..core.redaction import Redactor
from .admission import Down
from .checks import Check, Checks
from .outcomes import Attempt, PhaseReport, is_overruled, settle

_ANSWERED = (Outcome.PASSED, Outcome.FLAKY)


def _controlled(check: Check, result: CheckResult, known: Mapping[str, CheckResult]) -> CheckResult:
    """Take back the pass of a check whose control did not pass: who refuses everything refuses this."""
    if result.outcome not in _ANSWERED:
        return result
    for name in check.controls:
        control = known.get(name)
        if control is not None and control.outcome in _ANSWERED:
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
        #: Why the run ended early; "" for one that came to its end.
        self.interrupted = ""

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
            # Run again by a plugin that does not number attempts: what came before must not be overwritten.
            number = max(attempts)
            number += report.when in attempts[number].phases
        attempt = attempts.setdefault(number, Attempt(number))
        facts = getattr(report, "readiness", {})
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
        """File what failed in a part of a check beside the phases of its attempt."""
        if not report.failed:
            return
        facts = getattr(report, "readiness", {})
        attempts = self._attempts.setdefault(report.nodeid, {})
        number = int(facts["attempt"]) - 1 if facts else max(attempts, default=0)
        phases = attempts.setdefault(number, Attempt(number)).phases
        phases[f"part {len(phases)}"] = PhaseReport(outcome=report.outcome, facts=facts)

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what could not be collected."""
        if report.failed:
            self.collection_errors[report.nodeid or "."] = self._last_line(report).removeprefix("E").strip()

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note an interrupt or ``pytest.exit``; collection errors that stop a run report themselves."""
        if excinfo.typename != "Interrupted":
            self._stop(excinfo)
        elif not self.collection_errors:
            self.interrupted = self.interrupted or self._redactor.shown(text_of(excinfo.value))

    @pytest.hookimpl
    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note an error inside pytest or a plugin."""
        self._stop(excinfo, "internal error: ")

    def failed_at_the_end(self, problem: BaseException, place: str) -> None:
        """Note a hook that failed while the session was finished."""
        what = f"{type(problem).__name__}: {text_of(problem)} {place}".rstrip()
        self.interrupted = self.interrupted or self._redactor.shown(f"pytest_sessionfinish: {what}")

    def _last_line(self, report: pytest.TestReport | pytest.CollectReport) -> str:
        """Return how a traceback ends, found in its redacted text: a line may be half a secret."""
        return (self._redactor.shown(report.longreprtext).strip().splitlines() or [""])[-1]

    def _stop(self, excinfo: pytest.ExceptionInfo[BaseException], lead: str = "") -> None:
        why = self._redactor.shown(": ".join(filter(None, (excinfo.typename, text_of(excinfo.value)))))
        self.interrupted = self.interrupted or f"{lead}{why}"

    def results(self, checks: Checks) -> list[CheckResult]:
        """Return one result for each selected check, reported or not, in the order of the run.

        A check that requires what an earlier one found to be down counts as not run, even if another worker
        ran it before that was known.
        """
        down: dict[str, Down] = {}
        results = []
        for nodeid, check in checks.selected.items():
            attempts = self._attempts.get(nodeid, {}).values()
            result = settle(check, attempts)
            if result.outcome in _ANSWERED and any(one.is_foreign for one in attempts):
                summary = "a hook made a report of its own for it: how it ended is not known"
                result = replace(result, outcome=Outcome.NOT_RUN, failure_class=None, summary=summary)
            lacking = next((name for name in check.requires if name in down), None)
            if lacking and is_overruled(check, result, attempts):
                summary = f"not counted: {lacking} is down ({down[lacking]})"
                cause = down[lacking].cause
                result = replace(
                    result, outcome=Outcome.NOT_RUN, failure_class=None, summary=summary, cause=cause
                )
            if result.outcome in (Outcome.FAILED, Outcome.NOT_RUN):
                found = Down(check.id, result.summary)
                down |= {name: found for name in check.establishes if name not in down}
            results.append(result)
        known = {result.id: result for result in results}
        selected = checks.selected.values()
        return [_controlled(check, result, known) for check, result in zip(selected, results, strict=True)]

    def unreported(self, checks: Checks) -> str:
        """Say how many selected checks have no report; "" when all have one or the suite has errors."""
        if self.collection_errors:
            return ""
        lost = [check.id for nodeid, check in checks.selected.items() if nodeid not in self._attempts]
        return f"{counted(len(lost), 'check')} never reported, first {lost[0]}" if lost else ""

    def foreign_failures(self, checks: Checks) -> list[str]:
        """Return the node ids of failed tests that are no checks, because they lie outside the suite."""
        return [
            nodeid
            for nodeid, attempts in self._attempts.items()
            if nodeid not in checks.selected and attempts[max(attempts)].is_red
        ]
