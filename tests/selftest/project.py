"""The project's own suite and catalogue of faults, as the self-test reads them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from pytest_readiness.core.plan import Plan
from pytest_readiness.selftest.catalogue import Catalogue, SuiteCheck, load
from pytest_readiness.selftest.runner import Runner

ROOT = Path(__file__).parents[2]
PLAN = Plan.parse((ROOT / "readiness.toml").read_text("utf-8"), "readiness.toml")


@contextmanager
def running(suite: str, root: Path, work: Path) -> Iterator[Runner]:
    """A runner with its own fork server; afterwards the shared one is restored."""
    server: Any = forkserver._forkserver
    preloaded = server._preload_modules
    server._stop()
    runner = Runner(suite, root, work)
    try:
        yield runner
    finally:
        runner.close()
        server._stop()
        server.set_forkserver_preload(preloaded)


@cache
def checks() -> dict[str, SuiteCheck]:
    """The checks of the suite by id."""
    with tempfile.TemporaryDirectory() as work, running(PLAN.suite, ROOT, Path(work)) as runner:
        return runner.checks()


@cache
def catalogue() -> Catalogue:
    return load(ROOT, PLAN.self_test.catalogue, checks())
