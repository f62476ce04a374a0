"""The exit status of a run is its verdict's, with and without workers."""

import pytest

from tests.adapter.scenario import WORKERS, Suite

PASSING = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)

@pytest.mark.p1
def test_fast(evidence):
    passing(evidence)
"""
P0_FAILS = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)
    assert 1 == 2, "one is not two"
"""
P1_FAILS = """
@pytest.mark.p1
def test_fast(evidence):
    passing(evidence)
    assert 1 == 2
"""
P0_SKIPPED = """
@pytest.mark.p0
def test_up():
    pytest.skip("no time")
"""
OUTAGE = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)
    raise ExternalOutage("503 MODEL_PROVIDER_UNAVAILABLE")
"""
REPORT_FAILS = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)
    report = pathlib.Path(os.environ["SCENARIO_ROOT"]) / "reports" / "readiness.json"
    report.unlink()
    report.mkdir()
"""


@WORKERS
@pytest.mark.parametrize(
    ("checks", "code", "verdict"),
    [
        pytest.param(PASSING, 0, "READY", id="0-ready"),
        pytest.param(PASSING + P0_FAILS.replace("test_up", "test_down"), 1, "BROKEN", id="1-broken"),
        pytest.param(PASSING + P1_FAILS.replace("test_fast", "test_slow"), 2, "DEGRADED", id="2-degraded"),
        pytest.param(PASSING + P0_SKIPPED.replace("test_up", "test_down"), 6, "NO_VERDICT", id="6-skipped"),
        pytest.param(OUTAGE, 6, "NO_VERDICT", id="6-outage"),
    ],
)
def test_verdict_is_the_exit_status(suite: Suite, checks: str, code: int, verdict: str) -> None:
    suite.checks(checks)
    run = suite.run()
    assert (run.code, run.verdict, run.model["exit_code"]) == (code, verdict, code), run.output()


@WORKERS
def test_reports_that_cannot_be_written_leave_no_verdict(suite: Suite) -> None:
    suite.checks(REPORT_FAILS)
    run = suite.run()
    assert run.code == 6, run.output()
    assert "readiness: NO_VERDICT" in run.out
    assert "reports cannot be written" in run.out
    assert "Traceback" not in run.out + run.err
    assert not suite.ledger()


def test_own_failure_is_shown_and_exits_3(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write(
        "smoke/conftest.py",
        """
    from pytest_readiness.core import assess
    def broken(*_, **__):
        raise ZeroDivisionError("ours")
    from pytest_readiness.adapter import judgement
    judgement.assess = broken
    """,
    )
    run = suite.run()
    assert (run.code, run.verdict, run.model["exit_code"]) == (3, "NO_VERDICT", 3), run.output()
    assert "readiness: internal error" in run.out
    assert "ZeroDivisionError: ours" in run.out


@WORKERS
def test_usage_error_exits_4(suite: Suite) -> None:
    suite.checks("@pytest.mark.p0\n@pytest.mark.goal('G-99')\ndef test_up(): pass")
    run = suite.run()
    assert run.code == 4, run.output()
    assert "unknown goal 'G-99'" in run.err + run.out
    assert "launch readiness" not in run.out, "the mistake is all that there is to say"


@pytest.mark.parametrize(("chosen", "code"), [("0", 0), ("1", 1), ("2", 2)])
def test_degraded_exit_code_can_be_chosen(suite: Suite, chosen: str, code: int) -> None:
    suite.checks(P1_FAILS)
    run = suite.run("--degraded-exit-code", chosen)
    assert (run.code, run.verdict) == (code, "DEGRADED"), run.output()


@pytest.mark.parametrize("chosen", ["6", "3", "-1", "x"])
def test_degraded_exit_code_cannot_be_mistaken_for_another(suite: Suite, chosen: str) -> None:
    suite.checks(PASSING)
    run = suite.run(f"--degraded-exit-code={chosen}")
    assert run.code == 4
    assert "allowed: 0, 1, 2" in run.err


def test_nothing_collected_gives_no_verdict(suite: Suite) -> None:
    suite.expect("NO_VERDICT")


def test_the_exit_status_of_rerunfailures_is_never_returned(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p1
    def test_flaky(evidence, request):
        passing(evidence)
        if request.node.execution_count == 1: raise ConnectionResetError
    """)
    suite.expect("READY", "--fail-on-flaky")


def test_chosen_status_stays(suite: Suite) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up():\n    pytest.exit('enough', returncode=42)")
    run = suite.run()
    assert (run.code, run.verdict) == (42, "NO_VERDICT"), run.output()


@WORKERS
def test_failed_test_outside_the_suite_is_never_0(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write("tests/test_other.py", "def test_other(): assert False")
    run = suite.run("smoke", "tests")
    assert (run.code, run.verdict, run.model["exit_code"]) == (1, "READY", 1), run.output()


def test_a_run_without_pytests_cache_has_its_verdict(suite: Suite) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence):\n    passing(evidence)\n")
    run = suite.run("-p", "no:cacheprovider")
    assert (run.code, run.verdict) == (0, "READY"), run.output()
