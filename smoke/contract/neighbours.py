"""Values that derived checks try: near a good one, and on both sides of every limit.

Also calls that the contract refuses: near a good one, or to a pool out of the token's reach.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Generic, TypeVar

from .model import MAX_BODY_BYTES, MAX_KEY_CHARS, POOLS, TIER_POOLS, Schema
from .schemas import violations

T = TypeVar("T")
#: Longer than any value that the contract compares, short enough for a header.
LONG = 2000
#: The number of values in one set that share their neighbours.
SHARES = 4
#: Letters that Unicode case folding maps to an ASCII letter.
_FOLDING = {"s": "ſ", "k": "\u212a", "i": "ı", "a": "а", "e": "е", "o": "о"}
#: Names that every JavaScript object has: a service that uses one as a look-up table finds them. Firewalls
#: treat `__proto__` as an attack.
OF_OBJECTS = ("constructor", "toString")
#: Neighbours that are the same for every value.
FIXED = frozenset({"pattern", *OF_OBJECTS})
#: Separators that a store may treat as equal.
_SEPARATORS = str.maketrans("-_", "_-")


@dataclass(frozen=True, slots=True)
class Near(Generic[T]):
    """A neighbour, with a short name for the difference."""

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
        ("plus-inside", f"{value[:middle]}+{value[middle:]}"),
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
        ("sql-pattern", value[:-1] + "%"),
        ("sql-letter", value[:-1] + "_"),
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
        *((name, name) for name in OF_OBJECTS),
        ("empty", ""),
        ("blank", " "),
    ):  # fmt: skip
        found.setdefault(text, name)
    return [Near(name, text) for text, name in found.items() if text != value]


def _folded(value: str) -> str:
    """The string with one letter replaced by a letter that Unicode folds to it or that looks like it."""
    place = next((n for n, letter in enumerate(value.lower()) if letter in _FOLDING), None)
    return value if place is None else value[:place] + _FOLDING[value[place].lower()] + value[place + 1 :]


def shared(found: Sequence[T], number: int) -> Sequence[T]:
    """The neighbours to try for the value with that number, among values that one comparison decides.

    The first value gets all of them; the other values share them.
    """
    return found[number % SHARES :: SHARES] if number else found


def types(value: Any) -> list[Near[Any]]:
    """Values of other JSON types that a lenient reader may accept as the value."""
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

    ``other`` is a value that must not pass, for a repeated member.
    """
    rest = {key: value for key, value in members.items() if key != name}
    yield Near("missing", json.dumps(rest))
    for near in values(members[name]):
        yield Near(near.name, json.dumps(rest | {name: near.value}))
    yield Near("twice-last-other", twice(members, name, other))
    yield Near("name-upper-case", json.dumps(rest | {name.upper(): members[name]}))
    yield Near("name-with-space", json.dumps(rest | {f"{name} ": members[name]}))


def twice(members: Mapping[str, Any], name: str, last: Any) -> str:
    """The object as text, with a member repeated: a reader that uses the last one reads ``last``."""
    return f"{json.dumps(dict(members))[:-1]}, {json.dumps(name)}: {json.dumps(last)}}}"


@dataclass(frozen=True, slots=True)
class Limit:
    """A closed range: values outside it are refused. ``step`` is the smallest difference."""

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
KEY_HEADER = "X-Idempotency-Key"
#: Nested deeper, and a number longer, than a parser should accept.
DEPTH, DIGITS = 1000, 10_000
#: Media types that are not application/json, though some are spelled like it.
_OTHER_MEDIA = (
    *("text/plain", "text/json", "text/html", "application/jso", "application/jsonx", "application/json5"),
    *("x-application/json", "application/javascript", "application/xml", "application/octet-stream", "json"),
    *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json-seq"),
)

_OVERRIDDEN = dict.fromkeys(("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"), "POST")


@dataclass(frozen=True, slots=True)
class BadCall:
    """One request with one thing wrong, and the statuses that refuse it. Several pieces are sent chunked."""

    name: str
    body: Sequence[bytes]
    statuses: tuple[int, ...] = (400,)
    headers: Mapping[str, str | bytes] = field(default_factory=dict)
    method: str = "POST"

    @property
    def content(self) -> bytes | Sequence[bytes]:
        """The body that is sent."""
        return self.body if len(self.body) > 1 else b"".join(self.body)


def variants(value: Any, schema: Schema) -> Iterator[Near[Any]]:
    """The value with one of its members missing, of another type or, where it is one of a set, misspelled."""
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name not in value:
                continue
            rest = {other: content for other, content in value.items() if other != name}
            yield Near(f"{name} missing", rest)
            yield from (
                Near(f"{name} {near.name}", rest | {name: near.value}) for near in variants(value[name], part)
            )
    elif isinstance(value, list) and value:
        yield from types(value)
        for near in variants(value[0], schema.get("items", {})):
            yield Near(f"item {near.name}", [near.value, *value[1:]])
    elif "enum" in schema:
        yield from values(value)
    else:
        yield from types(value)
        yield from (
            Near(name, text) for name, text in (("empty", ""), ("blank", " "), ("white-space", "\t\r\n "))
        )


def bad_bodies(good: Mapping[str, Any], schema: Schema) -> Iterator[BadCall]:
    """Every variant that the schema refuses; a `null` for an optional member is left to the service."""
    optional = {f"{name} null" for name in schema["properties"] if name not in schema["required"]}
    for near in variants(dict(good), schema):
        if near.name not in optional and any(violations(near.value, schema)):
            yield BadCall(near.name, [json.dumps(near.value).encode()])


def not_json(good: Mapping[str, Any], member: str) -> Iterator[BadCall]:
    """Bodies that are not a JSON object, or that no reader should accept; ``member`` is a good member."""
    text = json.dumps(good)
    bodies = {
        "empty": "", "null": "null", "true": "true", "number": "1", "text": json.dumps(text),
        "empty list": "[]", "in a list": f"[{text}]", "empty object": "{}", "brace": "{",
        "cut short": text[:-1], "with a tail": text + "x", "with a brace more": text + "}",
        "twice": text + text, "single quotes": text.replace('"', "'"), "comment": text[:-1] + "/* */}",
        "trailing comma": text[:-1] + ",}", "bare name": text.replace(f'"{member}"', member),
        "a form": "&".join(f"{name}={value}" for name, value in good.items()),
    }  # fmt: skip
    contents = {
        "NaN": "NaN", "Infinity": "-Infinity", "undefined": "undefined", "hexadecimal": "0x10",
        "newline in a text": '"a\nb"', "bad escape": '"\\x41"', "beyond all floats": "1e999",
        "many digits": "9" * DIGITS, "deep lists": "[" * DEPTH + "]" * DEPTH,
        "deep objects": '{"a":' * DEPTH + "0" + "}" * DEPTH, "unclosed lists": "[" * DEPTH,
    }  # fmt: skip
    for name, content in contents.items():
        bodies[name] = json.dumps({**good, member: "\0"}).replace(json.dumps("\0"), content)
    for name, body in bodies.items():
        yield BadCall(f"body {name}", [body.encode()])


def bad_media(good: bytes) -> Iterator[BadCall]:
    """A good body under another media type."""
    for media in _OTHER_MEDIA:
        yield BadCall(f"content type {media}", [good], (400, 415), {"Content-Type": media})


def bad_methods(good: bytes) -> Iterator[BadCall]:
    """A good body by another method."""
    for method in ("PUT", "PATCH", "DELETE", "GET"):
        yield BadCall(f"method {method}", [good], (404, 405), method=method)
    # an old proxy lets any method through under another name
    yield BadCall("method GET, overridden", [good], (404, 405), _OVERRIDDEN, "GET")


def bad_sizes(good: bytes) -> Iterator[BadCall]:
    """Bodies beyond the limit whose excess costs nothing if accepted: white space, an extra member."""
    for name, size in (("a byte", 1), ("twice the limit", MAX_BODY_BYTES)):
        body = padded(good, MAX_BODY_BYTES + size)
        yield BadCall(f"body too large by {name}", [body], (413,))
    # the length is not announced
    chunks = [body[:MAX_BODY_BYTES], padded(b"", 1)]
    yield BadCall("body too large by a byte, chunked", chunks, (411, 413))
    # a third as many characters; the member may be what it is refused for
    text = json.dumps({**json.loads(good), "smoke": "\u20ac" * (MAX_BODY_BYTES // 3)}, ensure_ascii=False)
    yield BadCall("body too large in bytes, not in characters", [text.encode()], (400, 413))


def bad_keys(good: bytes) -> Iterator[BadCall]:
    """Invalid idempotency keys: not 1 to 128 printable ASCII characters."""
    keys: dict[str, str | bytes] = {"of no character": ""}
    keys |= {
        f"of {count} characters": "k" * count
        for count in (MAX_KEY_CHARS + 1, MAX_KEY_CHARS + 2, 255, 256, 1000)
    }
    keys |= {
        "with a tab": "a\tb",
        "in Latin-1": b"cl\xe9",
        "in UTF-8": "ключ".encode(),
        "with a no-break space": b"a\xa0b",
    }
    for name, key in keys.items():
        yield BadCall(f"key {name}", [good], headers={KEY_HEADER: key})


def padded(body: bytes, size: int) -> bytes:
    """The same JSON, padded with white space to that length."""
    return body + b" " * (size - len(body))


_DEFAULT = POOLS[0]
#: What a list of pools may hold besides pools: a name that a verifier does not know, or not yet.
NO_POOL = "no-pool-of-this-platform"


@dataclass(frozen=True, slots=True)
class Reach:
    """A token and the pool that its call requests: out of reach, so it must be refused."""

    name: str
    pool: str
    claims: Mapping[str, Any]
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Whether the token's own claims are valid, so that the refusal is for the pool and not for the token.
    ordinary: bool = True


def _claims(tier: str, allowed: Any, pool_id: str = _DEFAULT) -> dict[str, Any]:
    return {"tier": tier, "allowed_pools": allowed, "pool_id": pool_id}


def above_the_tier() -> Iterator[Reach]:
    """Every tier with every pool above it: allowed with all others, by itself, or as the token's own."""
    for tier, open_ in TIER_POOLS.items():
        for pool in POOLS[len(open_) :]:
            yield Reach(f"{tier} asks {pool}, all allowed", pool, _claims(tier, [*POOLS]))
            yield Reach(f"{tier} asks {pool}, both allowed", pool, _claims(tier, [_DEFAULT, pool]))
            for asked in (pool, _DEFAULT):
                own = _claims(tier, [*POOLS], pool_id=pool)
                yield Reach(f"{tier} asks {asked}, its own pool is {pool}", asked, own, ordinary=False)
            wide = _claims(tier, [*POOLS])
            yield Reach(f"{tier} asks {pool}, tier in the body", pool, wide, {"tier": "enterprise"})
            yield Reach(f"{tier} asks {pool}, tier in a header", pool, wide, headers={"X-Tier": "enterprise"})
            yield Reach(f"{tier} asks {pool}, as an admin", pool, {**wide, "role": "admin"})


def not_allowed() -> Iterator[Reach]:
    """Every pool of every tier with every list that leaves it out."""
    for tier, open_ in TIER_POOLS.items():
        for pool in open_[1:]:
            others = [one for one in open_[1:] if one != pool]
            for count in range(len(others) + 1):
                for some in combinations(others, count):
                    allowed = [_DEFAULT, *some]
                    yield Reach(
                        f"{tier} asks {pool}, allowed {'+'.join(allowed)}", pool, _claims(tier, allowed)
                    )
            narrow = _claims(tier, [_DEFAULT])
            yield Reach(f"{tier} asks {pool}, as an admin", pool, {**narrow, "role": "admin"})
            for name, value in {"allowed_pools": [*POOLS], "pool_id": pool}.items():
                yield Reach(f"{tier} asks {pool}, {name} in the body", pool, narrow, {name: value})
            yield Reach(
                f"{tier} asks {_DEFAULT}, its own pool {pool} is not allowed", _DEFAULT,
                _claims(tier, [_DEFAULT, *others], pool_id=pool), ordinary=False,
            )  # fmt: skip
    yield Reach(
        f"enterprise asks {_DEFAULT}, nothing allowed", _DEFAULT, _claims("enterprise", []), ordinary=False
    )


def of_no_pool() -> Iterator[Reach]:
    """Tokens with a misspelled pool_id: it must be one of their pools, whatever is requested (1.1)."""
    for near in strings(_DEFAULT):
        own = _claims("enterprise", [*POOLS], pool_id=near.value)
        yield Reach(f"asks {_DEFAULT}, its own pool {near.name}", _DEFAULT, own, ordinary=False)


def own_pool_elsewhere() -> Iterator[Near[Mapping[str, Any]]]:
    """Claims whose pool_id is outside their effective pools: the token is invalid on any route (1.1)."""
    for reach in (*above_the_tier(), *not_allowed(), *of_no_pool()):
        if not reach.ordinary and reach.pool == _DEFAULT:
            yield Near(reach.name.replace(f"asks {_DEFAULT}, ", ""), reach.claims)


def of_all_lists() -> Iterator[tuple[Mapping[str, Any], set[str]]]:
    """Claims of every tier with every list of pools that leaves it one, and their effective pools (1.1).

    A name in the list that is no pool's leaves the others as they are.
    """
    for tier, open_ in TIER_POOLS.items():
        for count in range(1, len(POOLS) + 1):
            for allowed in combinations(POOLS, count):
                effective = [pool for pool in open_ if pool in allowed]
                if effective:
                    yield _claims(tier, [*reversed(allowed)], pool_id=effective[-1]), {*effective}
        yield _claims(tier, [NO_POOL, *open_]), {*open_}
        yield _claims(tier, [*open_, NO_POOL]), {*open_}


def misspelled() -> Iterator[Reach]:
    """Lists that hold a pool's neighbours, but not the pool."""
    for number, pool in enumerate(POOLS[1:]):
        for near in shared(strings(pool), number):
            claims = _claims("enterprise", [_DEFAULT, near.value])
            yield Reach(f"asks {pool}, allowed {near.name}", pool, claims, ordinary=False)
        joined, both = f"{_DEFAULT},{pool}", {_DEFAULT: True, pool: True}
        for name, allowed in (
            ("a text", joined), ("words", f"{_DEFAULT} {pool}"), ("an object", both),
            ("a joined item", [joined]), ("a list in a list", [_DEFAULT, [pool]]),
        ):  # fmt: skip
            yield Reach(
                f"asks {pool}, allowed as {name}", pool, _claims("enterprise", allowed), ordinary=False
            )


def direct() -> Iterator[Reach]:
    """Tokens towards Finn whose pool is above their tier, or does not exist."""
    for tier, open_ in TIER_POOLS.items():
        for pool in POOLS[len(open_) :]:
            claims = {"tier": tier, "pool_id": pool}
            yield Reach(f"{tier} with the pool {pool}", pool, claims)
            yield Reach(f"{tier} with the pool {pool}, as an admin", pool, {**claims, "role": "admin"})
    for near in strings(_DEFAULT):
        yield Reach(f"the pool {near.name}", "", {"pool_id": near.value}, ordinary=False)
