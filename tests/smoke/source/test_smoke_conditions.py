"""Workflow conditions: GitHub's rules where they are understood, no guess otherwise."""

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoke.source.pipeline.workflows import CANCELLED, FAILURE, OUTCOMES, SUCCESS, Condition, Situation

NEEDS = ("build", "migrate")
INPUTS: dict[str, Any] = {"on": True, "off": False, "none": None, "text": "Yes"}


def holds(text: str, ended: str = "", needs: tuple[str, ...] = NEEDS) -> bool | None:
    """Whether a condition holds where `migrate` ended so, None for either; "": where every job succeeded."""
    behind = dict.fromkeys(needs, OUTCOMES)
    situation = Situation("migrate", behind, needs, INPUTS) if ended else Situation(inputs=INPUTS)
    true, false = Condition.of(text).ways(situation)
    outcome = ended or SUCCESS
    return None if outcome in true & false else outcome in true


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
        ("github.ref == 'refs/heads/x'", None),
        ("github.ref == 'refs/heads/x' && false", False),
        ("github.ref == 'refs/heads/x' || true", True),
        ("startsWith(github.ref, 'refs/tags/')", None),
    ],
)
def test_truth_after_every_needed_job_succeeded(text: str, expected: bool | None) -> None:
    assert holds(text) is expected
    assert Condition.of(text).not_understood() == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("inputs.on", False),
        # `needs` knows direct needs only
        ("always() && needs.other.result == 'success'", False),
        ("always() && needs.migrate.result == 'Success'", False),
        ("always() && !contains(needs.*.result, 'FAILURE')", False),
        ("success() || inputs.off", False),
        ("always()", True),
        ("failure()", True),
        ("!failure()", False),
        ("!cancelled()", None),
        ("always() && contains(needs.*.result, 'failure')", True),
        ("always() && needs.migrate.result != 'success'", True),
        # text around an expression makes a string, which is true
        ("${{ false }} && ${{ false }}", True),
        ("${{ false }}\n", True),
    ],
)
def test_truth_after_the_migration_failed(text: str, expected: bool | None) -> None:
    assert holds(text, FAILURE) is expected


def test_a_job_that_its_time_limit_cancelled_leaves_open_whether_the_run_was() -> None:
    assert holds("!cancelled()", CANCELLED) is None


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
    assert holds(f"always() && {text}", FAILURE) is None


ATOMS = [
    "success()",
    "!cancelled()",
    "github.ref == 'refs/heads/x'",
    *(
        f"needs.{job}.result {op} '{outcome}'"
        for job in NEEDS
        for op in ("==", "!=")
        for outcome in sorted(OUTCOMES)
    ),
    *(f"contains(needs.*.result, '{outcome}')" for outcome in sorted(OUTCOMES)),
]


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    joined = st.tuples(st.sampled_from(["&&", "||"]), inner, inner).map(lambda n: f"({n[1]}) {n[0]} ({n[2]})")
    return st.one_of(inner.map(lambda text: f"!({text})"), joined)


def truths(condition: Condition, ended: dict[str, str]) -> set[bool]:
    """What a condition of ATOMS may be when the jobs ended so, without any short cut."""
    if condition.op == "!":
        return {not value for value in truths(condition.parts[0], ended)}
    if condition.op:
        combine = all if condition.op == "&&" else any
        return {
            combine(values)
            for values in itertools.product(*(truths(part, ended) for part in condition.parts))
        }
    text = condition.text
    if text == "success()":
        return {set(ended.values()) == {SUCCESS}}
    if found := re.fullmatch(r"needs\.(\w+)\.result (..) '(\w+)'", text):
        return {(ended[found[1]] == found[3]) == (found[2] == "==")}
    if found := re.fullmatch(r"contains\(needs\.\*\.result, '(\w+)'\)", text):
        return {found[1] in ended.values()}
    return {True, False}


@settings(deadline=None)
@given(
    st.recursive(st.sampled_from(ATOMS), _grow, max_leaves=8),
    st.sampled_from(sorted(OUTCOMES)),
    st.sampled_from(sorted(OUTCOMES)),
)
def test_a_definite_answer_does_not_depend_on_other_jobs(text: str, outcome: str, other: str) -> None:
    answer = holds(text, outcome)
    possible = truths(Condition.of(text), {"migrate": outcome, "build": other})
    assert answer is None or possible == {answer}
