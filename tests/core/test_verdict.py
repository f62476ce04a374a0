"""The verdict: a table of single facts, then properties over arbitrary runs."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.model import CheckResult, FailureClass, Outcome, RunFacts, Scope, Severity, Verdict
from pytest_readiness.core.verdict import NOT_OURS, causes, exit_code, judge

from tests.core.build import check

PASSED = check("orders/list")


def verdict(*results: CheckResult, **facts: object) -> Verdict:
    return judge(results, RunFacts(**facts)).verdict  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (check(outcome="passed"), "READY"),
        (check(outcome="deferred"), "READY"),
        (check(outcome="deferred", cls="PLATFORM_BUG"), "READY"),
        (check(outcome="failed", cls="PLATFORM_BUG"), "BROKEN"),
        (check(outcome="failed"), "BROKEN"),
        (check(outcome="failed", cls="EXTERNAL_OUTAGE"), "NO_VERDICT"),
        (check(outcome="failed", cls="SETUP_ERROR"), "NO_VERDICT"),
        (check(outcome="skipped"), "NO_VERDICT"),
        (check(outcome="skipped", applicable=False), "NO_VERDICT"),
        (check(outcome="not-run"), "NO_VERDICT"),
        (check(outcome="flaky", cls="FLAKE"), "DEGRADED"),
        (check(outcome="passed", severity="P1"), "READY"),
        (check(outcome="flaky", cls="FLAKE", severity="P1"), "READY"),
        (check(outcome="failed", cls="PLATFORM_BUG", severity="P1"), "DEGRADED"),
        (check(outcome="failed", cls="EXTERNAL_OUTAGE", severity="P1"), "DEGRADED"),
        (check(outcome="failed", cls="SETUP_ERROR", severity="P1"), "DEGRADED"),
        (check(outcome="not-run", severity="P1"), "DEGRADED"),
        (check(outcome="skipped", severity="P1"), "DEGRADED"),
        (check(outcome="skipped", severity="P1", applicable=False), "READY"),
        (check(outcome="deferred", severity="P1"), "READY"),
    ],
)
def test_one_check_beside_one_that_passed(one: Any, expected: Any) -> None:
    assert verdict(PASSED, one) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"interrupted": "Ctrl-C"}, "NO_VERDICT"),
        ({"collection_errors": ("smoke/test_a.py: SyntaxError",)}, "NO_VERDICT"),
        ({"scope": Scope.PARTIAL}, "READY"),
        ({"scope": Scope.PARTIAL, "gate": True}, "NO_VERDICT"),
        ({"gate": True}, "READY"),
        ({"build_start": {"shop": "a"}, "build_end": {"shop": "b"}}, "NO_VERDICT"),
        ({"build_start": {"shop": "a"}, "build_end": {"shop": "a"}}, "READY"),
        ({"build_start": {"shop": ""}, "build_end": {"shop": "b"}}, "READY"),
        ({"build_start": {"shop": "a"}, "build_end": {}}, "READY"),
        ({"clock_jump_s": 6.0}, "NO_VERDICT"),
        ({"clock_jump_s": -6.0}, "NO_VERDICT"),
        ({"clock_jump_s": 4.0}, "READY"),
        ({"leaked": ("readiness.md",)}, "BROKEN"),
        ({"leaked": ("readiness.md",), "build_start": {"s": "a"}, "build_end": {"s": "b"}}, "BROKEN"),
    ],
)
def test_one_fact_of_a_run_in_which_everything_passed(facts: Any, expected: Any) -> None:
    assert verdict(PASSED, **facts) == expected


def test_nothing_collected_gives_no_verdict() -> None:
    judged = judge((), RunFacts())
    assert judged.verdict is Verdict.NO_VERDICT
    assert judged.reasons == ("no check was collected",)


def test_a_shard_without_checks_says_why() -> None:
    assert judge((), RunFacts(shard=True)).reasons == ("this shard got no check: use fewer shards",)


def test_what_stopped_the_collection_is_the_only_reason() -> None:
    assert judge((), RunFacts(interrupted="smoke/test_a.py:6: no severity")).reasons == (
        "the run was interrupted: smoke/test_a.py:6: no severity",
    )


def test_a_run_in_which_nothing_applies_gives_no_verdict() -> None:
    away = check(outcome="skipped", severity="P1", applicable=False)
    unseen = check("a/b", "deferred")
    for results in ((away,), (unseen,), (away, unseen)):
        assert judge(results, RunFacts()).reasons == ("no check could run in this environment",)
    assert verdict(away, check("a/b", "deferred", cls="PLATFORM_BUG")) is Verdict.READY


@pytest.mark.parametrize("outcome", ["skipped", "not-run"])
@pytest.mark.parametrize("severity", ["P0", "P1"])
def test_an_unanswered_check_is_settled_by_the_one_that_covers_it(outcome: Any, severity: Any) -> None:
    unanswered = check("health/finn", outcome, severity, covered_by="services/ecs")
    assert verdict(unanswered, check("services/ecs")) is Verdict.READY
    assert verdict(unanswered, check("services/ecs", "deferred")) is not Verdict.READY
    assert verdict(unanswered, PASSED) is not Verdict.READY


def test_a_family_covers_only_when_all_of_it_passed() -> None:
    unanswered = check("health/finn", "skipped", covered_by="services/ecs")
    family = check("services/ecs[a]"), check("services/ecs[b]")
    assert verdict(unanswered, *family) is Verdict.READY
    assert verdict(unanswered, family[0], replace(family[1], outcome=Outcome.DEFERRED)) is Verdict.NO_VERDICT


def test_a_failed_check_is_not_excused_by_the_one_that_covers_it() -> None:
    failed = check("health/finn", "failed", cls="SETUP_ERROR", covered_by="services/ecs")
    assert verdict(failed, check("services/ecs")) is Verdict.NO_VERDICT


def test_reasons_name_what_decided_first() -> None:
    judged = judge(
        (
            check("a/flaky", "flaky", cls="FLAKE"),
            check("b/skipped", "skipped", summary="no key"),
            check("c/failed", "failed", cls="PLATFORM_BUG", summary="500 for a valid order"),
        ),
        RunFacts(),
    )
    assert judged.verdict is Verdict.BROKEN
    assert judged.reasons == (
        "P0 failed (PLATFORM_BUG): c/failed: 500 for a valid order",
        "P0 skipped: b/skipped: no key",
        "P0 flaky (FLAKE): a/flaky",
    )


def test_a_changed_build_is_reported_with_both_builds() -> None:
    judged = judge((PASSED,), RunFacts(build_start={"shop": "a1"}, build_end={"shop": "b2"}))
    assert judged.reasons == ("the build of shop changed during the run: a1 -> b2",)


def test_what_failed_on_a_machine_that_slept_says_nothing_against_the_platform() -> None:
    judged = judge((check("c/failed", "failed"),), RunFacts(clock_jump_s=3600.0))
    assert judged.verdict is Verdict.NO_VERDICT
    assert judged.reasons[0] == (
        "the clock of this machine jumped 3600 s ahead during the run: "
        "it slept, or its clock was set, perhaps by a library such as time-machine"
    )


@pytest.mark.parametrize(
    ("results", "facts", "expected"),
    [
        ((check(outcome="failed", cls="EXTERNAL_OUTAGE"),), {}, "EXTERNAL_OUTAGE"),
        ((check(outcome="failed", cls="EXTERNAL_OUTAGE"), check("a/b", "skipped")), {}, None),
        (
            (check(outcome="failed", cls="EXTERNAL_OUTAGE"), check("a/b", "failed", cls="SETUP_ERROR")),
            {},
            None,
        ),
        (
            (check("a/up", "failed", cls="EXTERNAL_OUTAGE"), check("a/b", "not-run", cause="check:a/up")),
            {},
            "EXTERNAL_OUTAGE",
        ),
        (
            (check("a/up", "failed", cls="SETUP_ERROR"), check("a/b", "not-run", cause="check:a/up")),
            {},
            None,
        ),
        ((check(outcome="failed", cls="EXTERNAL_OUTAGE"),), {"interrupted": "-x"}, None),
        ((check(outcome="failed", cls="EXTERNAL_OUTAGE"), check("a/b", "failed")), {}, None),
        ((check(outcome="flaky", cls="FLAKE"),), {}, "FLAKE"),
        ((check(outcome="failed", severity="P1"), PASSED), {}, None),
        ((PASSED,), {}, None),
        ((PASSED,), {"interrupted": "Ctrl-C"}, None),
        ((PASSED,), {"build_start": {"s": "a"}, "build_end": {"s": "b"}}, None),
    ],
)
def test_which_runs_the_streak_passes_over(results: Any, facts: Any, expected: Any) -> None:
    assert judge(results, RunFacts(**facts)).uncounted == expected


@pytest.mark.parametrize(
    ("given_verdict", "code"), [("READY", 0), ("BROKEN", 1), ("DEGRADED", 2), ("NO_VERDICT", 6)]
)
def test_exit_codes(given_verdict: Any, code: Any) -> None:
    assert exit_code(Verdict(given_verdict)) == code


def test_only_degraded_takes_another_exit_code() -> None:
    assert [exit_code(one, 0) for one in Verdict] == [0, 1, 0, 6]


classes = st.one_of(st.none(), st.sampled_from(FailureClass))
checks = st.builds(
    CheckResult,
    id=st.sampled_from(["a/a", "a/b", "b/a", "b/b[x]", "b/b[y]"]),
    nodeid=st.just("t.py::t"),
    goal=st.just("G-1"),
    phase=st.just("a"),
    severity=st.sampled_from(Severity),
    outcome=st.sampled_from(Outcome),
    failure_class=classes,
    applicable=st.booleans(),
    covered_by=st.one_of(st.none(), st.sampled_from(["a/a", "b/b"])),
)
builds = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["", "1", "2"]))
runs = st.builds(
    RunFacts,
    scope=st.sampled_from(Scope),
    gate=st.booleans(),
    interrupted=st.sampled_from(["", "", "", "Ctrl-C"]),
    collection_errors=st.sampled_from([(), (), ("boom",)]),
    build_start=builds,
    build_end=builds,
    leaked=st.sampled_from([(), (), (), ("readiness.md",)]),
)
SEVERITY_OF = {Verdict.READY: 0, Verdict.DEGRADED: 1, Verdict.NO_VERDICT: 2, Verdict.BROKEN: 3}


@given(st.lists(checks, max_size=8, unique_by=lambda check: check.id), runs)
def test_every_run_has_a_verdict_with_a_reason_in_any_order_of_its_checks(results: Any, facts: Any) -> None:
    judged = judge(results, facts)
    assert judged.reasons
    assert all(judged.reasons)
    backwards = judge(results[::-1], facts)
    assert backwards.verdict is judged.verdict
    # the order decides which check represents a cause, but not how many causes there are
    assert len(backwards.reasons) == len(judged.reasons)


@given(st.lists(checks, max_size=8), runs)
def test_precedence(results: Any, facts: Any) -> None:
    got = judge(results, facts).verdict
    changed = any(
        old and facts.build_end.get(name) and facts.build_end[name] != old
        for name, old in facts.build_start.items()
    )
    bug = any(
        one.severity is Severity.P0 and one.outcome is Outcome.FAILED and one.failure_class not in NOT_OURS
        for one in results
    )
    refused = facts.gate and facts.scope is Scope.PARTIAL
    if facts.leaked:
        assert got is Verdict.BROKEN
    elif changed or refused:
        assert got is Verdict.NO_VERDICT
    elif bug:
        assert got is Verdict.BROKEN
    elif facts.interrupted or facts.collection_errors or not results:
        assert got is Verdict.NO_VERDICT
    else:
        assert got is not Verdict.BROKEN


@given(st.lists(checks, max_size=8))
def test_ready_only_when_every_p0_is_answered(results: Any) -> None:
    if judge(results, RunFacts()).verdict is Verdict.READY:
        blocking = [one for one in results if one.severity is Severity.P0]
        answered = (Outcome.PASSED, Outcome.DEFERRED)
        assert all(one.outcome in answered or one.covered_by for one in blocking)
        assert any(one.outcome is not Outcome.SKIPPED for one in results)


@given(st.lists(checks, min_size=1, max_size=8), st.integers(0, 7), classes)
def test_one_more_failure_never_improves_a_verdict(results: Any, index: Any, failure_class: Any) -> None:
    index %= len(results)
    if results[index].outcome is Outcome.FAILED:
        return
    worse = list(results)
    worse[index] = replace(results[index], outcome=Outcome.FAILED, failure_class=failure_class)
    before, after = (SEVERITY_OF[judge(which, RunFacts()).verdict] for which in (results, worse))
    # A check that could not run and now fails answers more than before, so it can end a NO_VERDICT.
    silent = (Outcome.SKIPPED, Outcome.NOT_RUN, Outcome.DEFERRED)
    assert after >= before or results[index].outcome in silent


REASONS = st.sampled_from(["", "freeside is down", "no credentials"])


@given(st.lists(st.tuples(st.sampled_from(["P0", "P1"]), REASONS), max_size=20))
def test_every_check_is_in_exactly_one_cause(found: list[tuple[str, str]]) -> None:
    checks = [
        replace(check(f"phase/{place}", "not-run", severity), summary=reason)
        for place, (severity, reason) in enumerate(found)
    ]
    groups = [cause.checks for _, cause in causes(checks, RunFacts())]
    assert sorted(one.id for group in groups for one in group) == sorted(one.id for one in checks)
    for group in groups:
        assert len({one.summary for one in group}) == 1
    assert all(len(group) == 1 for group in groups if not group[0].summary)


def test_a_shared_reason_is_listed_once() -> None:
    checks = [replace(check(f"phase/{name}", "not-run"), summary="x is down") for name in "abc"]
    assert judge(checks, RunFacts()).reasons == ("P0 not run: phase/a and 2 more checks: x is down",)
