"""Workflow expressions: GitHub's rules, and an honest third value."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoke.source.expressions import UNKNOWN, Node, NotAnExpression, evaluate, parse, truth

NAMES = {
    "inputs.on": True,
    "inputs.off": False,
    "inputs.none": None,
    "inputs.text": "Yes",
    "needs.*.result": ["success", "skipped"],
}


def value(text: str, names: dict[str, Any] = NAMES) -> Any:
    return evaluate(parse(text), lambda name: names.get(name, UNKNOWN), lambda name: name == "always")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("${{ false }}", False),
        ("!inputs.on", False),
        ("!inputs.none", True),
        ("inputs.on && inputs.off", False),
        ("inputs.off || inputs.on", True),
        ("inputs.text == 'yes'", True),
        ("inputs.text != 'yes'", False),
        ("inputs.none == false", True),
        ("inputs.none == ''", True),
        ("1 < 2", True),
        ("(true || false) && false", False),
        ("true || false && false", True),
        ("'it''s'", True),
        ("''", False),
        ("0", False),
        ("always()", True),
        ("failure()", False),
        ("contains(needs.*.result, 'skipped')", True),
        ("contains(needs.*.result, 'failure')", False),
        ("contains('abc', 'B')", True),
        ("startsWith('abc', 'A')", True),
        ("endsWith('abc', 'b')", False),
        ("inputs['on']", True),
        ("!(inputs.on && !inputs.off)", False),
        ("github.ref == 'x'", UNKNOWN),
        ("github.ref == 'x' && false", False),
        ("github.ref == 'x' || true", True),
        ("github.ref == 'x' || false", UNKNOWN),
        ("false && github.ref", False),
        ("!github.ref", UNKNOWN),
        ("fromJSON('1')", UNKNOWN),
        ("hashFiles(github.x)", UNKNOWN),
        # a condition with text around its expressions is a string, and true
        ("${{ false }} && ${{ false }}", True),
    ],
)
def test_truth_of_an_expression(text: str, expected: Any) -> None:
    assert truth(value(text)) is expected


def test_status_functions_are_found_at_any_depth() -> None:
    assert set(parse("!(a || ALWAYS()) && contains(x, success())").calls()) == {
        "always",
        "contains",
        "success",
    }
    assert list(parse("${{ always() }} && ${{ true }}").calls()) == ["always"]


@pytest.mark.parametrize("text", ["a &&", "(a", "a b", "== 1", "a == 'x", "f(", "a ? b : c", "", "${{ }}"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(NotAnExpression):
        parse(text)


ATOMS = st.sampled_from(
    [Node("name", "a"), Node("name", "b"), Node("name", "c"), Node("literal", True), Node("literal", False)]
)


def _grow(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(
        inner.map(lambda node: Node("!", None, (node,))),
        st.tuples(st.sampled_from(["&&", "||", "==", "!="]), inner, inner).map(
            lambda n: Node(n[0], None, (n[1], n[2]))
        ),
    )


@settings(deadline=None)
@given(
    st.recursive(ATOMS, _grow, max_leaves=10),
    st.sets(st.sampled_from("abc")),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_a_definite_answer_holds_whatever_the_unknown_is(
    node: Node, unknown: set[str], known: list[bool]
) -> None:
    names: dict[str, Any] = dict(zip("abc", known, strict=True))
    answer = truth(evaluate(node, lambda name: UNKNOWN if name in unknown else names[name], lambda _: False))
    possible = set()
    for choice in itertools.product([True, False], repeat=len(unknown)):
        filled = {**names, **dict(zip(sorted(unknown), choice, strict=True))}
        possible.add(truth(evaluate(node, filled.__getitem__, lambda _: False)))
    assert answer is UNKNOWN or possible == {answer}


def _written(node: Node) -> str:
    if node.op == "literal":
        return str(node.value).lower()
    if node.op == "name":
        return str(node.value)
    if node.op == "!":
        return f"!({_written(node.args[0])})"
    return f"({_written(node.args[0])}) {node.op} ({_written(node.args[1])})"


@settings(deadline=None)
@given(st.recursive(ATOMS, _grow, max_leaves=10))
def test_what_is_written_is_what_is_read(node: Node) -> None:
    assert parse(_written(node)) == node
