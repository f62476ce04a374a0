"""The tables that come from the plan, filled in from evidence, and the blockers' figures."""

from typing import Any

import pytest

from tests.core.build import ALL_PASSED, PARTIAL, check, model, plan
from tests.core.test_goals_exemptions import DEFERRAL, waiver


def figure(name: str, value: Any, **more: Any) -> dict[str, Any]:
    return {
        "kind": "figure",
        "name": name,
        "value": value,
        "unit": "",
        "expected": None,
        "limit": None,
        **more,
    }


def test_inventory_shows_what_was_observed_next_to_what_is_declared() -> None:
    declared = plan(
        '[[inventory]]\nservice = "Shop"\nkey = "shop"\nurl = "shop.example"\ncpu = 512\nmemory = 1024\n'
        '[[inventory]]\nservice = "Other"\n'
    )
    seen = check("services/inventory", evidence=(figure("inventory/shop/cpu", 256), figure("x", 1)))
    shop, other = model(*ALL_PASSED, seen, plan_=declared)["inventory"]
    assert (shop["service"], shop["cpu"], shop["url"]) == ("Shop", 512, "shop.example")
    assert shop["observed"] == {"cpu": 256, "build": "b1"}
    assert other["observed"] == {}


OPERATIONAL = '[[operational]]\nitem = "Alarms"\nchecks = ["alarms/*", "metrics/cpu"]\n'


@pytest.mark.parametrize(
    ("checks", "done", "evidence"),
    [
        ((), False, "no check of this run matches alarms/*, metrics/cpu"),
        ((check("alarms/a"), check("metrics/cpu")), True, "2 checks passed, not on a live environment"),
        ((check("alarms/a"),), False, "no check of this run matches metrics/cpu"),
        (
            (check("alarms/a", "flaky", "P1"), check("metrics/cpu")),
            True,
            "2 checks passed, not on a live environment",
        ),
        ((check("alarms/a", "flaky"),), False, "alarms/a flaky"),
        ((check("alarms/a"), check("alarms/b", "skipped", "P1")), False, "alarms/b skipped (of 2 checks)"),
        (
            (check("alarms/a", "failed"), check("metrics/cpu", "failed"), check("alarms/c")),
            False,
            "alarms/a failed, and 1 more (of 3 checks)",
        ),
    ],
)
def test_operational_items_are_ticked_from_checks(checks: Any, done: bool, evidence: str) -> None:
    (row,) = model(*ALL_PASSED, *checks, plan_=plan(OPERATIONAL))["operational"]
    assert row == {
        "item": "Alarms",
        "done": done,
        "evidence": evidence,
        "figures": [],
        "checks": ["alarms/*", "metrics/cpu"],
    }


def test_an_item_of_what_applies_does_not_miss_the_rest() -> None:
    away = check("alarms/drill", "skipped", "P1", applicable=False)
    made = model(*ALL_PASSED, check("alarms/a"), check("metrics/cpu"), away, plan_=plan(OPERATIONAL))
    assert not made["operational"][0]["done"]
    asked = plan(OPERATIONAL + "applicable = true\n")
    (row,) = model(*ALL_PASSED, check("alarms/a"), check("metrics/cpu"), away, plan_=asked)["operational"]
    evidence = "2 checks passed, 1 not applicable here, not on a live environment"
    assert (row["done"], row["evidence"]) == (True, evidence)
    (row,) = model(*ALL_PASSED, away, check("metrics/cpu", "skipped"), plan_=asked)["operational"]
    assert (row["done"], row["evidence"]) == (False, "metrics/cpu skipped")


def test_a_deferred_check_ticks_nothing() -> None:
    deferred = plan(OPERATIONAL + DEFERRAL + 'check = "alarms/a"')
    (row,) = model(*ALL_PASSED, check("alarms/a", "failed"), plan_=deferred)["operational"]
    assert (row["done"], row["evidence"]) == (False, "alarms/a deferred")


def test_an_item_that_needs_a_live_environment_is_not_ticked_by_an_embedded_one() -> None:
    only_live = plan(OPERATIONAL + "live = true")
    checks = (*ALL_PASSED, check("alarms/a"), check("metrics/cpu"))
    (row,) = model(*checks, plan_=only_live)["operational"]
    assert (row["done"], row["evidence"]) == (False, "needs a live environment; local is not live")
    (row,) = model(*checks, plan_=only_live, live=True)["operational"]
    assert row["done"] is True


@pytest.mark.parametrize(
    ("outcome", "verified", "evidence"),
    [
        ("passed", True, "1 check passed, not on a live environment"),
        ("failed", False, "rollback/full failed"),
        (None, None, "not verified in this run"),
    ],
)
def test_ways_back_are_verified_by_their_checks(outcome: Any, verified: Any, evidence: str) -> None:
    ways = plan('[[rollback]]\ntitle = "All"\nkind = "full"\nsteps = ["revert"]\nchecks = ["rollback/full"]')
    checks = (check("rollback/full", outcome),) if outcome else ()
    (row,) = model(*ALL_PASSED, *checks, plan_=ways)["rollback"]
    assert (row["title"], row["kind"], row["steps"]) == ("All", "full", ["revert"])
    assert (row["verified"], row["evidence"]) == (verified, evidence)


def test_decisions_are_those_of_the_plan() -> None:
    decided = plan('[[decision]]\ndate = 2026-01-02\ndecision = "b"\nrationale = "c"\n')
    made = model(plan_=decided)
    assert made["decisions"] == [{"date": "2026-01-02", "decision": "b", "rationale": "c", "source": ""}]


def test_deferrals_and_waivers_say_what_they_did() -> None:
    extra = DEFERRAL + 'goal = "G-2"\nexpires = 2027-01-01T00:00:00Z\n' + waiver("orders/*")
    made = model(check("orders/a", "failed", "P1"), plan_=plan(extra))
    assert made["deferred"] == [
        {
            "item": "Later",
            "severity": "Low",
            "rationale": "Not now",
            "goal": "G-2",
            "check": "",
            "expires": "2027-01-01T00:00:00.000Z",
            "state": "active",
            "note": "it covers no check of this run",
            "covers": [],
        }
    ]
    assert made["waivers"] == [
        {
            "check": "orders/*",
            "reason": "known",
            "approver": "Ada",
            "owner": "",
            "issued": "2026-01-01T00:00:00.000Z",
            "expires": "2027-01-01T00:00:00.000Z",
            "state": "active",
            "note": "covers orders/a",
            "covers": ["orders/a"],
        }
    ]
    assert made["cover"] == [
        "deferral Later: it covers no check of this run",
        "waiver orders/*: covers orders/a",
    ]


def test_blockers_are_ranked_and_carry_what_to_do() -> None:
    made = model(
        check("a/slow", "failed", "P1", cls="PLATFORM_BUG"),
        check("b/key", "skipped", summary="no key"),
        check(
            "c/money[two at once]",
            "failed",
            cls="PLATFORM_BUG",
            summary="12 µUSD are missing",
            evidence=(
                figure("sum", 988, unit="µUSD", expected=1000),
                figure("spare", 3),
                {"kind": "note", "text": "x"},
            ),
        ),
        check("d/aws", "failed", cls="SETUP_ERROR", summary="AccessDenied"),
        check("e/flaky", "flaky", cls="FLAKE"),
        env_option="./my env.toml",
    )
    assert [blocker["check"] for blocker in made["blockers"]] == [
        "c/money[two at once]",
        "b/key",
        "d/aws",
        "a/slow",
        "e/flaky",
    ]
    assert made["blockers"][0] == {
        "check": "c/money[two at once]",
        "also": [],
        "behind": [],
        "goal": "G-1",
        "severity": "P0",
        "class": "PLATFORM_BUG",
        "summary": "12 µUSD are missing",
        "rule": "a P0 check that fails because of the platform makes the run BROKEN",
        "observed": "sum = 988 µUSD",
        "limit": "expected 1000 µUSD",
        "next_action": "fix the platform so that smoke/test_c.py::test_money[two at once] passes, "
        "redeploy, then rerun the check",
        "reproduce": "pytest 'smoke/test_c.py::test_money[two at once]' --env='./my env.toml'",
        "whose": {"team": "the platform", "contact": "", "runbook": ""},
    }
    actions = [blocker["next_action"] for blocker in made["blockers"]]
    assert actions[1] == "remove what skips the check or expects it to fail, or defer it in the plan"
    assert (
        actions[2] == "correct this runner's setup or the profile as the summary says, then rerun the check"
    )
    assert actions[4] == "find out why the first attempt failed; a rerun that passes proves little"


@pytest.mark.parametrize(
    ("facts", "summary"),
    [
        ({"leaked": ("readiness.md",)}, "a live secret was found in readiness.md; it is withheld"),
        ({"build_end": {"shop": "b2"}}, "the build of shop changed during the run: b1 -> b2"),
        (
            {"clock_jump_s": -90.0},
            (
                "the clock of this machine jumped 90 s back during the run: "
                "it slept, or its clock was set, perhaps by a library such as time-machine"
            ),
        ),
        ({"interrupted": "Ctrl-C"}, "the run was interrupted: Ctrl-C"),
        ({"collection_errors": ("smoke/test_x.py",)}, "collection error: smoke/test_x.py"),
    ],
)
def test_a_problem_of_the_run_itself_blocks_first(facts: Any, summary: str) -> None:
    first = model(*ALL_PASSED, check("a/a", "failed", "P1"), **facts)["blockers"][0]
    assert (first["summary"], first["check"]) == (summary, "")
    assert first["reproduce"] == "readiness run --env local"


ITEM = '[[operational]]\nitem = "Rotation"\nchecks = ["keys/*"]'


def drill(outcome: str, **more: Any) -> Any:
    return check("keys/drill", outcome, "P1", **more)


def row(*results: Any, **more: Any) -> tuple[bool, str]:
    (found,) = model(*results, plan_=plan(ITEM), **more)["operational"]
    return found["done"], found["evidence"]


@pytest.mark.parametrize(
    ("drilled", "ticked"),
    [
        (drill("passed"), (True, "2 checks passed, not on a live environment")),
        (drill("failed"), (False, "keys/drill failed (of 2 checks)")),
        (drill("not-run"), (False, "keys/drill not-run (of 2 checks)")),
        (drill("skipped"), (False, "keys/drill skipped (of 2 checks)")),
        (drill("skipped", applicable=False), (False, "keys/drill skipped (of 2 checks)")),
        (
            drill("skipped", applicable=False, covered_by="keys/plan"),
            (True, "1 check passed, 1 covered by another check, not on a live environment"),
        ),
    ],
)
def test_every_check_must_have_run_and_passed(drilled: Any, ticked: tuple[bool, str]) -> None:
    assert row(check("keys/plan", "passed", "P1"), drilled) == ticked


def test_skips_alone_tick_nothing() -> None:
    assert row(drill("skipped", applicable=False, summary="needs --drills")) == (
        False,
        "keys/drill skipped: needs --drills",
    )


@pytest.mark.parametrize(
    ("facts", "ticked"),
    [
        ({"scope": PARTIAL}, (False, "a partial run cannot tick an item")),
        ({"interrupted": "Ctrl-C"}, (False, "an unfinished run cannot tick an item")),
        ({"collection_errors": ("x",)}, (False, "an unfinished run cannot tick an item")),
        ({"live": True}, (True, "1 check passed")),
        ({"checkout": "checkout abc1234"}, (True, "1 check passed, not on a live environment")),
    ],
)
def test_a_tick_says_where_it_was_seen(facts: Any, ticked: tuple[bool, str]) -> None:
    assert row(check("keys/plan"), **facts) == ticked


def test_static_checks_are_ticked_on_their_checkout() -> None:
    static = check("keys/plan", static=True)
    assert row(static, checkout="checkout abc1234") == (True, "1 check passed, on checkout abc1234")
    assert row(static) == (True, "1 check passed, not on a live environment")


def exchange(method: str, url: str, status: int, **more: int) -> dict[str, Any]:
    return {"kind": "exchange", "method": method, "url": url, "status": status, **more}


@pytest.mark.parametrize(
    ("summary", "evidence", "expected"),
    [
        (
            "assert 3 == 2",
            (exchange("POST", "http://shop/o", 201), exchange("GET", "http://shop/tea?x=1", 200)),
            "fix what serves GET http://shop/tea (answered 200) or POST http://shop/o (answered 201)",
        ),
        (
            "assert 3 == 2",
            (
                exchange("GET", "http://shop/a", 200, attempt=1),
                exchange("GET", "http://shop/b", 502, attempt=2),
            ),
            "fix what serves GET http://shop/b (answered 502)",
        ),
        (
            "127.0.0.1:8102 (tracker.url): ConnectError: [Errno 111] Connection refused",
            (exchange("GET", "http://shop/a", 200),),
            "find out why 127.0.0.1:8102 (tracker.url) does not answer correctly",
        ),
        (
            "127.0.0.1:1 (api.url, from environment variable API_URL): ConnectError: refused",
            (),
            "find out why 127.0.0.1:1 (api.url, from environment variable API_URL) does not answer correctly",
        ),
    ],
)
def test_what_to_do_next_names_who_was_asked(
    summary: str, evidence: tuple[dict[str, Any], ...], expected: str
) -> None:
    failed = check(outcome="failed", cls="PLATFORM_BUG", summary=summary, evidence=evidence)
    assert model(failed)["blockers"][0]["next_action"] == f"{expected}, redeploy, then rerun the check"


def test_the_next_action_of_a_check_error_is_to_assert_the_answer() -> None:
    evidence = (exchange("GET", "http://shop/a", 200),)
    failed = check(outcome="failed", cls="CHECK_ERROR", where="smoke/test_a.py:9", evidence=evidence)
    assert model(failed)["blockers"][0]["next_action"] == (
        "fix the check: smoke/test_a.py:9; make it assert what GET http://shop/a (answered 200) must answer"
    )


def test_a_setting_of_the_runner_is_named() -> None:
    failed = check(
        outcome="failed", cls="SETUP_ERROR", cause="this runner's proxy 10.0.0.1:3128 (https_proxy)"
    )
    assert model(failed)["blockers"][0]["next_action"] == (
        "correct this runner's proxy 10.0.0.1:3128 (https_proxy), then rerun the check"
    )


@pytest.mark.parametrize(
    ("cls", "said"), [("SETUP_ERROR", True), ("EXTERNAL_OUTAGE", True), ("PLATFORM_BUG", False)]
)
def test_an_error_says_itself_what_to_do_next(cls: str, said: bool) -> None:
    failed = check(outcome="failed", cls=cls, advice="log in (`aws sso login`)")
    assert (model(failed)["blockers"][0]["next_action"] == "log in (`aws sso login`)") is said


def test_what_depends_on_a_check_that_is_not_in_the_run_is_run_with_it() -> None:
    alone = check("auth/refused", "not-run", cause="check:auth/accepted", summary="proves nothing")
    (blocker,) = model(alone, scope=PARTIAL)["blockers"]
    assert blocker["next_action"] == "run it together with auth/accepted, on which it depends"
    assert blocker["reproduce"] == "readiness run --env local"


def test_a_shard_is_to_be_merged() -> None:
    (blocker,) = model(check(), scope=PARTIAL, shard=True)["blockers"]
    assert blocker["reproduce"] == "readiness merge reports/shards --env local"
