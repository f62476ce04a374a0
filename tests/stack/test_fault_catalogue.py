"""The platform supports every fault of the catalogue, and the services know nothing of them."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from stack.control import SUITE_KEYS, catalogue
from stack.faults.proxy import KEYS
from tests.stack.test_verifier import CASES

STACK = Path(__file__).parents[2] / "stack"
FAULTS = list(catalogue().values())
ASKED = {"on", "number", "tick"}
SERVICES = "(freeside|finn|dixie|worker)"
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
# Behaviours with a case at the end of their name.
FAMILIES = {
    f"{SERVICES}-accepts-": [
        *CASES,
        "jti-replay",
        "wrong-algorithm",
        "malformed-claims",
        "any-iat-beside-nbf",
        "any-exp-beside-nbf",
        "all-of-admins",
        "late-expiry",
    ],
    f"{SERVICES}-refuses-": [
        *("valid-tokens", "unknown-claims", "addresses-with-capitals", "the-free-tier", "short-lives"),
        *("unknown-pools", "other-pools"),
    ],
    f"{SERVICES}-believes-tokens-at-": ["stream", "budget", "quality", "events"],
    "freeside-overlooks-the-tokens-pool-at-": ["models", "invoke", "stream", "budget", "quality"],
    "freeside-serves-": BAD_INPUT,
    "freeside-chokes-on-": [*BAD_INPUT, "odd-characters"],
}


@cache
def behaviours() -> frozenset[str]:
    """A pattern for every fault that a faulty part asks about by name."""
    found = {f"{prefix}{re.escape(name)}" for prefix, names in FAMILIES.items() for name in names}
    for path in (STACK / "faults").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _function(node.func) in ASKED and node.args:
                found.update(named(node.args[0]))
            if isinstance(node, ast.Dict):  # a table of behaviours by their names
                texts = [text for key in node.keys if key for text in named(key)]
                found.update(text for text in texts if re.match(f"{SERVICES}\\\\-", text))
    return frozenset(found)


def _function(function: ast.expr) -> str:
    return getattr(function, "attr", "") or getattr(function, "id", "")


def named(argument: ast.expr) -> list[str]:
    """The patterns in one argument; of a name put together only one that begins with the service."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [re.escape(argument.value)]
    if isinstance(argument, ast.IfExp):
        return [*named(argument.body), *named(argument.orelse)]
    if isinstance(argument, ast.JoinedStr) and isinstance(argument.values[-1], ast.Constant):
        return [SERVICES + re.escape(str(argument.values[-1].value))]
    return []


@pytest.mark.parametrize("fault", [f for f in FAULTS if not f.get("action")], ids=lambda fault: fault["id"])
def test_a_fault_without_an_action_is_a_behaviour(fault: dict[str, Any]) -> None:
    assert any(re.fullmatch(pattern, fault["id"]) for pattern in behaviours())
    assert fault.keys() <= SUITE_KEYS | {"service"}


def test_every_behaviour_has_its_fault() -> None:
    ids = [fault["id"] for fault in FAULTS]
    unused = {p for p in behaviours() if not any(re.fullmatch(p, fault_id) for fault_id in ids)}
    assert unused == set()


@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.get("action", "").startswith("rewrite:")], ids=lambda fault: fault["id"]
)
def test_a_rule_is_one_of_the_proxy(fault: dict[str, Any]) -> None:
    assert fault.keys() - SUITE_KEYS <= KEYS
    assert fault["service"] in ("freeside", "finn", "dixie", "provider")
    assert re.fullmatch(r"rewrite:(GET|POST|PUT|P\*|\*) \S+", fault["action"])
    for pattern in fault.get("replace", ()):
        re.compile(pattern.encode())


def test_ids_and_texts_are_well_formed() -> None:
    for fault in FAULTS:
        assert re.fullmatch(r"[a-z0-9_-]+", fault["id"])
        assert re.fullmatch(r"(G-\d)?", fault.get("goal", ""))
        assert re.fullmatch(r"[A-Z].*[^.]", fault["what"])


def imports() -> dict[str, set[str]]:
    """The modules of the stack, each with those that it imports, for types as well."""
    found = {
        ".".join(path.relative_to(STACK.parent).with_suffix("").parts): path for path in STACK.rglob("*.py")
    }
    names = {name.removesuffix(".__init__"): path for name, path in found.items()}
    graph: dict[str, set[str]] = {}
    for module, path in names.items():
        graph[module] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                several = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[module] |= (several & names.keys()) or ({node.module} & names.keys())
    return graph


def test_no_service_knows_a_fault() -> None:
    honest = re.compile(r"stack\.(common|freeside|finn|dixie|provider)\b.*")
    knowing = {m for m, used in imports().items() if honest.fullmatch(m) and any("faults" in n for n in used)}
    assert knowing == set()


def test_no_service_imports_in_a_circle() -> None:
    platform = re.compile(r"stack\.(common|freeside|finn|dixie|provider|faults|service)\b.*")
    graph = {module: used for module, used in imports().items() if platform.fullmatch(module)}
    assert len(graph) > 20
    TopologicalSorter(graph).prepare()
