"""How xdist hands out checks: units of one phase and one file, in the order of the phases.

Written against ``xdist.scheduler.protocol.Scheduling``. xdist's own schedulers know no phases, and hand out
last what a crashed worker left; both would let a worker wait for a check that is queued behind its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import pytest


def _alone(nodeid: str) -> str:
    return nodeid


#: How a node id is grouped inside its phase, by the value of ``--dist``; else each check is its own unit.
_GROUPS: dict[str, Callable[[str], str]] = {
    "loadfile": lambda nodeid: nodeid.split("::", 1)[0],
    "loadscope": lambda nodeid: nodeid.rsplit("::", 1)[0],
    "loadgroup": lambda nodeid: nodeid.rsplit("@", 1)[-1],
}
#: A worker runs a check only once it knows the next one, or that there is none.
_KEEP_QUEUED = 2


class Node(Protocol):
    """What the scheduler uses of xdist's WorkerController."""

    @property
    def shutting_down(self) -> bool:
        """True once it was told to stop."""

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        """Queue items by their place in the worker's own collection."""

    def shutdown(self) -> None:
        """Let it end what is queued, then stop."""


class PhaseScheduler:
    """Hands out units in order. What killed a worker is not run again; what it left goes out first.

    ``abandon`` is told why checks will never run, so that no worker waits for them.
    """

    def __init__(
        self,
        config: pytest.Config,
        workers: int,
        mode: str,
        phase_of: Callable[[str], int],
        abandon: Callable[[str], None],
    ) -> None:
        self.config = config  # pytest-rerunfailures reads it
        self._workers = workers
        self._group = _GROUPS.get(mode, _alone)
        self._phase_of = phase_of
        self._abandon = abandon
        self._collections: dict[Node, list[str]] = {}
        self._order: list[str] | None = None
        self._units: deque[list[str]] = deque()
        self._running: dict[Node, list[str]] = {}

    @property
    def nodes(self) -> list[Node]:
        """All active workers."""
        return list(self._running)

    @property
    def collection_is_completed(self) -> bool:
        """True once the initial workers have collected."""
        return len(self._collections) >= self._workers

    @property
    def tests_finished(self) -> bool:
        """True when nothing is left to hand out, so that workers may be told to end."""
        drained = all(len(queued) < _KEEP_QUEUED for queued in self._running.values())
        return self.collection_is_completed and not self._units and drained

    @property
    def has_pending(self) -> bool:
        """True while anything is queued or running."""
        return bool(self._units) or any(self._running.values())

    def add_node(self, node: Node) -> None:
        """Take in a worker that has started."""
        self._running[node] = []

    def add_node_collection(self, node: Node, collection: Sequence[str]) -> None:
        """Take in what a worker collected; one that differs from the others is reported and gets no work."""
        expected = self._order or next(iter(self._collections.values()), list(collection))
        if list(collection) != expected:
            self._report_difference(node, expected, collection)
            if self._order is not None:
                del self._running[node]
                node.shutdown()
                self._give_up_what_nobody_can_take()
                return
        self._collections[node] = list(collection)

    def schedule(self) -> None:
        """Hand out the first units, or the next ones to a worker that came later."""
        if self._order is None:
            first, *others = self._collections.values()
            if any(other != first for other in others):
                return
            self._order = first
            self._units = deque(self._split(first))
        idle = [node for node in self._ready() if not self._running[node] and not node.shutting_down]
        for node in idle[len(self._units) :]:
            node.shutdown()
        for _ in range(_KEEP_QUEUED):
            self._feed_all()

    def mark_test_complete(self, node: Node, item_index: int, duration: float = 0) -> None:  # noqa: ARG002
        """Note that a worker has ended an item, and give it more."""
        self._running[node].remove(self._collections[node][item_index])
        self._feed_all()

    def remove_node(self, node: Node) -> str | None:
        """Take a worker out; return the node id of the item during which it died, if it was running one."""
        queued = self._running.pop(node)
        if not queued:
            self._give_up_what_nobody_can_take()
            return None
        crashed, *left = queued
        self._units.extendleft(reversed(list(self._split(left))))
        self._feed_all()
        return crashed

    def mark_test_pending(self, item: str) -> NoReturn:
        """Refuse to run a crashed item again: what kills a worker once is not tried twice."""
        raise NotImplementedError(item)

    def remove_pending_tests_from_node(self, node: Node, indices: Sequence[int]) -> NoReturn:
        """Refuse to steal: it would undo the order."""
        raise NotImplementedError(f"{node}: {indices}")

    def _split(self, nodeids: Sequence[str]) -> list[list[str]]:
        units: dict[tuple[int, str], list[str]] = {}
        for nodeid in nodeids:
            units.setdefault((self._phase_of(nodeid), self._group(nodeid)), []).append(nodeid)
        return [units[key] for key in sorted(units, key=lambda key: key[0])]

    def _ready(self) -> list[Node]:
        """Return the workers that have collected; one that replaces a crashed one is known before it has."""
        return [node for node in self._running if node in self._collections]

    def _feed_all(self) -> None:
        for node in self._ready():
            self._feed(node)

    def _feed(self, node: Node) -> None:
        """Give a worker the next unit when it has little left; let it end when there is none.

        A unit of an earlier phase, left by a crash, never goes behind a later one: that would wait for it.
        """
        queued = self._running[node]
        if node.shutting_down or len(queued) > _KEEP_QUEUED:
            return
        if not self._units:
            node.shutdown()
            return
        phase = self._phase_of(queued[-1]) if queued else 0
        unit = next((unit for unit in self._units if self._phase_of(unit[0]) >= phase), None)
        if unit is not None:
            self._units.remove(unit)
            queued += unit
            collection = self._collections[node]
            node.send_runtest_some([collection.index(nodeid) for nodeid in unit])

    def _give_up_what_nobody_can_take(self) -> None:
        """Drop what a crash left when all workers are past it and the one that was to take it is gone."""
        behind = [self._phase_of(self._running[node][-1]) for node in self.nodes if self._running[node]]
        able = len(behind) < len(self._running)
        if (
            behind
            and self._units
            and not able
            and all(self._phase_of(unit[0]) < min(behind) for unit in self._units)
        ):
            self._abandon("no worker is left for what a crash left over")
            self._units.clear()
            self._feed_all()

    def _report_difference(self, node: Any, expected: Sequence[str], found: Sequence[str]) -> None:
        odd = sorted({*expected} ^ {*found}) or ["the order"]
        report = pytest.CollectReport(
            nodeid=str(node.gateway.id),
            outcome="failed",
            longrepr=f"workers collected different checks: {', '.join(odd[:5])}",
            result=[],
        )
        self.config.hook.pytest_collectreport(report=report)


def worker_count(specs: Sequence[str]) -> int:
    """Return how many workers xdist's ``--tx`` values ask for: ``3*popen`` is three."""
    counts = (spec.partition("*")[0] for spec in specs)
    return sum(int(count) if count.isdecimal() else 1 for count in counts)
