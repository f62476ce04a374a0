"""The token verifier of every service: ES256 only, known kid, strict claims, each token once."""

from __future__ import annotations

import hmac
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from stack.common.claims import Claims, audience_includes, well_formed
from stack.common.jose import SIGNATURE_BYTES, PublicKey, Unverified, take_apart
from stack.faults.grudge import Grudge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.common.context import Context
    from stack.faults.switch import Faults

SKEW_S = 30
MAX_LIFETIME_S = 3600
_FOREIGN_KEYS = ("jwk", "jku", "x5c", "x5u")


class KeySource(Protocol):
    """Where the keys of one issuer are found."""

    async def find(self, kid: str) -> PublicKey | None:
        """The key of that kid."""
        ...


class TokenRefused(Exception):
    """The credential is refused; `case` says why: for the log and Finn's codes, not for every caller."""

    def __init__(self, case: str) -> None:
        super().__init__(case)
        self.case = case


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are accepted: the keys, and the claims that must be there."""

    keys: KeySource
    required: tuple[str, ...]


class Verifier:
    """Verifies bearer tokens of one audience.

    Each refusal can be switched off by the fault `<service>-accepts-<case>`; the verifier then goes on as an
    implementation without that check would: it believes the token.
    """

    def __init__(self, service: str, audience: str, issuers: Mapping[str, Issuer], faults: Faults) -> None:
        self._service = service
        self._audience = audience
        self._issuers = issuers
        self._faults = faults
        self._blind_until = 0.0
        self._grudge = Grudge(faults, service)

    async def verify(self, authorization: str | None) -> Claims:
        """The claims of the bearer token in an Authorization header; raises TokenRefused."""
        try:
            claims = await self._verified(authorization)
        except TokenRefused:
            self._grudge.refused()
            raise
        if self._grudge.bears():
            raise TokenRefused("grudge")
        return claims

    async def _verified(self, authorization: str | None) -> Claims:
        scheme, _, token = (authorization or "").strip().partition(" ")
        if authorization is None:
            return self._anonymous("no-token")
        if not token.strip() and scheme.lower() in ("", "bearer"):
            return self._anonymous("empty")
        if scheme.lower() != "bearer":
            return self._anonymous("other-scheme")
        try:
            unverified = take_apart(token.strip())
        except ValueError:
            return self._anonymous("garbage")
        issuer = self._issuer(unverified)
        await self._check_signature(unverified, issuer)
        self._check_claims(unverified.claims, issuer)
        return Claims(unverified.claims)

    def _refuse(self, *cases: str) -> None:
        """Raise TokenRefused, unless a fault has switched one of these refusals off."""
        if not any(self._faults.on(f"{self._service}-accepts-{case}") for case in cases):
            raise TokenRefused(cases[0])

    def _anonymous(self, case: str) -> Claims:
        self._refuse(case)
        return Claims({"role": "admin"}, anonymous=True)

    def _issuer(self, token: Unverified) -> Issuer:
        issuer = token.claims.get("iss")
        if not issuer:
            self._refuse("missing-iss")
        elif not isinstance(issuer, str) or issuer not in self._issuers:
            self._refuse("wrong-iss")
        else:
            return self._issuers[issuer]
        return next(iter(self._issuers.values()))

    async def _check_signature(self, token: Unverified, issuer: Issuer) -> None:
        header = token.header
        kid = header.get("kid")
        if header.get("alg") == "none":
            return self._refuse("alg-none")
        if header.get("alg") == "HS256":
            return await self._check_confused(token, issuer)
        if header.get("alg") != "ES256" or header.get("typ", "JWT") != "JWT":
            self._fail("wrong-algorithm")
        if any(name in header for name in _FOREIGN_KEYS):
            return self._refuse("embedded-jwk" if "jwk" in header else "jku")
        if "crit" in header:
            self._refuse("crit")
        if not isinstance(kid, str) or not kid:
            return self._refuse("no-kid")
        key = await self._find(issuer, kid)
        if key is None:
            return self._refuse("unknown-kid")
        if len(token.signature) != SIGNATURE_BYTES:
            return self._refuse("truncated-signature")
        if not key.verifies(token.signing_input, token.signature):
            # Why a signature does not verify cannot be seen: to a verifier these three are one.
            self._refuse("tampered-signature", "tampered-payload", "other-key-known-kid")
        return None

    async def _check_confused(self, token: Unverified, issuer: Issuer) -> None:
        """The algorithm confusion: HMAC keyed with the public key that everybody can read."""
        self._refuse("hs256-public-key")
        key = await issuer.keys.find(str(token.header.get("kid", "")))
        for secret in (key.pem(), key.pem().strip()) if key else ():
            if hmac.compare_digest(hmac.digest(secret, token.signing_input, "sha256"), token.signature):
                return
        self._fail("wrong-algorithm")

    async def _find(self, issuer: Issuer, kid: str) -> PublicKey | None:
        now = time.monotonic()
        blindness = self._faults.number(f"{self._service}-unknown-kid-evicts-keys", "seconds", 5.0)
        if blindness is not None and now < self._blind_until:
            return None
        key = await issuer.keys.find(kid)
        if key is None and self._faults.on(f"{self._service}-trusts-any-issuers-key"):
            found = [await other.keys.find(kid) for other in self._issuers.values()]
            key = next(filter(None, found), None)
        if key is None and blindness is not None:
            self._blind_until = now + blindness
        return key

    def _check_claims(self, claims: dict[str, Any], issuer: Issuer) -> None:
        for name in issuer.required:
            if claims.get(name) in (None, ""):
                self._refuse(f"missing-{name}", *(("no-exp",) if name == "exp" else ()))
                claims.pop(name, None)
        if not well_formed(claims):
            self._fail("malformed-claims")
        if "aud" in claims and not audience_includes(claims, self._audience):
            self._refuse("wrong-aud")
        self._check_times(claims)

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, skew = time.time(), self._skew()
        issued, expires = claims.get("iat", now), claims.get("exp", now)
        if expires < now - skew:
            self._refuse("expired")
        if claims.get("nbf", now) > now + skew:
            self._refuse("nbf-future")
        if issued > now + skew:
            self._refuse("iat-future")
        if expires - issued > MAX_LIFETIME_S:
            self._refuse("exp-too-long")

    def _skew(self) -> float:
        if self._faults.on(f"{self._service}-tolerates-no-skew"):
            return 0
        wide = self._faults.number(f"{self._service}-tolerates-any-skew", "seconds", 600)
        return SKEW_S if wide is None else wide

    def _fail(self, case: str) -> NoReturn:
        raise TokenRefused(case)


# A verified token lives an hour at most, and 30 s of skew on either side.
_KEEP_AT_MOST_S = 3600 + 120
_SWEEP_EVERY = 500


class SpentTokens:
    """The jtis seen, per issuer and not per tenant; in PostgreSQL, so that a restart forgets nothing."""

    def __init__(self, context: Context, schema: str) -> None:
        self._context = context
        self._table = f"{schema}.spent_tokens"
        self._calls = itertools.count(1)
        self._memory: set[str] = set()

    async def spend(self, claims: Claims, route: str) -> bool:
        """Record the token, whatever the route; False if its jti was spent before."""
        service, faults = self._context.settings.service, self._context.faults
        if faults.on(f"{service}-accepts-jti-replay"):
            return True
        jti = claims.jti
        if faults.on(f"{service}-jti-per-tenant"):
            jti = f"{claims.tenant_id}:{jti}"
        if faults.on(f"{service}-jti-per-route"):
            jti = f"{route}:{jti}"
        if faults.on(f"{service}-jti-in-memory"):
            fresh = jti not in self._memory
            self._memory.add(jti)
            return fresh
        if next(self._calls) % _SWEEP_EVERY == 0:
            await self._context.db.execute(f"DELETE FROM {self._table} WHERE expires_at < now()")
        until = min(claims.expires_at, time.time() + _KEEP_AT_MOST_S) + 60
        return (
            await self._context.db.execute(
                f"INSERT INTO {self._table} (issuer, jti, expires_at) VALUES (%s, %s, to_timestamp(%s)) "
                "ON CONFLICT DO NOTHING",
                claims.issuer,
                jti,
                until,
            )
            == 1
        )
