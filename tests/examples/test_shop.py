"""examples/shop with the built wheel in its own virtual environment, as another team would use it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.installed import ROOT, done, pins, tracked, virtual_environment, wheel


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment with only the wheel and its dependencies."""
    place = tmp_path_factory.mktemp("shop")
    return virtual_environment(place / "venv", str(wheel(place)), constraints=pins())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for path in tracked("examples/shop"):
        copy = tmp_path / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)
    return tmp_path / "examples" / "shop"


def model(shop: Path, name: str = "readiness") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shop / "reports" / f"{name}.json").read_text("utf-8"))
    return found


def test_three_green_runs_give_a_verdict_a_report_and_a_streak(programs: Path, shop: Path) -> None:
    for length in (1, 2, 3):
        done(str(programs / "readiness"), "gate", "smoke", at=shop)
        found = model(shop)
        assert found["streak"]["length"] == length
    assert (found["verdict"], found["scope"], found["declaration"]) == (
        "READY",
        "full",
        "READY FOR FIRST DEPLOY",
    )
    assert found["counts"]["passed"] == 10
    assert found["build_identity"] == {"shop": "2026.11"}
    paid = next(goal for goal in found["goals"] if goal["id"] == "G-2")
    assert "one order sent 2 times: 450 cents charged" in json.dumps(paid, ensure_ascii=False)
    page = (shop / "reports" / "readiness.html").read_text("utf-8")
    assert "Shop launch" in page
    assert "3 entries, chain verified" in done(str(programs / "readiness"), "ledger", "verify", at=shop)


def test_the_suite_detects_every_fault(programs: Path, shop: Path) -> None:
    output = done(str(programs / "readiness"), "self-test", "--clean-runs", "1", "--workers", "1", at=shop)
    assert "detected 5 of 5, 0 false alarms" in output
    found = model(shop, "self-test")
    assert (found["scope"], found["uncovered"]) == ("full", [])
    done(str(programs / "readiness"), "gate", "smoke", at=shop)
    assert "detected 5/5 seeded faults" in (shop / "reports" / "readiness.md").read_text("utf-8")


def test_unit_tests_beside_the_suite_run_alone(programs: Path, shop: Path) -> None:
    done(str(programs / "pytest"), "tests", at=shop)
    assert not (shop / "reports").exists()
    (shop / "environments" / "local.toml").unlink()
    output = done(str(programs / "pytest"), at=shop)
    assert "1 passed" in output
    assert "smoke/ did not run: there is no environment 'local'" in output
