"""docs/readiness.schema.json describes what runs write, key by key."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from pytest_readiness.core.assess import unfinished_model
from pytest_readiness.core.plan import Plan
from pytest_readiness.core.redaction import Redactor

from tests.adapter.scenario import Suite
from tests.core.build import entry, model
from tests.docs.pages import DOCS
from tests.installed import ROOT
from tests.report import sample

SCHEMA: Mapping[str, Any] = json.loads((DOCS / "readiness.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
MIXED = """
import pytest
from pytest_readiness import ExternalOutage

@pytest.mark.p0
def test_passes(evidence):
    evidence.evaluated("a rule", 3)
    evidence.note("a note")

@pytest.mark.p0
def test_is_out(evidence):
    passing(evidence)
    raise ExternalOutage("a third party is down")

@pytest.mark.p1
@pytest.mark.parametrize("value", [None, 1, 0.5, "text", [1], {"a": 1}])
def test_figures(evidence, value):
    evidence.figure("value", value, "s", expected=value, limit=value)

@pytest.mark.p1
def test_asks(evidence):
    import httpx
    answer = lambda request: httpx.Response(200, json={})
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        evidence.exchange(client.get("http://host/x"))
    assert False, "wrong"

@pytest.mark.p1
def test_skips(evidence):
    pytest.skip("no reason")
"""


@pytest.fixture
def suite(tmp_path: Any) -> Suite:
    return Suite(tmp_path)


def models() -> Iterator[tuple[str, Mapping[str, Any]]]:
    plan = Plan.parse((ROOT / "readiness.toml").read_text("utf-8"), "readiness.toml")
    yield "unfinished", unfinished_model("local", "run", "it did not finish")
    yield "ready", sample.ready()
    yield "broken", sample.broken()
    yield (
        "of this repository's plan",
        model(*sample.GREEN, *sample.RED, plan_=plan, history={"local": [entry()]}),
    )


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("found", [pytest.param(found, id=name) for name, found in models()])
def test_it_holds_for_models(found: Mapping[str, Any]) -> None:
    VALIDATOR.validate(json.loads(json.dumps(found)))
    assert found.keys() <= SCHEMA["properties"].keys(), "a key is not described"


def properties(schema: object) -> Iterator[str]:
    """Yield the name of every key that a schema describes, at any depth."""
    if isinstance(schema, Mapping):
        described = schema.get("properties", {})
        yield from described if isinstance(described, Mapping) else ()
    inner = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    for each in inner:
        yield from properties(each)


def test_no_secret_removes_a_key_that_it_describes() -> None:
    names = {*properties(SCHEMA)}
    assert len(names) > 80
    for name in names:
        assert Redactor([name]).data({name: 1}) == {name: 1}


@pytest.mark.parametrize("args", [(), ("-k", "passes"), ("-n2",), ("--nonsense",)], ids=" ".join)
def test_it_holds_for_runs(suite: Suite, args: tuple[str, ...]) -> None:
    suite.checks(MIXED)
    run = suite.run(*args)
    VALIDATOR.validate(run.model)
    assert run.model.keys() <= SCHEMA["properties"].keys()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("verdict",), "GREEN"),
        (("exit_code",), 5),
        (("finished_at",), "yesterday"),
        (("checks", 0, "outcome"), "ok"),
        (("checks", 0, "surprise"), 1),
        (("goals", 0, "status"), "GREEN"),
        (("blockers", 0, "class"), "BUG"),
    ],
)
def test_it_refuses_what_no_run_writes(where: tuple[Any, ...], value: object) -> None:
    found = deepcopy(sample.broken())
    VALIDATOR.validate(found)
    inner: Any = found
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    with pytest.raises(ValidationError):
        VALIDATOR.validate(found)
