"""Conditions of workflows: GitHub's rules for what is understood, and no guess about the rest."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoke.source.conditions import CANCELLED, FAILURE, OUTCOMES, SUCCESS, Condition, Situation

NEEDS = ("build", "migrate")
INPUTS: dict[str, Any] = {"on": True, "off": False, "none": None, "text": "Yes"}


def holds(text: str, *, needs: tuple[str, ...] = NEEDS, **ended: str) -> bool | None:
    return Condition.of(text).holds(Situation(needs, needs, ended, INPUTS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("${{ false }}", False),
        ("!inputs.on", False),
        ("!inputs.none", True),
        ("!inputs.unknown", True),
        ("inputs.on && inputs.off", False),
        ("inputs.off || inputs.on", True),
        ("inputs['on']", True),
        ("!(inputs.on && !inputs.off)", False),
        ("inputs.text == 'yes'", True),
        ("inputs.text != 'yes'", False),
        ("inputs.text == true", False),
        ("inputs.on == true", True),
        ("inputs.none == false", True),
        ("inputs.none == ''", True),
        ("inputs.none == 'x'", False),
        # the event holds text, and the text 'false' is true
        ("github.event.inputs.off", True),
        ("github.event.inputs.off == 'false'", True),
        ("(true || false) && false", False),
        ("true || false && false", True),
        ("ALWAYS()", True),
        ("failure()", False),
        ("contains(needs.*.result, 'success')", True),
        ("contains(join(needs.*.result, ','), 'failure')", False),
        ("needs.migrate.result == 'success'", True),
        ("'success' != needs.migrate.result", False),
        ("""contains(fromJSON('["success", "skipped"]'), needs.migrate.result)""", True),
        # `needs` knows direct needs only
        ("needs.other.result == 'success'", False),
        ("github.ref == 'x'", None),
        ("github.ref == 'x' && false", False),
        ("github.ref == 'x' || true", True),
        ("startsWith(github.ref, 'refs/tags/')", None),
    ],
)
def test_truth_after_every_needed_job_succeeded(text: str, expected: bool | None) -> None:
    assert holds(text, build=SUCCESS, migrate=SUCCESS) is expected
    assert Condition.of(text).not_understood() == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("inputs.on", False),
        ("success() || inputs.off", False),
        ("always()", True),
        ("failure()", True),
        ("!failure()", False),
        ("!cancelled()", True),
        ("always() && contains(needs.*.result, 'failure')", True),
        ("always() && needs.migrate.result != 'success'", True),
        # text around an expression makes a string, which is true
        ("${{ false }} && ${{ false }}", True),
        ("${{ false }}\n", True),
    ],
)
def test_truth_after_the_migration_failed(text: str, expected: bool) -> None:
    assert holds(text, build=SUCCESS, migrate=FAILURE) is expected


def test_a_job_that_its_time_limit_cancelled_leaves_open_whether_the_run_was() -> None:
    assert holds("!cancelled()", build=SUCCESS, migrate=CANCELLED) is None


@pytest.mark.parametrize(
    "text",
    [
        "fromJSON('1')",
        "needs.migrate.outputs.done == 'true'",
        'needs.migrate.result == "success"',
        "!inputs.on == false",
        "a &&",
        "(true",
        "true)",
        "'a' == 'x",
    ],
)
def test_what_is_not_understood_is_named_and_left_open(text: str) -> None:
    assert Condition.of(f"always() && {text}").not_understood()
    assert holds(f"always() && {text}") is None


ATOMS = [
    "success()",
    "!cancelled()",
    "github.ref == 'x'",
    *(f"needs.{job}.result {op} '{outcome}'" for job in NEEDS for op in ("==", "!=") for outcome in OUTCOMES),
    *(f"contains(needs.*.result, '{outcome}')" for outcome in OUTCOMES),
]


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    joined = st.tuples(st.sampled_from(["&&", "||"]), inner, inner).map(lambda n: f"({n[1]}) {n[0]} ({n[2]})")
    return st.one_of(inner.map(lambda text: f"!({text})"), joined)


@settings(deadline=None)
@given(st.recursive(st.sampled_from(ATOMS), _grow, max_leaves=8), st.sampled_from(OUTCOMES))
def test_a_definite_answer_holds_whatever_the_other_jobs_did(text: str, outcome: str) -> None:
    answer = holds(text, migrate=outcome)
    possible = {holds(text, migrate=outcome, build=other) for other in OUTCOMES}
    assert answer is None or possible <= {answer, None}
