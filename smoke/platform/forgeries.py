"""Forged tokens, and all other credentials that must be refused: each breaks exactly one rule.

Only here is a JWS put together by hand: what is honest, even with bad claims, is made by ``tokens``.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from jwt.utils import base64url_encode

from smoke.contract.model import SERVICES

from .tokens import Claims, SigningKey, bearer, mint

#: How far a forged time is from now: far beyond any clock skew that a verifier may allow.
FAR_S = 900
#: A lifetime beyond the limit of 3600 s (contract 1.1).
TOO_LONG_S = 7200


@dataclass(frozen=True, slots=True)
class Genuine:
    """What a credential that would be accepted is made of, and an attacker's key."""

    key: SigningKey
    claims: Claims
    attacker: SigningKey

    def resigned(self, claims: Mapping[str, Any]) -> str:
        """Other claims, properly signed."""
        return bearer(self.key, claims)

    def shifted(self, **changes: int) -> str:
        """Times moved to so many seconds from now, properly signed."""
        now = int(time.time())
        return self.resigned(self.claims | {name: now + delta for name, delta in changes.items()})


#: Signs the signing input of a JWS.
Sign = Callable[[bytes], bytes]
#: A forgery gives the Authorization header to send, or None for no header at all.
Forgery = Callable[[Genuine], str | None]


def _segment(members: Mapping[str, Any]) -> str:
    return base64url_encode(json.dumps(members).encode()).decode()


def _es256(key: SigningKey) -> Sign:
    return lambda signed: ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1).sign(signed, key.private)


def _forged(genuine: Genuine, sign: Sign, **header: Any) -> str:
    """The genuine claims under a changed header (None removes a member), signed by ``sign``."""
    members = {"alg": "ES256", "typ": "JWT", "kid": genuine.key.kid} | header
    kept = {name: value for name, value in members.items() if value is not None}
    signed = f"{_segment(kept)}.{_segment(genuine.claims)}"
    return f"Bearer {signed}.{base64url_encode(sign(signed.encode())).decode()}"


def _with_header(genuine: Genuine, **header: Any) -> str:
    """Signed by the genuine key, under a changed header."""
    return _forged(genuine, _es256(genuine.key), **header)


def _by_attacker(genuine: Genuine, **header: Any) -> str:
    """Signed by the attacker, under the genuine key's kid."""
    return _forged(genuine, _es256(genuine.attacker), **header)


def _hs256_with_public_key(genuine: Genuine) -> str:
    """The algorithm confusion: HMAC with the published key as its secret."""
    secret = genuine.key.public_pem()
    return _forged(genuine, lambda signed: hmac.digest(secret, signed, "sha256"), alg="HS256")


def _jku(genuine: Genuine) -> str:
    """The attacker's key set as a data: URL, so that nothing outside has to serve it."""
    keys = json.dumps({"keys": [genuine.attacker.public_jwk() | {"kid": genuine.key.kid}]}).encode()
    url = "data:application/json;base64," + base64.b64encode(keys).decode()
    return _by_attacker(genuine, jku=url)


def _tampered_payload(genuine: Genuine) -> str:
    head, _, signature = mint(genuine.key, genuine.claims).split(".")
    changed = genuine.claims | {"sub": "0x" + "ad" * 20}
    return f"Bearer {head}.{_segment(changed)}.{signature}"


def _resignatured(genuine: Genuine, change: Callable[[bytes], bytes]) -> str:
    """The same header and claims under a changed signature."""
    sign = _es256(genuine.key)
    return _forged(genuine, lambda signed: change(sign(signed)))


def _foreign_audience(genuine: Genuine) -> str:
    """The audience of another service, so that a verifier that accepts any of them is caught, too."""
    audiences = [service.audience for service in SERVICES.values()]
    foreign = next(audience for audience in audiences if audience != genuine.claims["aud"])
    return genuine.resigned(genuine.claims | {"aud": foreign})


def _missing(claim: str) -> Forgery:
    def forge(genuine: Genuine) -> str:
        return genuine.resigned({k: v for k, v in genuine.claims.items() if k != claim})

    return forge


FORGERIES: dict[str, Forgery] = {
    "no-token": lambda _: None,
    "empty": lambda _: "Bearer",
    "other-scheme": lambda g: f"Token {mint(g.key, g.claims)}",
    "garbage": lambda _: "Bearer not.a.token",
    "alg-none": lambda g: _forged(g, lambda _: b"", alg="none"),
    "hs256-public-key": _hs256_with_public_key,
    "other-key-known-kid": lambda g: _by_attacker(g),
    "unknown-kid": lambda g: _with_header(g, kid="smoke-unknown-kid"),
    "no-kid": lambda g: _with_header(g, kid=None),
    "embedded-jwk": lambda g: _by_attacker(g, jwk=g.attacker.public_jwk()),
    "jku": _jku,
    "crit": lambda g: _with_header(g, crit=["smoke-ext"], **{"smoke-ext": True}),
    "tampered-payload": _tampered_payload,
    "tampered-signature": lambda g: _resignatured(g, lambda s: s[:8] + bytes([s[8] ^ 0x55]) + s[9:]),
    "truncated-signature": lambda g: _resignatured(g, lambda s: s[:-16]),
    "expired": lambda g: g.shifted(iat=-FAR_S - 300, exp=-FAR_S),
    "nbf-future": lambda g: g.shifted(nbf=FAR_S, exp=FAR_S + 300),
    "iat-future": lambda g: g.shifted(iat=FAR_S, exp=FAR_S + 300),
    "no-exp": _missing("exp"),
    "exp-too-long": lambda g: g.shifted(exp=TOO_LONG_S),
    "wrong-iss": lambda g: g.resigned(g.claims | {"iss": "not-arrakis"}),
    "wrong-aud": _foreign_audience,
}

USER_CLAIMS = ("iss", "aud", "sub", "tenant_id", "tier", "pool_id", "allowed_pools", "iat", "jti")
FINN_CLAIMS = ("iss", "aud", "sub", "tenant_id", "tier", "req_hash", "iat", "jti")
REQUIRED_CLAIMS = {"freeside": USER_CLAIMS, "finn": FINN_CLAIMS, "dixie": USER_CLAIMS}


def forgery(case: str) -> Forgery:
    """The forgery of a case name; ``missing-<claim>`` for any claim."""
    return _missing(case.removeprefix("missing-")) if case.startswith("missing-") else FORGERIES[case]


def cases(service: str) -> list[str]:
    """Every case that a service has to refuse, in a stable order."""
    return [*FORGERIES, *(f"missing-{claim}" for claim in REQUIRED_CLAIMS[service])]
