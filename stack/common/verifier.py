"""The token verifier of every service: ES256 only, known kid, strict claims, each token once."""

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from stack.common.claims import Claims, audience_includes, well_formed
from stack.common.database import Database
from stack.common.jose import SIGNATURE_BYTES, PublicKey, Unverified, take_apart

SKEW_S = 30
MAX_LIFETIME_S = 3600
_FOREIGN_KEYS = ("jku", "x5c", "x5u")
# A verified token lives an hour at most, and 30 s of skew on either side.
_KEEP_AT_MOST_S = 3600 + 120
_SWEEP_EVERY = 500


class KeySource(Protocol):
    """Where the keys of one issuer are found."""

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
