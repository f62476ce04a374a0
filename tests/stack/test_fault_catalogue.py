"""The catalogue and the hooks name the same faults."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from stack.faultboard import catalogue
from stack.faults import answers, health, jwks, stream
from tests.stack.test_verifier import FORGED

STACK = Path(__file__).parents[2] / "stack"
FAULTS = list(catalogue().values())
ASKED = {"active", "on", "number", "tick", "_every"}
SERVICES = "(freeside|finn|dixie)"
BAD_INPUT = [
    "not-json",
    "null",
    "array",
    "missing-prompt",
    "blank-prompt",
    "unknown-model",
    "wrong-content-type",
    "body-over-128-kib",
    "deep-json",
    "bad-idempotency-key",
]
# Hooks whose name ends in a table's key: the table says which there are.
FAMILIES = {
    f"{SERVICES}-accepts-": [*FORGED, "jti-replay"],
    f"{SERVICES}-jwks-": list(jwks._DISTORTIONS),
    f"{SERVICES}-": list(health._CHANGES),
    "freeside-": list(answers._ANSWERS),
    "freeside-budget-": list(answers._BUDGETS),
    "freeside-stream-": list(stream._DISTORTIONS),
    "freeside-serves-": BAD_INPUT,
    "freeside-chokes-on-": BAD_INPUT,
}


@cache
def hooks() -> frozenset[str]:
    """A pattern for every fault that the services ask about by name."""
    found = {f"{prefix}{re.escape(name)}" for prefix, names in FAMILIES.items() for name in names}
    for path in STACK.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ASKED
            ):
                found.update(named(node.args[0]) if node.args else ())
    return frozenset(found)


def named(argument: ast.expr) -> list[str]:
    """The patterns in one argument; of a name put together only one that begins with the service."""
    if isinstance(argument, ast.IfExp):
        return [*named(argument.body), *named(argument.orelse)]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [re.escape(argument.value)]
    if isinstance(argument, ast.JoinedStr) and isinstance(argument.values[-1], ast.Constant):
        return [SERVICES + re.escape(str(argument.values[-1].value))]
    return []


@pytest.mark.parametrize("fault", [f for f in FAULTS if not f.get("action")], ids=lambda fault: fault["id"])
def test_every_fault_has_its_hook(fault: dict[str, object]) -> None:
    assert any(re.fullmatch(pattern, str(fault["id"])) for pattern in hooks())


def test_every_hook_has_its_fault() -> None:
    ids = [fault["id"] for fault in FAULTS]
    unused = {p for p in hooks() if not any(re.fullmatch(p, fault_id) for fault_id in ids)}
    assert unused == set()


def test_ids_and_words_are_well_formed() -> None:
    for fault in FAULTS:
        assert re.fullmatch(r"[a-z0-9_-]+", fault["id"])
        assert re.fullmatch(r"[A-Z].*[^.]", fault["what"])
