"""The values that derived checks try: near to a good value, and on both sides of every limit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .model import MAX_BODY_BYTES, MAX_KEY_CHARS, MAX_LIFETIME_S, SKEW_S

T = TypeVar("T")
#: Longer than any value that the contract compares, short enough for a header.
LONG = 2000
#: Among how many values of one set their neighbours are shared.
SHARES = 4
#: Letters that Unicode folds to an ASCII one.
_FOLDING = {"s": "ſ", "k": "\u212a", "i": "ı", "a": "а", "e": "е", "o": "о"}
#: Separators that a store may take for each other.
_SEPARATORS = str.maketrans("-_", "_-")


@dataclass(frozen=True, slots=True)
class Near(Generic[T]):
    """A neighbour, with a short name for what distinguishes it."""

    name: str
    value: T


def strings(value: str) -> list[Near[str]]:
    """Other spellings of a string that is not empty; none is equal to it, and no two are equal."""
    swapped = value.swapcase()
    middle = len(value) // 2
    found = {value: "itself"}
    for name, text in (
        ("last-character-gone", value[:-1]),
        ("first-character-gone", value[1:]),
        ("half", value[:middle]),
        ("last-character-other", value[:-1] + ("x" if value[-1] != "x" else "y")),
        ("longer", value + "x"),
        ("longer-before", "x" + value),
        ("upper-case", value.upper()),
        ("lower-case", value.lower()),
        ("first-letter-case", swapped[:1] + value[1:]),
        ("last-letter-case", value[:-1] + swapped[-1:]),
        ("space-after", value + " "),
        ("space-before", " " + value),
        ("space-inside", f"{value[:middle]} {value[middle:]}"),
        ("two-spaces-inside", f"{value[:middle]}  {value[middle:]}"),
        ("tab-after", value + "\t"),
        ("newline-after", value + "\n"),
        ("nul-after", value + "\0"),
        ("nul-and-more", value + "\0x"),
        ("comma-list", f"{value},x"),
        ("space-list", f"x {value}"),
        ("dotted", value + ".x"),
        ("other-separators", value.translate(_SEPARATORS)),
        ("slash", value + "/"),
        ("wildcard", value[:-1] + "*"),
        ("pattern", "." * len(value)),
        ("percent-encoded", f"%{ord(value[0]):02X}{value[1:]}"),
        ("quoted", f'"{value}"'),
        ("folding-letter", _folded(value)),
        ("full-width", chr(ord(value[0]) + 0xFEE0) + value[1:] if "!" <= value[0] <= "~" else value),
        ("combining-mark", value + "\u0301"),
        ("zero-width-space", value + "\u200b"),
        ("byte-order-mark", "\ufeff" + value),
        ("leading-zero", "0" + value),
        ("twice", value * 2),
        ("very-long", value + "x" * LONG),
        ("empty", ""),
        ("blank", " "),
    ):  # fmt: skip
        found.setdefault(text, name)
    return [Near(name, text) for text, name in found.items() if text != value]


def _folded(value: str) -> str:
    """The first letter that has one replaced by the letter that Unicode folds or the eye takes for it."""
    place = next((n for n, letter in enumerate(value.lower()) if letter in _FOLDING), None)
    return value if place is None else value[:place] + _FOLDING[value[place].lower()] + value[place + 1 :]


def shared(found: Sequence[T], number: int) -> Sequence[T]:
    """The neighbours to try of the value with that number among values that one comparison decides on.

    All of the first one; the other values share them.
    """
    return found[number % SHARES :: SHARES] if number else found


def types(value: Any) -> list[Near[Any]]:
    """Values of other JSON types that a lenient reader may take for the value."""
    found: list[Near[Any]] = [
        Near("null", None),
        Near("in-a-list", [value]),
        Near("in-an-object", {"value": value}),
        Near("true", True),
        Near("false", False),
        Near("zero", 0),
        Near("one", 1),
        Near("empty-list", []),
        Near("empty-object", {}),
    ]
    if isinstance(value, list):
        found += [
            Near("joined", ",".join(map(str, value))),
            Near("first-alone", value[0] if value else ""),
            Near("list-of-numbers", [*range(len(value) or 1)]),
            Near("list-with-null", [*value, None]),
        ]
    if isinstance(value, int | float):
        found += [Near("as-text", str(value)), Near("as-object", {"$gt": 0})]
    return [near for near in found if type(near.value) is not type(value) or near.value != value]


def values(value: Any) -> list[Near[Any]]:
    """All neighbours of a JSON value: other types, and of a string its other spellings."""
    spelled: list[Near[Any]] = [*strings(value)] if isinstance(value, str) and value else []
    return spelled + types(value)


def documents(members: Mapping[str, Any], name: str, other: Any) -> Iterator[Near[str]]:
    """JSON objects, as text, in which one member is a neighbour of what it should be.

    ``other`` is a value that must not pass, for a member that is there twice.
    """
    rest = {key: value for key, value in members.items() if key != name}
    yield Near("missing", json.dumps(rest))
    for near in values(members[name]):
        yield Near(near.name, json.dumps(rest | {name: near.value}))
    yield Near("twice-last-other", twice(members, name, other))
    yield Near("name-upper-case", json.dumps(rest | {name.upper(): members[name]}))
    yield Near("name-with-space", json.dumps(rest | {f"{name} ": members[name]}))


def twice(members: Mapping[str, Any], name: str, last: Any) -> str:
    """The object as text, with a member there a second time: who takes the last one reads ``last``."""
    return f"{json.dumps(dict(members))[:-1]}, {json.dumps(name)}: {json.dumps(last)}}}"


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


#: Sizes, counts and scores (contract 1.2, 1.3, 3). No length is below 0.
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
