"""The project's own catalogue, as the self-test reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_readiness.core.plan import Plan
from pytest_readiness.selftest.catalogue import Catalogue, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    plan = Plan.parse((ROOT / "readiness.toml").read_text("utf-8"), "readiness.toml")
    assert plan.self_test.platform[0] == "python"
    return load(ROOT, plan.self_test.catalogue, plan.goal_ids)


def test_it_is_well_formed(catalogue: Catalogue) -> None:
    assert len(catalogue.faults) >= 100


def test_every_module_is_looked_at_as_a_whole(catalogue: Catalogue) -> None:
    """A red check that nobody expects is seen only where more than the named check runs."""
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "smoke").glob("test_*.py")}
    assert not modules - {word for fault in catalogue.faults for word in fault.select}
