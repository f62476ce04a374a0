"""An interrupted run leaves NO_VERDICT, never the previous report."""

import os
import signal

import pytest

from tests.adapter.scenario import HTML, WORKERS, Suite, wait_until
from tests.adapter.test_plugin_exit_codes import PASSING

FIRST_FAILS = """
@pytest.mark.{first}
def test_first(evidence):
    passing(evidence)
    assert False

@pytest.mark.p0
def test_second(evidence):
    passing(evidence)
"""
HANGS = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)

@pytest.mark.p0
def test_hangs(evidence):
    passing(evidence)
    pathlib.Path(os.environ["SCENARIO_ROOT"], "started").touch()
    threading.Event().wait()
"""
CRASHES = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)

@pytest.mark.p0
def test_crashes(evidence):
    passing(evidence)
    with open(pathlib.Path(os.environ["SCENARIO_ROOT"], "crashes"), "a") as stream:
        stream.write("x")
    os._exit(11)

@pytest.mark.p0
def test_after(evidence):
    passing(evidence)
"""
SLEEPS = """
@pytest.mark.p0
def test_fails_as_the_machine_sleeps(evidence):
    passing(evidence)
    from pytest_readiness.core import formats

    formats._Clocks.wall = staticmethod(lambda: time.time() + 60)
    assert False
"""
TAKES_THE_LEDGER_AWAY = """
@pytest.mark.p1
def test_takes_the_ledger_away(evidence):
    passing(evidence)
    lock = pathlib.Path(os.environ["SCENARIO_ROOT"], ".readiness", "local.jsonl.lock")
    lock.unlink()
    lock.mkdir()
"""


def test_a_run_without_pages_takes_an_older_page_away(suite: Suite) -> None:
    suite.checks(PASSING)
    page = suite.root / "reports/results.html"
    assert suite.run(plugins=HTML).code == 0
    assert page.exists()
    suite.run()
    assert not page.exists()


def test_a_run_removes_the_drafts_of_killed_runs(suite: Suite) -> None:
    suite.checks(PASSING)
    reports = suite.root / "reports"
    reports.mkdir()
    killed, living = reports / ".readiness.json.1.draft", reports / ".readiness.json.2.draft"
    for draft in (killed, living):
        draft.write_text("{}")
    os.utime(killed, (0, 0))
    assert suite.run().code == 0
    assert (killed.exists(), living.exists()) == (False, True)


def test_a_machine_that_sleeps_leaves_no_verdict(suite: Suite) -> None:
    suite.checks(f"import time\n{SLEEPS}")
    run = suite.run()
    assert run.code == 6
    assert "the clock of this machine jumped 60 s ahead" in run.model["reasons"][0]
    assert [entry["verdict"] for entry in suite.ledger()] == ["NO_VERDICT"]


@WORKERS
def test_a_run_that_cannot_be_recorded_leaves_no_verdict(suite: Suite) -> None:
    suite.checks(PASSING + TAKES_THE_LEDGER_AWAY)
    run = suite.expect("NO_VERDICT", plugins=HTML)
    assert ".readiness/local.jsonl: cannot be " in run.model["reasons"][0]
    assert not (suite.root / "reports/results.html").exists()
    assert "READY  " not in run.out
    assert "Traceback" not in run.out


def test_a_check_that_replaces_the_reports_folder_leaves_no_verdict(suite: Suite) -> None:
    suite.checks(
        PASSING
        + "    import shutil\n    shutil.rmtree('reports')\n    pathlib.Path('reports').write_text('')\n"
    )
    run = suite.run(plugins=HTML)
    assert run.code == 6
    assert "reports/results.html: the run could not be finished: Not a directory" in run.out
    assert "INTERNALERROR" not in run.output()


@WORKERS
def test_stop_at_first_failure_is_broken_when_it_was_the_platforms(suite: Suite) -> None:
    suite.checks(FIRST_FAILS.format(first="p0"))
    suite.expect("BROKEN", "-x")
    assert [(entry["verdict"], entry["complete"]) for entry in suite.ledger()] == [("BROKEN", False)]


@WORKERS
def test_stop_at_first_failure_leaves_the_rest_open(suite: Suite) -> None:
    suite.checks(FIRST_FAILS.format(first="p1"))
    run = suite.expect("NO_VERDICT", "-x")
    assert run.outcomes() == {"health/first": "failed", "health/second": "not-run"}
    assert any("interrupted: stopping after 1 failures" in reason for reason in run.model["reasons"])
    assert not suite.ledger()


def test_stop_after_some_failures_lets_no_worker_wait(suite: Suite) -> None:
    failing = "@pytest.mark.p0\ndef test_{}(evidence):\n    passing(evidence)\n    assert False\n"
    for name in "abcdef":
        suite.checks(failing.format(name), f"smoke/test_{name}.py")
    suite.checks(PASSING, "smoke/test_late.py", phase="late")
    run = suite.expect("BROKEN", "-n2", "--maxfail=2")
    assert run.outcomes()["late/up"] == "not-run"
    assert [(entry["verdict"], entry["complete"]) for entry in suite.ledger()] == [("BROKEN", False)]


@WORKERS
def test_interrupt_from_the_keyboard(suite: Suite) -> None:
    suite.checks(HANGS)
    process = suite.start("-v")
    # a worker's result counts only once the controller has it
    wait_until(lambda: (suite.root / "started").exists() and "PASSED" in suite.wrote(".stdout"))
    os.killpg(process.pid, signal.SIGINT)
    run = suite.finish(process)
    assert (run.code, run.verdict) == (6, "NO_VERDICT"), run.output()
    assert run.outcomes() == {"health/up": "passed", "health/hangs": "not-run"}
    assert "KeyboardInterrupt" in " ".join(run.model["reasons"])
    assert not suite.ledger()


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_run_leaves_no_older_verdict(suite: Suite, number: signal.Signals) -> None:
    suite.checks(PASSING)
    assert suite.run(plugins=HTML).verdict == "READY"
    assert (suite.root / "reports" / "results.html").exists()
    suite.checks(HANGS)
    process = suite.start(plugins=HTML)
    wait_until((suite.root / "started").exists)
    os.killpg(process.pid, number)
    run = suite.finish(process)
    assert run.code == -number
    assert (run.verdict, run.model["reasons"]) == ("NO_VERDICT", ["the run did not finish"])
    assert "NO_VERDICT" in suite.wrote("reports/readiness.md")
    assert "<title>NO_VERDICT: " in suite.wrote("reports/readiness.html")
    assert not suite.wrote("reports/results.html")


@WORKERS
def test_collection_error(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write("smoke/test_broken.py", "import nowhere_to_be_found")
    run = suite.expect("NO_VERDICT")
    assert any(
        "smoke/test_broken.py" in reason and "No module named 'nowhere_to_be_found'" in reason
        for reason in run.model["reasons"]
    )
    assert not suite.ledger()


def test_crashed_worker_is_replaced_and_the_rest_runs(suite: Suite) -> None:
    suite.checks(CRASHES)
    run = suite.expect("NO_VERDICT", "-n2")
    assert run.outcomes() == {
        "health/up": "passed",
        "health/crashes": "not-run",
        "health/after": "passed",
    }
    assert "crashed while running" in run.check("health/crashes")["summary"]
    assert suite.wrote("crashes") == "x", "what kills a worker once is not tried twice"


def test_crashed_worker_that_is_not_replaced(suite: Suite) -> None:
    suite.checks(CRASHES)
    run = suite.expect("NO_VERDICT", "-n1", "--max-worker-restart=0")
    assert run.outcomes() == {
        "health/up": "passed",
        "health/crashes": "not-run",
        "health/after": "not-run",
    }
    assert "1 check never reported, first health/after" in " ".join(run.model["reasons"])
    assert not suite.ledger()


def test_crash_without_workers_leaves_no_verdict(suite: Suite) -> None:
    suite.checks(CRASHES)
    run = suite.run()
    assert (run.code, run.verdict) == (11, "NO_VERDICT")


def test_internal_error_of_pytest_stays_3(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write("smoke/conftest.py", "def pytest_runtest_logfinish(nodeid): raise RuntimeError('odd')")
    run = suite.run()
    assert (run.code, run.verdict, run.model["exit_code"]) == (3, "NO_VERDICT", 3), run.output()
    assert any("internal error: RuntimeError: odd" in reason for reason in run.model["reasons"])
    assert "NO_VERDICT" in run.err, "pytest prints no summary then"


@WORKERS
@pytest.mark.parametrize("status", ["", ", returncode=0", ", returncode=9"])
def test_a_check_may_end_the_run(suite: Suite, status: str) -> None:
    suite.checks(PASSING)
    suite.checks(
        f"@pytest.mark.p0\ndef test_late(): pytest.exit('no vpn here'{status})", "smoke/test_late.py"
    )
    run = suite.run()
    assert run.code == (9 if "9" in status and not suite.workers else 6), run.output()
    assert run.verdict == "NO_VERDICT"
    assert run.outcomes()["health/late"] == "not-run"
    assert run.model["reasons"][0] == "the run was interrupted: Exit: no vpn here"
    assert "INTERNALERROR" not in run.out
    assert "crashed while" not in run.out
    assert not suite.ledger()


def test_a_worker_that_dies_after_its_last_check_leaves_no_verdict(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write(
        "smoke/conftest.py",
        "import os\n\ndef pytest_sessionfinish(session):\n"
        "    if hasattr(session.config, 'workerinput'): os._exit(0)\n",
    )
    run = suite.expect("NO_VERDICT", "-n1", "--max-worker-restart=0")
    assert run.model["reasons"] == ["worker gw0 died after its last check"]


def test_a_collection_error_says_what_is_wrong_and_what_to_do(suite: Suite) -> None:
    suite.checks(PASSING)
    for directory in ("one", "two"):
        suite.checks(f"@pytest.mark.p0\ndef test_{directory}(evidence): passing(evidence)",
                     f"smoke/{directory}/test_same.py")  # fmt: skip
    run = suite.expect("NO_VERDICT")
    reason = run.model["reasons"][0]
    assert reason.startswith("collection error: smoke/two/test_same.py: import file mismatch: HINT: "), reason


def test_workers_that_collect_different_checks(suite: Suite) -> None:
    suite.checks(
        """
        @pytest.mark.p0
        @pytest.mark.parametrize("process", [os.getpid()])
        def test_up(evidence, process): passing(evidence)
        """
    )
    run = suite.expect("NO_VERDICT", "-n2")
    assert "Different tests were collected between gw" in run.model["reasons"][0]
