"""Minting: the platform's signing keys as they are found, claims as the contract wants them, ES256 tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Claims = dict[str, Any]

ALL_POOLS = ("cheap", "fast-code", "reviewer", "reasoning", "architect")
TIER_POOLS = {"free": ALL_POOLS[:1], "pro": ALL_POOLS[:3], "enterprise": ALL_POOLS}
#: The subject of every token of the suite: a wallet address that nobody owns.
WALLET = "0x" + "5e" * 20
LIFETIME_S = 300
NOT_BOOTSTRAPPED = frozenset({"", "PLACEHOLDER", "CHANGE_ME", "{}"})


def b64url(raw: bytes) -> str:
    """Base64url without padding, as JOSE wants it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def coordinate(value: int) -> str:
    """One P-256 coordinate in a JWK."""
    return b64url(value.to_bytes(32, "big"))


@dataclass(frozen=True)
class SigningKey:
    """A P-256 private key under the ``kid`` that its tokens carry."""

    private: ec.EllipticCurvePrivateKey
    kid: str

    @classmethod
    def throwaway(cls, kid: str = "smoke-throwaway") -> SigningKey:
        """A key that the platform has never seen."""
        return cls(ec.generate_private_key(ec.SECP256R1()), kid)

    def sign(self, signed: bytes) -> bytes:
        """The ES256 signature: r and s, 32 bytes each."""
        r, s = decode_dss_signature(self.private.sign(signed, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def public_jwk(self) -> dict[str, str]:
        """The public half as a JWK."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "EC", "crv": "P-256", "x": coordinate(numbers.x), "y": coordinate(numbers.y),
            "kid": self.kid, "use": "sig", "alg": "ES256",
        }  # fmt: skip

    def public_pem(self) -> bytes:
        """The public half as PEM."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def private_key_of(secret: str) -> ec.EllipticCurvePrivateKey:
    """The active key of a secret's value: a PEM, or JSON whose ``privateKey`` belongs to ``activeKid``.

    AssertionError when the value is no P-256 key: the platform was not bootstrapped, which is its own fault.
    """
    value = secret.strip()
    if value in NOT_BOOTSTRAPPED:
        raise AssertionError("the signing key's secret is a placeholder: the platform was not bootstrapped")
    if value.startswith("{"):
        try:
            value = str(json.loads(value)["privateKey"])
        except (ValueError, KeyError):
            raise AssertionError("the signing key's secret is JSON without a privateKey") from None
    try:
        key = serialization.load_pem_private_key(value.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AssertionError("the signing key's secret is not a PEM private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AssertionError("the signing key's secret is not a P-256 key, so no ES256 token can be made")
    return key


def user_claims(
    tenant: str, *, audience: str = "arrakis", tier: str = "enterprise", pool: str = "cheap"
) -> Claims:
    """A user's claims at Freeside, or at Dixie with its audience (contract 1.1); the ``jti`` is new."""
    now = int(time.time())
    return {
        "iss": "arrakis", "aud": audience, "sub": WALLET, "tenant_id": tenant, "tier": tier,
        "pool_id": pool, "allowed_pools": list(TIER_POOLS[tier]),
        "iat": now, "exp": now + LIFETIME_S, "jti": str(uuid.uuid4()),
    }  # fmt: skip


def admin_claims(tenant: str) -> Claims:
    """The claims of a tenant's administrator, whom the gateway dialect of the budget asks for."""
    return {**user_claims(tenant), "role": "admin"}


def request_hash(body: bytes) -> str:
    """``req_hash`` of a raw request body (contract 2)."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def finn_claims(tenant: str, body: bytes, *, tier: str = "enterprise") -> Claims:
    """Freeside's claims towards Finn for one request body (contract 2)."""
    now = int(time.time())
    return {
        "iss": "arrakis", "aud": "loa-finn", "sub": WALLET, "tenant_id": tenant, "tier": tier,
        "req_hash": request_hash(body), "iat": now, "exp": now + LIFETIME_S, "jti": str(uuid.uuid4()),
    }  # fmt: skip


def dixie_service_claims() -> Claims:
    """Finn's claims towards Dixie (contract 3)."""
    now = int(time.time())
    return {
        "iss": "loa-finn", "aud": "loa-dixie", "sub": "loa-finn",
        "iat": now, "exp": now + LIFETIME_S, "jti": str(uuid.uuid4()),
    }  # fmt: skip


def compact(header: Mapping[str, Any], claims: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A compact JWS over exactly this header and these claims."""
    head = b64url(json.dumps(header, separators=(",", ":")).encode())
    body = b64url(json.dumps(claims, separators=(",", ":")).encode())
    return f"{head}.{body}.{b64url(sign(f'{head}.{body}'.encode()))}"


def header_of(key: SigningKey, **more: Any) -> dict[str, Any]:
    """The header of an ordinary token of ``key``."""
    return {"alg": "ES256", "typ": "JWT", "kid": key.kid, **more}


def mint(key: SigningKey, claims: Mapping[str, Any]) -> str:
    """An ordinary ES256 token."""
    return compact(header_of(key), claims, key.sign)


def bearer(key: SigningKey, claims: Mapping[str, Any]) -> str:
    """The Authorization header of an ordinary token."""
    return f"Bearer {mint(key, claims)}"
