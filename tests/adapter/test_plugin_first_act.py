"""A run removes the previous report before the first conftest; commands without a verdict leave it."""

import os
import signal

import pytest

from tests.adapter.scenario import HTML, Suite, wait_until
from tests.adapter.test_plugin_exit_codes import PASSING

WAITS = """
import os, pathlib, threading
pathlib.Path(os.environ["SCENARIO_ROOT"], "reached").touch()
threading.Event().wait(30)
"""
ADDS_OPTION = "def pytest_addoption(parser): parser.addoption('--target')"


@pytest.fixture
def ready(suite: Suite) -> Suite:
    """A suite that was READY once, with a page."""
    suite.checks(PASSING)
    assert suite.run(plugins=HTML).verdict == "READY"
    return suite


def _reports(suite: Suite, directory: str = "reports") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (suite.root / directory).glob("*.*")}


def _verdict_of_killed(suite: Suite, *args: str) -> str:
    process = suite.start(*args, plugins=HTML)
    wait_until((suite.root / "reached").exists)
    os.killpg(process.pid, signal.SIGKILL)
    return suite.finish(process).verdict


@pytest.mark.parametrize("file", ["conftest.py", "smoke/conftest.py", "smoke/test_waits.py", "waits.py"])
@pytest.mark.parametrize("args", [(), ("smoke", "-p", "no:cacheprovider"), ("--gate",), ("-n2",)])
def test_a_run_killed_during_imports_leaves_no_older_verdict(
    ready: Suite, file: str, args: tuple[str, ...]
) -> None:
    ready.write(file, WAITS)
    if file == "waits.py":
        ready.write("smoke/conftest.py", "import sys; sys.path.insert(0, '.'); import waits")
    assert _verdict_of_killed(ready, *args) == "NO_VERDICT"
    assert b"READY" not in _reports(ready).get("results.html", b"")


@pytest.mark.parametrize(
    "ini", ["[pytest]\ntestpaths = sm*\n", "[pytest]\naddopts = --env local\n", "[pytest]\n"]
)
def test_a_run_without_paths_is_understood(ready: Suite, ini: str) -> None:
    ready.write("pytest.ini", ini)
    ready.write("conftest.py", WAITS)
    assert _verdict_of_killed(ready, "--rootdir=.") == "NO_VERDICT"


def test_a_killed_partial_run_leaves_the_full_verdict_alone(ready: Suite) -> None:
    before = _reports(ready)
    assert ready.run("-k", "up").verdict == "READY"
    ready.write("conftest.py", WAITS)
    assert _verdict_of_killed(ready, "-k", "up") == "NO_VERDICT"
    assert _reports(ready) == before


@pytest.mark.parametrize(
    "conftest",
    [
        "import os; os._exit(0)",
        "import sys; sys.exit(0)",
        "raise KeyboardInterrupt",
        "import pytest\ndef pytest_configure(): pytest.exit('done', returncode=0)",
        "import pytest\ndef pytest_cmdline_main(): return 0",
        "import pytest\ndef pytest_sessionstart(): pytest.exit('done', returncode=0)",
        "def pytest_configure(): raise RuntimeError('odd')",
    ],
)
def test_a_conftest_that_ends_the_run_leaves_no_older_verdict(ready: Suite, conftest: str) -> None:
    ready.write("smoke/conftest.py", conftest)
    run = ready.run()
    assert run.verdict == "NO_VERDICT", run.output()


USAGE_ERRORS = {
    "option": (("--no-such-option",), ""),
    "value": (("--degraded-exit-code=x",), ""),
    "path": (("smoke/nowhere",), ""),
    "-O": (("-p", "no:readiness-gate"), ""),
    "blocked": (("-p", "no:readiness-start"), ""),
    "no tests": (("-p", "no:python"), ""),
    "pastebin": (("--pastebin=all",), ""),
    "import": ((), "import nowhere_to_be_found"),
    "syntax": ((), "def"),
    "exit": ((), "import pytest; pytest.exit('done', returncode=0)"),
    "configure": ((), "import pytest\ndef pytest_configure(): raise pytest.UsageError('odd')"),
    "start": ((), "import pytest\ndef pytest_sessionstart(): raise pytest.UsageError('odd')"),
}


@pytest.mark.parametrize(("args", "conftest"), USAGE_ERRORS.values(), ids=USAGE_ERRORS.keys())
def test_a_usage_error_leaves_the_full_verdict_alone(
    ready: Suite, args: tuple[str, ...], conftest: str
) -> None:
    before = _reports(ready)
    ready.write("conftest.py", conftest)
    run = ready.run("smoke", *args, plugins=HTML)
    assert run.code == 4, run.output()
    assert _reports(ready) == before
    if args != ("--degraded-exit-code=x",):  # pytest refuses before it loads the plugin
        assert (run.verdict, run.model["exit_code"]) == ("NO_VERDICT", 4), run.model["reasons"]


@pytest.mark.parametrize(
    "args",
    [
        *(("--help",), ("--version",), ("--markers",), ("--fixtures",), ("--cache-show",), ("--setup-plan",)),
        *(("--collect-only",), ("tests",), ("--target", "smoke", "tests"), ("--target=--env", "tests")),
    ],
    ids=" ".join,
)
def test_a_call_that_runs_no_check_leaves_the_reports_alone(ready: Suite, args: tuple[str, ...]) -> None:
    before = _reports(ready)
    ready.write("tests/test_other.py", "def test_other(): pass")
    ready.write("conftest.py", ADDS_OPTION)
    run = ready.run(*args, plugins=HTML)
    assert run.code == 0, run.output()
    assert _reports(ready) == before
    assert not (ready.root / "reports/partial").exists()


def test_an_option_of_a_conftest_that_looked_like_a_full_run(ready: Suite) -> None:
    before = _reports(ready)
    ready.write("conftest.py", ADDS_OPTION)
    run = ready.run("--target", "smoke", "smoke/test_checks.py::test_up")
    assert (run.code, run.verdict, run.model["scope"]) == (0, "READY", "partial"), run.output()
    assert _reports(ready) == before


def test_a_value_of_an_option_of_a_conftest_is_not_a_path(ready: Suite) -> None:
    ready.write("conftest.py", ADDS_OPTION)
    run = ready.run("--gate", "--target", "eu")
    assert (run.code, run.verdict, run.model["scope"]) == (0, "READY", "full"), run.output()
    ready.write("eu/x", "")
    assert ready.run("--gate", "--target", "eu").verdict == "READY"
    run = ready.run("--gate", "--aim", "eu")
    assert run.code == 4
    assert "unrecognized arguments: --aim" in run.err


def test_a_path_after_a_flag_of_a_conftest_is_a_path(ready: Suite) -> None:
    ready.write(
        "conftest.py", "def pytest_addoption(parser): parser.addoption('--fast', action='store_true')"
    )
    ready.write("pytest.ini", "[pytest]\ntestpaths = other\n")
    ready.write("other/x", "")
    run = ready.run("--gate", "--fast", "smoke")
    assert (run.code, run.verdict, run.model["scope"]) == (0, "READY", "full"), run.output()


@pytest.mark.parametrize("where", ["conftest.py", "smoke/conftest.py"])
def test_a_copy_that_a_conftest_forks_is_not_a_second_run(ready: Suite, where: str) -> None:
    ready.write(where, "import os; os.fork()")
    ready.expect("READY")
    assert len(ready.ledger()) == 2
