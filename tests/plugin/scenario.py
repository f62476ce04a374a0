"""A small suite with a launch plan, run by a real pytest in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLAN = """
schema_version = 1
title = "Scenario"
suite = "smoke"
phases = ["health", "work", "late"]
not_waivable = ["work/money*"]
[[goal]]
id = "G-1"
title = "It is up"
[[goal]]
id = "G-2"
title = "It works"
[[goal]]
id = "G-7"
title = "Three greens"
streak = true
"""
SCHEMA = """
[section.api.url]
type = "url"
required = true
env = "API_URL"
[section.api.dialect]
type = "choice"
allowed = ["plain", "fancy"]
default = "plain"
[section.auth.key]
type = "secret"
format = "p256-pem"
env = "AUTH_KEY_FILE"
env_kind = "file"
[section.auth.token]
type = "secret"
[section.extra.url]
type = "url"
[section.extra.reachable]
type = "bool"
[capability.token]
needs = ["auth.token"]
[capability.extra]
needs = ["extra.url"]
reachable = "extra.reachable"
[capability.drill]
option = "drills"
"""
LOCAL = """
name = "local"
live = false
[api]
url = "http://127.0.0.1:9"
[auth]
token = "env:SCENARIO_TOKEN"
[extra]
url = "http://127.0.0.1:9"
reachable = false
"""
HEADER = """
import os, pathlib, time
import pytest
from pytest_readiness import ExternalOutage, SafetyViolation, SetupError

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("{phase}")]

def passing(evidence):
    evidence.figure("answer", 42)

"""
#: What a user has installed; each is loaded by name, so that a scenario can leave any of them out.
PLUGINS = {
    "readiness": "pytest_readiness.pytest.plugin",
    "order": "pytest_order",
    "rerunfailures": "pytest_rerunfailures",
    "xdist": "xdist.plugin",
    "html": "pytest_html.plugin",
    "metadata": "pytest_metadata.plugin",
}
DEFAULT = ("readiness", "order", "rerunfailures")
HTML = (*DEFAULT, "metadata", "html")


@dataclass(frozen=True)
class Run:
    """A finished run: exit status, what it printed, and the report that it left."""

    code: int
    out: str
    err: str
    root: Path

    @property
    def model(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "reports" / "readiness.json").read_text())
        return found

    @property
    def verdict(self) -> str:
        return str(self.model["verdict"])

    def check(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(check for check in self.model["checks"] if check["id"] == name)
        return found

    def outcomes(self) -> dict[str, str]:
        return {check["id"]: check["outcome"] for check in self.model["checks"]}

    def told(self) -> str:
        """Everything that the run told: its output and the summary of its report."""
        return f"exit {self.code}\n{self.out}\n{self.err}"


class Suite:
    """The files of a suite under ``root``, and ways to run it."""

    def __init__(self, root: Path) -> None:
        self.root = root
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
        self, *args: str, plugins: Sequence[str] = DEFAULT, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start pytest in a process group of its own."""
        if any(arg.startswith("-n") for arg in args):
            plugins = (*plugins, "xdist")
        paths = [] if any(arg.startswith("smoke") or arg in {".", "tests"} for arg in args) else ["smoke"]
        loaded = [word for name in plugins for word in ("-p", PLUGINS[name])]
        delay = [] if "rerunfailures" not in plugins else ["--reruns-delay=0"]
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *loaded, *delay, *args, *paths],
            cwd=self.root,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.root),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "SCENARIO_ROOT": str(self.root),
                **(environ or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *args: str, plugins: Sequence[str] = DEFAULT, environ: Mapping[str, str] | None = None
    ) -> Run:
        """Run pytest to its end."""
        return self.finish(self.start(*args, plugins=plugins, environ=environ))

    def finish(self, process: subprocess.Popen[str]) -> Run:
        """Wait for a started run; kill its whole group when it hangs."""
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"the run hung:\n{out}\n{err}") from None
        return Run(code=process.returncode, out=out, err=err, root=self.root)

    def ledger(self, environment: str = "local") -> list[dict[str, Any]]:
        path = self.root / ".readiness" / f"{environment}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wrote(self, name: str) -> str:
        """Return what checks wrote into a file of the root, "" when there is none."""
        path = self.root / name
        return path.read_text() if path.exists() else ""


def wait_until(probe: Callable[[], object], within: float = 20.0) -> None:
    """Poll until ``probe`` is true; AssertionError at the deadline."""
    deadline = time.monotonic() + within
    while not probe():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        threading.Event().wait(0.02)
