"""The launch plan and the suite fit: what the plan says of checks is about checks that there are."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_readiness.core.formats import matches

ROOT = Path(__file__).parents[2]


def _patterns(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every pattern of checks in the plan, with where it stands."""
    yield from (("not_waivable", pattern) for pattern in plan["not_waivable"])
    yield from (("renamed", f"{name}*") for name in plan["renamed"].values())
    yield from (("judges", pattern) for pattern in plan["self_test"]["judges"])
    for kind in ("goal", "operational", "rollback"):
        for row in plan[kind]:
            where = row.get("id") or row.get("item") or row["title"]
            yield from ((where, pattern) for pattern in row.get("checks", ()))
            yield from ((where, figure["checks"]) for figure in row.get("figure", ()) if "checks" in figure)
    yield from ((chart["title"], chart["checks"]) for chart in plan["chart"] if "checks" in chart)


def test_every_pattern_of_the_plan_finds_a_check() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_readiness.cli", "checks", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ids = [check["id"] for check in json.loads(done.stdout)]
    plan = tomllib.loads((ROOT / "readiness.toml").read_text())
    unmatched = [found for found in _patterns(plan) if not any(matches(found[1], id_) for id_ in ids)]
    assert unmatched == []
