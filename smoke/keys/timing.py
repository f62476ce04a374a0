"""How long key commands wait, from the profile's section [keys]; seconds throughout."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pytest_readiness import Environment

from .errors import CommandRefused, KeyFault

#: The contract's limit of an emergency revocation. A profile may tighten it, never relax it.
REVOCATION_LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Timing:
    """What a key command waits for.

    ``propagation_s``: a change is in force everywhere within this. ``steady_s``: what was observed counts
    once it has held for so long, as several tasks behind one name do not change at once. ``watch_s``: the old
    key stays published for so long after the switch, no shorter than tokens live. ``every_s``: between two
    polls.
    """

    propagation_s: float = 120.0
    steady_s: float = 60.0
    watch_s: float = 900.0
    revocation_limit_s: float = REVOCATION_LIMIT_S
    every_s: float = 0.2

    @classmethod
    def of(cls, environment: Environment) -> Timing:
        """The timing of an environment; CommandRefused for a revocation limit above the contract's."""
        keys = environment.keys
        if not 0 < keys.revocation_limit_s <= REVOCATION_LIMIT_S:
            raise CommandRefused(
                f"{keys.revocation_limit_s} s is not a valid limit for an emergency revocation",
                where="keys.revocation_limit_s",
                allowed=f"1 to {REVOCATION_LIMIT_S}",
            )
        return cls(keys.propagation_s, keys.steady_s, keys.watch_s, keys.revocation_limit_s)

    def steadily(
        self, unmet: Callable[[], str], *, what: str, where: str, action: str, steady_s: float = 0
    ) -> float:
        """Poll until ``unmet`` has returned "" for ``steady_s`` without a break; return when that began.

        ``unmet`` says what is missing. KeyFault with its last words when it has not begun to hold within
        ``propagation_s``.
        """
        pause, started = threading.Event(), time.monotonic()
        holding_since: float | None = None
        while True:
            reason = unmet()
            now = time.monotonic() - started
            if reason:
                holding_since = None
                if now > self.propagation_s:
                    late = f"{what}: not within {self.propagation_s:g} s: {reason}"
                    raise KeyFault(late, where=where, action=action)
            else:
                holding_since = now if holding_since is None else holding_since
                if now - holding_since >= steady_s:
                    return holding_since
            pause.wait(self.every_s)
