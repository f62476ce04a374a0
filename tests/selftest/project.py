"""The project's own suite and catalogue of faults, as the self-test reads them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from pytest_readiness.core.plan import Plan
from pytest_readiness.selftest.catalogue import Catalogue, SuiteCheck, load
from pytest_readiness.selftest.runner import Runner

ROOT = Path(__file__).parents[2]
PLAN = Plan.parse((ROOT / "readiness.toml").read_text("utf-8"), "readiness.toml")


@cache
def checks() -> dict[str, SuiteCheck]:
    """The checks of the suite by id."""
    with tempfile.TemporaryDirectory() as work:
        runner = Runner(PLAN.suite, ROOT, Path(work))
        try:
            return runner.listing.result()
        finally:
            runner.close()


@cache
def catalogue() -> Catalogue:
    return load(ROOT, PLAN.self_test.catalogue, checks())
