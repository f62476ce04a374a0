"""`readiness gate`: this run's report decides the exit code, however the process ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.adapter.scenario import DEFAULT, PLUGINS, Suite, wait_until
from tests.adapter.test_plugin_exit_codes import OUTAGE, P0_FAILS, P1_FAILS, PASSING

ROOT = Path(__file__).parents[2]
WAITS = """
@pytest.mark.p0
def test_waits(evidence):
    passing(evidence)
    pathlib.Path("started.new").write_text(str(os.getpid()))
    os.rename("started.new", "started")
    threading.Event().wait()
"""
ENDS = """
@pytest.mark.p0
def test_ends(evidence):
    passing(evidence)
    {}
"""


def _start(
    suite: Suite,
    *args: str,
    plugins: tuple[str, ...] = DEFAULT,
    directory: str = "",
    **environ: str,
) -> subprocess.Popen[str]:
    suite._leave_out_empty_phases()
    loaded = [word for name in plugins for word in ("-p", PLUGINS[name])]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest_readiness.cli", "gate", *loaded, *(args or ("smoke",))],
        cwd=suite.root / directory,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(suite.root),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _gate(
    suite: Suite, *args: str, plugins: tuple[str, ...] = DEFAULT, directory: str = ""
) -> tuple[int, str]:
    process = _start(suite, *args, plugins=plugins, directory=directory)
    out, _ = process.communicate(timeout=60)
    return process.returncode, out


def _model(suite: Suite, reports: str = "reports") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((suite.root / reports / "readiness.json").read_text())
    return found


@pytest.mark.parametrize(
    ("checks", "code"), [(PASSING, 0), (P0_FAILS, 1), (P1_FAILS, 2), (OUTAGE, 6)], ids=["0", "1", "2", "6"]
)
def test_it_answers_with_the_exit_code_of_the_report(suite: Suite, checks: str, code: int) -> None:
    suite.checks(checks)
    found, out = _gate(suite, "--", "smoke", "--env", "local")
    assert (found, _model(suite)["exit_code"]) == (code, code), out


@pytest.mark.parametrize(
    "end",
    [
        "os._exit(0)",
        "os._exit(1)",
        "os.kill(os.getpid(), 9)",
        "os.abort()",
        "import ctypes; ctypes.string_at(0)",
    ],
)
def test_a_process_that_ends_itself_gives_no_verdict(suite: Suite, end: str) -> None:
    suite.checks(PASSING)
    assert _gate(suite)[0] == 0
    suite.checks(ENDS.format(end))
    code, out = _gate(suite, "smoke", "-p", "no:faulthandler")
    assert (code, _model(suite)["verdict"]) == (6, "NO_VERDICT"), out
    assert "before it had judged the run" in _model(suite)["reasons"][0]


@pytest.mark.parametrize(
    "conftest",
    [
        "import os; os._exit(0)",
        "import sys; sys.exit(0)",
        "import pytest; pytest.exit('done', returncode=0)",
        "import atexit, os; atexit.register(os._exit, 7)",
    ],
)
def test_a_conftest_that_ends_the_process_leaves_no_older_ready(suite: Suite, conftest: str) -> None:
    suite.checks(PASSING)
    assert _gate(suite)[0] == 0
    suite.write("smoke/conftest.py", conftest)
    code, out = _gate(suite)
    assert code not in (0, 1, 2), out
    if code != 4:
        assert _model(suite)["verdict"] == "NO_VERDICT"


def test_a_report_that_another_run_wrote_over_this_one_is_not_an_answer(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write(
        "smoke/conftest.py",
        """
        import atexit, json, pathlib

        def _other():
            report = pathlib.Path("reports/readiness.json")
            report.write_text(json.dumps(json.loads(report.read_text()) | {"run_id": "other"}))

        atexit.register(_other)
        """,
    )
    code, out = _gate(suite)
    assert (code, _model(suite)["run_id"]) == (6, "other"), out
    assert "run other has written its reports over those of this run" in out
    assert "next: give each of two runs at once a --readiness-dir of its own" in out


def test_without_the_plugin_there_is_no_verdict(suite: Suite) -> None:
    suite.checks(PASSING)
    assert _gate(suite)[0] == 0
    code, out = _gate(suite, "--version", plugins=())
    assert (code, _model(suite)["verdict"]) == (6, "NO_VERDICT"), out


def test_bad_input_keeps_its_exit_code(suite: Suite) -> None:
    suite.checks(PASSING)
    assert _gate(suite, "smoke", "--env=")[0] == 4


def test_a_partial_run_is_refused(suite: Suite) -> None:
    suite.checks(PASSING)
    assert _gate(suite, "smoke", "-k", "up")[0] == 6


def test_reports_elsewhere_are_found(suite: Suite) -> None:
    suite.checks(ENDS.format("os._exit(0)"))
    code, _ = _gate(suite, "smoke", "--readiness-dir", "elsewhere")
    assert (code, _model(suite, "elsewhere")["verdict"]) == (6, "NO_VERDICT")
    assert not (suite.root / "reports").exists()


@pytest.mark.parametrize(
    ("directory", "args", "scope"),
    [
        ("other", ("--rootdir", ".."), "full"),
        ("other", ("--rootdir=..", "-n2", "-p", "xdist.plugin"), "full"),
        ("smoke", ("--rootdir=..",), "full"),
        ("smoke/late", ("--rootdir=../..",), "partial"),
    ],
)
def test_the_rootdir_decides_which_suite_runs(
    suite: Suite, directory: str, args: tuple[str, ...], scope: str
) -> None:
    suite.checks(PASSING)
    suite.write("smoke/late/test_late.py", "")
    suite.write("other/test_other.py", "def test_other(): assert False")
    code, out = _gate(suite, *args, directory=directory)
    if scope == "partial":
        assert (code, _model(suite, "reports/partial")["scope"]) == (6, scope), out
    else:
        assert (code, _model(suite)["scope"], _model(suite)["counts"]["total"]) == (0, scope, 2), out


def test_reports_of_a_child_that_dies_early_are_those_of_its_rootdir(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write("conftest.py", "import os; os._exit(0)")
    suite.write("other/x", "")
    assert _gate(suite, "--rootdir", "..", directory="other")[0] == 6
    assert _model(suite)["verdict"] == "NO_VERDICT"
    assert not (suite.root / "other/reports").exists()


def test_a_run_that_cannot_write_its_reports_says_why(suite: Suite) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))"
    suite.checks(PASSING + ENDS.format(limit))
    code, out = _gate(suite)
    why = f"{suite.root}/reports: the reports cannot be written: File too large"
    assert (code, _model(suite)["reasons"]) == (6, [why]), out
    assert out.splitlines()[-1] == f"readiness: NO_VERDICT: {why}"


def test_a_run_inside_the_run_is_another_one(suite: Suite) -> None:
    suite.checks(PASSING + ENDS.format('assert "READINESS_RUN_ID" not in os.environ'))
    assert _gate(suite)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_passed_on(suite: Suite, number: signal.Signals) -> None:
    suite.checks(WAITS)
    process = _start(suite)
    wait_until((suite.root / "started").exists)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, _model(suite)["verdict"]) == (6, "NO_VERDICT"), out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds a child to the life of its owner")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1])
def test_without_its_supervisor_the_run_ends(suite: Suite, number: signal.Signals) -> None:
    suite.checks(PASSING)
    assert _gate(suite)[0] == 0
    suite.checks(WAITS)
    process = _start(suite)
    wait_until((suite.root / "started").exists)
    child = Path("/proc", (suite.root / "started").read_text())
    assert child.exists()
    process.send_signal(number)
    process.communicate(timeout=60)
    wait_until(lambda: not child.exists() or "zombie" in (child / "status").read_text())
    assert _model(suite)["verdict"] == "NO_VERDICT"


def test_a_time_limit_that_ends_the_process_gives_no_verdict(suite: Suite) -> None:
    suite.checks(ENDS.format("threading.Event().wait(30)"))
    code, out = _gate(suite, "smoke", "-p", "pytest_timeout", "--timeout=1", "--timeout-method=thread")
    assert (code, _model(suite)["verdict"]) == (6, "NO_VERDICT"), out


def test_every_report_of_a_process_that_died_says_no_verdict(suite: Suite) -> None:
    suite.checks(ENDS.format("os._exit(0)"))
    summary = suite.root / "summary.md"
    process = _start(suite, "smoke", "--readiness-format=text,prometheus", GITHUB_STEP_SUMMARY=str(summary))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 6, out
    assert "**Verdict: NO_VERDICT**" in summary.read_text()
    assert "pytest ended with exit status 0" in suite.wrote("reports/readiness.txt")
    assert 'verdict="NO_VERDICT"} 1' in suite.wrote("reports/readiness.prom")
