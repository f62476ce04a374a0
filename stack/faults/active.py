"""Which faults are on now, read from the file that the control port replaces atomically."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FOLLOW_EVERY_S = 0.1


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

    def active(self) -> Mapping[str, Mapping[str, Any]]:
        """The parameters of every fault that is on, by id."""
        if self._path is not None and (stamp := _stamp(self._path)) not in (None, self._stamp):
            self._read(self._path)
            self._stamp = stamp
        return self._active

    def directory(self) -> Path:
        """A directory that the faulty parts of all services share."""
        assert self._path is not None, "no fault is on"
        return self._path.parent

    def on(self, fault_id: str) -> bool:
        """Whether the fault is on."""
        return fault_id in self.active()

    def number(self, fault_id: str, name: str, default: float) -> float | None:
        """A numeric parameter of a fault that is on (or its default), None while it is off."""
        params = self.active().get(fault_id)
        return None if params is None else float(params.get(name, default))

    def tick(self, fault_id: str) -> int:
        """How often this was asked since the fault was set, counting from 1; 0 while it is off."""
        if not self.on(fault_id):
            return 0
        self._ticks[fault_id] = self._ticks.get(fault_id, 0) + 1
        return self._ticks[fault_id]

    async def follow(self) -> None:
        """Notice a reset within FOLLOW_EVERY_S, requests or not; runs for ever."""
        while True:
            self.active()
            await asyncio.sleep(FOLLOW_EVERY_S)

    def _read(self, path: Path) -> None:
        state = json.loads(path.read_text(encoding="utf-8"))
        self._active = state.get("active", {})
        generation = state.get("generation", 0)
        known, self._generation = self._generation, generation
        if known is not None and known != generation:
            self._ticks.clear()
            for callback in self._callbacks:
                callback()
        self._ticks = {name: n for name, n in self._ticks.items() if name in self._active}


class Faulty:
    """Mixed into a part of a service: its first argument says which faults are on."""

    def __init__(self, faults: Faults, *arguments: Any, **options: Any) -> None:
        self._faults = faults
        super().__init__(*arguments, **options)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
