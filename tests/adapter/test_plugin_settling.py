"""How attempts settle into one result (unit tests, no pytest run)."""

from itertools import product

import pytest
from pytest_readiness.adapter.checks import Check, Checks, inconsistency
from pytest_readiness.adapter.outcomes import Attempt, PhaseReport, settle
from pytest_readiness.core.model import FailureClass, Outcome, Severity

CHECK = Check(id="work/it", nodeid="t.py::test_it", goal="G-1", phase="work", severity=Severity.P0)


def _attempt(number: int, **phases: str) -> Attempt:
    return Attempt(
        number,
        {
            "???" if name == "crash" else name: PhaseReport(
                outcome=outcome, duration_s=0.5, crashed=name == "crash"
            )
            for name, outcome in phases.items()
        },
    )


PASSED = {"setup": "passed", "call": "passed", "teardown": "passed"}
FAILED = {"setup": "passed", "call": "failed", "teardown": "passed"}
RERUN = {"setup": "passed", "call": "rerun"}
RERUN_SETUP = {"setup": "rerun"}
SKIPPED = {"setup": "skipped", "teardown": "passed"}
CUT = {"setup": "passed"}
CRASHED = {"crash": "failed"}


@pytest.mark.parametrize(
    ("attempts", "outcome", "failure_class"),
    [
        ([], Outcome.NOT_RUN, None),
        ([PASSED], Outcome.PASSED, None),
        ([FAILED], Outcome.FAILED, FailureClass.CHECK_ERROR),
        ([SKIPPED], Outcome.SKIPPED, None),
        ([CUT], Outcome.NOT_RUN, None),
        ([CRASHED], Outcome.NOT_RUN, FailureClass.SETUP_ERROR),
        ([RERUN, PASSED], Outcome.FLAKY, FailureClass.FLAKE),
        ([RERUN_SETUP, PASSED], Outcome.FLAKY, FailureClass.FLAKE),
        ([RERUN, RERUN, PASSED], Outcome.FLAKY, FailureClass.FLAKE),
        ([RERUN, FAILED], Outcome.FAILED, FailureClass.CHECK_ERROR),
        ([RERUN, SKIPPED], Outcome.FAILED, FailureClass.CHECK_ERROR),
        ([RERUN, CUT], Outcome.FAILED, FailureClass.CHECK_ERROR),
        ([RERUN, CRASHED], Outcome.NOT_RUN, FailureClass.SETUP_ERROR),
        ([{"setup": "failed", "teardown": "passed"}], Outcome.FAILED, FailureClass.CHECK_ERROR),
        ([{**PASSED, "teardown": "failed"}], Outcome.FAILED, FailureClass.CHECK_ERROR),
        ([{"setup": "passed", "teardown": "passed"}], Outcome.NOT_RUN, None),
    ],
)
def test_settle(attempts: list[dict[str, str]], outcome: Outcome, failure_class: FailureClass | None) -> None:
    result = settle(CHECK, [_attempt(number, **phases) for number, phases in enumerate(attempts)])
    assert (result.outcome, result.failure_class, result.attempts) == (outcome, failure_class, len(attempts))
    assert result.duration_s == 0.5 * sum(len(phases) for phases in attempts)


def test_only_a_complete_pass_is_green() -> None:
    """For every combination of two attempts: PASSED or FLAKY only if the last attempt passed completely."""
    ways = [PASSED, FAILED, RERUN, RERUN_SETUP, SKIPPED, CUT, CRASHED]
    for first, second in product(ways, ways):
        result = settle(CHECK, [_attempt(1, **second), _attempt(0, **first)])
        if result.outcome in {Outcome.PASSED, Outcome.FLAKY}:
            assert second == PASSED
            assert (result.outcome is Outcome.FLAKY) == any(
                value in {"failed", "rerun"} for value in first.values()
            )


def test_safety_violation_is_never_flaky() -> None:
    attempts = [_attempt(0, **RERUN), _attempt(1, **PASSED)]
    attempts[0].phases["call"] = PhaseReport(outcome="rerun", facts={"safety": True, "summary": "accepted"})
    result = settle(CHECK, attempts)
    assert (result.outcome, result.summary) == (Outcome.FAILED, "accepted")


def test_checks_cross_process_borders() -> None:
    checks = Checks(collected=[CHECK], selected={"t.py::test_it@group": CHECK}, problem="")
    again = Checks.from_data(checks.as_data())
    assert again == checks
    assert again.deselected == 0


def test_consistency_of_a_part_is_not_asked() -> None:
    lonely = Check(
        id="work/lonely",
        nodeid="n",
        goal="",
        phase="work",
        severity=Severity.P1,
        requires=("api",),
        covered_by="x/y",
    )
    assert inconsistency([lonely], [], ["late"], whole=False) == ""
    assert "unknown capability 'api'" in inconsistency([lonely], ["key"], [], whole=True)
    assert "which is not a check of this suite" in inconsistency([lonely], ["api"], [], whole=True)
