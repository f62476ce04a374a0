"""Deferrals and waivers: what they cover, when they count, and what the report says about them."""

from typing import Any

import pytest
from pytest_readiness.core.goals import ExemptionState, apply_exemptions
from pytest_readiness.core.model import Scope

from tests.core.build import NOW, check, plan

DEFERRAL = '[[deferral]]\nitem = "Later"\nseverity = "Low"\nrationale = "Not now"\n'
WAIVER = (
    '[[waiver]]\ncheck = "{check}"\nreason = "known"\napprover = "Ada"\n'
    "issued = {issued}\nexpires = {expires}\n"
)
VALID = {"issued": "2026-01-01T00:00:00Z", "expires": "2027-01-01T00:00:00Z"}


def covered(results: Any, extra: Any, head: Any = "") -> Any:
    after, exemptions = apply_exemptions(results, plan(extra, head=head), NOW, "staging")
    return [one.outcome.value for one in after], exemptions


def waiver(pattern: Any, **more: Any) -> Any:
    return WAIVER.format(check=pattern, **{**VALID, **more})


@pytest.mark.parametrize("outcome", ["failed", "flaky", "skipped", "not-run"])
def test_what_did_not_pass_is_deferred(outcome: Any) -> None:
    results = [check("orders/create", outcome), check("payments/pay", outcome, goal="G-2")]
    outcomes, (exemption,) = covered(results, DEFERRAL + 'goal = "G-2"')
    assert outcomes == [outcome, "deferred"]
    assert (exemption.state, exemption.text) == (ExemptionState.ACTIVE, "covers payments/pay")


def test_the_class_of_a_covered_failure_is_kept() -> None:
    results = [
        check("a/a", "failed", cls="EXTERNAL_OUTAGE"),
        check("a/b", "flaky"),
        check("a/c", "skipped"),
    ]
    after, _ = apply_exemptions(results, plan(DEFERRAL + 'check = "a/*"'), NOW, "staging")
    assert [one.failure_class for one in after] == ["EXTERNAL_OUTAGE", "FLAKE", None]


def test_covered_checks_that_pass_stay_passed_and_the_exemption_is_no_longer_needed() -> None:
    outcomes, (exemption,) = covered([check("a/a"), check("a/b")], DEFERRAL + 'check = "a/*"')
    assert outcomes == ["passed", "passed"]
    assert (exemption.state, exemption.text) == (ExemptionState.UNNEEDED, "no longer needed: 2 checks passed")


def test_a_part_of_the_checks_does_not_end_the_need_of_a_cover() -> None:
    made = plan(DEFERRAL + 'goal = "G-1"')
    _, (exemption,) = apply_exemptions([check("a/a")], made, NOW, "staging", Scope.PARTIAL)
    assert (exemption.state, exemption.text) == (ExemptionState.ACTIVE, "1 check passed in this partial run")


def test_a_drill_that_was_not_requested_needs_no_cover() -> None:
    away: dict[str, Any] = {"severity": "P1", "applicable": False}
    made = plan(DEFERRAL + 'check = "a/*"')
    after, (exemption,) = apply_exemptions(
        [check("a/a"), check("a/drill", "skipped", drill=True, **away)], made, NOW, "staging"
    )
    assert [one.outcome for one in after] == ["passed", "skipped"]
    assert (exemption.state, exemption.text) == (ExemptionState.UNNEEDED, "no longer needed: 1 check passed")
    after, (exemption,) = apply_exemptions(
        [check("a/a"), check("a/paid", "skipped", **away)], made, NOW, "staging"
    )
    assert (after[1].outcome, exemption.text) == ("deferred", "covers a/paid")


def test_a_deferral_covers_on_the_environments_that_it_names() -> None:
    made = plan(DEFERRAL + 'check = "a/*"\nenvironments = ["staging"]')
    after, (exemption,) = apply_exemptions([check("a/a", "failed")], made, NOW, "staging")
    assert (after[0].outcome, exemption.text) == ("deferred", "covers a/a")
    after, (exemption,) = apply_exemptions([check("a/a", "failed")], made, NOW, "local")
    assert (after[0].outcome, exemption.live) == ("failed", False)
    assert exemption.text == "covers nothing on local: it is for staging"
    after, (exemption,) = apply_exemptions([check("a/a")], made, NOW, "local")
    assert (exemption.state, exemption.live) == (ExemptionState.UNNEEDED, True)


def test_an_item_that_no_check_covers_is_only_listed() -> None:
    outcomes, (exemption,) = covered([check("a/a", "failed")], DEFERRAL)
    assert outcomes == ["failed"]
    assert (exemption.state, exemption.live) == (ExemptionState.ACTIVE, True)
    _, (exemption,) = covered([check("a/a")], DEFERRAL + 'environments = ["production"]')
    assert (exemption.state, exemption.live) == (ExemptionState.ELSEWHERE, False)


@pytest.mark.parametrize(
    ("times", "state", "text"),
    [
        (
            {"expires": "2026-06-01T12:00:00Z"},
            ExemptionState.EXPIRED,
            "expired on 2026-06-01T12:00:00.000Z; ignored",
        ),
        (
            {"issued": "2026-06-01T14:30:00+02:00"},
            ExemptionState.EARLY,
            "in force from 2026-06-01T12:30:00.000Z; ignored until then",
        ),
    ],
)
def test_a_waiver_outside_its_period_has_no_effect(times: Any, state: Any, text: Any) -> None:
    outcomes, (exemption,) = covered([check("a/a", "failed")], waiver("a/a", **times))
    assert outcomes == ["failed"]
    assert (exemption.state, exemption.text, exemption.live) == (state, text, False)


def test_an_expired_deferral_has_no_effect() -> None:
    extra = DEFERRAL + 'goal = "G-1"\nexpires = 2026-05-31T23:59:59Z'
    outcomes, (exemption,) = covered([check(outcome="failed")], extra)
    assert outcomes == ["failed"]
    assert exemption.state is ExemptionState.EXPIRED


def test_a_p0_that_is_not_waivable_is_never_covered_whatever_covers_it() -> None:
    results = [check("auth/refused[x]", "failed"), check("auth/leak", "failed", "P1")]
    extra = DEFERRAL + 'goal = "G-1"\n' + waiver("auth/refused[x]")
    outcomes, (deferral, waived) = covered(results, extra, head='not_waivable = ["auth/*"]')
    assert outcomes == ["failed", "deferred"]
    assert deferral.state is waived.state is ExemptionState.REFUSED
    assert deferral.checks == ("auth/leak",)
    assert waived.text == "cannot cover auth/refused[x]: the plan lists it under not_waivable"


def test_a_not_waivable_check_that_passed_needs_no_word() -> None:
    _, (exemption,) = covered([check("auth/a")], DEFERRAL + 'goal = "G-1"', head='not_waivable = ["auth/*"]')
    assert exemption.state is ExemptionState.UNNEEDED
