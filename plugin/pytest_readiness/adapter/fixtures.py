"""The fixtures that a suite may use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import pytest

from ..profile.environment import Environment
from .context import EVIDENCE, RUN
from .evidence import Eventually, Evidence, EvidenceLog, Value


@pytest.fixture(scope="session")
def environment(pytestconfig: pytest.Config) -> Environment:
    """The environment of this run: its profile, and ``secret(name)`` for what the profile only refers to."""
    found = pytestconfig.stash[RUN].environment
    if found is None:
        raise pytest.UsageError("no environment is loaded: nothing is to be run")
    return found


@pytest.fixture(scope="session")
def plan_facts(pytestconfig: pytest.Config) -> Mapping[str, Any]:
    """The table [facts] of the launch plan: what the suite compares with and no environment changes."""
    return MappingProxyType(dict(pytestconfig.stash[RUN].plan.facts))


@pytest.fixture(scope="session")
def plan_inventory(pytestconfig: pytest.Config) -> Sequence[Mapping[str, Any]]:
    """The [[inventory]] of the launch plan, one mapping a row: service, key, url, cpu, memory, image, ecs.

    A figure named ``inventory/<key>/<column>`` puts what was observed beside it in the report.
    """
    return tuple(MappingProxyType(asdict(row)) for row in pytestconfig.stash[RUN].plan.inventory)


@pytest.fixture(scope="session")
def run_id(pytestconfig: pytest.Config) -> str:
    """The id of this run, the same on all workers."""
    return pytestconfig.stash[RUN].run_id


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """Records what this check measured; see :class:`Evidence`."""
    item: pytest.Item = request.node
    if EVIDENCE not in item.stash:  # a test outside the suite keeps its entries to itself
        item.stash[EVIDENCE] = EvidenceLog(request.config.stash[RUN].redactor)
    return Evidence(item.stash[EVIDENCE])


@pytest.fixture
def eventually(evidence: Evidence) -> Eventually:
    """Polls to a deadline and records how long it took."""

    def poll(probe: Callable[[], Value], *, within: float, every: float = 0.2, what: str) -> Value:
        started = time.monotonic()
        while True:
            value = probe()
            elapsed = time.monotonic() - started
            if value:
                evidence.figure(f"{what} after", round(elapsed, 3), "s", limit=within)
                return value
            if elapsed >= within:
                evidence.figure(f"{what} not after", round(elapsed, 3), "s", limit=within)
                raise AssertionError(f"{what}: not within {within:g} s; last value: {value!r}")
            threading.Event().wait(min(every, within - elapsed))

    return poll
