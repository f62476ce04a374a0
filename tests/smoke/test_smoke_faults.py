"""No check is without its fault: every check, and every member of a family, is named by a fault."""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pytest_readiness.core.patterns import matching

ROOT = Path(__file__).parents[2]
FAULTS = [
    fault
    for path in sorted((ROOT / "smoke").glob("*/faults.toml"))
    for fault in tomllib.loads(path.read_text("utf-8"))["fault"]
]
VERDICTS = {"READY", "BROKEN", "DEGRADED", "NO_VERDICT"}
CLASSES = {"PLATFORM_BUG", "EXTERNAL_OUTAGE", "FLAKE", "SETUP_ERROR"}


@cache
def checks() -> dict[str, str]:
    """Node id by check id, as pytest collects the suite."""
    command = [sys.executable, "-m", "pytest", "smoke", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = [line for line in done.stdout.splitlines() if line.startswith("smoke/")]
    return {check_id(node): node for node in nodes}


def check_id(node: str) -> str:
    path, _, name = node.partition("::")
    phase = re.search(r'mark\.phase\("([a-z0-9]+)"\)', (ROOT / path).read_text("utf-8"))
    assert phase, f"{path} has no phase"
    function, bracket, parameter = name.partition("[")
    return f"{phase[1]}/{function.removeprefix('test_').replace('_', '-')}{bracket}{parameter}"


def test_fault_ids_are_unique() -> None:
    assert not [name for name, count in Counter(fault["id"] for fault in FAULTS).items() if count > 1]


def test_every_check_is_named_by_a_fault() -> None:
    named = {check["id"] for fault in FAULTS for check in fault.get("checks", [])}
    unnamed = sorted(set(checks()) - named)
    assert not unnamed, f"{len(unnamed)} of {len(checks())} checks are no fault's: {unnamed}"


@pytest.mark.parametrize("fault", FAULTS, ids=[fault["id"] for fault in FAULTS])
def test_fault_expects_what_there_is(fault: Any) -> None:
    assert fault["verdict"] in VERDICTS
    assert fault["checks"] or fault["verdict"] == "READY"
    for check in fault["checks"]:
        assert check["id"] in checks(), check["id"]
        assert check["class"] in CLASSES
        assert check["severity"] in {"P0", "P1"}
        assert check.get("outcome", "failed") in {"failed", "flaky", "not-run"}
    for pattern in fault.get("also", []):
        assert matching([pattern], checks()), pattern
    selected = [name for name in fault["select"] if not name.startswith("-")]
    for check in fault["checks"]:
        node = checks()[check["id"]]
        assert any(node == name or node.startswith((f"{name}::", f"{name}[")) for name in selected), check[
            "id"
        ]
