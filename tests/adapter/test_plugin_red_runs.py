"""A run that turned red breaks the streak, in whatever way it then ends."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.adapter.scenario import WORKERS, Run, Suite, wait_until

#: Fails if a file in the root says so (the suite digest stays the same); then does what the file says.
CHECKS = """
ROOT = pathlib.Path(os.environ["SCENARIO_ROOT"])
RED = ROOT / "red"

@pytest.mark.p0
def test_first(evidence):
    passing(evidence)
    assert not RED.exists()

@pytest.mark.p1
def test_next(evidence, request):
    passing(evidence)
    exec(RED.read_text() if RED.exists() else "")

@pytest.mark.p1
def test_last(evidence):
    passing(evidence)
"""
HANG = "(ROOT / 'hangs').touch(); threading.Event().wait()"


@pytest.fixture
def greens(suite: Suite) -> Suite:
    """Two green runs; one more completes the streak."""
    suite.checks(CHECKS)
    for _ in range(2):
        assert suite.run().code == 0
    return suite


def red(suite: Suite, what: str, *args: str) -> Run:
    suite.write("red", what)
    return suite.run(*args)


def streak_after(suite: Suite) -> tuple[int, str]:
    """Run it green once more, and return the streak and why it is not longer."""
    (suite.root / "red").unlink()
    run = suite.run()
    assert run.code == 0, run.output()
    assert run.model["verdict"] == "READY"
    return run.model["streak"]["length"], run.model["streak"]["why"]


@pytest.mark.parametrize(
    ("args", "what", "code"),
    [
        pytest.param(("-x",), "", 1, id="-x"),
        pytest.param(("--maxfail=1",), "", 1, id="maxfail"),
        pytest.param(("--maxfail=1", "-n2"), "", 1, id="maxfail-workers"),
        pytest.param(("--sw",), "", 1, id="stepwise"),
        pytest.param((), "request.session.shouldstop = 'enough'", 1, id="shouldstop"),
        pytest.param((), "request.session.shouldfail = 'enough'", 1, id="shouldfail"),
        pytest.param((), "pytest.exit('enough')", 1, id="pytest.exit"),
        pytest.param((), "pytest.exit('enough', returncode=0)", 1, id="pytest.exit-0"),
        pytest.param((), "pytest.exit('enough', returncode=42)", 42, id="pytest.exit-42"),
        pytest.param((), "raise KeyboardInterrupt", 1, id="interrupt"),
        pytest.param(("-n2",), "pytest.exit('enough')", None, id="pytest.exit-workers"),
    ],
)
def test_a_red_run_that_stopped_is_recorded(
    greens: Suite, args: tuple[str, ...], what: str, code: int | None
) -> None:
    run = red(greens, what, *args)
    assert run.verdict == "BROKEN", run.output()
    assert code is None or run.code == code
    assert [(entry["verdict"], entry["complete"]) for entry in greens.ledger()[2:]] == [("BROKEN", False)]
    length, why = streak_after(greens)
    assert length == 1
    assert "was BROKEN (incomplete)" in why


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("os._exit(0)", id="os._exit"),
        pytest.param("os.kill(os.getpid(), 9)", id="SIGKILL"),
        pytest.param("os.kill(os.getpid(), 11)", id="SIGSEGV"),
        pytest.param("os.kill(os.getpid(), 15)", id="SIGTERM"),
    ],
)
def test_a_red_run_that_dies_is_recorded_by_the_next(greens: Suite, what: str) -> None:
    run = red(greens, what)
    assert run.verdict == "NO_VERDICT", run.output()
    assert len(greens.ledger()) == 2, "it had no time to record anything"
    length, why = streak_after(greens)
    assert length == 1
    assert "was BROKEN (incomplete)" in why
    assert [entry["verdict"] for entry in greens.ledger()] == ["READY", "READY", "BROKEN", "READY"]
    assert greens.run().model["streak"]["length"] == 2, "it is recorded once"


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_red_run_that_is_killed_breaks_the_streak(greens: Suite, number: signal.Signals) -> None:
    greens.write("red", HANG)
    process = greens.start()
    wait_until((greens.root / "hangs").exists)
    wait_until(lambda: list((greens.root / ".readiness").glob("local.jsonl.red-*")))
    os.killpg(process.pid, number)
    greens.finish(process)
    assert streak_after(greens)[0] == 1


def test_a_green_run_that_is_killed_neither_counts_nor_breaks(greens: Suite) -> None:
    greens.write("red", HANG)
    greens.checks(CHECKS.replace("assert not RED.exists()", "assert True"))
    process = greens.start()
    wait_until((greens.root / "hangs").exists)
    os.killpg(process.pid, signal.SIGKILL)
    greens.finish(process)
    greens.checks(CHECKS)
    assert streak_after(greens)[0] == 3


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda suite: ("-k", "first or last"), id="partial"),
        pytest.param(
            lambda suite: suite.plan(
                '[[waiver]]\ncheck = "health/first"\nreason = "r"\napprover = "A"\n'
                "issued = 2020-01-01T00:00:00Z\nexpires = 2999-01-01T00:00:00Z\n"
            ),
            id="waived",
        ),
    ],
)
def test_what_does_not_make_a_run_broken_is_not_announced(
    suite: Suite, change: Callable[[Suite], tuple[str, ...] | None]
) -> None:
    suite.checks(CHECKS)
    args = change(suite) or ()
    suite.write("red", "os._exit(0)")
    suite.run(*args)
    assert not [*suite.root.glob(".readiness/*.red-*")]


def test_a_red_run_stays_broken_when_its_ledger_fails_at_the_end(greens: Suite) -> None:
    ledger = greens.root / ".readiness" / "local.jsonl"
    run = red(greens, f"lock = pathlib.Path('{ledger}.lock'); lock.unlink(); lock.mkdir()")
    assert (run.code, run.verdict) == (1, "BROKEN"), run.output()
    assert any("not recorded: " in note for note in run.model["notes"])
    (greens.root / ".readiness" / "local.jsonl.lock").rmdir()
    assert streak_after(greens)[0] == 1


def test_a_red_run_with_a_leak_is_recorded_without_it(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    def test_leaks(evidence, environment):
        passing(evidence)
        pathlib.Path(os.environ["SCENARIO_ROOT"], "reports", "results.html").write_text(
            environment.secret("auth.token"))
    """)
    suite.expect("BROKEN", environ={"SCENARIO_TOKEN": "a-token-that-leaks"})
    assert [entry["verdict"] for entry in suite.ledger()] == ["BROKEN"]
    assert "a-token-that-leaks" not in suite.wrote(".readiness/local.jsonl")
