"""The limits of the contract, and the values just inside and just outside of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .model import MAX_BODY_BYTES, MAX_KEY_CHARS, MAX_LIFETIME_S, SKEW_S


@dataclass(frozen=True, slots=True)
class Limit:
    """A closed range: what is beyond it is refused. ``step`` is the least difference."""

    name: str
    low: float
    high: float
    step: float = 1

    def edges(self) -> list[tuple[float, bool]]:
        """The values at both ends and just beyond them, and whether they are inside."""
        ends = {self.low: True, self.high: True, self.low - self.step: False, self.high + self.step: False}
        return sorted((value, inside) for value, inside in ends.items() if math.isfinite(value))


#: Sizes, counts and scores (contract 1.2, 1.3, 3). A length below 0 is none.
LIMITS = {
    limit.name: limit
    for limit in (
        Limit("idempotency-key-characters", 1, MAX_KEY_CHARS),
        Limit("body-bytes", -math.inf, MAX_BODY_BYTES),
        Limit("score", 0, 1, 1e-9),
    )
}


@dataclass(frozen=True, slots=True)
class Times:
    """Times of a token, in whole seconds of the epoch, with a name for how they lie and the rule of it."""

    name: str
    rule: str
    claims: Mapping[str, int]
    inside: bool


_HOUR = MAX_LIFETIME_S
#: Times that are wrong by any clock, in seconds from now.
FAR_TIMES: Mapping[str, Mapping[str, int]] = {
    "expired": {"iat": -1200, "exp": -900},
    "expired a lifetime ago": {"iat": -2 * _HOUR, "exp": -_HOUR},
    "not valid yet": {"nbf": 900, "exp": 1200},
    "issued in the future": {"iat": 900, "exp": 1200},
    "lives two hours": {"exp": 2 * _HOUR},
    "lives two hours, half of them over": {"iat": -_HOUR, "exp": _HOUR},
    "lives for years": {"exp": 10**9},
    "expires at the beginning of time": {"exp": -(10**10)},
}


def times(now: float, *, clocks_s: float = 0.0) -> Iterator[Times]:
    """Every time limit of a token (contract 1.1) from both sides, moving one of its times at a time.

    ``clocks_s`` is how far the verifier's clock may be from this one: so far off the limits are the values.
    """
    near, far = SKEW_S - clocks_s, SKEW_S + clocks_s
    start, hour = math.floor(now), MAX_LIFETIME_S
    yield Times(
        "expired-within-skew", "expiry", {"iat": start - 300, "exp": math.floor(now - near) + 1}, True
    )
    yield Times("expired-beyond-skew", "expiry", {"iat": start - 300, "exp": math.ceil(now - far) - 1}, False)
    early, late = math.floor(now + near), math.floor(now + far) + 1
    yield Times("issued-within-skew", "issued-at", {"iat": early, "exp": start + 300}, True)
    yield Times("issued-beyond-skew", "issued-at", {"iat": late, "exp": start + 300}, False)
    yield Times("starts-within-skew", "not-before", {"iat": start, "nbf": early, "exp": start + 300}, True)
    yield Times("starts-beyond-skew", "not-before", {"iat": start, "nbf": late, "exp": start + 300}, False)
    yield Times(
        "started-long-ago", "not-before", {"iat": start, "nbf": start - 10 * hour, "exp": start + 300}, True
    )
    for name, begin in (("issued-now", start), ("issued-half-an-hour-ago", start - hour // 2)):
        yield Times(f"{name}-lives-an-hour", "lifetime", {"iat": begin, "exp": begin + hour}, True)
        yield Times(f"{name}-lives-a-second-more", "lifetime", {"iat": begin, "exp": begin + hour + 1}, False)
    yield Times(
        "issued-long-ago-expires-soon", "lifetime", {"iat": start - hour + 60, "exp": start + 61}, False
    )
