"""Figures: percentiles of measured values, and nonces that tie an answer to its prompt."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: always a value that was measured, never an interpolation.

    ValueError for an empty sample or a percent outside (0, 100].
    """
    if not values or not 0 < percent <= 100:
        raise ValueError(f"no percentile {percent} of {len(values)} values")
    ordered = sorted(values)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1]


def nonce() -> str:
    """A word that no other prompt contains; always the same length, so that equal prompts cost the same."""
    return f"nonce{secrets.token_hex(6)}"


def prompt_for(word: str, *, padding: int = 0, times: int = 1) -> str:
    """A prompt whose right answer contains ``word``, so many ``times``; padding makes it dearer."""
    prompt = f"Reply with exactly this word and nothing else: {word}"
    if times > 1:
        prompt = f"Reply with exactly this word, {times} times, each on a line of its own: {word}"
    return prompt if padding <= 0 else f"{'pad ' * math.ceil(padding / 4)}\n{prompt}"
