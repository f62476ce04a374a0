"""The model: verdict, declaration, partial runs and the ledger's entry, from whole runs."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.assess import SCHEMA_VERSION, assess, belongs_in_ledger, entry_of

from tests.core.build import ALL_PASSED, NOW, PARTIAL, check, entry, goal, model, plan, run
from tests.core.test_goals_exemptions import DEFERRAL
from tests.core.test_verdict import checks, runs

GREEN_LIVE: dict[str, Any] = {"environment": "staging", "live": True}
OPERATIONAL = '[[operational]]\nitem = "First deploy"\nrule = "live-run"\n'


def statuses(made: Any) -> Any:
    return {row["id"]: row["status"] for row in made["goals"]}


def live(times: Any, **more: Any) -> Any:
    return {"staging": [entry(hours_ago=times - n, **GREEN_LIVE, **more) for n in range(times)]}


def test_the_model_has_the_shape_that_renderers_and_gates_read() -> None:
    made = model()
    assert made["schema_version"] == SCHEMA_VERSION == 1
    assert made["started_at"] == "2026-06-01T11:59:51.000Z"
    assert (made["verdict"], made["exit_code"], made["scope"]) == ("READY", 0, "full")
    assert made["checks"][0] == {
        "id": "orders/create",
        "nodeid": "smoke/test_orders.py::test_create",
        "goal": "G-1",
        "phase": "orders",
        "severity": "P0",
        "outcome": "passed",
        "class": None,
        "attempts": 1,
        "duration_s": 0.0,
        "summary": "",
        "where": "",
        "evidence": [],
        "applicable": True,
        "covered_by": None,
        "requires": [],
        "drill": False,
    }
    assert made["counts"] == {
        "total": 2,
        "passed": 2,
        "failed": 0,
        "flaky": 0,
        "skipped": 0,
        "deferred": 0,
        "not-run": 0,
        "not_applicable": 0,
    }


# --- declaration


@pytest.mark.parametrize(
    ("results", "verdict", "declaration"),
    [
        ((check(outcome="failed"),), "BROKEN", "NOT READY"),
        ((check(outcome="skipped"),), "NO_VERDICT", "NOT READY"),
        ((*ALL_PASSED, check("a/b", "failed", "P1")), "DEGRADED", "DEGRADED"),
        (ALL_PASSED, "READY", "READY FOR FIRST DEPLOY"),
    ],
)
def test_embedded_declarations(results: Any, verdict: Any, declaration: Any) -> None:
    made = model(*results)
    assert (made["verdict"], made["declaration"]) == (verdict, declaration)
    if verdict == "READY":
        assert made["declaration_why"].startswith("every goal but G-7 holds, and no live environment")


def test_ready_for_first_deploy_names_what_is_next() -> None:
    (following,) = model(environments={"staging": True})["blockers"]
    assert (following["goal"], following["check"]) == ("G-7", "")
    assert "run the whole suite against the live environment staging" in following["next_action"]
    assert following["reproduce"] == "readiness gate --env staging"


def test_a_first_deploy_beside_a_live_run_that_was_broken_does_not_deny_it() -> None:
    made = model(history={"staging": [entry("BROKEN", live=True)]})
    why = "every goal but G-7 holds, and no live environment has been green yet"
    assert (made["declaration"], made["declaration_why"]) == ("READY FOR FIRST DEPLOY", why)


def test_a_green_partial_run_names_what_is_next() -> None:
    (following,) = model(scope=PARTIAL)["blockers"]
    assert following["next_action"] == "run the whole suite"
    assert following["reproduce"] == "readiness run --env local"


def test_the_first_live_run_opens_the_validation() -> None:
    made = model(env="staging", live=True, plan_=plan(OPERATIONAL))
    assert made["declaration"] == "IN VALIDATION 1/3"
    assert [row["done"] for row in made["operational"]] == [True]
    (blocker,) = made["blockers"]
    assert (blocker["observed"], blocker["limit"], blocker["goal"]) == ("1", "at least 3", "G-7")
    assert blocker["reproduce"] == "readiness gate --env staging"


def test_an_embedded_run_after_a_live_one_stays_in_validation() -> None:
    history = live(2)
    made = model(history=history)
    assert made["declaration"] == "IN VALIDATION 2/3"
    (blocker,) = made["blockers"]
    assert blocker["summary"] == "1 more green run needed (counted from the ledger's first run)"
    assert blocker["reproduce"] == "readiness gate --env staging"
    assert model(history=live(3))["declaration"] == "IN VALIDATION 3/3"
    assert model(history=live(5))["declaration"] == "IN VALIDATION 3/3"


def test_ready_for_launch_takes_goals_streak_and_operational_items() -> None:
    done = plan(OPERATIONAL + '[[operational]]\nitem = "3 green"\nrule = "streak"')
    made = model(env="staging", live=True, history=live(2, plan_digest=done.digest), plan_=done)
    assert [row["evidence"] for row in made["operational"]] == [
        "a green run of a live environment is in the ledger",
        "3/3: counted from the ledger's first run",
    ]
    assert (made["declaration"], made["blockers"]) == ("READY FOR LAUNCH", [])


@pytest.mark.parametrize(
    ("builds", "words"),
    [
        ({}, "; but the build is unknown: each of these runs may have tested another one"),
        ({"shop": ""}, "; but the build is unknown: each of these runs may have tested another one"),
        ({"shop": "b1", "till": ""}, "; but the build of till is unknown"),
        ({"shop": "b1"}, "every goal passed on a live environment"),
    ],
)
def test_a_launch_says_which_builds_are_not_known(builds: dict[str, str], words: str) -> None:
    history = live(2)
    history = {"staging": [{**each, "build_identity": builds} for each in history["staging"]]}
    made = model(env="staging", live=True, history=history, build_start=builds, build_end=builds)
    assert made["declaration"] == "READY FOR LAUNCH", made["declaration_why"]
    assert made["declaration_why"].endswith(words)


def test_an_open_operational_item_blocks_a_launch() -> None:
    open_item = plan('[[operational]]\nitem = "Rotation"\nchecks = ["keys/*"]')
    history = live(2, plan_digest=open_item.digest)
    made = model(env="staging", live=True, history=history, plan_=open_item)
    assert made["declaration"] == "IN VALIDATION 3/3"
    assert made["blockers"][0]["summary"] == "Rotation: no check of this run matches keys/*"


@pytest.mark.parametrize(
    ("severity", "word"), [("Medium", "READY FOR LAUNCH"), ("High", "IN VALIDATION 3/3")]
)
def test_a_deferral_beyond_the_allowed_severity_blocks_a_launch(severity: Any, word: Any) -> None:
    deferred = plan(DEFERRAL.replace("Low", severity) + 'goal = "G-2"')
    history = live(2, plan_digest=deferred.digest)
    results = (check(), check("payments/pay", "failed", cls="PLATFORM_BUG", goal="G-2"))
    made = model(*results, env="staging", live=True, history=history, plan_=deferred)
    assert made["declaration"] == word
    made = model(env="staging", live=True, history=history, plan_=deferred)
    assert made["declaration"] == "READY FOR LAUNCH", "what passed is deferred no more"


def test_a_deferral_of_high_severity_does_not_hold_a_first_deploy() -> None:
    assert model(plan_=plan(DEFERRAL.replace("Low", "High")))["declaration"] == "READY FOR FIRST DEPLOY"


# --- partial runs


def test_a_partial_run_is_judged_on_what_it_selected_and_settles_no_goal() -> None:
    made = model(check(), scope=PARTIAL)
    assert (made["verdict"], made["exit_code"], made["scope"]) == ("READY", 0, "partial")
    assert goal(made, "G-1")["evidence"] == (
        "partial run: 1 check passed (1 P0); only a full run settles a goal"
    )
    assert goal(made, "G-2")["evidence"] == "not in this partial run"
    assert statuses(made)["G-1"] == "PENDING"


def test_the_gate_refuses_a_partial_run() -> None:
    made = model(check(), scope=PARTIAL, gate=True)
    assert (made["verdict"], made["exit_code"]) == ("NO_VERDICT", 6)
    assert made["blockers"][0]["summary"] == "the gate refuses a partial run: run the whole suite"
    assert made["blockers"][0]["reproduce"] == "readiness gate --env local"


def test_what_the_gate_kept_from_running_is_not_a_separate_blocker() -> None:
    made = model(check(outcome="not-run"), check("b", outcome="failed"), scope=PARTIAL, gate=True)
    assert [blocker["check"] for blocker in made["blockers"]] == ["", "b"]
    assert made["reasons"][0] == "the gate refuses a partial run: run the whole suite"
    assert len(made["reasons"]) == 2


def test_a_partial_run_leaves_the_declaration_and_the_other_goals_as_they_were() -> None:
    before = entry(declaration="READY FOR FIRST DEPLOY", goals={"G-1": "READY", "G-2": "READY"})
    made = model(check(outcome="failed"), scope=PARTIAL, history={"local": [before]})
    assert made["declaration"] == "READY FOR FIRST DEPLOY"
    assert made["declaration_why"] == "unchanged since full run run-1; a partial run does not count"
    assert made["verdict"] == "BROKEN"
    assert statuses(made) == {"G-1": "FAIL", "G-2": "READY", "G-7": "PENDING"}
    assert goal(made, "G-2")["evidence"] == "not run here; status from full run run-1"
    assert made["blockers"][0]["check"] == "orders/create"


def test_a_partial_run_without_a_full_one_declares_nothing() -> None:
    assert model(check(), scope=PARTIAL)["declaration"] == "NOT READY"


# --- the ledger's entry


def test_the_entry_keeps_what_the_streak_and_the_next_partial_run_need() -> None:
    recorded = entry_of(model(env="staging", live=True, history=live(2)))
    assert recorded["goals"] == {"G-1": "PASS", "G-2": "PASS", "G-7": "PASS"}
    assert recorded["declaration"] == "READY FOR LAUNCH"
    assert recorded["checks"][0] == {
        "id": "orders/create",
        "severity": "P0",
        "outcome": "passed",
        "class": None,
        "duration_s": 0.0,
    }
    again = model(env="staging", live=True, run_id="next", history={"staging": [recorded]})
    assert again["streak"]["length"] == 2


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        ({}, True),
        ({"scope": PARTIAL}, False),
        ({"interrupted": "Ctrl-C"}, False),
        ({"collection_errors": ("x",)}, False),
    ],
)
@pytest.mark.parametrize(("outcome", "broken"), [("passed", False), ("failed", True)])
def test_full_runs_that_ended_or_are_broken_belong_in_the_ledger(
    facts: Any, kept: Any, outcome: str, broken: bool
) -> None:
    made = model(check(outcome=outcome), **facts)
    assert belongs_in_ledger(made) is (kept or (broken and made["scope"] == "full"))
    assert entry_of(made)["complete"] is not bool({"interrupted", "collection_errors"} & facts.keys())


@given(st.lists(checks, max_size=8), runs, st.booleans())
def test_every_run_has_a_model(results: Any, facts: Any, is_live: Any) -> None:
    made = assess(replace(run(*results, live=is_live), facts=facts), plan(OPERATIONAL), live(1), NOW)
    assert (made["exit_code"] == 0) == (made["verdict"] == "READY")
    if not is_live:
        assert "PASS" not in {row["status"] for row in made["goals"] if row["id"] != "G-7"}
    if made["verdict"] in ("BROKEN", "NO_VERDICT"):
        assert made["blockers"]
        if made["scope"] == "full":
            assert made["declaration"] == "NOT READY"
