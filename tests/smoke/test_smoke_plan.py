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


#: Prints what each check that spends something establishes, beside what the one that tries it again requires.
_MARKS = """
import json
from smoke.auth.test_once import test_token_is_spent_once as token
from smoke.budget.test_idempotency import test_one_key_is_one_charge as key
from smoke.loop.test_events import test_same_event_counts_once as event
from smoke.operations import test_late as late

def named(check, kind):
    sets = [each for mark in check.pytestmark if mark.name == "parametrize" for each in mark.args[1]]
    marks = [*check.pytestmark, *(mark for each in sets for mark in each.marks)]
    return sorted({name for mark in marks if mark.name == kind for name in mark.args})

pairs = {
    late.test_spent_token_stays_spent: token,
    late.test_answered_key_stays_answered: key,
    late.test_counted_event_stays_counted: event,
}
print(json.dumps([[named(first, "establishes"), named(again, "requires")] for again, first in pairs.items()]))
"""


def test_what_is_tried_again_requires_that_it_was_spent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MARKS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for spent, required in json.loads(done.stdout):
        assert spent
        assert {*spent} <= {*required}


#: Prints of each check its severity, what it requires, and the check that proves the same.
_NEEDS = """
import json
import pytest

class Teller:
    def pytest_sessionfinish(self, session):
        selected = session.config.pluginmanager.get_plugin("readiness-collector").checks.selected.values()
        self.found = {each.id: [each.severity, [*each.requires], each.covered_by] for each in selected}

teller = Teller()
pytest.main(["smoke", "--collect-only", "-p", "no:terminal"], plugins=[teller])
print(json.dumps(teller.found))
"""


def test_what_is_out_of_reach_of_staging_leaves_no_p0_open() -> None:
    schema = tomllib.loads((ROOT / "environments" / "schema.toml").read_text())
    staging = tomllib.loads((ROOT / "environments" / "staging.toml").read_text())
    away = {
        name
        for name, rule in schema["capability"].items()
        if staging.get(name, {}).get(rule.get("reachable", "").partition(".")[2]) is False
    }
    assert away == {"finn", "pgbouncer"}
    done = subprocess.run(
        [sys.executable, "-c", _NEEDS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout.splitlines()[-1])
    silent = {name for name, (_, needs, _) in checks.items() if away & {*needs}}

    def is_settled(cover: str | None) -> bool:
        covering = {name for name in checks if name == cover or name.startswith(f"{cover}[")}
        return bool(covering) and not covering & silent

    blocking = {name: cover for name, (severity, _, cover) in checks.items() if severity == "P0"}
    assert silent & blocking.keys()
    assert [name for name in silent & blocking.keys() if not is_settled(blocking[name])] == []
