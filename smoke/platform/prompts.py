"""Prompts: a nonce that ties an answer to its prompt, and prompts of a chosen price."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pytest_readiness import SetupError

from smoke.contract.model import POOLS

from .freeside import Freeside

#: Two paddings that are far enough apart to see what a character costs.
SHORT, LONG = 0, 2000
#: The share of the room that one call takes: one fits, a second does not, and later runs have half.
FOR_ONE = 0.51
#: Stay clear of the limit of a request body, 128 KiB.
MAX_PADDING = 120 * 1024


def nonce() -> str:
    """A word that no other prompt contains; always the same length, so that equal prompts cost the same."""
    return f"nonce{secrets.token_hex(6)}"


def prompt_for(word: str = "", *, padding: int = 0, times: int = 1) -> str:
    """A prompt whose right answer contains ``word`` so many ``times``; padding makes it cost more.

    The default is a nonce of its own.
    """
    word = word or nonce()
    prompt = f"Reply with exactly this word and nothing else: {word}"
    if times > 1:
        prompt = f"Reply with exactly this word, {times} times, each on a line of its own: {word}"
    return prompt if padding <= 0 else f"{'pad ' * math.ceil(padding / 4)}\n{prompt}"


class PriceOutOfReach(SetupError):
    """No prompt of a pool costs as much as is wanted."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a pool charges by the length of the prompt, from two measured calls; µUSD."""

    least: int
    per_character: float
    pool: str = POOLS[0]

    @classmethod
    def learn(cls, freeside: Freeside, tenant: str, pool: str = POOLS[0]) -> Prices:
        """Two paid calls of ``tenant``."""
        short, long = (
            freeside.invoke(tenant, prompt_for(padding=padding), model=pool).usage.cost_micro
            for padding in (SHORT, LONG)
        )
        return cls(short, max(0.0, (long - short) / (LONG - SHORT)), pool)

    @classmethod
    def reaching(
        cls, freeside: Freeside, tenant: str, padding: Callable[[Prices], int]
    ) -> tuple[Prices, int]:
        """The cheapest pool that has a prompt of the wanted price, and that prompt's padding."""
        for pool in POOLS[:-1]:
            prices = cls.learn(freeside, tenant, pool)
            with suppress(PriceOutOfReach):
                return prices, padding(prices)
        prices = cls.learn(freeside, tenant, POOLS[-1])
        return prices, padding(prices)

    def padding_for(self, cost: float) -> int:
        """The padding whose prompt costs about ``cost``; PriceOutOfReach when none can cost that much."""
        if cost <= self.least:
            return 0
        padding = int((cost - self.least) / self.per_character) if self.per_character else MAX_PADDING + 1
        if padding > MAX_PADDING:
            raise PriceOutOfReach(
                f"no prompt costs {cost:.0f} µUSD on the pool {self.pool}: "
                "give the small community a smaller budget"
            )
        return padding

    def padding_for_one(self, room: int) -> int:
        """The padding of a prompt that fits once into ``room``, and leaves half of it to later runs."""
        return self.padding_for(max(self.least, room * FOR_ONE))

    def padding_beyond(self, room: int) -> int:
        """The padding of a prompt that costs more than ``room``, whatever its answer turns out to be."""
        return self.padding_for(1.5 * room + self.least)
