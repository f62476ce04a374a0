"""xdist's distribution by units of one phase and one file, handed out in the order of the phases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

#: How a node id is grouped inside its phase, by the value of ``--dist``; an ungrouped check is a unit of its own.
_GROUPS: dict[str, Callable[[str], str]] = {
    "loadfile": lambda nodeid: nodeid.split("::", 1)[0],
    "loadscope": lambda nodeid: nodeid.rsplit("::", 1)[0],
    "loadgroup": lambda nodeid: nodeid.rsplit("@", 1)[-1],
}


class PhaseScheduling(LoadScopeScheduling):
    """Units in phase order, so that a worker never waits for a check that is queued behind its own.

    Also unlike its base, it does not run again the check during which a worker died, and what that worker left undone goes
    out first: others wait for it.
    """

    def __init__(self, config: pytest.Config, log: Any, mode: str, phase_of: Callable[[str], int]) -> None:
        super().__init__(config, log)
        self._group = _GROUPS.get(mode, lambda nodeid: nodeid)
        self._phase_of = phase_of

    def _split_scope(self, nodeid: str) -> str:
        return f"{self._phase_of(nodeid):04d} {self._group(nodeid)}"

    def remove_node(self, node: Any) -> str | None:
        """Take a worker out; return the node id of the check during which it died, if it was running one."""
        units = self.assigned_work.pop(node)
        crashed = next((nodeid for unit in units.values() for nodeid, done in unit.items() if not done), None)
        if crashed is None:
            return None
        for name, unit in reversed(units.items()):
            if crashed in unit:
                unit[crashed] = True
            if not all(unit.values()):
                self.workqueue[name] = unit
                self.workqueue.move_to_end(name, last=False)
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed
