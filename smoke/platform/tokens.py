"""Honest tokens: the platform's signing keys, the claims of the contract, and ES256 tokens by PyJWT."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from smoke.contract.model import CALL, SERVICE, SERVICES, TIER_POOLS, USER, Service

Claims = dict[str, Any]

#: The subject of every token of the suite: a wallet address without an owner.
WALLET = "0x" + "5e" * 20
LIFETIME_S = 300
NOT_BOOTSTRAPPED = frozenset({"", "PLACEHOLDER", "CHANGE_ME", "{}"})


@dataclass(frozen=True)
class SigningKey:
    """A P-256 private key under the ``kid`` that its tokens carry."""

    private: ec.EllipticCurvePrivateKey
    kid: str

    @classmethod
    def throwaway(cls, kid: str = "smoke-throwaway") -> SigningKey:
        """A key that the platform has never seen."""
        return cls(ec.generate_private_key(ec.SECP256R1()), kid)

    def public_jwk(self) -> dict[str, str]:
        """The public half as a JWK."""
        point = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**point, "kid": self.kid, "use": "sig", "alg": "ES256"}

    def public_pem(self) -> bytes:
        """The public half as PEM."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def p256_of(pem: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 private key of a PEM; ValueError, which never quotes the text, for anything else."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except Exception:  # whatever the reader says may quote what it read
        raise ValueError("holds no readable private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("holds a key that is not on P-256, so that ES256 cannot use it")
    return key


def private_key_of(secret: str) -> ec.EllipticCurvePrivateKey:
    """The active key of a secret's value: a PEM, or JSON whose ``privateKey`` belongs to ``activeKid``.

    AssertionError when the value is no P-256 key: the platform was not bootstrapped, which is its own fault.
    """
    value = secret.strip()
    if value in NOT_BOOTSTRAPPED:
        raise AssertionError("the signing key's secret is a placeholder: the platform was not bootstrapped")
    try:
        return p256_of(str(json.loads(value)["privateKey"]) if value.startswith("{") else value)
    except (json.JSONDecodeError, KeyError):
        raise AssertionError("the signing key's secret is JSON without a privateKey") from None
    except ValueError as problem:
        raise AssertionError(f"the signing key's secret {problem}") from None


def _claims(issuer: str, audience: str, subject: str, **more: Any) -> Claims:
    """Claims of a token that is valid from now on; the ``jti`` is new."""
    now = int(time.time())
    return {
        "iss": issuer, "aud": audience, "sub": subject, **more,
        "iat": now, "exp": now + LIFETIME_S, "jti": str(uuid.uuid4()),
    }  # fmt: skip


def user_claims(tenant: str, *, at: Service = SERVICES["freeside"], tier: str = "enterprise") -> Claims:
    """A user's claims at Freeside or Dixie (contract 1.1)."""
    return _claims(
        at.issuer(USER), at.audience, WALLET,
        tenant_id=tenant, tier=tier, pool_id="cheap", allowed_pools=list(TIER_POOLS[tier]),
    )  # fmt: skip


def finn_claims(tenant: str, body: bytes, *, at: Service = SERVICES["finn"]) -> Claims:
    """Freeside's claims towards Finn, bound to one raw request body by ``req_hash`` (contract 2)."""
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    return _claims(at.issuer(CALL), at.audience, WALLET, tenant_id=tenant, tier="enterprise", req_hash=digest)


def dixie_service_claims(*, at: Service = SERVICES["dixie"]) -> Claims:
    """Finn's claims towards Dixie (contract 3)."""
    return _claims(at.issuer(SERVICE), at.audience, "loa-finn")


def mint(key: SigningKey, claims: Mapping[str, Any]) -> str:
    """An ordinary ES256 token."""
    return jwt.encode(dict(claims), key.private, "ES256", headers={"kid": key.kid})


def bearer(key: SigningKey, claims: Mapping[str, Any]) -> str:
    """The Authorization header of an ordinary token."""
    return f"Bearer {mint(key, claims)}"
