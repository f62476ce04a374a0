"""One blocker per cause: which failures belong together."""

from __future__ import annotations

import pytest
from pytest_readiness.core.model import CheckResult
from pytest_readiness.core.verdict import by_cause

from tests.core.build import check, model

DOWN = check("health/api", "failed", cls="PLATFORM_BUG", summary="ConnectError: Connection refused")


def behind(name: str, root: str, severity: str = "P0") -> CheckResult:
    return check(name, "not-run", severity, cause=f"check:{root}", summary="not run: api is down")


def test_what_a_dead_service_takes_down_is_counted_below_it() -> None:
    made = model(
        behind("a/call", "health/api"),
        behind("b/pay", "health/api", "P1"),
        behind("c/refund", "b/pay", "P1"),
        DOWN,
    )
    (blocker,) = made["blockers"]
    assert (blocker["check"], blocker["also"]) == ("health/api", [])
    assert blocker["behind"] == ["a/call", "b/pay", "c/refund"]
    (reason,) = made["reasons"]
    assert reason.startswith("P0 failed (PLATFORM_BUG): health/api: ConnectError: Connection refused")
    assert reason.endswith("; 3 checks not run because of it")


def test_a_missing_credential_is_one_blocker_for_p0_and_p1() -> None:
    missing = "no AWS credentials: log in"
    skipped = [
        check(f"a/{place}", "skipped", "P0" if place % 3 else "P1", cls="SETUP_ERROR", cause=missing)
        for place in range(41)
    ]
    made = model(*skipped)
    (blocker,) = made["blockers"]
    assert 1 + len(blocker["also"]) == 41
    assert (blocker["severity"], made["verdict"]) == ("P0", "NO_VERDICT")
    assert blocker["next_action"].startswith("correct this runner's setup or the profile as the summary says")


@pytest.mark.parametrize(
    ("first", "second", "causes"),
    [
        ("SafetyViolation: f accepted expired: POST /a answered 200", None, 1),
        (
            "SafetyViolation: f accepted expired: POST /a answered 200",
            "SafetyViolation: f accepted garbage: POST /b answered 200",
            2,
        ),
        (
            "UnexpectedStatus: GET /a: expected 200, got 500",
            "UnexpectedStatus: GET /a: expected 200, got 503",
            1,
        ),
        ("UnexpectedStatus: GET /a: expected 200, got 500", "ContractViolation: GET /a: not JSON", 2),
        ("ConnectError: [Errno 111] Connection refused", "ConnectError: [Errno 111] Connection refused", 1),
        ("in setup: ConnectError: refused", "ConnectError: refused", 1),
    ],
)
def test_the_same_violation_is_one_cause(first: str, second: str | None, causes: int) -> None:
    made = model(
        check("auth/refused[f-expired]", "failed", cls="PLATFORM_BUG", summary=first),
        check(
            "auth/refused[f-garbage]",
            "failed",
            cls="PLATFORM_BUG",
            summary=second or first.replace("expired", "garbage"),
        ),
    )
    assert len(made["blockers"]) == causes


def test_what_several_checks_say_alike_is_one_cause_whatever_their_cases_are() -> None:
    said = "SafetyViolation: pay accepted expired: POST /pay answered 200"
    names = (
        "auth/refused[pay-expired]",
        "auth/still-accepted[pay]",
        "auth/tell-nothing",
        "auth/other[expired]",
    )
    failed = [check(name, "failed", cls="PLATFORM_BUG", summary=said) for name in names]
    (blocker,) = model(*failed)["blockers"]
    assert [blocker["check"], *blocker["also"]] == [*names]


def test_checks_that_name_the_same_broken_rule_are_one_cause() -> None:
    said = {
        "auth/forged[pay]": ("SafetyViolation: expired: pay accepted a token", "pay: expiry"),
        "auth/late[list]": ("UnexpectedStatus: pay and a token: expected 401, got 409", "pay: expiry"),
        "auth/future[pay]": ("SafetyViolation: future: pay accepted a token", "pay: not-before"),
        "auth/late[other]": ("UnexpectedStatus: other and a token: expected 401, got 200", "other: expiry"),
    }
    failed = [
        check(name, "failed", cls="PLATFORM_BUG", summary=summary, cause=rule)
        for name, (summary, rule) in said.items()
    ]
    blockers = model(*failed)["blockers"]
    assert [[each["check"], *each["also"]] for each in blockers] == [
        ["auth/forged[pay]", "auth/late[list]"], ["auth/future[pay]"], ["auth/late[other]"]
    ]  # fmt: skip


def test_the_plainest_check_stands_for_its_cause() -> None:
    cause = "pay accepts expired tokens"
    said = "pay accepted an expired token: POST /pay/charge answered 200"
    failed = [
        check(
            "auth/stored[charge]",
            "failed",
            cls="PLATFORM_BUG",
            cause=cause,
            summary=f"a stored answer, late: {said}",
        ),
        check(
            "auth/forged[list]", "failed", cls="PLATFORM_BUG", cause=cause, summary=f"expired at list: {said}"
        ),
        check("auth/forged[charge]", "failed", cls="PLATFORM_BUG", cause=cause, summary=f"expired: {said}"),
        check("auth/hygiene", "failed", "P1", cls="PLATFORM_BUG", cause=cause, summary=said),
    ]
    (found,) = by_cause(failed, failed)
    assert [each.id for each in found.shown] == [
        "auth/forged[list]",
        "auth/stored[charge]",
        "auth/forged[charge]",
        "auth/hygiene",
    ]


def test_what_a_family_says_of_each_route_is_one_cause() -> None:
    said = "expiry at pay.{0}: pay accepted a token: {1} /pay/{0} answered 200 (1 of {2} cases failed)"
    routes = (("charge", "POST", 11), ("list", "GET", 7), ("refund", "POST", 3))
    failed = [
        check(
            f"auth/{family}[pay.{route[0]}]",
            "failed",
            cls="PLATFORM_BUG",
            summary=f"{family}: {said.format(*route)}",
        )
        for family in ("forged", "late")
        for route in routes
    ]
    causes = model(*failed)["blockers"]
    assert [cause["check"] for cause in causes] == ["auth/forged[pay.charge]", "auth/late[pay.charge]"]
    assert causes[0]["also"] == ["auth/forged[pay.list]", "auth/forged[pay.refund]"]


def test_an_outage_is_one_cause_whatever_was_asked() -> None:
    down = "the model provider behind Finn is down"
    made = model(
        check("a/x", "failed", cls="EXTERNAL_OUTAGE", summary=f"ExternalOutage: POST /a: 503 CODE: {down}"),
        check("b/y", "failed", cls="EXTERNAL_OUTAGE", summary=f"ExternalOutage: POST /b/c: 503 CODE: {down}"),
    )
    assert len(made["blockers"]) == 1


def test_missing_variables_are_a_cause_each() -> None:
    made = model(
        *(
            check(f"a/{name}", "failed", cls="SETUP_ERROR", summary=f"SetupError: variable {name} is not set")
            for name in ("KEY_ONE", "KEY_TWO")
        )
    )
    assert len(made["blockers"]) == 2


def test_what_a_check_that_did_not_run_would_cover_belongs_to_its_cause() -> None:
    made = model(
        check("health/finn", "skipped", applicable=False, covered_by="ecs/service", summary="not offered"),
        behind("ecs/service[finn]", "ecs/aws"),
        check("ecs/aws", "failed", cls="SETUP_ERROR", summary="SetupError: no credentials"),
    )
    (blocker,) = made["blockers"]
    assert (blocker["check"], blocker["behind"]) == ("ecs/aws", ["health/finn", "ecs/service[finn]"])


def test_a_runner_without_a_resolver_is_one_cause() -> None:
    error = "[Errno -2] Name or service not known"
    made = model(
        check(
            "a/x", "failed", cls="SETUP_ERROR", summary=f"SetupError: the name a.b does not resolve: {error}"
        ),
        check("a/y", "failed", "P1", cls="SETUP_ERROR", summary=f"ConnectError: {error}"),
    )
    assert len(made["blockers"]) == 1


def test_bare_assertions_of_two_places_are_two_causes() -> None:
    made = model(
        check("a/x", "failed", cls="PLATFORM_BUG", summary="assert 1 == 2", where="smoke/test_a.py:3"),
        check("a/y", "failed", cls="PLATFORM_BUG", summary="assert 1 == 2", where="smoke/test_a.py:9"),
        check("a/z", "failed", cls="PLATFORM_BUG", summary="assert 7 == 2", where="smoke/test_a.py:9"),
    )
    assert [len(blocker["also"]) for blocker in made["blockers"]] == [0, 1]


def test_a_cyclic_cause_ends() -> None:
    made = model(behind("a/x", "a/y"), behind("a/y", "a/x"))
    assert made["verdict"] == "NO_VERDICT"
    assert 1 <= len(made["blockers"]) <= 2


@pytest.mark.parametrize(
    ("ended", "action"),
    [
        ({"cls": "CHECK_ERROR", "where": "smoke/a.py:3"}, "fix the check: smoke/a.py:3"),
        ({"cls": "PLATFORM_BUG", "static": True}, "in the checkout"),
        ({"cls": "PLATFORM_BUG"}, "deploy"),
        ({"cls": "EXTERNAL_OUTAGE"}, "wait until the third party has recovered"),
        ({"outcome": "skipped", "applicable": False}, "configure it in the environment's profile"),
        ({"outcome": "not-run"}, "run it to its end"),
    ],
)
def test_the_next_action_follows_from_how_a_check_ended(ended: dict[str, object], action: str) -> None:
    made = model(check("a/x", **{"outcome": "failed", **ended}))  # type: ignore[arg-type]
    assert action in made["blockers"][0]["next_action"]
