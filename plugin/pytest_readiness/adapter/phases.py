"""Phases as a barrier between xdist's workers: none starts before the one before it has ended everywhere."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from ..core.model import Outcome
from .collection import Collector
from .context import CHECK, REFUSAL, RunContext
from .gating import Refusal

POLL_S = 0.02
CATALOGUE_NAME = "catalogue.json"


class PhaseBarrier:
    """On a worker: holds each check back until all checks of earlier phases have ended, wherever they run.

    ``patience_s`` bounds how long it waits while nothing at all ends; then the check is not run, and says so.
    """

    def __init__(self, context: RunContext, collector: Collector, shared: Path, patience_s: float) -> None:
        self._context = context
        self._collector = collector
        self._shared = shared
        self._patience_s = patience_s
        self._earlier: dict[str, frozenset[str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Publish the catalogue before xdist tells the controller that this worker is ready."""
        self._collector.note_selected(session)
        by_phase: dict[str, set[str]] = {phase: set() for phase in self._context.plan.phases}
        for nodeid, check in self._collector.catalogue.selected.items():
            by_phase[check.phase].add(nodeid)
        earlier: set[str] = set()
        for phase, nodeids in by_phase.items():
            self._earlier[phase] = frozenset(earlier)
            earlier |= nodeids
        _publish(self._collector, self._shared, self._context.settings.worker)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Wait, run with all attempts, and tell the others that it has ended."""
        check = item.stash.get(CHECK, None)
        if check is not None:
            why = self._wait(self._earlier.get(check.phase, frozenset()))
            if why:
                item.stash[REFUSAL] = Refusal(outcome=Outcome.NOT_RUN, reason=f"not run: {why}")
        result = yield
        if check is not None:
            self._context.board.end(item.nodeid)
        return result

    def _wait(self, earlier: frozenset[str]) -> str:
        board = self._context.board
        deadline = time.monotonic() + self._patience_s
        while True:
            if board.refresh():
                deadline = time.monotonic() + self._patience_s
            missing = earlier - board.ended
            if not missing:
                return ""
            if board.abandoned:
                return f"{len(missing)} checks of earlier phases never ended: {board.abandoned}"
            if time.monotonic() > deadline:
                return f"{len(missing)} earlier checks hang: nothing ended for {self._patience_s:.0f} s"
            threading.Event().wait(POLL_S)


def _publish(collector: Collector, directory: Path, worker: str) -> None:
    """Write a worker's catalogue for the controller; all workers' are the same, so the last one stands."""
    draft = directory / f"{CATALOGUE_NAME}.{worker}"
    draft.write_text(json.dumps(collector.catalogue.as_data()), encoding="utf-8")
    os.replace(draft, directory / CATALOGUE_NAME)
