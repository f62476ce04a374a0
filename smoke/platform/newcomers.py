"""Agents that this run is the first to name: scored and read early, so that no cache hides later events.

A score may be served from a cache for some seconds after it was read, and so may "none". An agent that was
read when the run began is read anew when a check of the loop has sent an event about it: events are sent
early and read late, and one wait serves every check.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any

import httpx
from pytest_readiness import SetupError

from .batch import at_once
from .dixie import Dixie
from .spend import Once

#: So many agents are made, by the rating that gives each its score: as many as the checks of the loop move.
_MADE = {"bad": 14, "good": 1}
#: When an agent is looked at for its first score, in parts of what a look too early costs.
_LOOKS = (0.04, 0.04, 0.08, 0.16, 0.32)
_NEVER = Event()


class Newcomers:
    """Agents of this run, one stock for all of its processes; none where nothing is cached.

    ``rate`` sends a rating of a quality about an agent. A platform need not score agents that it does not
    know, and an early rating may fail: then the stock is empty, and the checks of the loop do without.
    """

    def __init__(
        self, dixie: Dixie, once: Once, rate: Callable[[str, str], object], *, cache_s: float
    ) -> None:
        self._dixie = dixie
        self._once = once
        self._rate = rate
        self._cache_s = cache_s

    def prepare(self) -> dict[str, Any]:
        """Fill the stock, unless that was done; what it holds.

        ``scores`` by agent; ``asked``: an agent that has no event, with the score that it was read with;
        ``scored``: whether new agents are given a score.
        """
        with self._once.turn("newcomers"):
            if not self._once.remembered("newcomers"):
                self._once.remember("newcomers", **self._made())
            return self._once.remembered("newcomers")[0]

    def _made(self) -> dict[str, Any]:
        ratings = [(newcomer(), quality) for quality, number in _MADE.items() for _ in range(number)]
        asked, agents = newcomer(), [agent for agent, _ in ratings]
        made: dict[str, Any] = {"scores": {}, "asked": {}, "scored": False}
        if not self._cache_s:
            return made
        try:
            made["asked"] = {asked: self._dixie.score(asked)}
            at_once([partial(self._rate, agent, quality) for agent, quality in ratings])
            if self.first_score(lambda agent: self._rate(agent, "good")):
                scores = at_once([partial(self._dixie.score, agent) for agent in agents])
                made["scores"] = {
                    agent: score for agent, score in zip(agents, scores, strict=True) if score is not None
                }
                made["scored"] = True
        except (SetupError, AssertionError, httpx.HTTPError) as error:
            made["why"] = f"{type(error).__name__} when the run began"
        return made

    def first_score(self, send: Callable[[str], object]) -> bool:
        """Send an event about new agents and wait until one of them has a score; False where none shows.

        What was sent before has then come, too. Each is read once, as "none" is cached.
        """
        lookouts = [newcomer() for _ in _LOOKS]
        at_once([partial(send, agent) for agent in lookouts])
        started = time.monotonic()
        for agent, share in zip(lookouts, _LOOKS, strict=True):
            _NEVER.wait(share * self._cache_s)
            if self._dixie.score(agent) is not None:
                self._once.remember("first-score", took_s=time.monotonic() - started)
                return True
        return False

    def take(self, number: int, fits: Callable[[float], bool]) -> dict[str, float]:
        """So many agents of the stock and the score of each, for one check alone; none where too few fit."""
        stock = self.prepare()["scores"]
        with self._once.turn("newcomers"):
            taken = {entry["agent"] for entry in self._once.remembered("newcomer-taken")}
            left = [agent for agent, score in stock.items() if agent not in taken and fits(score)]
            if len(left) < number:
                return {}
            for agent in left[:number]:
                self._once.remember("newcomer-taken", agent=agent)
        return {agent: stock[agent] for agent in left[:number]}

    def asked_for(self) -> tuple[str, float | None]:
        """An agent without an event that was asked for, early where scores are cached; and its score then."""
        for agent, score in self.prepare()["asked"].items():
            return agent, score
        agent = newcomer()
        return agent, self._dixie.score(agent)

    def give_time(self) -> bool:
        """Wait for as long as events took last; False where that is not known, or a reading tells it."""
        if not self.prepare()["scored"]:
            return False
        took = float(self._once.remembered("first-score")[-1]["took_s"])
        _NEVER.wait(min(2 * took, self._cache_s))
        return True


def newcomer() -> str:
    """Return the name of an agent that no one has used before."""
    return f"smoke-new-{uuid.uuid4().hex[:12]}"
