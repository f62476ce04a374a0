"""Each Python, for the suite and the built wheel, which also meets the lowest dependencies and other plugins.

`make compat` runs this; `make test` does not, because each row needs its own virtual environment.
"""

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.installed import ROOT, done, pins, run, tracked, virtual_environment, wheel

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
COMPANIONS: list[dict[str, Any]] = tomllib.loads((ROOT / "tests/compat.toml").read_text("utf-8"))["companion"]
PLAN = """
schema_version = 1
title = "Companions"
suite = "smoke"
phases = ["health"]
[[goal]]
id = "G-1"
title = "It works"
"""
HEAD = """
import os
import pytest
pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("health")]
BROKEN = "BREAK" in os.environ
"""
FLAKY = f"""{HEAD}
LOST = []

@pytest.mark.p0
def test_flaky(evidence):
    evidence.evaluated("a call")
    if not LOST:
        LOST.append(1)
        raise ConnectionResetError
"""


@dataclass(frozen=True)
class Installation:
    """A way to install the plugin: with which Python, and which versions."""

    name: str
    python: str = sys.executable
    requirements: list[str] = field(default_factory=list)
    constraints: str = ""


def pythons() -> dict[str, str]:
    """Every Python of this machine from 3.11 on, one of each minor version: name and path."""
    found: dict[str, str] = {}
    shims = Path.home() / ".pyenv/versions"
    places = [*shims.glob("*/bin/python"), *map(Path, filter(None, map(shutil.which, _names())))]
    for path in places:
        version = run(str(path), "-c", "import sys; print(*sys.version_info[:2], sep='.')").stdout.strip()
        if re.fullmatch(r"3\.\d+", version) and int(version[2:]) >= 11:
            found.setdefault(f"python{version}", str(path))
    return found


def _names() -> list[str]:
    return ["python3", *(f"python3.{minor}" for minor in range(11, 20))]


def lowest(requirement: str) -> str:
    """The lowest version that a requirement allows: `pytest>=9` is `pytest==9.*`, in its oldest release."""
    name, version = re.fullmatch(r"([\w-]+)>=([\d.]+).*", requirement).groups()  # type: ignore[union-attr]
    return f"{name}=={version}" if version.count(".") > 1 else f"{name}=={_oldest(name, version)}"


def _oldest(name: str, version: str) -> str:
    listed = run(sys.executable, "-m", "pip", "index", "versions", name).stdout
    versions = re.findall(r"(?<![\w.])\d[\d.]*(?![\w.]*[abc])", listed.partition("Available versions:")[2])
    fitting = [each for each in versions if f"{each}.".startswith(f"{version}.")]
    return fitting[-1] if fitting else f"{version}.*"


def installations() -> Iterator[Installation]:
    """Every row of the matrix except the companion plugins."""
    declared = PROJECT["dependencies"]
    yield Installation("lowest", requirements=[lowest(line) for line in declared])
    yield Installation("highest", requirements=["--upgrade", *declared])
    for name, path in pythons().items():
        yield Installation(name, python=path, constraints=pins())


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(tmp_path_factory.mktemp("wheel"))


@pytest.mark.parametrize("installation", [pytest.param(each, id=each.name) for each in installations()])
def test_an_installation(installation: Installation, built: Path, tmp_path: Path) -> None:
    """The shop is READY, BROKEN when it charges twice, DEGRADED after a lost call; unit tests still run."""
    for path in tracked("examples/shop"):
        copy = tmp_path / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)
    shop = tmp_path / "examples" / "shop"
    programs = virtual_environment(
        tmp_path / "venv",
        str(built),
        *installation.requirements,
        python=installation.python,
        constraints=installation.constraints,
    )
    print(done(str(programs / "python"), "-m", "pip", "list"))
    done(str(programs / "readiness"), "gate", "smoke", at=shop)
    till = (shop / "shop.py").read_text("utf-8")
    (shop / "shop.py").write_text(till.replace("[customer] += cents", "[customer] += 2 * cents"))
    done(str(programs / "readiness"), "gate", "smoke", at=shop, code=1)
    found = json.loads((shop / "reports" / "readiness.json").read_text("utf-8"))
    assert [blocker["check"] for blocker in found["blockers"]] == ["orders/order-is-charged-once"]
    assert (shop / "reports" / "results.html").is_file()
    (shop / "shop.py").write_text(till)
    (shop / "smoke" / "test_flaky.py").write_text(FLAKY)
    done(str(programs / "readiness"), "gate", "smoke", at=shop, code=2)
    found = json.loads((shop / "reports" / "readiness.json").read_text("utf-8"))
    assert [(each["check"], each["class"]) for each in found["blockers"]] == [("health/flaky", "FLAKE")]
    done(str(programs / "pytest"), "tests", at=shop)


@pytest.mark.parametrize("python", [pytest.param(path, id=name) for name, path in pythons().items()])
def test_a_checkout(python: str, tmp_path: Path) -> None:
    """The suite finds the embedded platform READY, and what depends on Python's inside works.

    Versions of Python differ in TLS, for example, and in the frames that tell whose fault a failure is.
    """
    for path in tracked("."):
        copy = tmp_path / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)
    of_frames = ("tests/core", "tests/adapter/test_plugin_blame.py", "tests/adapter/test_plugin_leftovers.py")
    for command in (
        ("make", "smoke", "ARGS=--gate"),
        ("make", "setup-dev"),
        (".venv/bin/pytest", "-q", "-n", "2", *of_frames),
    ):
        ended = run(*command, at=tmp_path, environ={"PYTHON": python}, within=1800)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="session")
def beside(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with all companions at once."""
    names = [str(companion["name"]) for companion in COMPANIONS]
    return virtual_environment(tmp_path_factory.mktemp("beside") / "venv", str(built), *names)


@pytest.mark.parametrize("companion", [pytest.param(each, id=each["name"]) for each in COMPANIONS])
def test_a_companion(companion: dict[str, Any], beside: Path, tmp_path: Path) -> None:
    """Checks that the other plugin runs are judged, passing or failing."""
    checks = HEAD + companion["checks"]
    files = {
        "readiness.toml": PLAN.replace(
            '"health"]', '"health", "late"]' if '"late"' in checks else '"health"]'
        ),
        "environments/schema.toml": "",
        "environments/local.toml": 'name = "local"\nlive = false\n',
        "pytest.ini": "[pytest]\n",
        "smoke/till.feature": companion.get("feature", ""),
        "smoke/test_checks.py": checks,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    command = [str(beside / "readiness"), "gate", "smoke", *companion.get("options", ())]
    good = run(*command, at=tmp_path)
    assert good.returncode == 0, good.stdout + good.stderr
    assert companion.get("prints", "") in good.stdout
    bad = run(*command, at=tmp_path, environ={"BREAK": "1"})
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert "PLATFORM_BUG health/it" in bad.stdout
    done(str(beside / "readiness"), "ledger", "verify", at=tmp_path)
