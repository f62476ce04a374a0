"""The markers of a check, and how they are read from an item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from ..core.errors import ReadinessError
from ..core.model import Severity
from ..core.plan import MAX_LIMIT_S
from .checks import Check

MARKERS = (
    "p0: Blocking check; its failure makes the run BROKEN",
    "p1: Degrading check; its failure makes the run DEGRADED",
    "goal(id): The launch goal of the plan that this check serves",
    "phase(name): The phase of the plan in which this check runs; phases run in the plan's order",
    "requires(*capabilities, covered_by=None): What this check needs; covered_by: one that proves the same",
    "establishes(*capabilities): Checks that require the capability come later; if it fails, not at all",
    "control(*checks): This check proves something only if these, its positive controls, passed in this run",
    "drill: This check changes the platform's state; it runs only with --drills",
    "timeout(seconds): How long one attempt at this check may take (default: the plan's check_limit_s)",
    "static: This check looks at a checkout only, so that it passes without a live environment",
)
_SEVERITIES = {"p0": Severity.P0, "p1": Severity.P1}


Part = TypeVar("Part")


class MarkerError(ReadinessError):
    """A check is marked wrongly."""


def read_check(
    item: pytest.Item, goals: tuple[str, ...], phases: tuple[str, ...]
) -> tuple[Check | None, list[MarkerError]]:
    """Read the markers of an item: its check, or None and every mistake that is in them."""
    path, line, _ = item.location
    where = f"{path}:{(line or 0) + 1}"
    mistakes: list[MarkerError] = []

    def read(reader: Callable[[], Part], instead: Part) -> Part:
        try:
            return reader()
        except MarkerError as mistake:
            placed = f"{where}: {getattr(item, 'originalname', None) or item.name}"
            mistakes.append(MarkerError(mistake.what, where=placed, allowed=mistake.allowed))
            return instead

    phase = read(lambda: _one_of(item, "phase", phases), "")
    nothing: tuple[tuple[str, ...], str | None] = ((), None)
    requires, covered_by = read(lambda: _requirements(item), nothing)
    check = Check(
        id=f"{phase}/{_name(item)}",
        nodeid=item.nodeid,
        goal=read(lambda: _one_of(item, "goal", goals, required=False), ""),
        phase=phase,
        severity=read(lambda: _severity(item), Severity.P0),
        requires=requires,
        covered_by=covered_by,
        establishes=read(lambda: tuple(dict.fromkeys(_strings(item, "establishes"))), ()),
        controls=read(lambda: tuple(dict.fromkeys(_strings(item, "control"))), ()),
        drill=item.get_closest_marker("drill") is not None,
        static=item.get_closest_marker("static") is not None,
        limit_s=read(lambda: _limit(item), None),
        where=where,
    )
    return (None if mistakes else check), mistakes


def _name(item: pytest.Item) -> str:
    original = getattr(item, "originalname", None) or item.name.split("[")[0]
    parameters = item.name[len(original) :]
    return original.removeprefix("test_").replace("_", "-") + parameters


def _severity(item: pytest.Item) -> Severity:
    for node, _ in item.iter_markers_with_node():
        found = [name for name in _SEVERITIES if any(mark.name == name for mark in node.own_markers)]
        if len(found) == 1:
            return _SEVERITIES[found[0]]
        if found:
            raise MarkerError("both p0 and p1", allowed="one of pytest.mark.p0, pytest.mark.p1")
    raise MarkerError("no severity", allowed="pytest.mark.p0, pytest.mark.p1")


def _one_of(item: pytest.Item, name: str, allowed: tuple[str, ...], *, required: bool = True) -> str:
    """Return the argument of the nearest marker ``name``: inner ones win, two on one level are a mistake."""
    listed = ", ".join(allowed)
    for node, _ in item.iter_markers_with_node(name):
        marks = [mark for mark in node.own_markers if mark.name == name]
        values = {_single(mark, name) for mark in marks}
        if len(values) > 1:
            raise MarkerError(f"several {name} markers: {', '.join(sorted(values))}", allowed="one")
        value = values.pop()
        if value not in allowed:
            raise MarkerError(f"unknown {name} {value!r}", allowed=listed)
        return value
    if required:
        raise MarkerError(f"no {name}", allowed=listed)
    return ""


def _single(mark: pytest.Mark, name: str) -> str:
    if len(mark.args) != 1 or mark.kwargs or not isinstance(mark.args[0], str):
        raise MarkerError(f"malformed {name} marker", allowed=f'pytest.mark.{name}("...")')
    return mark.args[0]


def _limit(item: pytest.Item) -> float | None:
    """Read the marker that pytest-timeout has, too; its 0 would be no limit, which no check goes without."""
    mark = item.get_closest_marker("timeout")
    if mark is None:
        return None
    seconds = mark.args[0] if mark.args else mark.kwargs.get("timeout")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_LIMIT_S:
        raise MarkerError(
            "malformed timeout marker", allowed=f"pytest.mark.timeout(seconds) above 0, up to {MAX_LIMIT_S}"
        )
    return float(seconds)


def _requirements(item: pytest.Item) -> tuple[tuple[str, ...], str | None]:
    covered_by: str | None = None
    for mark in item.iter_markers("requires"):
        unknown = set(mark.kwargs) - {"covered_by"}
        if unknown or not isinstance(mark.kwargs.get("covered_by"), str | None):
            raise MarkerError(
                "malformed requires marker", allowed='requires("capability", ..., covered_by="phase/check")'
            )
        covered_by = covered_by or mark.kwargs.get("covered_by")
    return tuple(dict.fromkeys(_strings(item, "requires"))), covered_by


def _strings(item: pytest.Item, name: str) -> Iterator[str]:
    for mark in item.iter_markers(name):
        if not mark.args or not all(isinstance(value, str) and value for value in mark.args):
            raise MarkerError(f"malformed {name} marker", allowed=f'pytest.mark.{name}("...", ...)')
        yield from mark.args
