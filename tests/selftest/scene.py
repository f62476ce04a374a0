"""A project with a suite of a few checks and the platform of `double.py`, for whole runs of the self-test."""

import json
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLAN = """
schema_version = 1
title = "Scene"
suite = "smoke"
phases = ["health", "work"]
[[goal]]
id = "G-1"
title = "It is up"
[[goal]]
id = "G-2"
title = "It works"
[self_test]
platform = ["python", "double.py"]
catalogue = "faults"
"""
SCHEMA = """
[section.api.url]
type = "url"
required = true
env = "SCENE_API_URL"
"""
SUITE = """
import http.client
import json
import os
from urllib.parse import urlsplit

import pytest
from pytest_readiness import ExternalOutage

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("health")]


def ask(environment, method="GET", path="/health"):
    connection = http.client.HTTPConnection(urlsplit(environment.api.url).netloc, timeout=5)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.mark.p0
@pytest.mark.establishes("api")
def test_up(environment, evidence):
    status, body = ask(environment)
    evidence.figure("status", status, expected=200)
    if body["status"] == "provider down":
        raise ExternalOutage("the provider is down")
    if body["status"] == "restarting":
        raise ConnectionError("the gateway answered 502")
    assert status == 200


@pytest.mark.p1
@pytest.mark.requires("api")
@pytest.mark.parametrize("mood", ["morning", "evening"])
def test_mood(environment, evidence, mood):
    _, body = ask(environment)
    evidence.figure("mood", body.get("mood"), expected="high")
    assert body.get("mood") == "high", f"low in the {mood}"


@pytest.mark.p1
@pytest.mark.phase("work")
@pytest.mark.requires("api")
def test_leaves_a_note(environment, evidence):
    evidence.figure("environment", os.environ["SCENE"], expected="on")
    assert ask(environment, "POST", "/notes")[0] == 200


@pytest.mark.p0
@pytest.mark.phase("work")
def test_cannot_fail(environment, evidence):
    evidence.figure("status", ask(environment)[0])
"""
UP = '{ id = "health/up", severity = "P0", class = "PLATFORM_BUG" }'
MORNING = '{ id = "health/mood[morning]", severity = "P1", class = "PLATFORM_BUG" }'


def fault(name: str, checks: str = UP, verdict: str = "BROKEN", more: str = "", goal: str = "G-1") -> str:
    """Return one entry of a catalogue."""
    return f"""
    [[fault]]
    id = "{name}"
    goal = "{goal}"
    what = "It is {name}"
    checks = [{checks}]
    verdict = "{verdict}"
    {more}
    """


DOWN = fault("down", more='select = ["smoke/test_checks.py"]\nalso = ["*/*"]')
MOODY = fault("moody", MORNING, "DEGRADED")


@dataclass(frozen=True)
class Tested:
    """A finished self-test."""

    code: int
    out: str
    root: Path
    name: str

    @property
    def model(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "reports" / f"{self.name}.json").read_text())
        return found

    def why(self, fault_id: str) -> str:
        """Why a fault counts as undetected; "" if it was detected."""
        return str(next(row["why"] for row in self.model["faults"] if row["id"] == fault_id))


class Scene:
    """The files of the project under ``root``, and its self-test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("readiness.toml", PLAN)
        self.write("environments/schema.toml", SCHEMA)
        self.write("smoke/test_checks.py", SUITE)
        shutil.copy(Path(__file__).with_name("double.py"), root)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def catalogue(self, *entries: str, name: str = "faults/some.toml") -> None:
        self.write(name, textwrap.dedent("".join(map(textwrap.dedent, entries))))

    def start(self, *args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pytest_readiness.cli", "self-test", *args]
        return subprocess.Popen(
            command, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def test(self, *args: str) -> Tested:
        """Run the self-test to its end; no platform may be left."""
        process = self.start(*args)
        out, _ = process.communicate(timeout=120)
        assert self.platforms() <= {"stopped"}, out
        name = "self-test-partial" if "--only" in args else "self-test"
        return Tested(process.returncode, out, self.root, name)

    def platforms(self) -> set[str]:
        """The states of all platforms that ever ran."""
        return {path.read_text() for path in self.root.glob("platform-*.pid")}
