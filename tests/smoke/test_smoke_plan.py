"""The launch plan fits the suite: every check that it names exists."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_readiness.adapter.checks import Check
from pytest_readiness.core.assess import assess
from pytest_readiness.core.formats import matches
from pytest_readiness.core.model import CheckResult, Outcome
from pytest_readiness.profile import load_profile, load_schema, read_plan
from pytest_readiness.profile.profile import Offer

from tests.core.build import NOW, entry, run

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
from smoke.operations import test_recorded as late

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


#: Writes the checks of the suite into a file: what is printed is redacted.
_CHECKS = """
import json
import pathlib
import sys

import pytest

class Teller:
    def pytest_sessionfinish(self, session):
        checks = session.config.pluginmanager.get_plugin("readiness-collector").checks
        self.found = [check.as_data() for check in checks.collected]

teller = Teller()
pytest.main(["smoke", "--collect-only", "-p", "no:terminal"], plugins=[teller])
pathlib.Path(sys.argv[1]).write_text(json.dumps(teller.found))
"""


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> list[Check]:
    """The checks of the suite."""
    found = tmp_path_factory.mktemp("suite") / "checks.json"
    done = subprocess.run(
        [sys.executable, "-c", _CHECKS, str(found)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [Check.from_data(each) for each in json.loads(found.read_text())]


def test_walks_come_last_as_they_use_up_the_small_budget(checks: list[Check]) -> None:
    files = [check.nodeid.partition("::")[0] for check in checks if check.phase == "budget"]
    assert files.index("smoke/budget/test_limit.py") < files.index("smoke/budget/test_walk.py")
    assert files[-1] == "smoke/budget/test_walk.py"


def test_the_page_of_paid_calls_lists_every_check(checks: list[Check]) -> None:
    page = (ROOT / "docs" / "x402.md").read_text()
    paid = [check.id for check in checks if check.phase == "x402"]
    assert paid
    assert [name for name in paid if f"| `{name}` |" not in page] == []


def test_checks_have_the_time_that_staging_gives_them(checks: list[Check]) -> None:
    profile = load_profile(ROOT, ROOT, "staging", load_schema(ROOT))
    keys, limits = profile.keys, profile.limits
    # until a change is in force and has held, twice; until a revoked key is refused for good; three kills
    least = {
        "services/ecs": limits.deployment_s,
        "operations/key-rotation-carried-out": 2 * (keys.propagation_s + keys.steady_s) + keys.watch_s,
        "operations/revocation-in-time": keys.revocation_limit_s + keys.steady_s,
        "operations/survives-restart": 3 * limits.recovery_s,
    }
    for name, seconds in least.items():
        (limit,) = {check.limit_s for check in checks if check.id.startswith(f"{name}[")}
        assert limit is not None, f"{name} has the plan's usual limit"
        assert limit >= 1.5 * seconds, name


def test_staging_can_be_ready_from_anywhere_and_for_launch_from_inside_of_its_network(
    checks: list[Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, schema = read_plan(ROOT / "readiness.toml"), load_schema(ROOT)
    history = [entry(hours_ago=hours, live=True, plan_digest=plan.digest) for hours in (9, 5)]
    monkeypatch.setenv("READINESS_IAC_DIR", str(ROOT))
    monkeypatch.setenv("DIXIE_API_KEY", "of-nobody")
    declared = []
    for reachable in ("false", "true"):
        monkeypatch.setenv("FINN_REACHABLE", reachable)
        profile = load_profile(ROOT, ROOT, "staging", schema)
        away = {name for name in schema.capabilities if profile.capability(name).status is Offer.ABSENT}
        assert {"pgbouncer", "chain", "restart_freeside"} <= away
        ended = run(*(_ended(check, away) for check in checks), env="staging", live=True)
        made = assess(ended, plan, {"staging": history}, NOW)
        assert made["verdict"] == "READY", made["reasons"]
        declared.append(made["declaration"])
    assert declared == ["IN VALIDATION 3/3", "READY FOR LAUNCH"], made["blockers"]


def _ended(check: Check, away: set[str]) -> CheckResult:
    """Return how a check ends that passes where it can run, in a run with --drills."""
    missing = bool(away & {*check.requires})
    return CheckResult(
        id=check.id,
        nodeid=check.nodeid,
        goal=check.goal,
        phase=check.phase,
        severity=check.severity,
        outcome=Outcome.SKIPPED if missing else Outcome.PASSED,
        applicable=not missing,
        covered_by=check.covered_by,
        drill=check.drill,
        static=check.static,
    )
