"""A run that xdist distributes: what workers get and publish, and the order in which they get checks.

Units of one phase and one file are sent out in the order of the plan's phases. A phase does not wait until
the previous one has ended on other workers: missing capabilities are applied afterwards, from all reports.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from ..core.formats import text_of
from ..core.redaction import Redactor
from .checks import Checks
from .collection import Collector
from .context import RunContext
from .listener import STRAY_KEY

WORKERINPUT_KEY = "readiness"
#: Key under which a worker reports what ended its session before its last check.
_ENDED_KEY = "readiness-ended"
_CHECKS_NAME = "checks.json"
#: How many checks a worker must know before it runs the first one.
_KNOWN = 2


class Distribution:
    """On the controller: sends inputs to workers and reads what they collected."""

    def __init__(
        self, context: RunContext, shared: Path, overlay: dict[str, Any] | None, ends: Callable[[str], None]
    ) -> None:
        self._context = context
        self._ends = ends
        self._shared = shared
        self._overlay = overlay
        self._checks: Checks | None = None

    def checks(self) -> Checks:
        """Return what the workers published; empty if none did."""
        if self._checks is None:
            path = self._shared / _CHECKS_NAME
            if not path.exists():
                return Checks()
            self._checks = Checks.from_data(json.loads(path.read_text(encoding="utf-8")))
        return self._checks

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give a worker the run's inputs; secrets' values are never sent, only which of them are missing."""
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
        problem = self.checks().problem
        if problem:
            raise pytest.UsageError(problem)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Collect a worker's failures that belong to no check; a crashed worker reports none."""
        output = getattr(node, "workeroutput", None)
        if output is not None:
            unheard = "readiness-listener was unregistered: without this part, a run gets no verdict"
            self._context.stray += output.get(STRAY_KEY, [f"on a worker: {unheard}"])
            if why := output.get(_ENDED_KEY):
                self._ends(why)

    def died_at_its_end(self, node: Any) -> None:
        """Note that a worker's failures after its last check are lost."""
        self._context.stray.append(f"worker {node.gateway.id} died after its last check")

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> PhaseScheduling:
        """Schedule in the order of the phases in every ``--dist`` mode."""
        return PhaseScheduling(config, log, self)


class PhaseScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """xdist's scheduling by scope. A scope is a phase and a file, or with loadgroup a phase and a group."""

    def __init__(self, config: pytest.Config, log: Any, distribution: Distribution) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # largest scope first would undo the phases' order
        self._distribution = distribution

    def _split_scope(self, nodeid: str) -> str:
        check = self._distribution.checks().selected.get(nodeid)
        _, at, group = nodeid[nodeid.rfind("]") + 1 :].partition("@")
        return f"{check.phase if check else ''}:{group if at else nodeid.partition('::')[0]}"

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Accept a worker's collection; a late worker with a different one gets no work and ends."""
        super().add_node_collection(node, collection)
        if node not in self.registered_collections:
            node.shutdown()

    def _reschedule(self, node: Any) -> None:
        """Give a worker its next units, at least two checks: it runs one only once it knows the next.

        xdist gives one unit, so it would wait forever for a worker with a unit of at most one check to run.
        """
        if node not in self.registered_collections:
            return  # it replaces a crashed worker and has not collected yet
        assigned = self.assigned_work[node]
        for scope in [*assigned][:-1]:  # the last one tells that the worker has run something
            if all(assigned[scope].values()):
                del assigned[scope]  # else each report would count them again
        while self.workqueue and not node.shutting_down and self._pending_of(assigned) < _KNOWN:
            self._assign_work_unit(node)
        super()._reschedule(node)

    def _assign_work_unit(self, node: Any) -> None:
        """Give a worker its next unit; a worker that died before the send keeps it until it is removed.

        Its death is the next event in the queue: ``remove_node`` then gives the unit to another worker.
        """
        scope, unit = self.workqueue.popitem(last=False)
        self.assigned_work.setdefault(node, {})[scope] = unit
        with contextlib.suppress(OSError):
            node.send_runtest_some([self._places[nodeid] for nodeid, done in unit.items() if not done])

    @cached_property
    def _places(self) -> dict[str, int]:
        """Where each check stands in the collection, which is the same for all workers."""
        return {nodeid: place for place, nodeid in enumerate(self.collection)}

    def remove_node(self, node: Any) -> str | None:
        """Remove a worker and reassign its remaining units; return the check during which it died, if any.

        xdist would run that check again, but a check that killed a worker is not repeated. A worker that
        ended normally did not die in a check.
        """
        units = self.assigned_work[node].values()
        left = [(unit, nodeid) for unit in units for nodeid, is_complete in unit.items() if not is_complete]
        for unit, nodeid in left[:1]:
            unit[nodeid] = True
        has_run = bool(units)
        super().remove_node(node)
        if hasattr(node, "workeroutput"):
            return None
        if has_run and not left:
            self._distribution.died_at_its_end(node)
        return left[0][1] if left else None


class Publisher:
    """On a worker: publishes its collection and what ended its session; all workers collect the same."""

    def __init__(self, collector: Collector, shared: Path, worker: str, redactor: Redactor) -> None:
        self._collector = collector
        self._redactor = redactor
        self._path = shared / _CHECKS_NAME
        self._worker = worker
        self._ended = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Publish before xdist tells the controller that this worker is ready."""
        self._collector.note_selected(session)
        draft = self._path.with_suffix(f".{self._worker}")
        draft.write_text(json.dumps(self._collector.checks.as_data()), encoding="utf-8")
        os.replace(draft, self._path)

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note an interrupt or ``pytest.exit``."""
        self._ended = ": ".join(filter(None, (excinfo.typename, text_of(excinfo.value))))

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Report what ended the session, with the status that xdist expects.

        xdist would treat any other status, such as one from ``pytest.exit``, as a worker that has finished.
        """
        if self._ended:
            output: dict[str, Any] = session.config.workeroutput  # type: ignore[attr-defined]
            output[_ENDED_KEY] = self._redactor.shown(self._ended)
            output["exitstatus"] = int(pytest.ExitCode.INTERRUPTED)
