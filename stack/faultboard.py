"""The active faults: the file that services read, and actions on processes, AWS, source tree, pooler."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from stack import StackError
from stack.supervisor import Supervisor

CATALOGUES = Path(__file__).parent.parent / "smoke"
# What a fault does to the process of a service, and what undoes it where something does.
ON_PROCESSES = {"stop": "start", "pause": "start", "restart": "", "abandon": "start"}
POOLER = "pooler"
# What an entry says to the suite. The rest of a fault that rewrites answers is the fault proxy's rule.
SUITE_KEYS = frozenset(
    {"id", "goal", "what", "action", "check", "checks"}
    | {"select", "args", "also", "params", "takes_s", "verdict"}
)


def catalogue(directory: Path = CATALOGUES) -> dict[str, dict[str, Any]]:
    """Return the faults of every `<phase>/faults.toml` by id, each family as its members.

    An action is `verb:part`, `aws:mutation`, `pooler:alteration`, `rewrite:METHOD PATH`, or `source:edit`
    with the edit in params; or empty. `service` is the one that a rewrite happens in.
    """
    texts = [path.read_text("utf-8") for path in sorted(directory.glob("*/faults.toml"))]
    members = [each for text in texts for entry in tomllib.loads(text)["fault"] for each in _members(entry)]
    return {entry["id"]: entry for entry in members}


def _members(family: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an entry for each service and case of a family, with both filled in wherever it has text."""
    shared = {key: value for key, value in family.items() if key not in ("services", "cases")}
    for service in family.get("services", [""]):
        for case in family.get("cases", [""]):
            words = {"{service}": service, "{Service}": service.capitalize(), "{case}": case}
            entry = _filled(shared, {placeholder: word for placeholder, word in words.items() if word})
            yield {"service": service or entry["id"].partition("-")[0], **entry}


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for placeholder, word in words.items():
            value = value.replace(placeholder, word)
    elif isinstance(value, dict):
        return {key: _filled(each, words) for key, each in value.items()}
    elif isinstance(value, list):
        return [_filled(each, words) for each in value]
    return value


class UnknownFault(StackError):
    """The catalogue has no such fault."""

    def __init__(self, fault_id: str, known: list[str]) -> None:
        near = [name for name in known if name.split("-")[0] == fault_id.split("-")[0]][:8]
        super().__init__(
            f"no fault {fault_id!r}", f"near: {', '.join(near)}" if near else "", "GET /faults lists all"
        )


class Alterable(Protocol):
    """A part of the platform that faults alter: AWS, the source tree, the pooler."""

    def alter(self, name: str, params: Mapping[str, Any]) -> None:
        """Make one alteration. Raises StackError when it cannot be made."""

    def restore(self) -> None:
        """Undo all alterations."""


class FaultBoard:
    """Sets and clears faults. Not thread-safe: the control API serialises its requests."""

    def __init__(
        self,
        path: Path,
        supervisor: Supervisor,
        alterable: Mapping[str, Alterable],
        standing: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """``standing`` rules of the fault proxy always hold: they are how a clean variant answers."""
        self._path = path
        self._standing = standing
        self._supervisor = supervisor
        self._alterable = alterable
        self._catalogue = catalogue()
        self.generation = 0
        self.active: dict[str, Mapping[str, Any]] = {}
        self._write()

    @property
    def known(self) -> list[str]:
        """The ids of the catalogue."""
        return list(self._catalogue)

    def set(self, fault_id: str, params: Mapping[str, Any]) -> None:
        """Turn a fault on, with the catalogue's parameters when none are given.

        Raises UnknownFault, and StackError when its action cannot be done: then it is not on.
        """
        verb, target = self._action(fault_id)
        if verb in self._alterable and fault_id in self.active:
            # An altered part refuses the same alteration, and would keep it although the fault is off. Any
            # other fault only gets its new parameters: services go on counting.
            self.clear(fault_id)
        self.active[fault_id] = {
            **self._rule(fault_id),
            **(params or self._catalogue[fault_id].get("params", {})),
        }
        # Services know of the fault before anything is altered: otherwise one might still follow the change.
        self._write()
        try:
            if verb in self._alterable:
                self._alter(fault_id)
            elif verb in ON_PROCESSES:
                getattr(self._supervisor, verb)(target)
        except StackError:
            del self.active[fault_id]
            self._write()
            raise

    def clear(self, fault_id: str) -> None:
        """Turn a fault off and undo its action. Raises UnknownFault."""
        verb, target = self._action(fault_id)
        if self.active.pop(fault_id, None) is None:
            return
        self._write()
        if verb in self._alterable:
            # Alterations are undone all at once; those of the other faults are made again.
            self._alterable[verb].restore()
            for other in self._acting_on(verb):
                self._alter(other)
        elif ON_PROCESSES.get(verb):
            getattr(self._supervisor, ON_PROCESSES[verb])(target)

    def lift(self) -> None:
        """Turn off what may keep a service from being ready: what it obeys itself, and an altered pooler.

        The alterations of the source tree and of AWS are left for `reset`.
        """
        self.active = self._acting_on(*self._alterable)
        self._write()
        if self._acting_on(POOLER):
            self._alterable[POOLER].restore()
            self.active = self._acting_on(*self._alterable.keys() - {POOLER})
            self._write()

    def reset(self) -> None:
        """Turn every fault off and begin a new generation: services drop what they hold in memory."""
        self.lift()
        for name in self._alterable.keys() - {POOLER}:
            self._alterable[name].restore()
        self.active.clear()
        self.generation += 1
        self._write()

    def _action(self, fault_id: str) -> tuple[str, str]:
        if fault_id not in self._catalogue:
            raise UnknownFault(fault_id, self.known)
        verb, _, target = self._catalogue[fault_id].get("action", "").partition(":")
        return verb, target

    def _rule(self, fault_id: str) -> dict[str, Any]:
        """What the fault proxy does, if the fault is one that rewrites answers."""
        verb, target = self._action(fault_id)
        if verb != "rewrite":
            return {}
        entry = self._catalogue[fault_id]
        return {"rewrite": target, **{key: entry[key] for key in entry.keys() - SUITE_KEYS}}

    def _acting_on(self, *verbs: str) -> dict[str, Mapping[str, Any]]:
        return {name: params for name, params in self.active.items() if self._action(name)[0] in verbs}

    def _alter(self, fault_id: str) -> None:
        verb, target = self._action(fault_id)
        # An edit of the source tree is committed under the fault's name.
        self._alterable[verb].alter(fault_id if verb == "source" else target, self.active[fault_id])

    def _write(self) -> None:
        # Replaced, never rewritten: a service that reads it meanwhile sees the old state or the new one.
        new = self._path.with_suffix(".new")
        active = {**self._standing, **self.active}
        new.write_text(json.dumps({"generation": self.generation, "active": active}), "utf-8")
        new.replace(self._path)
