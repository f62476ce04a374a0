"""The chain that makes a history tamper-evident, whatever it is stored in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

    def recent(self, count: int) -> list[dict[str, Any]]:
        """Return the ``count`` newest entries, newest last, at the same cost in a ledger of any length.

        LedgerError when they or their links are broken, or when the store shows that others are.
        """

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield all entries, oldest first; LedgerError, before any, that names the first bad one."""

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Add an entry and return it as recorded, with ``seq``, ``prev_hash`` and ``hash``."""

    def prepare(self) -> None:
        """Refuse a store that could not take an entry, before the run that would make it."""

    def announce(self, entry: Mapping[str, Any]) -> None:
        """Keep the entry of a run that is BROKEN before its end, in case it does not live to append it."""

    def settle(self) -> list[str]:
        """Append what runs announced that were killed before they could; return their ids."""

    def verify(self) -> Verification:
        """Check the complete chain, a few entries in memory at a time; a broken one is an answer."""

    def lease(self, key: str) -> Lease:
        """Return the lease of what ``key`` stands for, a word of letters and digits; nothing is taken yet."""


@dataclass(frozen=True, slots=True)
class Link:
    """One stored entry as it was read: its place for people, and its bytes."""

    place: str
    content: bytes


def sealed(entry: Mapping[str, Any], last: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the entry linked to the one before it: ``seq`` from 1, ``prev_hash``, ``hash`` over the rest."""
    body = {key: value for key, value in entry.items() if key != "hash"}
    body["seq"] = last["seq"] + 1 if last else 1
    body["prev_hash"] = last["hash"] if last else GENESIS
    return {**body, "hash": digest(body)}


def inspect(
    links: Iterable[Link],
    newest: Mapping[str, Any] | None = None,
    *,
    after: tuple[int, str] = (0, GENESIS),
    notes: tuple[str, ...] = (),
) -> Verification:
    """Check a chain; name the first entry that was edited, removed or reordered.

    ``newest`` is the store's memory of its newest entry, which shows what was cut off the end or rewritten,
    as a chain alone cannot. ``after`` is the number and the hash of the entry before the first link.
    """
    number, previous = after
    seq, hash_ = (newest["seq"], newest["hash"]) if newest else (0, "")
    for link in links:
        number += 1
        found = _hash_by_bytes(link.content, number, previous)
        entry = None if found else parsed(link.content)
        problem = "" if found else _problem(entry, number, previous) if link.content else "was removed"
        previous = found or str((entry or {}).get("hash"))
        if not problem and number == seq and previous != hash_:
            problem = "is not the one that was written: the chain was rewritten"
        if problem:
            problem = f"entry {number} ({link.place}) {problem}"
            return Verification(ok=False, entries=number - 1, first_bad=number, problem=problem, notes=notes)
    if number < seq:
        problem = f"entry {number + 1} was removed: {seq} were written"
        return Verification(ok=False, entries=number, first_bad=number + 1, problem=problem, notes=notes)
    return Verification(ok=True, entries=number, notes=notes)


def is_end(contents: Sequence[bytes], newest: Mapping[str, Any]) -> bool:
    """Tell whether these entries are linked and lead to what the store remembers as its newest one."""
    first = parsed(contents[0]) if contents else None
    if first is None or type(first.get("seq")) is not int or not first["seq"] <= newest["seq"]:
        return False
    before = GENESIS if first["seq"] == 1 else str(first.get("prev_hash"))
    links = (Link("", content) for content in contents)
    return inspect(links, newest, after=(first["seq"] - 1, before)).ok


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


def records(ledger: Ledger, run_id: str) -> bool:
    """Tell whether a run is in a ledger: looked for at its end first, then in all of it."""
    return any(
        entry.get("run_id") == run_id for part in (ledger.recent(1), ledger.entries()) for entry in part
    )


def refuse_broken(found: Verification, location: str) -> None:
    """Raise LedgerError for a broken chain."""
    if not found.ok:
        raise LedgerError(
            found.problem,
            where=location,
            action="restore it from a copy, or remove it (and its .lock) to start a new history",
        )


def _hash_by_bytes(content: bytes, number: int, previous: str) -> str:
    """Return the hash of an entry that its bytes alone prove to be in its place; "" when they do not.

    That takes the canonical form, in which entries are stored: taking the one ``hash`` out leaves what it was
    computed over. Other ways to write the same entry are for a parser, which takes ten times as long.
    """
    start = content.find(b'"hash":"')
    end = start + 74
    if start < 0 or content[end - 2 : end] != b'",' or content.find(b'"hash":"', end) >= 0:
        return ""
    body = content[:start] + content[end:]
    found = content[start + 8 : end - 2].decode("ascii", "replace")
    before, place = _only(b'"prev_hash":"', body), _only(b'"seq":', body)
    is_linked = body.startswith(b'%b"' % previous.encode(), before) and (
        body.startswith(b"%d," % number, place) or body[place:] == b"%d}" % number
    )
    return found if is_linked and hashlib.sha256(body).hexdigest() == found else ""


def _only(name: bytes, body: bytes) -> int:
    """Return where the value begins after a name that stands there once; else the end of the body."""
    start = body.find(name)
    end = start + len(name)
    return end if start >= 0 and body.find(name, end) < 0 else len(body)


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
