"""What a call costs, in µUSD: a pure function of pool and prompt.

The provider's answer follows from its prompt, so the price is known before the call: the
reservation is exactly the charge, and k calls fit into a budget for k.
"""

import re
from dataclasses import dataclass

_CHARS_PER_TOKEN = 4
# What the provider puts around the echo of a prompt.
_OVERHEAD_TOKENS = 8
_REPEATED = re.compile(r", ([1-9][0-9]?) times, [^:]*: (\S{1,80})$")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """The sum."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Price:
    """µUSD: per call, per prompt token, per completion token."""

    call: int
    prompt: int
    completion: int


PRICES = {
    "cheap": Price(2_000, 5, 10),
    "fast-code": Price(3_000, 10, 20),
    "reviewer": Price(4_000, 15, 30),
    "reasoning": Price(6_000, 30, 60),
    "architect": Price(8_000, 60, 120),
}


def tokens(text: str) -> int:
    """Four characters make a token; at least one."""
    return max(1, -(-len(text) // _CHARS_PER_TOKEN))


def answer_to(prompt: str) -> str:
    """What the provider answers: an echo, with the last word as many times as the prompt asks for it."""
    asked = _REPEATED.search(prompt)
    return prompt + f"\n{asked[2]}" * (int(asked[1]) - 1) if asked else prompt


def usage_of(prompt: str) -> Usage:
    """The usage of a complete call, known from its prompt."""
    return Usage(tokens(prompt), tokens(answer_to(prompt)) + _OVERHEAD_TOKENS)


def cost_micro(pool: str, usage: Usage) -> int:
    """The price of a call in µUSD, an integer of at least the pool's price per call."""
    price = PRICES[pool]
    return price.call + price.prompt * usage.prompt_tokens + price.completion * usage.completion_tokens
