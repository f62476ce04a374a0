"""What a run could check: every collected check, and which of them were selected."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import ReadinessError, together
from ..core.model import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check as its markers declare it. ``id`` is stable (``phase/name[param]``), ``nodeid`` pytest's."""

    id: str
    nodeid: str
    goal: str
    phase: str
    severity: Severity
    requires: tuple[str, ...] = ()
    covered_by: str | None = None
    establishes: tuple[str, ...] = ()
    #: Ids of checks that must pass for this one to prove anything.
    controls: tuple[str, ...] = ()
    drill: bool = False
    static: bool = False
    #: Seconds that an attempt may take; None: as long as the plan says.
    limit_s: float | None = None
    where: str = ""

    def as_data(self) -> dict[str, Any]:
        """Return plain data that crosses process borders; an enum would not."""
        data = dataclasses.asdict(self)
        return {
            **data,
            "severity": str(self.severity),
            "requires": [*self.requires],
            "establishes": [*self.establishes],
            "controls": [*self.controls],
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Check:
        """Rebuild a check from :meth:`as_data`."""
        return cls(
            **{
                **data,
                "severity": Severity(data["severity"]),
                "requires": tuple(data["requires"]),
                "establishes": tuple(data["establishes"]),
                "controls": tuple(data["controls"]),
            }
        )


@dataclass(slots=True)
class Checks:
    """All checks that were collected, in the order of the run, and the node ids that were selected to run.

    ``selected`` maps the node id that reports carry to the check: xdist's loadgroup mode changes the node id.
    """

    collected: list[Check] = field(default_factory=list)
    selected: dict[str, Check] = field(default_factory=dict)
    #: What is wrong with the markers, in the words for a person; empty when nothing is.
    problem: str = ""
    #: How many checks were found, but dropped by another plugin before they were read.
    dropped: int = 0
    #: Node id of a part of the suite that was not looked into -> why not.
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def deselected(self) -> int:
        """How many checks that were found were not selected to run."""
        return self.dropped + len(self.collected) - len(self.selected)

    def as_data(self) -> dict[str, Any]:
        """Return plain data for the controller of a distributed run."""
        return {
            "collected": [check.as_data() for check in self.collected],
            "selected": {nodeid: check.nodeid for nodeid, check in self.selected.items()},
            "problem": self.problem,
            "dropped": self.dropped,
            "unread": self.unread,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Checks:
        """Rebuild from :meth:`as_data`."""
        collected = [Check.from_data(entry) for entry in data["collected"]]
        known = {check.nodeid: check for check in collected}
        return cls(
            collected=collected,
            selected={nodeid: known[original] for nodeid, original in data["selected"].items()},
            problem=str(data["problem"]),
            dropped=int(data["dropped"]),
            unread=dict(data["unread"]),
        )


def in_order(checks: Iterable[Check]) -> list[Check]:
    """Return the checks in their order, except that what others rest on comes before them.

    A check that establishes a capability goes before the first one that requires it, whatever their phases:
    where the base is broken, that is found once.
    """
    waiting = {check.id: check for check in checks}
    establishing: dict[str, list[Check]] = {}
    for check in waiting.values():
        for name in check.establishes:
            establishing.setdefault(name, []).append(check)
    ordered: list[Check] = []

    def place(check: Check) -> None:
        if waiting.pop(check.id, None) is None:
            return
        for name in check.requires:
            for other in establishing.get(name, ()):
                place(other)
        ordered.append(check)

    for check in [*waiting.values()]:
        place(check)
    return ordered


def inconsistency(
    checks: Iterable[Check], capabilities: Iterable[str], phases: Iterable[str], *, whole: bool
) -> str:
    """Say all that is wrong between checks, or "": a doubled id.

    When the ``whole`` suite was collected, also an empty phase of the plan and a name that nothing provides.
    """
    found: dict[str, Check] = {}
    mistakes = []
    for check in checks:
        other = found.setdefault(check.id, check)
        if other is not check:
            what = f"check id {check.id!r} is also that of {other.where}"
            mistakes.append(ReadinessError(what, where=check.where, allowed="each test name once in a phase"))
    if whole:
        mistakes += [*_empty_phases(found, phases), *_unknown_names(found, capabilities)]
    return str(together(mistakes)) if mistakes else ""


def _empty_phases(found: Mapping[str, Check], phases: Iterable[str]) -> Iterator[ReadinessError]:
    filled = {check.phase for check in found.values()}
    for phase in phases:
        if found and phase not in filled:
            yield ReadinessError(
                f"no check in phase {phase!r}",
                where="readiness.toml: phases",
                allowed="phases that have checks",
                action=f'mark a check with phase("{phase}"), or remove the phase from the plan',
            )


def _unknown_names(found: Mapping[str, Check], capabilities: Iterable[str]) -> Iterator[ReadinessError]:
    known = {*capabilities, *(name for check in found.values() for name in check.establishes)}
    families = {*found, *(name.split("[")[0] for name in found)}
    for check in found.values():
        for name in check.requires:
            if name not in known:
                yield ReadinessError(
                    f"unknown capability {name!r}",
                    where=check.where,
                    allowed=", ".join(sorted(known)),
                    action=f"correct the name, or define [capability.{name}] in environments/schema.toml",
                )
        stray = next((name for name in check.controls if name not in found or name == check.id), None)
        if stray is not None:
            yield ReadinessError(
                f"control names no other check: {stray!r}",
                where=check.where,
                allowed=f"the id of a check, such as {next(iter(found))}",
            )
        if check.covered_by and check.covered_by not in families:
            yield ReadinessError(
                f"covered_by names no check: {check.covered_by!r}",
                where=check.where,
                allowed=f"the id of a check, such as {check.id}",
            )
