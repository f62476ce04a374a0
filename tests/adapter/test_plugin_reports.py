"""Where reports go: a partial run's and a refused run's never replace those of a full run."""

import json
import os
import signal
from typing import Any

import pytest

from tests.adapter.scenario import HTML, WORKERS, Suite, wait_until
from tests.adapter.test_plugin_exit_codes import PASSING
from tests.adapter.test_plugin_interruption import HANGS

DROPS = """
def pytest_collection_modifyitems(items):
    del items[0]
"""
NAMES = ("readiness.json", "readiness.md", "readiness.html", "results.html")


def reports(suite: Suite, directory: str = "reports") -> dict[str, str]:
    return {name: suite.wrote(f"{directory}/{name}") for name in NAMES}


@pytest.fixture
def full(suite: Suite) -> dict[str, str]:
    suite.checks(PASSING)
    assert suite.run(plugins=HTML).verdict == "READY"
    written = reports(suite)
    assert all(written.values())
    return written


@WORKERS
@pytest.mark.parametrize(
    ("args", "conftest"),
    [
        pytest.param(("-k", "up"), "", id="-k"),
        pytest.param(("-m", "p0"), "", id="-m"),
        pytest.param(("--lf",), "", id="lf"),
        pytest.param(("smoke/test_checks.py",), "", id="file"),
        pytest.param(("--deselect", "smoke/test_checks.py::test_up"), "", id="deselect"),
        pytest.param((), DROPS, id="dropped-by-a-hook"),
        pytest.param(("--gate", "-k", "up"), "", id="gate"),
    ],
)
def test_a_partial_run_has_its_reports_beside(
    suite: Suite, full: dict[str, str], args: tuple[str, ...], conftest: str
) -> None:
    suite.write("smoke/conftest.py", conftest)
    run = suite.run(*args, plugins=HTML)
    assert run.model["scope"] == "partial", run.output()
    assert reports(suite) == full
    assert json.loads(suite.wrote("reports/partial/readiness.json"))["run_id"] == run.model["run_id"]
    assert "Launch readiness" in suite.wrote("reports/partial/results.html")
    assert "partial/readiness.md" in run.out


@pytest.mark.parametrize(
    ("args", "checks"),
    [
        (("--env", "nowhere"), PASSING),
        (("--env", "./none.toml"), PASSING),
        ((), PASSING + "@pytest.mark.p0\n@pytest.mark.goal('G-99')\ndef test_odd(): pass"),
        (("--readiness-ledger=file:/proc/none/{env}.jsonl",), PASSING),
    ],
)
@WORKERS
def test_a_usage_error_has_its_report_beside(
    suite: Suite, full: dict[str, str], args: tuple[str, ...], checks: str
) -> None:
    suite.checks(checks)
    run = suite.run(*args, plugins=HTML)
    assert (run.code, run.verdict, run.model["exit_code"]) == (4, "NO_VERDICT", 4), run.output()
    assert reports(suite) == full


def test_a_killed_full_run_leaves_no_older_verdict(suite: Suite, full: dict[str, str]) -> None:
    suite.checks(HANGS)
    process = suite.start(plugins=HTML)
    wait_until((suite.root / "started").exists)
    os.killpg(process.pid, signal.SIGKILL)
    suite.finish(process)
    assert json.loads(suite.wrote("reports/readiness.json"))["verdict"] == "NO_VERDICT"
    assert "READY" not in suite.wrote("reports/results.html")


def test_a_partial_run_that_is_killed_leaves_the_full_one(suite: Suite, full: dict[str, str]) -> None:
    suite.checks(HANGS)
    process = suite.start("-k", "hangs", plugins=HTML)
    wait_until((suite.root / "started").exists)
    os.killpg(process.pid, signal.SIGKILL)
    run = suite.finish(process)
    assert run.verdict == "NO_VERDICT"
    assert reports(suite) == full


@pytest.mark.usefixtures("full")
def test_a_selection_that_leaves_nothing_out_is_a_full_run(suite: Suite) -> None:
    suite.write("reports/results.html", "the page of an earlier run")
    run = suite.run("-m", "p0 or p1", plugins=HTML)
    assert (run.verdict, run.model["scope"]) == ("READY", "full"), run.output()
    assert json.loads(suite.wrote("reports/readiness.json"))["run_id"] == run.model["run_id"]
    assert not any(reports(suite, "reports/partial").values())
    assert suite.wrote("reports/results.html").startswith("<!DOCTYPE html>")


#: A check that stops files from growing, like a full disk, once the run has begun.
FILLS = """
import resource, signal
@pytest.mark.{severity}
def test_fills(evidence):
    passing(evidence)
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
    {end}
"""


@pytest.mark.parametrize(
    ("limit", "severity", "end"),
    [(1000, "p0", "pass"), (2000, "p0", "pass"), (2000, "p1", "assert False")],
)
def test_a_full_disk_leaves_no_verdict(suite: Suite, limit: int, severity: str, end: str) -> None:
    suite.checks(FILLS.format(severity=severity, limit=limit, end=end))
    run = suite.run("-p", "no:cacheprovider")
    assert run.code == 6, run.output()
    assert not suite.wrote("reports/readiness.json") or run.verdict == "NO_VERDICT"
    assert not suite.ledger()


class Raises:
    """Source of exceptions whose text cannot be read: str() and repr() raise."""

    text = """
    class Odd({base}):
        def __str__(self): raise RuntimeError("no text")
        __repr__ = __str__

    @pytest.mark.p0
    def test_odd(evidence):
        passing(evidence)
        raise Odd()
    """


@pytest.mark.parametrize(
    "base", ["Exception", "AssertionError", "KeyboardInterrupt", "pytest.exit.Exception"]
)
def test_an_exception_without_a_text_is_not_our_error(suite: Suite, base: str) -> None:
    suite.checks(Raises.text.format(base=base))
    run = suite.run()
    assert run.code in (1, 6), run.output()
    assert run.verdict in ("BROKEN", "NO_VERDICT")
    assert run.model["exit_code"] == run.code


def test_a_deep_line_in_the_ledger_is_a_usage_error(suite: Suite, full: Any) -> None:
    with (suite.root / ".readiness" / "local.jsonl").open("a") as stream:
        stream.write("[" * 100_000 + "\n")
    run = suite.run()
    assert run.code == 4, run.output()
    assert "is not an entry: it was edited or damaged" in run.err
    assert "Traceback" not in run.err


def test_the_variables_that_a_run_took_are_named_for_those_who_repeat_it(suite: Suite) -> None:
    suite.write("smoke/conftest.py", OFFERS_A_VARIABLE)
    suite.checks("import botocore.session\n@pytest.mark.p0\ndef test_up(evidence): passing(evidence)")
    given = {
        "AWS_ACCESS_KEY_ID": "given",
        "SCENARIO_TOKEN": "given",
        "AWS_REGION": "given",
        "UNUSED": "given",
    }
    run = suite.run(environ=given)
    assert run.model["reproduce_env"] == ["AWS_ACCESS_KEY_ID", "SCENARIO_TOKEN"], run.output()


OFFERS_A_VARIABLE = """
import os
def pytest_readiness_environment(name, config):
    os.environ["AWS_REGION"] = "of the stand-in"
"""
