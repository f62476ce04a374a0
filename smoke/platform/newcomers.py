"""New agents of this run: a stock with scores, read when the run begins."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
from pytest_readiness import SetupError

from .backends import Dixie
from .batch import at_once
from .http import wait
from .spend import Once

#: So many agents are made, by the rating that gives each its score: as many as the checks of the loop move.
_MADE = {"bad": 14, "good": 1}
#: When an agent is looked at for its first score, in parts of what a look too early costs.
_LOOKS = (0.04, 0.04, 0.08, 0.16, 0.32)


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
        """Fill the stock unless it is full; return its content.

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
            wait(share * self._cache_s)
            if self._dixie.score(agent) is not None:
                self._once.remember("first-score", took_s=time.monotonic() - started)
                return True
        return False

    def take(self, number: int, fits: Callable[[float], bool]) -> dict[str, float]:
        """Take this many agents with their scores from the stock, for one check only; none if too few fit."""
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

    def give_time(self, since: float | None = None) -> bool:
        """Wait for as long as events took last, from ``since`` (default: now, on the monotonic clock).

        False where that is not known, or a reading tells it.
        """
        if not self.prepare()["scored"]:
            return False
        took = float(self._once.remembered("first-score")[-1]["took_s"])
        passed = time.monotonic() - since if since else 0
        wait(max(0, min(2 * took, self._cache_s) - passed))
        return True


def newcomer() -> str:
    """Return the name of an agent that no one has used before."""
    return f"smoke-new-{uuid.uuid4().hex[:12]}"


def odd_names() -> dict[str, str]:
    """New names, by what a parser could mistake them for: a number, a flag, a part of the routing key."""
    number, word = uuid.uuid4().int, newcomer()
    return {
        "digits alone": f"{number}"[:12],
        "digits behind zeros": f"00{number}"[:12],
        "digits and an e": f"1{number % 10**8:08}e7",
        "hexadecimal digits": f"0x{number:032x}"[:14],
        "the letters of nft first": f"nft-{word}",
        "a hyphen first and an underscore last": f"-{word}_",
        "two of each sign": f"__{word}--",
        "capital letters": word.upper(),
    }
