"""The plan's definitions and services, as parameters and as a fixture for this phase's checks."""

import tomllib
from collections.abc import Mapping
from typing import Any

import pytest

from smoke.source.rules import Ownership


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a check for each `definition` or `inventoried` service of the plan, if it takes one."""
    plan = tomllib.loads((metafunc.config.rootpath / "readiness.toml").read_text("utf-8"))
    if "definition" in metafunc.fixturenames:
        names = list(plan["facts"]["definitions"])
        static = metafunc.definition.get_closest_marker("static") is not None
        metafunc.parametrize("definition", [_covered(name) for name in names] if static else names)
    if "inventoried" in metafunc.fixturenames:
        metafunc.parametrize("inventoried", [row["ecs"] for row in plan["inventory"] if row.get("ecs")])


def _covered(name: str) -> object:
    """Without a checkout, what runs in AWS shows the same fact."""
    return pytest.param(name, marks=pytest.mark.requires("iac", covered_by=f"services/independent[{name}]"))


@pytest.fixture
def ownership(plan_facts: Mapping[str, Any]) -> Ownership:
    """The services and tasks of each definition, by the plan."""
    return Ownership(plan_facts["definitions"])
