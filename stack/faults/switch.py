"""The switchboard: which faults are on now, read from the file that the control port replaces atomically."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Faults:
    """The active faults of `{"generation": n, "active": {fault_id: {params}}}`; no file, no faults.

    Each question costs one stat. A new generation means that the platform was reset: callbacks registered
    with `on_reset` run, so that nothing held in memory survives from one fault to the next.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._generation: int | None = None
        self._active: dict[str, dict[str, Any]] = {}
        self._ticks: dict[str, int] = {}
        self._callbacks: list[Callable[[], None]] = []

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Run the callback whenever the generation changes."""
        self._callbacks.append(callback)

    def active(self, fault_id: str) -> Mapping[str, Any] | None:
        """The parameters of a fault that is on, or None."""
        self._refresh()
        return self._active.get(fault_id)

    def on(self, fault_id: str) -> bool:
        """Whether the fault is on."""
        return self.active(fault_id) is not None

    def number(self, fault_id: str, name: str, default: float) -> float | None:
        """A numeric parameter of a fault that is on (or its default), None while it is off."""
        params = self.active(fault_id)
        return None if params is None else float(params.get(name, default))

    def tick(self, fault_id: str) -> int:
        """How often this was asked since the fault was set, counting from 1; 0 while it is off."""
        if not self.on(fault_id):
            return 0
        self._ticks[fault_id] = self._ticks.get(fault_id, 0) + 1
        return self._ticks[fault_id]

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp == self._stamp:
            return
        state = json.loads(self._path.read_text(encoding="utf-8"))
        self._stamp = stamp
        self._active = state.get("active", {})
        generation = state.get("generation", 0)
        known, self._generation = self._generation, generation
        if known is not None and known != generation:
            self._ticks.clear()
            for callback in self._callbacks:
                callback()
        self._ticks = {name: n for name, n in self._ticks.items() if name in self._active}
