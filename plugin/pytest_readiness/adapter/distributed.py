"""The controller of a run that xdist distributes: what workers need to know, and what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .catalogue import Catalogue
from .context import RunContext
from .phases import CATALOGUE_NAME
from .scheduler import PhaseScheduler, worker_count
from .tally import Tally

WORKERINPUT_KEY = "readiness"
#: xdist's own default: this many lost workers per worker before it gives up.
RESTARTS_PER_WORKER = 4


class Distribution:
    """Hands inputs to workers, schedules by phase, and notices when checks will never run."""

    def __init__(
        self,
        config: pytest.Config,
        context: RunContext,
        tally: Tally,
        shared: Path,
        overlay: dict[str, Any] | None,
    ) -> None:
        self._config = config
        self._context = context
        self._tally = tally
        self._shared = shared
        self._overlay = overlay
        self._lost = 0
        self._failed = 0
        self._catalogue: Catalogue | None = None

    def catalogue(self) -> Catalogue:
        """Return what the workers published; an empty catalogue when none came that far."""
        if self._catalogue is None:
            path = self._shared / CATALOGUE_NAME
            if not path.exists():
                return Catalogue()
            self._catalogue = Catalogue.from_data(json.loads(path.read_text(encoding="utf-8")))
        return self._catalogue

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give a worker the run's inputs; values of secrets never travel, only which of them are missing."""
        vault = self._context.vault
        node.workerinput[WORKERINPUT_KEY] = {
            "run_id": self._context.run_id,
            "overlay": self._overlay,
            "unresolved": dict(vault.unresolved) if vault else {},
            "shared": str(self._shared),
        }

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """Refuse wrongly marked checks here, where a usage error ends the run."""
        problem = self.catalogue().problem
        if problem:
            raise pytest.UsageError(problem)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> PhaseScheduler:
        """Schedule in the order of the phases, whatever else ``--dist`` asks for."""
        place = {phase: index for index, phase in enumerate(self._context.plan.phases)}

        def phase_of(nodeid: str) -> int:
            check = self.catalogue().selected.get(nodeid)
            return place[check.phase] if check else len(place)

        workers = worker_count(config.getoption("tx"))
        return PhaseScheduler(config, workers, self._context.settings.distribution, phase_of, self._stop)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Let nobody wait for a check during which a worker died, and take down what it establishes."""
        board = self._context.board
        check = self.catalogue().selected.get(crashitem)
        for capability in check.establishes if check else ():
            board.take_down(capability, f"{check.id if check else crashitem}: its worker crashed")
        board.end(crashitem)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Notice a worker that stopped early (-x), or died for good: some checks will never run."""
        output = getattr(node, "workeroutput", None)  # a crashed worker sends none
        if output is not None:
            self._stop(output.get("shouldfail") or output.get("shouldstop"))
        if error:
            self._lost += 1
            if self._lost > self._allowed_losses(node.config):
                self._stop("a worker crashed and is not replaced")

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notice that xdist stops at the maximum of failures: what is not handed out will never run."""
        self._failed += report.failed
        limit = self._config.getoption("maxfail")
        if limit and self._failed >= limit:
            self._stop(f"stopping after {self._failed} failures")

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self) -> None:
        """Let no worker wait for others when the run is interrupted."""
        self._context.board.abandon("the run was interrupted")

    def _stop(self, why: object) -> None:
        if why:
            self._tally.interrupted = self._tally.interrupted or str(why)
            self._context.board.abandon(str(why))

    def _allowed_losses(self, config: pytest.Config) -> int:
        given = config.getoption("maxworkerrestart")
        return int(given) if given is not None else RESTARTS_PER_WORKER * worker_count(config.getoption("tx"))
