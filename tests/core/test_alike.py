"""Checks that tell the same story are told once, and none is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.alike import alike
from pytest_readiness.core.model import CheckResult, Outcome, RunFacts, Severity
from pytest_readiness.core.verdict import judge

SEVERITIES = st.sampled_from(Severity)
REASONS = st.sampled_from(["", "freeside is down", "no credentials"])


def _check(name: str, severity: Severity = Severity.P0, summary: str = "x is down") -> CheckResult:
    return CheckResult(
        id=f"phase/{name}",
        nodeid=f"test_a.py::test_{name}",
        goal="G-1",
        phase="phase",
        severity=severity,
        outcome=Outcome.NOT_RUN,
        summary=summary,
    )


@given(st.lists(st.tuples(SEVERITIES, REASONS), max_size=20))
def test_every_check_is_in_exactly_one_group_of_its_reason(told: list[tuple[Severity, str]]) -> None:
    checks = [_check(str(place), severity, reason) for place, (severity, reason) in enumerate(told)]
    groups = alike(checks)
    assert sorted(check.id for group in groups for check in group) == sorted(check.id for check in checks)
    for group in groups:
        assert len({(check.severity, check.summary) for check in group}) == 1
    assert all(len(group) == 1 for group in groups if not group[0].summary)


def test_the_verdict_tells_a_shared_reason_once() -> None:
    checks = [_check(name) for name in ("a", "b", "c")]
    assert judge(checks, RunFacts()).reasons == ("P0 not run: phase/a and 2 more checks: x is down",)
