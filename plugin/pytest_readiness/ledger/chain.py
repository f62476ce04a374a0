"""The hash chain that makes a history tamper-evident in any store.

Also the lease of a platform, so that no run judges the effects of another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Event, Thread
from typing import Any, Protocol

from ..core.errors import LedgerError
from ..core.formats import canonical_json, digest, one_line


@dataclass(frozen=True, slots=True)
class Holder:
    """The run that has a lease: its id, where it runs, and since when (RFC 3339)."""

    run_id: str
    where: str
    since: str

    def __str__(self) -> str:
        return f"run {self.run_id}, at {self.where} since {self.since}"

    def encoded(self, **beside: int) -> bytes:
        """Return it as a store keeps it, with the store's own data ``beside``."""
        return canonical_json({**asdict(self), **beside})

    @classmethod
    def read(cls, content: bytes) -> Holder:
        """Read it from a store; anything else there counts as a holder without a name."""
        try:
            kept = json.loads(content)
            return cls(*(one_line(str(kept[name]), 200) for name in ("run_id", "where", "since")))
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls("without an id", "an unknown place", "an unknown time")


class Lease(Protocol):
    """A lease in one store. Every method raises LedgerError if the store cannot be used."""

    #: Seconds between renewals, and until it expires without one; 0: it lives as long as its process.
    renew_s: float
    expires_s: float

    def take(self, own: Holder) -> Holder | None:
        """Take it if it is free or its holder is gone; otherwise return who has it."""

    def renew(self) -> Holder | None:
        """Renew it; return who has taken it over in the meantime."""

    def release(self) -> None:
        """Give it back, if this run still has it."""


def wait_for(
    lease: Lease, own: Holder, wait_s: float, waits: Callable[[Holder], None], every_s: float = 1.0
) -> Holder | None:
    """Take a lease within ``wait_s`` seconds; else return its holder. ``waits`` is called with each."""
    deadline = time.monotonic() + wait_s
    named: Holder | None = None
    while (holder := lease.take(own)) is not None:
        left = deadline - time.monotonic()
        if left <= 0:
            return holder
        if holder != named:
            waits(holder)
            named = holder
        Event().wait(min(every_s, left))
    return None


class Keeper:
    """Renews a lease during the run, and gives it back. ``lost`` is called once with the reason if lost."""

    def __init__(self, lease: Lease, lost: Callable[[str], None]) -> None:
        self._lease, self._lost = lease, lost
        self._ended = Event()
        self._thread: Thread | None = None
        if lease.renew_s:
            self._thread = Thread(target=self._renew, name="readiness-lease", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Give the lease back; if that fails, it expires."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(self._lease.renew_s)
        with contextlib.suppress(LedgerError):
            self._lease.release()

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._ended.wait(self._lease.renew_s):
            try:
                other = self._lease.renew()
            except LedgerError as problem:
                if time.monotonic() - renewed <= self._lease.expires_s:
                    continue
                first = str(problem).partition("\n")[0]
                return self._lost(f"the lease could not be renewed for {self._lease.expires_s:g} s: {first}")
            if other is not None:
                return self._lost(f"the lease expired, and another run took it: {other}")
            renewed = time.monotonic()
        return None


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
    """A history of full runs. Every method raises LedgerError if the store cannot be used."""

    @property
    def location(self) -> str:
        """Where it is, for people."""

    @property
    def notes(self) -> Sequence[str]:
        """Remarks from reading or appending, such as a torn line that was set aside."""

    def recent(self, count: int) -> list[dict[str, Any]]:
        """Return the ``count`` newest entries, newest last, at the same cost in a ledger of any length.

        LedgerError if they or their links are broken, or if the store shows that others are.
        """

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield all entries, oldest first; LedgerError, before any, that names the first bad one."""

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Add an entry and return it as recorded, with ``seq``, ``prev_hash`` and ``hash``."""

    def prepare(self) -> None:
        """Refuse a store that cannot accept an entry, before the run starts."""

    def announce(self, entry: Mapping[str, Any]) -> None:
        """Store the entry of a run that is already BROKEN, in case it is killed before it can append it."""

    def settle(self) -> list[str]:
        """Append the announced entries of runs that were killed; return their ids."""

    def verify(self) -> Verification:
        """Check the complete chain, with a few entries in memory at a time; a broken one raises nothing."""

    def lease(self, key: str) -> Lease:
        """Return the lease for ``key``, a word of letters and digits; it is not taken yet."""


@dataclass(frozen=True, slots=True)
class Link:
    """One stored entry as read: its place for people, and its bytes."""

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

    ``newest`` is the store's record of its newest entry, which shows whether the end was cut off or
    rewritten; the chain by itself cannot. ``after`` is the number and the hash of the entry before the first
    link.
    """
    number, previous = after
    seq, hash_ = (newest["seq"], newest["hash"]) if newest else (0, "")
    for link in links:
        number += 1
        found = _hash_by_bytes(link.content, number, previous)
        entry = None if found else parsed(link.content, once=_each_once)
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
    """Tell whether these entries are linked and end with the store's recorded newest one."""
    first = parsed(contents[0]) if contents else None
    if first is None or type(first.get("seq")) is not int or not first["seq"] <= newest["seq"]:
        return False
    before = GENESIS if first["seq"] == 1 else str(first.get("prev_hash"))
    links = (Link("", content) for content in contents)
    return inspect(links, newest, after=(first["seq"] - 1, before)).ok


def remembered(content: bytes) -> dict[str, Any] | None:
    """Return a store's record of its newest entry, None for other bytes."""
    value = parsed(content)
    valid = value is not None and type(value.get("seq")) is int and isinstance(value.get("hash"), str)
    return value if valid else None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; ValueError if a key is there twice, as readers differ in which they take."""
    if len(made := dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return made


def parsed(
    content: bytes, once: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None
) -> dict[str, Any] | None:
    """Return a stored entry, None for other bytes; ``once`` builds its objects."""
    try:
        value = json.loads(content, object_pairs_hook=once)
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
    """Read the entry that a run announced; LedgerError if it was edited or damaged."""
    entry = parsed(content)
    if entry is None or not is_sealed(entry):
        raise LedgerError(
            "a BROKEN run that was killed left this, and it was edited or damaged",
            where=place,
            action="restore it from a copy, or remove it and run again",
        )
    return entry


def records(ledger: Ledger, run_id: str) -> bool:
    """Tell whether a run is in a ledger; searches its end first, then all of it."""
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
    """Return the hash of an entry if its bytes prove it to be in its place; "" if they do not.

    This works for the canonical form in which entries are stored: without the one ``hash``, the bytes are
    those that it covers. Other spellings of an entry need a parser, which takes ten times as long.
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
    """Return where the value of a name begins if it occurs once; otherwise the end of the body."""
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
