"""Cases of answers as the checks of one project, run by the real command line, and what must hold."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hostile.case import DEADLINE_S, SLACK_S, Case, answer
from tests.hostile.server import Server, always, by_first_segment
from tests.hostile.tls import Authority

ROOT = Path(__file__).parents[2]
MEMORY_MB = 300
#: Must not appear unescaped in a terminal or report.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")
PLAN = """
schema_version = 1
title = "Hostile"
suite = "smoke"
phases = ["hostile"]
[[goal]]
id = "G-1"
title = "It survives"
"""
PROFILE = 'name = "local"\nlive = false\n'
#: What a user has installed is loaded by name: other plugins would cost each run more than its checks do.
PLUGINS = (
    "pytest_readiness.adapter.plugin",
    "pytest_rerunfailures",
    "pytest_metadata.plugin",
    "pytest_html.plugin",
)
PYTEST = (
    *(sys.executable, "-m", "pytest", "--reruns=0", "-p", "no:cacheprovider"),
    *(word for name in PLUGINS for word in ("-p", name)),
)
EXIT_CODES = {"READY": 0, "BROKEN": 1, "DEGRADED": 2, "NO_VERDICT": 6}


@dataclass
class Outcome:
    """The cases that were tried, and their problems."""

    tried: int = 0
    problems: list[str] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def survived(self) -> int:
        """How many cases had no problem."""
        return max(0, self.tried - len(self.problems))

    def add(self, other: Outcome) -> None:
        """Add another tally."""
        self.tried += other.tried
        self.problems += other.problems
        self.peak_mb = max(self.peak_mb, other.peak_mb)


@dataclass(frozen=True)
class Run:
    """A finished process: its code, what it printed, and its peak of memory."""

    code: int
    output: str
    peak_mb: float


def run(command: Sequence[str], cwd: Path, environ: dict[str, str], within: float) -> Run:
    """Run a command to its end; one that hangs is killed and has code -9."""
    with tempfile.TemporaryFile() as file:
        process = subprocess.Popen(command, cwd=cwd, env=environ, stdout=file, stderr=subprocess.STDOUT)
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        file.seek(0)
        output = file.read().decode(errors="replace")
    return Run(process.returncode, output, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)


def serve(
    stack: ExitStack, cases: Sequence[Case], authority: Authority, common: Server, trap: Server
) -> dict[str, str]:
    """Start a server for each case that needs its own; where each case asks, by its name."""
    return {
        case.name: f"{case.asks} {_own_url(stack, case, authority, trap)}"
        if case.place != "http"
        else f"{case.asks} {common.url}/{case.name}"
        for case in cases
    }


def _own_url(stack: ExitStack, case: Case, authority: Authority, trap: Server) -> str:
    """Where a server of the case's own listens, as its client knows it."""
    if case.place == "closed":
        with socket.create_server(("127.0.0.1", 0)) as gone:
            return f"http://127.0.0.1:{gone.getsockname()[1]}"
    bare = case.place.startswith("raw")
    kind = case.place.removeprefix("tls-").replace("as-http", "good")
    own = Server(
        always(case.serves), None if bare else authority.context(kind), trap=trap.url, speaks_first=bare
    )
    stack.enter_context(own)
    urls = {"raw-tls": "https://localhost", "tls-as-http": "http://127.0.0.1"}
    return f"{urls[case.place]}:{own.port}" if case.place in urls else own.url


def try_cases(cases: Sequence[Case]) -> Outcome:
    """Run all cases as checks of one pytest run, and judge each of them."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        root = Path(name)
        authority = Authority(root)
        trap = stack.enter_context(Server(by_first_segment({"stolen": answer(), "": answer()})))
        shared = {case.name: case.serves for case in cases} | {"no-cookies": answer()}
        common = stack.enter_context(Server(by_first_segment(shared), trap=trap.url))
        urls = serve(stack, cases, authority, common, trap)
        write_project(root, urls)
        within = 200.0  # for the whole run: each check has its own limit, which is judged
        done = run(
            [*PYTEST, "smoke", "-v"],
            root,
            environ(
                root,
                HOSTILE_URLS=str(root / "urls.json"),
                HOSTILE_CA=str(authority.ca),
                HOSTILE_TRAP=trap.url,
            ),
            within,
        )
        outcome = Outcome(len(cases), peak_mb=done.peak_mb)
        outcome.problems += [*judge(cases, root, done), *stolen(trap), *carried(common)]
        return outcome


def write_project(root: Path, urls: dict[str, str]) -> None:
    """A plan, a profile, and the one check."""
    (root / "smoke").mkdir()
    (root / "environments").mkdir()
    (root / "readiness.toml").write_text(PLAN)
    (root / "environments" / "local.toml").write_text(PROFILE)
    (root / "environments" / "schema.toml").write_text("")
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "urls.json").write_text(json.dumps(urls))
    shutil.copy(ROOT / "tests" / "hostile" / "asking.py", root / "smoke" / "test_case.py")


def environ(root: Path, **more: str) -> dict[str, str]:
    """The environment of a run: only PATH is inherited."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(root),
        "TMPDIR": str(root),
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "AKIAHOSTILEHOSTILE00",
        "AWS_SECRET_ACCESS_KEY": "hostile-secret-access-key-of-the-runner-0",
        **more,
    }


def judge(cases: Sequence[Case], root: Path, done: Run) -> Iterator[str]:
    """Every problem of a run and its report, one line each."""
    model = report_in(root)
    if model is None:
        yield f"no report, exit {done.code}: {done.output[-2000:]}"
        return
    yield from agreement(model, done, root)
    if not model["checks"]:
        yield f"no check ran: {model['reasons']} {done.output[-1500:]}"
        yield from (f"{case.name}: not judged" for case in cases)
        return
    found = {re.sub(r".*\[(.*)\]$", r"\1", check["id"]): check for check in model["checks"]}
    for case in cases:
        check = found.get(case.name)
        if check is None:
            yield f"{case.name}: no check of it in the report"
            continue
        ends = check["outcome"] if check["outcome"] != "failed" else check["class"]
        if ends != case.ends:
            yield f"{case.name}: expected {case.ends}, ended {ends}: {check['summary']}"
        elif not re.search(case.says, check["summary"]):
            yield f"{case.name}: expected a summary like {case.says!r}, got {check['summary']!r}"
        if check["duration_s"] > DEADLINE_S + SLACK_S:
            yield f"{case.name}: took {check['duration_s']} s"


def report_in(root: Path) -> dict[str, Any] | None:
    """The report of a run, found below its report directory."""
    found = sorted((root / "reports").rglob("readiness.json"))
    model: dict[str, Any] | None = json.loads(found[0].read_text()) if found else None
    return model


def agreement(model: dict[str, Any], done: Run, root: Path) -> Iterator[str]:
    """What must hold of every hostile run: no READY, one verdict, nothing raw, no traceback, memory."""
    if model["verdict"] == "READY" or done.code == 0:
        yield f"READY where nothing was seen to be: exit {done.code}, {model['verdict']}"
    if EXIT_CODES[model["verdict"]] != done.code or model["exit_code"] != done.code:
        yield f"exit {done.code}, but the report has {model['verdict']} and {model['exit_code']}"
    if "INTERNALERROR" in done.output or "Traceback (most recent call last)" in done.output:
        yield f"a traceback of our own: {done.output[-2000:]}"
    shown = {"the terminal": done.output}
    shown |= {path.name: path.read_text() for path in (root / "reports").rglob("*.*")}
    for place, text in shown.items():
        raw = CONTROLS.search(text)
        if raw:
            yield f"{place} shows {raw.group()!r}: {text[max(0, raw.start() - 80) : raw.end() + 40]!r}"
    if done.peak_mb > MEMORY_MB:
        yield f"memory: {done.peak_mb:.0f} MB, limit {MEMORY_MB} MB"


def stolen(trap: Server) -> Iterator[str]:
    """Every request to the other origin that carried a credential or followed a redirect."""
    for request in trap.heads:
        if re.search(rb"^(authorization|cookie|x-api-key|x-amz-\S*token):", request, re.M | re.I):
            yield f"a credential reached another origin: {request[:200]!r}"
        if b"/stolen" in request.splitlines()[0]:
            yield f"another origin was asked: {request[:80]!r}"


def carried(server: Server) -> Iterator[str]:
    """Every request that carried a cookie of an earlier answer."""
    for request in server.heads:
        if b"\r\ncookie:" in request.lower():
            yield f"a cookie was carried on: {request[:200]!r}"
