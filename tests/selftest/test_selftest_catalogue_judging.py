"""Judging a reaction to a fault: expected against observed, without running anything."""

from typing import Any

import pytest
from pytest_readiness.selftest.catalogue import Expected, Fault, false_alarms, judge_fault

FAULT = Fault(
    id="expired",
    goal="G-2",
    what="An expired token is accepted",
    verdict="BROKEN",
    checks=(Expected(id="auth/expired", severity="P0", failure_class="PLATFORM_BUG"),),
    also=("auth/late*",),
)


def check(
    name: str, outcome: str = "passed", *, kind: str | None = None, severity: str = "P0"
) -> dict[str, Any]:
    return {
        "id": name,
        "severity": severity,
        "outcome": outcome,
        "class": kind,
        "summary": f"summary of {name}",
    }


def model(*checks: dict[str, Any], verdict: str = "BROKEN") -> dict[str, Any]:
    return {"verdict": verdict, "reasons": ["for a reason"], "checks": list(checks)}


SEEN = check("auth/expired", "failed", kind="PLATFORM_BUG")


def test_detected_at_the_named_check() -> None:
    found = judge_fault(FAULT, model(SEEN, check("auth/valid")), seconds=1.234)
    assert (found.detected, found.why) == (True, "")
    assert found.as_data()["observed"] == {"verdict": "BROKEN", "checks": [SEEN]}
    assert found.as_data()["seconds"] == 1.23


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (check("auth/expired"), "auth/expired: outcome passed, not failed (summary of auth/expired)"),
        (
            check("auth/expired", "failed", kind="SETUP_ERROR"),
            "class SETUP_ERROR, not PLATFORM_BUG",
        ),
        (check("auth/expired", "failed", kind="PLATFORM_BUG", severity="P1"), "severity P1, not P0"),
        (check("auth/expired", "flaky", kind="FLAKE"), "auth/expired: outcome flaky, not failed"),
        (check("auth/valid"), "auth/expired did not report"),
    ],
    ids=["passed", "class", "severity", "flaky", "absent"],
)
def test_not_as_named(seen: dict[str, Any], why: str) -> None:
    found = judge_fault(FAULT, model(seen))
    assert not found.detected
    assert why in found.why


@pytest.mark.parametrize("outcome", ["failed", "flaky", "not-run"])
def test_another_red_check_must_be_foreseen(outcome: str) -> None:
    assert judge_fault(FAULT, model(SEEN, check("auth/later", outcome))).detected
    found = judge_fault(FAULT, model(SEEN, check("jwks/keys", outcome)))
    assert found.why == f"unexplained red: jwks/keys {outcome} (summary of jwks/keys)"


def test_a_skip_is_red_when_something_declared_is_missing() -> None:
    assert judge_fault(FAULT, model(SEEN, check("jwks/keys", "skipped"))).detected
    assert (
        "unexplained red"
        in judge_fault(FAULT, model(SEEN, check("jwks/keys", "skipped", kind="SETUP_ERROR"))).why
    )


def test_what_the_plan_defers_is_not_red() -> None:
    assert judge_fault(FAULT, model(SEEN, check("x402/pays", "deferred", kind="PLATFORM_BUG"))).detected


@pytest.mark.parametrize(
    ("kind", "without_cover", "why"),
    [
        ("PLATFORM_BUG", "BROKEN", ""),
        (None, "NO_VERDICT", "auth/expired: class none, not PLATFORM_BUG"),
        ("PLATFORM_BUG", "NO_VERDICT", "verdict NO_VERDICT, not BROKEN"),
    ],
)
def test_a_covered_check_counts_as_if_nothing_covered_it(
    kind: str | None, without_cover: str, why: str
) -> None:
    seen = model(check("auth/expired", "deferred", kind=kind), verdict="READY")
    found = judge_fault(FAULT, {**seen, "without_cover": without_cover})
    assert found.detected is (not why)
    assert found.why.startswith(why)


def test_the_verdict_is_part_of_the_answer() -> None:
    found = judge_fault(FAULT, model(SEEN, verdict="NO_VERDICT"))
    assert found.why == "verdict NO_VERDICT, not BROKEN: for a reason"


def test_a_tolerated_condition_must_leave_everything_green() -> None:
    bearable = Fault(id="slow", goal="G-3", what="It is slow", verdict="READY", checks=(), select=("smoke",))
    assert judge_fault(bearable, model(check("invoke/answers"), verdict="READY")).detected
    found = judge_fault(bearable, model(check("invoke/answers", "flaky", kind="FLAKE"), verdict="DEGRADED"))
    assert found.why.startswith("unexplained red: invoke/answers flaky")


def test_alarms_of_a_clean_run() -> None:
    assert false_alarms("run", model(check("a/b"), check("a/c", "skipped"), verdict="READY")) == ()
    red = false_alarms(
        "run", model(check("a/b", "flaky", kind="FLAKE"), check("a/c", "failed"), verdict="DEGRADED")
    )
    assert [(alarm.check, alarm.summary) for alarm in red] == [
        ("a/b", "flaky: summary of a/b"),
        ("a/c", "failed: summary of a/c"),
    ]
    unclear = false_alarms("run", model(check("a/b"), verdict="NO_VERDICT"))
    assert [(alarm.check, alarm.summary) for alarm in unclear] == [("", "verdict NO_VERDICT: for a reason")]
