"""The lease of a platform: who runs there now, so that two runs do not judge what the other one does."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from threading import Event, Thread
from typing import Protocol

from ..core.errors import LedgerError
from ..core.formats import canonical_json, one_line


@dataclass(frozen=True, slots=True)
class Holder:
    """The run that has a lease: its id, where it runs, and since when (RFC 3339)."""

    run_id: str
    where: str
    since: str

    def __str__(self) -> str:
        return f"run {self.run_id}, at {self.where} since {self.since}"

    def encoded(self, **beside: int) -> bytes:
        """Return what a store keeps of it, with what the store notes ``beside``."""
        return canonical_json({**asdict(self), **beside})

    @classmethod
    def read(cls, content: bytes) -> Holder:
        """Read what a store kept; what anyone else wrote there is a holder without a name."""
        try:
            kept = json.loads(content)
            return cls(*(one_line(str(kept[name]), 200) for name in ("run_id", "where", "since")))
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls("without an id", "an unknown place", "an unknown time")


class Lease(Protocol):
    """A lease in one store. Every method raises LedgerError when the store cannot be used."""

    #: How often it must be renewed, and how long it lives without, in seconds; 0: as long as its process.
    renew_s: float
    expires_s: float

    def take(self, own: Holder) -> Holder | None:
        """Take it if it is free, or its holder is gone; return who has it otherwise."""

    def renew(self) -> Holder | None:
        """Keep it; return who has taken it over meanwhile."""

    def release(self) -> None:
        """Give it back, if this run still has it."""


def wait_for(
    lease: Lease, own: Holder, wait_s: float, waits: Callable[[Holder], None], every_s: float = 1.0
) -> Holder | None:
    """Take a lease within ``wait_s`` seconds; return who still has it then. ``waits`` is called with each."""
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
    """Renews a lease beside the run, and gives it back. ``lost`` is called once, with why it is gone."""

    def __init__(self, lease: Lease, lost: Callable[[str], None]) -> None:
        self._lease, self._lost = lease, lost
        self._ended = Event()
        self._thread: Thread | None = None
        if lease.renew_s:
            self._thread = Thread(target=self._renew, name="readiness-lease", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Give the lease back; where that fails, it expires."""
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
