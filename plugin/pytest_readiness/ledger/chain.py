"""The chain that makes a history tamper-evident, whatever it is stored in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..core.errors import LedgerError
from ..core.formats import digest
from .lease import Lease

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Whether the chain of a ledger is intact. ``first_bad`` is the number of the first bad entry, from 1."""

    ok: bool
    entries: int
    first_bad: int | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()


class Ledger(Protocol):
    """A history of full runs. Every method raises LedgerError when the store cannot be used."""

    @property
    def location(self) -> str:
        """Where it is, for people."""

    @property
    def notes(self) -> Sequence[str]:
        """What was noticed while reading or appending, such as a torn line that was set aside."""

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries, newest last; LedgerError naming the first bad one when the chain is broken."""

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Add an entry and return it as recorded, with ``seq``, ``prev_hash`` and ``hash``."""

    def prepare(self) -> None:
        """Refuse a store that could not take an entry, before the run that would make it."""

    def announce(self, entry: Mapping[str, Any]) -> None:
        """Keep the entry of a run that is BROKEN before its end, in case it does not live to append it."""

    def settle(self) -> list[str]:
        """Append what runs announced that were killed before they could; return their ids."""

    def verify(self) -> Verification:
        """Check the complete chain; a broken one is an answer, not an error."""

    def lease(self, key: str) -> Lease:
        """Return the lease of what ``key`` stands for, a word of letters and digits; nothing is taken yet."""


@dataclass(frozen=True, slots=True)
class Link:
    """One stored entry as it was read: its place for people, its content, None where that is no entry."""

    place: str
    entry: dict[str, Any] | None = None


def sealed(entry: Mapping[str, Any], last: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the entry linked to the one before it: ``seq`` from 1, ``prev_hash``, ``hash`` over the rest."""
    body = {key: value for key, value in entry.items() if key != "hash"}
    body["seq"] = last["seq"] + 1 if last else 1
    body["prev_hash"] = last["hash"] if last else GENESIS
    return {**body, "hash": digest(body)}


def inspect(links: Iterable[Link]) -> Verification:
    """Check a chain from its first entry; names the first entry that was edited, removed or reordered."""
    previous, count = GENESIS, 0
    for number, link in enumerate(links, start=1):
        problem = _problem(link.entry, number, previous)
        if problem or link.entry is None:
            return Verification(
                ok=False, entries=count, first_bad=number, problem=f"entry {number} ({link.place}) {problem}"
            )
        previous, count = link.entry["hash"], number
    return Verification(ok=True, entries=count)


def ending(
    found: Verification, links: Sequence[Link], newest: Mapping[str, Any] | None, notes: tuple[str, ...] = ()
) -> Verification:
    """Complete a verification with the store's memory of its newest entry: nothing cut off or rewritten."""
    if not found.ok or newest is None:
        return replace(found, notes=notes)
    seq = newest["seq"]
    if found.entries < seq:
        return Verification(
            ok=False,
            entries=found.entries,
            first_bad=found.entries + 1,
            problem=f"entry {found.entries + 1} was removed: {seq} were written",
            notes=notes,
        )
    entry = links[seq - 1].entry
    if entry is None or entry["hash"] != newest["hash"]:
        problem = (
            f"entry {seq} ({links[seq - 1].place}) is not the one that was written: the chain was rewritten"
        )
        return Verification(ok=False, entries=seq - 1, first_bad=seq, problem=problem, notes=notes)
    return replace(found, notes=notes)


def remembered(content: bytes) -> dict[str, Any] | None:
    """Return a store's memory of its newest entry, None for other bytes."""
    value = parsed(content)
    valid = value is not None and type(value.get("seq")) is int and isinstance(value.get("hash"), str)
    return value if valid else None


def parsed(content: bytes) -> dict[str, Any] | None:
    """Return a stored entry, None for other bytes."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_sealed(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry's hash fits its content."""
    body = {key: value for key, value in entry.items() if key != "hash"}
    try:
        return bool(entry.get("hash") == digest(body))
    except (TypeError, ValueError, RecursionError):
        return False


def announced(content: bytes, place: str) -> dict[str, Any]:
    """Read the entry that a run announced; LedgerError when it was edited or damaged."""
    entry = parsed(content)
    if entry is None or not is_sealed(entry):
        raise LedgerError(
            "a BROKEN run that was killed left this, and it was edited or damaged",
            where=place,
            action="restore it from a copy, or remove it and run again",
        )
    return entry


def refuse_broken(found: Verification, location: str) -> None:
    """Raise LedgerError for a broken chain."""
    if not found.ok:
        raise LedgerError(
            found.problem,
            where=location,
            action="restore it from a copy, or remove it (and its .lock) to start a new history",
        )


def _problem(entry: Mapping[str, Any] | None, number: int, previous: str) -> str:
    if entry is None:
        return "is not an entry: it was edited or damaged"
    if not is_sealed(entry):
        return "was edited: its hash does not fit its content"
    if entry.get("seq") != number:
        return f"says that it is entry {entry.get('seq')}: one before it was removed, added or moved"
    if entry.get("prev_hash") != previous:
        return "does not follow the one before it: that was replaced"
    return ""
