"""A small suite with a launch plan, run by a real pytest in its own process."""

import json
import multiprocessing
import os
import re
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from pytest_readiness.report import report_of

from tests.adapter.samples import HEADER, LOCAL, PLAN, SCHEMA

#: Plugins that a user has installed; each is loaded by name, so a scenario can leave any of them out.
PLUGINS = {
    "readiness": "pytest_readiness.adapter.plugin",
    "rerunfailures": "pytest_rerunfailures",
    "xdist": "xdist.plugin",
    "html": "pytest_html.plugin",
    "metadata": "pytest_metadata.plugin",
}
DEFAULT = ("readiness", "rerunfailures")
HTML = (*DEFAULT, "metadata", "html")
EXIT_STATUS = {"READY": 0, "BROKEN": 1, "DEGRADED": 2, "NO_VERDICT": 6}
#: A test runs its suite in one process and again in two.
WORKERS = pytest.mark.parametrize("suite", [(), ("-n2",)], ids=["alone", "workers"], indirect=True)
#: Runs are forked from a server that has imported the plugins before pytest could rewrite their assertions.
QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
multiprocessing.get_context("forkserver").set_forkserver_preload(
    [*PLUGINS.values(), "pytest_readiness.adapter.wiring", "xdist.dsession", "tests.adapter.scenario"]
)


def _pytest(root: str, environ: Mapping[str, str], args: Sequence[str]) -> None:
    """Run pytest in the forked process: own process group, own environment, output into files."""
    os.setsid()
    os.chdir(root)
    os.environ.clear()
    os.environ.update(environ)
    sys.dont_write_bytecode = True
    for name, stream in ((".stdout", 1), (".stderr", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    code = pytest.main([*args])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code))


@dataclass(frozen=True)
class Started:
    """A running pytest process."""

    process: BaseProcess

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid


@dataclass(frozen=True)
class Run:
    """A finished run: exit status, output and report."""

    code: int
    out: str
    err: str
    root: Path

    @property
    def model(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(report_of(self.root / "reports").read_text())
        return found

    @property
    def verdict(self) -> str:
        return str(self.model["verdict"])

    def check(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(check for check in self.model["checks"] if check["id"] == name)
        return found

    def outcomes(self) -> dict[str, str]:
        return {check["id"]: check["outcome"] for check in self.model["checks"]}

    def output(self) -> str:
        """The exit code and both streams, for the message of an assertion."""
        return f"exit {self.code}\n{self.out}\n{self.err}"


class Suite:
    """The files of a suite under ``root``, and ways to run it."""

    def __init__(self, root: Path, workers: tuple[str, ...] = ()) -> None:
        self.root, self.workers = root, workers
        self.write("readiness.toml", PLAN)
        self.write("environments/schema.toml", SCHEMA)
        self.write("environments/local.toml", LOCAL)
        self.write("smoke/conftest.py", "")
        self.write("pytest.ini", "[pytest]\n")

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def checks(self, body: str, name: str = "smoke/test_checks.py", phase: str = "health") -> None:
        """Write a module of checks of goal G-1; ``passing(evidence)`` in it takes a measurement."""
        self.write(name, HEADER.format(phase=phase) + textwrap.dedent(body))

    def plan(self, more: str) -> None:
        """Append to the plan."""
        path = self.root / "readiness.toml"
        path.write_text(path.read_text() + textwrap.dedent(more))

    def start(
        self,
        *args: str,
        plugins: Sequence[str] = DEFAULT,
        environ: Mapping[str, str] | None = None,
        fresh: bool = False,
        paths: Sequence[str] = ("smoke",),
    ) -> Started:
        """Start pytest in its own process group; ``fresh``: in an interpreter that imported nothing.

        ``paths`` are asked for where ``args`` names none.
        """
        self._leave_out_empty_phases()
        args = (*self.workers, *args)
        if any(arg.startswith("-n") for arg in args):
            plugins = (*plugins, "xdist")
        if any(arg.startswith("smoke") or arg in {".", "tests", "other"} for arg in args):
            paths = ()
        loaded = [word for name in plugins for word in ("-p", PLUGINS[name])]
        delay = [] if "rerunfailures" not in plugins else ["--reruns-delay=0"]
        settings = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "SCENARIO_ROOT": str(self.root),
            "TMPDIR": str(self.root),  # files of a killed run are removed with the test's directory
            **(environ or {}),
        }
        fork = multiprocessing.get_context("forkserver").Process
        process = (multiprocessing.get_context("spawn").Process if fresh else fork)(
            target=_pytest, args=(str(self.root), settings, [*loaded, *delay, *QUIET, *args, *paths])
        )
        process.start()
        return Started(process)

    def _leave_out_empty_phases(self) -> None:
        """Remove phases that no module uses from the plan, unless the test wrote its own list."""
        plan = self.root / "readiness.toml"
        text = "".join(path.read_text() for path in (self.root / "smoke").rglob("test_*.py"))
        named = [phase for phase in ("health", "work", "late") if f'phase("{phase}")' in text]
        if named and plan.is_file():
            listed = re.sub(r'(?m)^phases = \["health".*$', f"phases = {json.dumps(named)}", plan.read_text())
            plan.write_text(listed)

    def run(
        self,
        *args: str,
        plugins: Sequence[str] = DEFAULT,
        environ: Mapping[str, str] | None = None,
        fresh: bool = False,
        paths: Sequence[str] = ("smoke",),
    ) -> Run:
        """Run pytest to its end."""
        return self.finish(self.start(*args, plugins=plugins, environ=environ, fresh=fresh, paths=paths))

    def expect(self, verdict: str, *args: str, **more: Any) -> Run:
        """Run pytest to its end; its report and its exit status must have this verdict."""
        run = self.run(*args, **more)
        expected = (EXIT_STATUS[verdict], verdict, EXIT_STATUS[verdict])
        assert (run.code, run.verdict, run.model["exit_code"]) == expected, run.output()
        return run

    def finish(self, started: Started) -> Run:
        """Wait for a started run; kill its whole group when it hangs."""
        started.process.join(timeout=60)
        hung = started.process.exitcode is None
        if hung:
            os.killpg(started.pid, signal.SIGKILL)
            started.process.join()
        run = Run(
            code=started.process.exitcode or 0,
            out=self.wrote(".stdout"),
            err=self.wrote(".stderr"),
            root=self.root,
        )
        assert not hung, f"the run hung: {run.output()}"
        return run

    def ledger(self, environment: str = "local") -> list[dict[str, Any]]:
        path = self.root / ".readiness" / f"{environment}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wrote(self, name: str) -> str:
        """Return what checks wrote into a file in the root; "" without the file."""
        path = self.root / name
        return path.read_text() if path.exists() else ""


def wait_until(probe: Callable[[], object], within: float = 20.0) -> None:
    """Poll until ``probe`` is true; AssertionError at the deadline."""
    deadline = time.monotonic() + within
    while not probe():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        threading.Event().wait(0.02)
