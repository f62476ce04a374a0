"""Two runs at once on one platform: the second waits, or ends NO_VERDICT and names the first."""

import json
import os
import signal
from typing import Any

import pytest

from tests.adapter.scenario import WORKERS, Started, Suite, wait_until
from tests.adapter.test_plugin_exit_codes import PASSING

RUNS_UNTIL_TOLD = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)
    root = pathlib.Path(os.environ["SCENARIO_ROOT"])
    (root / "started").touch()
    deadline = time.monotonic() + 20
    while not (root / "end").exists() and time.monotonic() < deadline:
        threading.Event().wait(0.02)
"""
LEASE = """
[lease]
of = ["api.url"]
wait_s = 20
"""


def started(suite: Suite, *args: str) -> Started:
    """Start a run on the platform; return once its check runs."""
    suite.plan(LEASE)
    suite.checks(RUNS_UNTIL_TOLD)
    first = suite.start("--readiness-dir", "first", *args)
    wait_until((suite.root / "started").exists)
    return first


def report(suite: Suite, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((suite.root / name / "readiness.json").read_text())
    return found


@WORKERS
def test_a_second_run_that_does_not_wait_has_no_verdict(suite: Suite) -> None:
    first = started(suite)
    second = suite.run("--readiness-wait", "0")
    assert (second.code, second.verdict, second.model["exit_code"]) == (6, "NO_VERDICT", 6), second.output()
    other = report(suite, "first")["run_id"]
    assert second.model["run_id"] != other
    (reason,) = second.model["reasons"]
    assert reason.startswith(f"another run uses this platform: run {other}, at ")
    assert f"NO_VERDICT: another run uses this platform: run {other}" in second.err
    assert "next: let that run end, then start this one again" in second.err
    assert "Exit: " not in second.output()
    assert "pytest_readiness." not in second.output()
    (suite.root / "end").touch()
    assert suite.finish(first).code == 0
    assert [entry["run_id"] for entry in suite.ledger()] == [other]


@WORKERS
def test_a_second_run_waits_for_the_first(suite: Suite) -> None:
    first = started(suite)
    second = suite.start("--readiness-dir", "second")
    wait_until(lambda: "readiness: waiting for run " in suite.wrote(".stdout"))
    (suite.root / "end").touch()
    for run in (first, second):
        assert suite.finish(run).code == 0
    runs = [report(suite, name)["run_id"] for name in ("first", "second")]
    assert [entry["run_id"] for entry in suite.ledger()] == runs
    assert not list((suite.root / ".readiness").glob("lease-*"))


def test_the_wait_of_the_plan_has_an_end(suite: Suite) -> None:
    first = started(suite)
    plan = suite.root / "readiness.toml"
    plan.write_text(plan.read_text().replace("wait_s = 20", "wait_s = 1"))
    second = suite.run()
    assert second.code == 6
    assert "waited 1 s" in second.model["reasons"][0]
    (suite.root / "end").touch()
    suite.finish(first)


def test_a_run_that_was_killed_has_no_lease_any_more(suite: Suite) -> None:
    first = started(suite)
    os.killpg(first.pid, signal.SIGKILL)
    first.process.join()
    (suite.root / "end").touch()
    second = suite.run("--readiness-wait", "0")
    assert second.code == 0, second.output()


def test_runs_on_two_platforms_do_not_wait(suite: Suite) -> None:
    first = started(suite)
    (suite.root / "end").touch()
    second = suite.run("--readiness-wait", "0", environ={"API_URL": "http://127.0.0.1:10"})
    assert second.code == 0, second.output()
    suite.finish(first)


@pytest.mark.parametrize(("live", "code"), [("true", 6), ("false", 0)])
def test_without_a_rule_a_live_environment_is_for_one_run(suite: Suite, live: str, code: int) -> None:
    local = suite.root / "environments/local.toml"
    local.write_text(local.read_text().replace("live = false", f"live = {live}"))
    suite.checks(RUNS_UNTIL_TOLD)
    first = suite.start("--readiness-dir", "first")
    wait_until((suite.root / "started").exists)
    suite.checks(PASSING)
    assert suite.run("--readiness-wait", "0").code == code
    (suite.root / "end").touch()
    suite.finish(first)


def test_a_rule_that_names_no_value_of_the_profile_is_refused(suite: Suite) -> None:
    suite.plan('[lease]\nof = ["api.adress"]\n')
    suite.checks(PASSING)
    run = suite.run()
    assert run.code == 4
    assert "readiness.toml: lease.of: unknown field 'api.adress'" in run.err


@pytest.mark.parametrize("wait", ["-1", "1.5", "86401", "soon", "٣"])
def test_a_wait_that_is_not_a_time_is_refused(suite: Suite, wait: str) -> None:
    suite.checks(PASSING)
    run = suite.run(f"--readiness-wait={wait}")
    assert run.code == 4
    assert "is not a number of seconds (allowed: 0 to 86400; 0 does not wait)" in run.err
