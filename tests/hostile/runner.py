"""Trouble on the runner: kills at any moment, full disks, odd clocks, streams and settings."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_readiness.report import report_of

from tests.hostile.batch import CONTROLS, EXIT_CODES, PLAN, PROFILE, PYTEST, Outcome, environ

WITHIN_S = 30.0
#: pytest's own errors, and the interpreter's when it cannot flush what was printed.
NO_ANSWER = (3, 4, 120)
#: Hooks at which a run can be made to wait, in order, and whether the verdict is written by then.
MOMENTS = (
    "pytest_collection",
    "pytest_runtest_setup",
    "pytest_runtest_call",
    "pytest_runtest_teardown",
    "pytest_runtest_logfinish",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_unconfigure",
)
_CONFTEST = """
import os, pathlib, threading
import pytest

def at(moment):
    if os.environ.get("HOSTILE_MOMENT") == moment:
        pathlib.Path("reached").touch()
        threading.Event().wait(30)
"""
_HOOK = """
@pytest.hookimpl(tryfirst=True)
def {moment}():
    at("{moment}")
"""
_CHECKS = """
import pytest

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("hostile"), pytest.mark.p0]

def test_good(evidence):
    evidence.evaluated("rule")

def test_red(evidence):
    evidence.evaluated("rule")
    print("gedruckt: \\u00fc\\u9375")
    assert False, "the seeded failure: \\u00fc \\u9375 \\U0001f44d"
"""


@dataclass(frozen=True)
class Trouble:
    """One case. The project has a good and a red P0: whatever happens to the runner, the red one stays red.

    ``prepare`` changes the project, ``limit`` acts in the process before pytest starts, ``mounts`` is a shell
    script that mounts its own disks. ``verdicts`` are the
    allowed ones; "" is no report, which must go with an exit code that is not 0.
    """

    name: str
    environ: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    prepare: Callable[[Path], object] = lambda _: None
    limit: Callable[[], object] = lambda: None
    verdicts: tuple[str, ...] = ("BROKEN",)
    moment: str = ""
    signal: int = 0
    stdout: str = ""
    mounts: str = ""


def project(root: Path) -> None:
    """Write the plugin-only project."""
    for directory in ("smoke", "environments"):
        (root / directory).mkdir()
    (root / "readiness.toml").write_text(PLAN)
    (root / "environments" / "local.toml").write_text(PROFILE)
    (root / "environments" / "schema.toml").write_text("")
    (root / "pytest.ini").write_text("[pytest]\n")
    hooks = "".join(_HOOK.format(moment=moment) for moment in MOMENTS)
    (root / "smoke" / "conftest.py").write_text(_CONFTEST + hooks)
    (root / "smoke" / "test_case.py").write_text(_CHECKS)


def old_ready(root: Path) -> None:
    """Leave an earlier READY where the new report is expected."""
    (root / "reports").mkdir()
    (root / "reports" / "readiness.json").write_text('{"verdict": "READY", "exit_code": 0, "checks": []}')


def clock(code: str) -> Callable[[Path], object]:
    """A clock of the process that jumps: ``real`` is the true one, ``calls`` how often it was read."""
    text = (
        "import itertools, time\n_real, _calls = time.time, itertools.count()\n"
        f"time.time = lambda: (lambda real, calls: {code})(_real(), next(_calls))\n"
    )
    return lambda root: (root / "sitecustomize.py").write_text(text)


def ledger(content: bytes) -> Callable[[Path], object]:
    """A ledger that holds these bytes."""

    def prepare(root: Path) -> None:
        (root / ".readiness").mkdir()
        (root / ".readiness" / "local.jsonl").write_bytes(content)

    return prepare


def capped(what: int, most: int) -> Callable[[], object]:
    """A resource limit of the process; a file that grows beyond its limit is an error, not a signal."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(what, (most, most))

    return limit


#: A command that runs a process with its own mounts, as root or not.
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
#: What is in ``reports`` at the end stays there when a disk that was mounted over it goes.
_MOUNTED = """
set -e
{mounts}
code=0; "$@" || code=$?
{{ mkdir kept && cp -r reports/. kept && umount reports && rm -rf reports && mv kept reports
}} 2>/dev/null || true
exit $code
"""
_UNWRITTEN = ("", "NO_VERDICT")
KILLS = [
    Trouble(
        f"{signal.Signals(number).name.lower()}-at-{moment.removeprefix('pytest_')}",
        moment=moment,
        signal=number,
        prepare=old_ready,
        verdicts=("NO_VERDICT", "BROKEN"),
    )
    for number, moments in (
        (signal.SIGKILL, MOMENTS),
        (signal.SIGTERM, MOMENTS[2:7:2]),
        (signal.SIGINT, MOMENTS[1:4:2]),
        (signal.SIGHUP, MOMENTS[2:3]),
    )
    for moment in moments
]
SETTINGS = [
    Trouble("locale-c", {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    Trouble("locale-missing", {"LC_ALL": "xx_YY.UTF-8"}),
    Trouble("streams-ascii", {"PYTHONIOENCODING": "ascii"}),
    Trouble("dumb-terminal", {"TERM": "dumb", "COLUMNS": "1"}),
    Trouble("endless-columns", {"COLUMNS": "100000"}),
    Trouble("no-home", {"HOME": "/nonexistent"}),
    Trouble("no-tmpdir", {"TMPDIR": "/nonexistent"}),
    Trouble("warnings-are-errors", {"PYTHONWARNINGS": "error"}, verdicts=("BROKEN", "NO_VERDICT")),
    Trouble("safe-path", {"PYTHONSAFEPATH": "1"}),
    Trouble("proxies", {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "nonsense", "NO_PROXY": "["}),
    Trouble("time-zone", {"TZ": "Pacific/Kiritimati"}),
    Trouble("time-zone-odd", {"TZ": "\x1b[31m"}),
    Trouble("clock-back-a-day", prepare=clock("real - 86400 * (calls > 20)")),
    Trouble("clock-back-each-time", prepare=clock("real - calls")),
    Trouble("clock-at-zero", prepare=clock("0.0")),
    Trouble("clock-in-2100", prepare=clock("4102444800.0 + calls")),
    Trouble("clock-jumps", prepare=clock("real + (-1) ** calls * 1e8")),
]
STREAMS = [
    Trouble("stdout-full", stdout="/dev/full", verdicts=("BROKEN", "NO_VERDICT")),
    Trouble("stderr-closed", limit=lambda: os.close(2), verdicts=("BROKEN", "NO_VERDICT", "")),
    Trouble("stdin-closed", limit=lambda: os.close(0), verdicts=("BROKEN", "NO_VERDICT", "")),
    Trouble("files-of-0-bytes", limit=capped(resource.RLIMIT_FSIZE, 0), verdicts=_UNWRITTEN),
    Trouble("files-of-1-kb", limit=capped(resource.RLIMIT_FSIZE, 1024), verdicts=_UNWRITTEN),
    Trouble(
        "files-of-4-kb", limit=capped(resource.RLIMIT_FSIZE, 4096), verdicts=("", "NO_VERDICT", "BROKEN")
    ),
    Trouble("few-files", limit=capped(resource.RLIMIT_NOFILE, 24), verdicts=("", "NO_VERDICT", "BROKEN")),
    Trouble("umask", limit=lambda: os.umask(0o777), verdicts=("BROKEN", "NO_VERDICT")),
    Trouble("reports-unwritable", args=("--readiness-dir=/proc/reports",), verdicts=("",)),
    Trouble("reports-is-a-file", prepare=lambda root: (root / "reports").write_text(""), verdicts=("",)),
    Trouble(
        "report-is-a-directory",
        prepare=lambda root: (root / "reports" / "readiness.json").mkdir(parents=True),
        verdicts=("",),
    ),
    Trouble(
        "reports-link-loop", prepare=lambda root: (root / "reports").symlink_to("reports"), verdicts=("",)
    ),
]
LEDGERS = [
    Trouble("ledger-binary", prepare=ledger(bytes(range(256)) * 40), verdicts=("", "BROKEN", "NO_VERDICT")),
    Trouble("ledger-deep", prepare=ledger(b"[" * 100_000 + b"\n"), verdicts=("", "BROKEN", "NO_VERDICT")),
    Trouble("ledger-numbers", prepare=ledger(b"1\nnull\n[]\n"), verdicts=("", "BROKEN", "NO_VERDICT")),
    Trouble("ledger-torn", prepare=ledger(b'{"run_id": "x"'), verdicts=("", "BROKEN", "NO_VERDICT")),
    Trouble(
        "ledger-is-a-directory",
        prepare=lambda root: (root / ".readiness" / "local.jsonl").mkdir(parents=True),
        verdicts=("", "BROKEN", "NO_VERDICT"),
    ),
    Trouble(
        "ledger-unwritable",
        args=("--readiness-ledger=file:/proc/ledger",),
        verdicts=("", "NO_VERDICT", "BROKEN"),
    ),
]
TROUBLES = [*KILLS, *SETTINGS, *STREAMS, *LEDGERS]


def befall(trouble: Trouble) -> Outcome:
    """Run the project with one kind of trouble and judge the result."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        project(root)
        trouble.prepare(root)
        code, output, peak = _run(trouble, root)
        problems = [f"{trouble.name}: {problem}" for problem in _judge(trouble, root, code, output)]
        return Outcome(1, problems[:1], peak)


def two_at_once() -> Outcome:
    """Two runs of one project at the same time: both are red, and the ledger keeps both in one chain."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        project(root)
        one = Trouble("two-at-once")
        codes: list[int] = []
        threads = [threading.Thread(target=lambda: codes.append(_run(one, root)[0])) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        checked = subprocess.run(
            [sys.executable, "-m", "pytest_readiness.cli", "ledger", "verify"],
            cwd=root,
            env=environ(root),
            capture_output=True,
            text=True,
        )
        entries = (root / ".readiness" / "local.jsonl").read_text().splitlines()
        problems = []
        if codes != [1, 1]:
            problems.append(f"two-at-once: exit codes {codes}")
        if checked.returncode or len(entries) != 2:
            problems.append(f"two-at-once: {len(entries)} entries, {checked.stdout}{checked.stderr}")
        return Outcome(1, problems[:1])


def _run(trouble: Trouble, root: Path) -> tuple[int, str, float]:
    variables = environ(root, **trouble.environ)
    if trouble.moment:
        variables["HOSTILE_MOMENT"] = trouble.moment
    variables["PYTHONPATH"] = os.pathsep.join((str(root), variables["PYTHONPATH"]))
    command = [*PYTEST, "smoke", *trouble.args]
    if trouble.mounts:
        command = [*NAMESPACE, "sh", "-c", _MOUNTED.format(mounts=trouble.mounts), "sh", *command]
    with tempfile.TemporaryFile() as printed, open(trouble.stdout or os.devnull, "w") as elsewhere:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=elsewhere if trouble.stdout else printed,
            stderr=printed,
            preexec_fn=trouble.limit,
        )
        if trouble.signal:
            _await(root / "reached", process)
            process.send_signal(trouble.signal)
        try:
            process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return 0, "it hung", 0.0
        printed.seek(0)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return process.returncode, printed.read().decode(errors="replace"), peak


def _await(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        threading.Event().wait(0.01)


def _judge(trouble: Trouble, root: Path, code: int, output: str) -> Iterator[str]:
    """Every problem of a run, one line each."""
    if code == 0:
        yield f"exit 0: {output[-500:]}"
    report = report_of(root / "reports")
    verdict = ""
    if report.is_file():
        os.chmod(report, 0o600)
        model: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        verdict = model["verdict"]
        differs = EXIT_CODES[verdict] != code or model["exit_code"] != code
        if code > 0 and code not in NO_ANSWER and differs:
            yield f"exit {code}, but the report has {verdict} and {model['exit_code']}"
    if verdict not in trouble.verdicts:
        allowed = " or ".join(trouble.verdicts)
        yield f"ended {verdict or 'without a report'}, expected {allowed}: {output[-800:]}"
    # where nothing can be printed, pytest and the interpreter fail to flush, with a traceback of their own
    if not trouble.stdout and ("INTERNALERROR" in output or "Traceback (most recent call last)" in output):
        yield f"a traceback: {output[-1500:]}"
    raw = CONTROLS.search(output)
    if raw:
        yield f"the terminal shows {raw.group()!r}"
