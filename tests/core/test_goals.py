"""Goal statuses from whole runs: what decides them and what evidence they quote."""

from typing import Any

import pytest

from tests.core.build import ALL_PASSED, PARTIAL, check, entry, goal, model, plan
from tests.core.test_assess import live, statuses
from tests.core.test_goals_exemptions import DEFERRAL

STATIC = (check(static=True), check("payments/pay", goal="G-2", static=True))


def test_an_embedded_run_is_ready_and_never_passes() -> None:
    made = model()
    assert statuses(made) == {"G-1": "READY", "G-2": "READY", "G-7": "PENDING"}
    assert goal(made, "G-1")["evidence"] == "1 check passed (1 P0), not on a live environment"


def test_a_live_run_passes() -> None:
    assert statuses(model(env="staging", live=True)) == {"G-1": "PASS", "G-2": "PASS", "G-7": "PENDING"}


def test_static_checks_pass_on_a_real_checkout_only() -> None:
    assert statuses(model(*STATIC, checkout="checkout abc1234"))["G-1"] == "PASS"
    assert statuses(model(*STATIC, checkout=""))["G-1"] == "READY"
    assert statuses(model(*STATIC, check("orders/list"), checkout="checkout abc1234"))["G-1"] == "READY"


def test_a_goal_without_a_check_is_pending() -> None:
    made = model(check())
    assert goal(made, "G-2") == {
        "id": "G-2",
        "title": "Payments",
        "status": "PENDING",
        "evidence": "no check covers it",
        "figures": [],
        "outcomes": {},
    }
    assert made["verdict"] == "READY"
    assert made["declaration"] == "NOT READY"
    assert made["blockers"][0]["goal"] == "G-2"


@pytest.mark.parametrize(
    ("second", "status"),
    [
        ({"outcome": "failed", "cls": "PLATFORM_BUG"}, "FAIL"),
        ({"outcome": "failed", "cls": "EXTERNAL_OUTAGE"}, "PENDING"),
        ({"outcome": "failed", "cls": "SETUP_ERROR"}, "PENDING"),
        ({"outcome": "not-run"}, "PENDING"),
        ({"outcome": "skipped"}, "PENDING"),
        ({"outcome": "skipped", "covered_by": "payments/pay"}, "READY"),
        ({"outcome": "flaky"}, "DEGRADED"),
        ({"outcome": "flaky", "severity": "P1"}, "READY"),
        ({"outcome": "failed", "severity": "P1"}, "DEGRADED"),
        ({"outcome": "skipped", "severity": "P1"}, "PENDING"),
        ({"outcome": "not-run", "severity": "P1"}, "PENDING"),
        ({"outcome": "failed", "severity": "P1", "cls": "CHECK_ERROR"}, "PENDING"),
        ({"outcome": "failed", "severity": "P1", "cls": "SETUP_ERROR"}, "PENDING"),
        ({"outcome": "failed", "cls": "CHECK_ERROR"}, "PENDING"),
        ({"outcome": "skipped", "severity": "P1", "applicable": False}, "READY"),
    ],
)
def test_the_worst_check_decides_a_goal(second: Any, status: Any) -> None:
    assert statuses(model(*ALL_PASSED, check("orders/second", **second)))["G-1"] == status


def test_evidence_counts_checks_that_did_not_support_the_goal() -> None:
    noted = ({"kind": "note", "text": "not examined: the race for the last room"},)
    made = model(
        check(evidence=noted),
        *ALL_PASSED[1:],
        check("orders/a", "skipped", covered_by="payments/pay"),
        check("orders/b", "skipped", "P1", applicable=False),
        check("orders/c", "failed"),
        plan_=plan(DEFERRAL + 'check = "orders/c"'),
    )
    assert goal(made, "G-1")["evidence"] == (
        "1 check passed (1 P0), 1 of them examined only in part, 1 deferred, 1 covered by another check, "
        "1 not applicable here, not on a live environment"
    )


def test_a_goal_of_which_nothing_applies_is_pending() -> None:
    made = model(check(), check("pay/x", "skipped", "P1", goal="G-2", applicable=False, summary="no key"))
    assert goal(made, "G-2")["status"] == "PENDING"
    assert goal(made, "G-2")["evidence"] == "its only check cannot run here: no key"


def test_a_deferred_goal_is_deferred_until_its_checks_pass() -> None:
    deferred = plan(DEFERRAL + 'goal = "G-2"')
    for outcome in ("failed", "skipped"):
        made = model(check(), check("pay/x", outcome, goal="G-2"), plan_=deferred)
        assert (goal(made, "G-2")["status"], made["verdict"]) == ("DEFERRED", "READY")
    assert goal(model(check(), plan_=deferred), "G-2")["status"] == "DEFERRED"
    row = goal(model(check(), check("pay/x", goal="G-2"), plan_=deferred), "G-2")
    assert row["status"] == "READY"
    assert "its deferral is no longer needed on local" in row["evidence"]


def test_a_deferral_does_not_hide_the_failure_that_it_may_not_cover() -> None:
    fixed = plan(DEFERRAL + 'goal = "G-2"', head='not_waivable = ["pay/*"]')
    made = model(check(), check("pay/x", "failed", goal="G-2"), plan_=fixed)
    assert (goal(made, "G-2")["status"], made["verdict"]) == ("FAIL", "BROKEN")
    made = model(check(), check("pay/x", "skipped", goal="G-2"), plan_=fixed)
    assert (goal(made, "G-2")["status"], made["verdict"]) == ("PENDING", "NO_VERDICT")


def test_checks_that_are_all_deferred_by_pattern_defer_the_goal() -> None:
    made = model(check(), check("pay/x", "failed", goal="G-2"), plan_=plan(DEFERRAL + 'check = "pay/*"'))
    assert goal(made, "G-2")["status"] == "DEFERRED"


# --- the streak's goal


def test_the_embedded_streak_is_shown_and_does_not_settle_the_goal() -> None:
    history = {"local": [entry(hours_ago=2), entry(hours_ago=1)]}
    made = model(history=history, environments={"staging": True})
    assert made["streak"] == {"length": 3, "required": 3, "why": "counted from the ledger's first run",
                              "runs": ["run-now", "run-1", "run-2"]}  # fmt: skip
    row = goal(made, "G-7")
    assert row["status"] == "PENDING"
    assert row["evidence"] == "local (not live): 3/3 in a row; staging: no run in the ledger"


def test_the_evidence_reports_that_no_live_environment_has_run() -> None:
    row = goal(model(), "G-7")
    assert row["evidence"] == (
        "local (not live): 1/3 in a row (counted from the ledger's first run); "
        "no live environment has a run in the ledger"
    )


def test_the_third_green_live_run_settles_it() -> None:
    made = model(env="staging", live=True, history=live(2))
    assert goal(made, "G-7")["status"] == "PASS"
    assert goal(made, "G-7")["evidence"] == "staging: 3/3 in a row"


def test_the_second_does_not() -> None:
    made = model(env="staging", live=True, history=live(1))
    assert goal(made, "G-7")["status"] == "PENDING"
    assert made["streak"]["length"] == 2


@pytest.mark.parametrize("facts", [{"scope": PARTIAL}, {"interrupted": "Ctrl-C"}])
def test_a_partial_or_unfinished_run_does_not_move_the_streak(facts: Any) -> None:
    made = model(env="staging", live=True, history=live(2), **facts)
    assert made["streak"]["length"] == 2


def test_a_goal_that_waits_for_a_check_of_another_goal_does_not_repeat_what_that_found() -> None:
    root = check("health/api", "failed", cls="CHECK_ERROR", summary="KeyError: 'status'")
    waits = (check(f"work/{name}", "not-run", goal="G-2", cause="check:health/api") for name in "ab")
    made = model(root, *waits)
    assert "KeyError" in goal(made, "G-1")["evidence"]
    assert goal(made, "G-2")["evidence"] == "none of its 2 checks gave a result, because of health/api"


def test_a_goal_that_waits_for_a_check_that_waits_itself_names_what_both_wait_for() -> None:
    root = check("health/api", "failed", cls="SETUP_ERROR", summary="the name api does not resolve")
    control = check("auth/valid", "not-run", cause="check:health/api")
    waits = (check(f"work/{name}", "not-run", goal="G-2", cause="check:auth/valid") for name in "ab")
    made = model(root, control, *waits)
    assert goal(made, "G-2")["evidence"] == "none of its 2 checks gave a result, because of health/api"
