"""Prompts of a chosen price, to stand exactly at the edge of a budget without draining it."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_readiness import SetupError

from .figures import nonce, prompt_for
from .freeside import Freeside

#: Two paddings that are far enough apart to see what a character costs.
SHORT, LONG = 0, 2000
#: The share of the room that a call at the edge takes: one fits, a second does not, and later runs have half.
FOR_ONE = 0.51
#: Stay clear of the limit of a request body.
MAX_PADDING = 100_000


@dataclass(frozen=True, slots=True)
class Prices:
    """What the cheapest pool charges by the length of the prompt, from two measured calls; µUSD."""

    least: int
    per_character: float

    @classmethod
    def learn(cls, freeside: Freeside, tenant: str) -> Prices:
        """Two paid calls of ``tenant``."""
        short, long = (
            freeside.invoke(tenant, prompt_for(nonce(), padding=padding)).usage.cost_micro
            for padding in (SHORT, LONG)
        )
        return cls(short, max(0.0, (long - short) / (LONG - SHORT)))

    def padding_for(self, cost: float) -> int:
        """The padding whose prompt costs about ``cost``; SetupError when no prompt can cost that much."""
        if cost <= self.least:
            return 0
        padding = int((cost - self.least) / self.per_character) if self.per_character else MAX_PADDING + 1
        if padding > MAX_PADDING:
            raise SetupError(
                f"no prompt costs {cost:.0f} µUSD on the cheapest pool: "
                "give the small community a smaller budget"
            )
        return padding

    def padding_at_edge(self, room: int) -> int:
        """The padding of a prompt that fits once into ``room``, and leaves half of it to later runs."""
        return self.padding_for(max(self.least, room * FOR_ONE))

    def padding_beyond(self, room: int) -> int:
        """The padding of a prompt that costs more than ``room``, whatever its answer turns out to be."""
        return self.padding_for(1.5 * room + self.least)
