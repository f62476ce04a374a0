"""Watching an agent's score: that it moves in time, or that it stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Protocol

import httpx

from .dixie import Dixie
from .wire import Evidence

#: How long a score that must not move is watched beyond what Dixie may serve from its cache.
WATCHED_S = 0.05
_EVERY_S = 0.025
#: A cached score is read so often at most while the cache holds it.
_READINGS_OF_A_CACHE = 20
_NEVER = Event()


class Eventually(Protocol):
    """The plugin's fixture: probes until something true comes, AssertionError at the deadline."""

    def __call__(
        self, probe: Callable[[], object], *, within: float, every: float = ..., what: str
    ) -> object:
        """The first true value."""


class Scores:
    """The public score of agents, as the loop's last link shows it."""

    def __init__(
        self, dixie: Dixie, evidence: Evidence, *, cache_s: float, limit_s: float, target_s: float
    ) -> None:
        self.dixie = dixie
        self.evidence = evidence
        self.cache_s = cache_s
        self.limit_s = limit_s
        self.target_s = target_s
        self.every_s = max(_EVERY_S, cache_s / _READINGS_OF_A_CACHE)

    def of(self, agent: str) -> float:
        """The score of a known agent; null is not a score."""
        score = self.dixie.score(agent)
        assert score is not None, f"{agent} has no score: the query answers null"
        return score

    def moved(self, agent: str, before: float, eventually: Eventually) -> float:
        """The first score that differs from ``before``; later than the target is a finding."""
        started = time.monotonic()
        found: list[float] = []

        def probe() -> bool:
            try:
                found.append(self.of(agent))
            except httpx.TransportError as error:
                self.evidence.note(f"a reading was lost on the way: {type(error).__name__}")
                return False
            return found[-1] != before

        eventually(
            probe,
            within=self.limit_s,
            every=self.every_s,
            what=f"the score of {agent} moves from {before:.6f}",
        )
        took = time.monotonic() - started
        self.evidence.figure("propagation", round(took, 2), "s", limit=self.limit_s)
        if took > self.target_s:
            late = f"finding: propagation beyond the target of {self.target_s} s"
            self.evidence.figure(late, round(took, 2), "s", limit=self.target_s)
            self.evidence.note(f"finding: propagation took {took:.1f} s, the target is {self.target_s} s")
        self.evidence.figure(f"score of {agent}", found[-1], expected=f"not {before}")
        return found[-1]

    def stays(self, agent: str, before: float, why: str) -> None:
        """Assert that the score is what it was, for as long as a change could be hidden by the cache."""
        deadline = time.monotonic() + self.cache_s + WATCHED_S
        while True:
            now = self.of(agent)
            assert now == before, f"the score of {agent} went from {before} to {now}: {why}"
            if time.monotonic() >= deadline:
                break
            _NEVER.wait(self.every_s)
        self.evidence.evaluated(f"the score of {agent} stays")
