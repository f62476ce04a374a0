"""The catalogue: which faults the platform can be told to have, and what the suite must say to each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.digest import digest
from ..core.model import FailureClass, Outcome, Severity, Verdict
from ..core.patterns import matches
from ..core.toml import TomlTable, load_toml
from .errors import CatalogueError

#: How a check may answer to a fault: any way but passing, or failing under the cover of the plan.
OUTCOMES = tuple(each.value for each in Outcome if each not in (Outcome.PASSED, Outcome.DEFERRED))
_NEXT = "correct the catalogue and run again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What one check must say to a fault."""

    id: str
    severity: str
    failure_class: str
    outcome: str = Outcome.FAILED.value

    def as_data(self) -> dict[str, str]:
        """Return it under the keys of the catalogue and of readiness.json."""
        return {
            "id": self.id,
            "severity": self.severity,
            "outcome": self.outcome,
            "class": self.failure_class,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. Without named checks it is a condition that the suite must bear: its verdict is READY.

    ``select`` are the node ids to run (none: those of the named checks), ``args`` further options for pytest,
    ``also`` patterns of checks whose failing is a legitimate consequence, ``takes_s`` how long it keeps a
    platform where that is long by nature: such faults begin first.
    """

    id: str
    goal: str
    what: str
    verdict: str
    checks: tuple[Expected, ...]
    select: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    takes_s: int = 0

    @property
    def named(self) -> frozenset[str]:
        """The ids of the checks that must notice it."""
        return frozenset(check.id for check in self.checks)

    def matches(self, pattern: str) -> bool:
        """Tell whether a pattern for ids and goals means this fault."""
        return matches(pattern, self.id) or matches(pattern, self.goal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfaulted:
    """A check that by its nature no fault can turn red, and why."""

    check: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All faults of all files. ``digest`` covers their meaning, not their layout or their files."""

    faults: tuple[Fault, ...]
    unfaulted: tuple[Unfaulted, ...]
    digest: str


def load(root: Path, where: str, goal_ids: Sequence[str]) -> Catalogue:
    """Read the catalogue at ``where``: a file, a pattern or a directory of TOML files under ``root``.

    Raises CatalogueError naming file and key for whatever is malformed or there twice.
    """
    faults: dict[str, Fault] = {}
    unfaulted: dict[str, Unfaulted] = {}
    raw: list[Mapping[str, Any]] = []
    for path in _files(root, where):
        top = load_toml(_text(path, root), path.relative_to(root).as_posix(), CatalogueError)
        for table in top.tables("fault"):
            fault = _fault(table, goal_ids)
            if fault.id in faults:
                table.refuse("id", f"{fault.id!r} is used twice", allowed="an id of its own")
            faults[fault.id] = fault
        for table in top.tables("unfaulted"):
            entry = _unfaulted(table)
            if entry.check in unfaulted:
                table.refuse("check", f"{entry.check!r} is used twice", allowed="each check once")
            unfaulted[entry.check] = entry
        raw += [*top.data.get("fault", ()), *top.data.get("unfaulted", ())]
        top.finish()
    named = {check for fault in faults.values() for check in fault.named}
    for name in sorted(unfaulted.keys() & named):
        raise CatalogueError(
            f"{name!r} is called unfaulted, yet a fault names it",
            where=where,
            action="remove its [[unfaulted]]",
        )
    if not faults:
        raise CatalogueError("no fault in it", where=where, allowed="at least one [[fault]]")
    meaning = digest(sorted(raw, key=digest))
    return Catalogue(faults=tuple(faults.values()), unfaulted=tuple(unfaulted.values()), digest=meaning)


def require_known(catalogue: Catalogue, checks: Iterable[str], where: str) -> None:
    """Raise CatalogueError when a fault or an [[unfaulted]] names a check that the suite does not have."""
    known = set(checks)
    claims = [(fault.id, name) for fault in catalogue.faults for name in sorted(fault.named)]
    claims += [("[[unfaulted]]", entry.check) for entry in catalogue.unfaulted]
    unknown = [(owner, name) for owner, name in claims if name not in known]
    if unknown:
        owner, name = unknown[0]
        more = f" (and {len(unknown) - 1} more such)" if len(unknown) > 1 else ""
        raise CatalogueError(
            f"{owner} names a check that the suite does not have: {name!r}{more}", where=where, action=_NEXT
        )


def _files(root: Path, where: str) -> list[Path]:
    if not where:
        raise CatalogueError(
            "the plan names no catalogue of faults",
            where="[self_test] catalogue",
            allowed="a TOML file, a pattern such as faults/*.toml, or a directory of TOML files",
        )
    found = sorted((root / where).glob("*.toml")) if (root / where).is_dir() else sorted(root.glob(where))
    if not found:
        raise CatalogueError(f"no such file: {where!r}", where="[self_test] catalogue", action=_NEXT)
    return found


def _text(path: Path, root: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "not UTF-8"
        raise CatalogueError(
            f"cannot be read: {reason}", where=path.relative_to(root).as_posix(), action=_NEXT
        ) from problem


def _fault(table: TomlTable, goal_ids: Sequence[str]) -> Fault:
    entry = Fault(
        id=table.text("id"),
        goal=_goal(table, goal_ids),
        what=table.text("what"),
        verdict=table.choice("verdict", Verdict),
        checks=tuple(_expected(check) for check in table.tables("checks")),
        select=_words(table, "select", options=False),
        args=(*_words(table, "select", options=True), *table.texts("args", ())),
        also=table.texts("also", ()),
        params=table.free("params"),
        takes_s=table.integer("takes_s", 0),
    )
    # What the platform does with a fault is the platform's business.
    table.text("service", "", empty=True)
    table.text("action", "", empty=True)
    if not entry.checks and entry.verdict != Verdict.READY:
        table.refuse("checks", "empty: nothing would notice it", allowed="at least one, or verdict READY")
    if len(entry.named) < len(entry.checks):
        table.refuse("checks", "a check is named twice", allowed="each check once")
    if not entry.checks and not entry.select:
        table.refuse("select", "empty: nothing would run", allowed="node ids, or checks to run")
    table.finish()
    return entry


def _goal(table: TomlTable, goal_ids: Sequence[str]) -> str:
    """Read the goal; an operational check serves none, and neither does its fault."""
    return table.choice("goal", goal_ids) if table.data.get("goal") else table.text("goal", "", empty=True)


def _words(table: TomlTable, key: str, *, options: bool) -> tuple[str, ...]:
    return tuple(word for word in table.texts(key, ()) if word.startswith("-") is options)


def _expected(table: TomlTable) -> Expected:
    entry = Expected(
        id=table.text("id"),
        severity=table.choice("severity", Severity),
        failure_class=table.choice("class", FailureClass),
        outcome=table.choice("outcome", OUTCOMES, Outcome.FAILED.value),
    )
    table.finish()
    return entry


def _unfaulted(table: TomlTable) -> Unfaulted:
    entry = Unfaulted(check=table.text("check"), reason=table.text("reason"))
    table.finish()
    return entry
