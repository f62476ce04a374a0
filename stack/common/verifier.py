"""The token verifier of every service: ES256 only, known kid, strict claims, each token once."""

import itertools
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from stack.common.database import Database
from stack.common.keys import SIGNATURE_BYTES, PublicKey, Unverified, take_apart

TIERS = ("free", "pro", "enterprise")
TIER_POOLS: dict[str, tuple[str, ...]] = {
    "free": ("cheap",),
    "pro": ("cheap", "fast-code", "reviewer"),
    "enterprise": ("cheap", "fast-code", "reviewer", "reasoning", "architect"),
}
POOLS = TIER_POOLS["enterprise"]

USER_CLAIMS = ("iss", "aud", "sub", "tenant_id", "tier", "pool_id", "allowed_pools", "iat", "exp", "jti")
S2S_CLAIMS = ("iss", "aud", "iat", "exp", "jti")
FINN_CLAIMS = ("iss", "aud", "sub", "tenant_id", "tier", "req_hash", "iat", "exp", "jti")

SKEW_S = 30
MAX_LIFETIME_S = 3600
_FOREIGN_KEYS = ("jku", "x5c", "x5u")
# A verified token lives an hour at most, and 30 s of skew on either side.
_KEEP_AT_MOST_S = 3600 + 120
_SWEEP_EVERY = 500

_WORD = re.compile(r"[\x21-\x7e]{1,256}")
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Claims:
    """Verified claims. Asking for one that the issuer need not give raises KeyError."""

    raw: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        """`iss`."""
        return str(self.raw["iss"])

    @property
    def subject(self) -> str:
        """`sub`: the wallet."""
        return str(self.raw["sub"])

    @property
    def tenant_id(self) -> str:
        """`tenant_id`: the community that pays."""
        return str(self.raw["tenant_id"])

    @property
    def tier(self) -> str:
        """`tier`."""
        return str(self.raw["tier"])

    @property
    def pool_id(self) -> str:
        """`pool_id`: the default pool."""
        return str(self.raw["pool_id"])

    @property
    def allowed_pools(self) -> tuple[str, ...]:
        """`allowed_pools`, as the token has them."""
        return tuple(self.raw["allowed_pools"])

    @property
    def effective_pools(self) -> tuple[str, ...]:
        """Tier ∩ `allowed_pools`, in the tier's order."""
        return tuple(pool for pool in TIER_POOLS[self.tier] if pool in self.allowed_pools)

    @property
    def jti(self) -> str:
        """`jti`."""
        return str(self.raw["jti"])

    @property
    def expires_at(self) -> float:
        """`exp`, epoch seconds."""
        return float(self.raw["exp"])

    @property
    def is_admin(self) -> bool:
        """`role:"admin"`."""
        return self.raw.get("role") == "admin"

    def text(self, name: str) -> str | None:
        """Any further claim that is a string."""
        value = self.raw.get(name)
        return value if isinstance(value, str) else None


def well_formed(claims: Mapping[str, Any]) -> bool:
    """Whether every claim that is present has the type and shape that the contract gives it."""
    return all(rule(claims[name]) for name, rule in _RULES.items() if name in claims)


def audience_includes(claims: Mapping[str, Any], audience: str) -> bool:
    """Whether `aud`, a string or an array of strings (RFC 7519), names the audience."""
    value = claims.get("aud")
    return audience in value if isinstance(value, list) else value == audience


def _word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _uuid4(value: Any) -> bool:
    return isinstance(value, str) and _UUID4.fullmatch(value) is not None


def _moment(value: Any) -> bool:
    # A bound instead of math.isfinite: an integer beyond all floats makes that raise.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _pools(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(pool, str) for pool in value)


def _hash(value: Any) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


_RULES = {
    "sub": _word,
    "tenant_id": _word,
    "tier": lambda value: value in TIERS,
    "pool_id": _word,
    "allowed_pools": _pools,
    "iat": _moment,
    "exp": _moment,
    "nbf": _moment,
    "jti": _uuid4,
    "req_hash": _hash,
}


class KeySource(Protocol):
    """Where to find the keys of one issuer."""

    async def find(self, kid: str) -> PublicKey | None:
        """The key of that kid."""
        ...


class TokenRefused(Exception):
    """The credential is refused; `case` is the reason: for the log and Finn's codes, not for every caller."""

    def __init__(self, case: str) -> None:
        super().__init__(case)
        self.case = case


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are accepted: the keys, and the claims that must be there."""

    keys: KeySource
    required: tuple[str, ...]


class Verifier:
    """Verifies bearer tokens of one audience; every rule that refuses one has a name, the case."""

    skew_s: float = SKEW_S

    def __init__(self, audience: str, issuers: Mapping[str, Issuer]) -> None:
        self._audience = audience
        self._issuers = issuers

    async def verify(self, authorization: str | None) -> Claims:
        """The claims of the bearer token in an Authorization header; raises TokenRefused."""
        token = _bearer(authorization)
        issuer = self._issuer(token.claims)
        await self._check_signature(token, issuer)
        self._check_claims(token.claims, issuer)
        return Claims(token.claims)

    def _issuer(self, claims: Mapping[str, Any]) -> Issuer:
        name = claims.get("iss")
        _require(name, "missing-iss")
        if not isinstance(name, str) or name not in self._issuers:
            raise TokenRefused("wrong-iss")
        return self._issuers[name]

    async def _check_signature(self, token: Unverified, issuer: Issuer) -> None:
        header, kid = token.header, token.header.get("kid")
        _require(header.get("alg") != "none", "alg-none")
        # The algorithm confusion: HMAC keyed with the public key that everybody can read.
        _require(header.get("alg") != "HS256", "hs256-public-key")
        _require(header.get("alg") == "ES256" and header.get("typ", "JWT") == "JWT", "wrong-algorithm")
        _require("jwk" not in header, "embedded-jwk")
        _require(not any(name in header for name in _FOREIGN_KEYS), "jku")
        _require("crit" not in header, "crit")
        if not isinstance(kid, str) or not kid:
            raise TokenRefused("no-kid")
        key = await self._find(issuer, kid)
        if key is None:
            raise TokenRefused("unknown-kid")
        _require(len(token.signature) == SIGNATURE_BYTES, "truncated-signature")
        _require(key.verifies(token.signing_input, token.signature), "tampered-signature")

    async def _find(self, issuer: Issuer, kid: str) -> PublicKey | None:
        return await issuer.keys.find(kid)

    def _check_claims(self, claims: Mapping[str, Any], issuer: Issuer) -> None:
        for name in issuer.required:
            _require(claims.get(name) not in (None, ""), f"missing-{name}")
        _require(well_formed(claims), "malformed-claims")
        _require(audience_includes(claims, self._audience), "wrong-aud")
        now, issued, expires = time.time(), claims["iat"], claims["exp"]
        _require(expires >= now - self.skew_s, "expired")
        _require(claims.get("nbf", now) <= now + self.skew_s, "nbf-future")
        _require(issued <= now + self.skew_s, "iat-future")
        _require(expires - issued <= MAX_LIFETIME_S, "exp-too-long")


class SpentTokens:
    """The jtis seen at one service, per issuer; in PostgreSQL, so that they survive a restart.

    Every verified token is spent once, on any route (contract 1.1).
    """

    def __init__(self, db: Database, schema: str) -> None:
        self._db = db
        self._table = f"{schema}.spent_tokens"
        self._calls = itertools.count(1)

    async def spend(self, claims: Claims, route: str) -> bool:  # noqa: ARG002
        """Record the token, whatever the route; False if its jti was spent before."""
        return await self._record(claims, claims.jti)

    async def _record(self, claims: Claims, jti: str) -> bool:
        if next(self._calls) % _SWEEP_EVERY == 0:
            await self._db.execute(f"DELETE FROM {self._table} WHERE expires_at < now()")
        until = min(claims.expires_at, time.time() + _KEEP_AT_MOST_S) + 60
        statement = (
            f"INSERT INTO {self._table} (issuer, jti, expires_at) VALUES (%s, %s, to_timestamp(%s)) "
            "ON CONFLICT DO NOTHING"
        )
        return await self._db.execute(statement, claims.issuer, jti, until) == 1


def _bearer(authorization: str | None) -> Unverified:
    """The token of the header, taken apart."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    _require(authorization is not None, "no-token")
    _require(token.strip() or scheme.lower() not in ("", "bearer"), "empty")
    _require(scheme.lower() == "bearer", "other-scheme")
    try:
        return take_apart(token.strip())
    except ValueError:
        raise TokenRefused("garbage") from None


def _require(holds: object, case: str) -> None:
    if not holds:
        raise TokenRefused(case)
