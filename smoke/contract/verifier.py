"""The reference verifier: the contract's verdict on a credential. It shares no code with any service.

``Open`` means that the contract does not decide: a platform may accept or refuse it. ``times`` are on both
sides of every time limit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from .model import MAX_LIFETIME_S, SKEW_S, TokenKind

#: The known keys, by kid: each verifies a 64-byte signature over the signed bytes.
Keys = Mapping[str, Callable[[bytes, bytes], bool]]
Claims = Mapping[str, Any]

SIGNATURE_BYTES = 64
_SEGMENT = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The credential is good."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The credential breaks a rule, by its name; it must not pass."""

    rule: str


@dataclass(frozen=True, slots=True)
class Open:
    """The contract does not decide; why."""

    why: str


Verdict = Accepted | Refused | Open


class _Broken(Exception):
    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def verify(
    header: str | None,
    kind: TokenKind,
    audience: str,
    keys: Keys,
    now: float,
    *,
    body: bytes = b"",
    skew_s: float = SKEW_S,
) -> Verdict:
    """The verdict on an Authorization header that should hold a token of that kind.

    ``now`` in epoch seconds; ``body`` is the body sent with a bound token. A broken rule takes precedence
    over an open question.
    """
    try:
        doubts = [*_doubts(header, kind, audience, keys, now, body, skew_s)]
    except _Broken as broken:
        return Refused(broken.rule)
    return Open(doubts[0]) if doubts else Accepted()


def _doubts(
    header: str | None, kind: TokenKind, audience: str, keys: Keys, now: float, body: bytes, skew_s: float
) -> Iterator[str]:
    match = re.fullmatch(r"(\w+)( +)(\S+) *", header or "", re.ASCII)
    if match is None or match[1].lower() != "bearer":
        _broken("credential")
    if match[1] != "Bearer" or match[2] != " " or header != header.strip():  # type: ignore[union-attr]
        yield "schemes are case-insensitive, and more than one space may follow (RFC 9110)"
    parts = match[3].split(".")
    _require(len(parts) == 3, "credential")
    head, claims, signature = (_decoded(part) for part in parts)
    yield from _stray_bits(parts)
    members, claimed = _object(head), _object(claims)
    yield from _header(members.last)
    _signature(members.last, f"{parts[0]}.{parts[1]}".encode(), signature, keys)
    yield from _claims(claimed.last, kind, audience)
    _times(claimed.last, now, skew_s)
    if kind.bound:
        yield from _binding(str(claimed.last["req_hash"]), f"sha256:{hashlib.sha256(body).hexdigest()}")
    if members.repeated or claimed.repeated:
        yield "if a name appears twice, the last value counts or the token is refused (RFC 7519)"


def _decoded(segment: str) -> bytes:
    _require(_SEGMENT.fullmatch(segment) is not None and len(segment) % 4 != 1, "encoding")
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _stray_bits(parts: list[str]) -> Iterator[str]:
    for part in parts:
        if base64.urlsafe_b64encode(_decoded(part)).rstrip(b"=").decode() != part:
            yield "unused bits of the last character may be ignored (RFC 4648)"


@dataclass(frozen=True, slots=True)
class _Members:
    """An object as read by a parser that uses the last of several members with one name."""

    last: Claims
    repeated: bool


def _object(text: bytes) -> _Members:
    repeated = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        repeated = repeated or len({name for name, _ in pairs}) < len(pairs)
        return dict(pairs)

    try:
        found = json.loads(text.decode(), object_pairs_hook=members, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _broken("credential")
    _require(isinstance(found, dict), "credential")
    return _Members(found, repeated)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _header(header: Claims) -> Iterator[str]:
    _require(header.get("alg") == "ES256", "algorithm")
    _require("crit" not in header, "critical")
    if header.get("typ") != "JWT":
        yield "the type may be omitted, and is case-insensitive (RFC 7519)"
    if {"jwk", "jku", "x5c", "x5u", "b64", "zip"} & set(header):
        yield "a parameter that is not understood may be ignored (RFC 7515)"


def _signature(header: Claims, signed: bytes, signature: bytes, keys: Keys) -> None:
    kid = header.get("kid")
    _require(isinstance(kid, str) and kid in keys, "key")
    _require(len(signature) == SIGNATURE_BYTES and keys[str(kid)](signed, signature), "signature")


def _claims(claims: Claims, kind: TokenKind, audience: str) -> Iterator[str]:
    for name in kind.required:
        _require(claims.get(name) is not None, "claims")
    _require(claims["iss"] == kind.issuer, "issuer")
    aud = claims["aud"]
    _require(audience in aud if isinstance(aud, list) else aud == audience, "audience")
    if isinstance(aud, list):
        yield "an audience may be an array (RFC 7519)"
    for name, schema in kind.claims.items():
        if claims.get(name) is None:
            if name in claims:
                yield f"{name} may be null, because it may be missing"
            continue
        _require(fits(claims[name], schema), "claims")
        if isinstance(claims[name], float):
            yield f"{name} may be a fraction (RFC 7519)"
        if isinstance(claims[name], str) and not claims[name].strip():
            yield f"a blank {name} may pass"
    if not all(isinstance(pool, str) for pool in claims.get("allowed_pools", ())):
        yield "values in allowed_pools that are not strings may be ignored"
    if isinstance(claims.get("jti"), str) and not _UUID.fullmatch(claims["jti"]):
        yield "the issuer chooses the form of a jti"


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a claim has the contract's type."""
    if "enum" in schema:
        return any(type(value) is type(each) and value == each for each in schema["enum"])
    if schema["type"] == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if schema["type"] == "array":
        return isinstance(value, list)
    return isinstance(value, str) and bool(value)


def _binding(named: str, right: str) -> Iterator[str]:
    _require(named.lower() == right, "binding")
    if named != right:
        yield "hexadecimal digits may be in either case"


def _times(claims: Claims, now: float, skew_s: float) -> None:
    issued, expires, starts = claims["iat"], claims["exp"], claims.get("nbf")
    _require(expires >= now - skew_s, "expiry")
    _require(starts is None or starts <= now + skew_s, "not-before")
    _require(issued <= now + skew_s, "issued-at")
    _require(expires <= issued + MAX_LIFETIME_S, "lifetime")


def _require(holds: bool, rule: str) -> None:
    if not holds:
        _broken(rule)


def _broken(rule: str) -> NoReturn:
    raise _Broken(rule)


@dataclass(frozen=True, slots=True)
class Times:
    """Times of a token, in whole epoch seconds, with a name and the rule that they test."""

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

    ``clocks_s`` is how far the verifier's clock may differ from this one, and so the distance of the values
    from the limits. That clock may count whole seconds.
    """
    near, far = SKEW_S - clocks_s, SKEW_S + clocks_s
    start, hour = math.floor(now), MAX_LIFETIME_S
    yield Times(
        "expired-within-skew", "expiry", {"iat": start - 300, "exp": math.floor(now - near) + 1}, True
    )
    yield Times(
        "expired-beyond-skew", "expiry", {"iat": start - 300, "exp": math.floor(now - far) - 1}, False
    )
    early, late = math.floor(now + near), math.floor(now + far) + 1
    yield Times("issued-within-skew", "issued-at", {"iat": early, "exp": start + 300}, True)
    # nbf does not replace another time
    yield Times("issued-beyond-skew", "issued-at", {"iat": late, "nbf": start, "exp": start + 300}, False)
    yield Times("starts-within-skew", "not-before", {"iat": start, "nbf": early, "exp": start + 300}, True)
    yield Times("starts-beyond-skew", "not-before", {"iat": start, "nbf": late, "exp": start + 300}, False)
    yield Times(
        "started-long-ago", "not-before", {"iat": start, "nbf": start - 10 * hour, "exp": start + 300}, True
    )
    yield Times("lives-for-half-a-minute", "lifetime", {"iat": start, "exp": start + 30}, True)
    for name, begin in (("issued-now", start), ("issued-half-an-hour-ago", start - hour // 2)):
        yield Times(f"{name}-lives-an-hour", "lifetime", {"iat": begin, "exp": begin + hour}, True)
        yield Times(f"{name}-lives-a-second-more", "lifetime", {"iat": begin, "exp": begin + hour + 1}, False)
    long_ago = {"iat": start - hour + 60, "nbf": start, "exp": start + 61}
    yield Times("issued-long-ago-expires-soon", "lifetime", long_ago, False)
