"""Which faults are on: the file that the services read, and what a fault does to processes and to AWS."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stack.aws.client import SideDoorClient
    from stack.supervisor import Supervisor

CATALOGUE = Path(__file__).parent / "faults" / "catalogue.toml"


def catalogue(path: Path = CATALOGUE) -> dict[str, dict[str, Any]]:
    """Return the fault catalogue by id; an action is `verb:part` or `aws:mutation`, or empty."""
    if not path.exists():
        return {}
    return {entry["id"]: entry for entry in tomllib.loads(path.read_text("utf-8"))["fault"]}


class FaultBoard:
    """Sets and clears faults. Not thread-safe: the control port serialises its requests."""

    def __init__(self, path: Path, supervisor: Supervisor, aws: SideDoorClient) -> None:
        self._path = path
        self._supervisor = supervisor
        self._aws = aws
        self._catalogue = catalogue()
        self.generation = 0
        self.active: dict[str, Mapping[str, Any]] = {}
        self._write()

    @property
    def known(self) -> list[str]:
        """The ids of the catalogue."""
        return list(self._catalogue)

    def set(self, fault_id: str, params: Mapping[str, Any]) -> None:
        """Turn a fault on, with the catalogue's parameters when none are given. KeyError if unknown."""
        entry = self._catalogue[fault_id]
        self.active[fault_id] = params or entry.get("params", {})
        self._write()
        verb, _, target = entry.get("action", "").partition(":")
        if verb == "aws":
            self._aws.mutate(target, self.active[fault_id])
        elif verb:
            self._verbs()[verb](target)

    def clear(self, fault_id: str) -> None:
        """Turn a fault off and undo its action. Raises KeyError for an unknown id."""
        entry = self._catalogue[fault_id]
        if self.active.pop(fault_id, None) is None:
            return
        self._write()
        verb, _, target = entry.get("action", "").partition(":")
        if verb == "aws":
            self._aws.restore()
            for other in self.active:
                other_verb, _, other_target = self._catalogue[other].get("action", "").partition(":")
                if other_verb == "aws":
                    self._aws.mutate(other_target, self.active[other])
        elif verb in ("stop", "pause"):
            self._supervisor.start(target)

    def reset(self) -> None:
        """Turn every fault off and begin a new generation: services drop what they hold in memory."""
        self.active.clear()
        self.generation += 1
        self._write()

    def _verbs(self) -> dict[str, Callable[[str], None]]:
        supervisor = self._supervisor
        return {"stop": supervisor.stop, "restart": supervisor.restart, "pause": supervisor.pause}

    def _write(self) -> None:
        # Replaced, never rewritten: a service that reads it meanwhile sees the old state or the new one.
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"generation": self.generation, "active": self.active}), "utf-8")
        new.replace(self._path)


def refuse_unknown(fault_id: str, known: list[str]) -> StackError:
    """Return the message for a fault that the catalogue does not have."""
    near = [name for name in known if name.split("-")[0] == fault_id.split("-")[0]]
    return StackError(
        f"no fault {fault_id!r}", "near: " + ", ".join(near[:8]) if near else "", "GET /faults lists all"
    )
