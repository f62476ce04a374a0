"""Honest tokens: the platform's signing keys, the claims of the contract, and ES256 tokens by PyJWT.

``Genuine`` has the parts of one: only there is a JWS put together by hand, for the forgeries.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from jwt.algorithms import ECAlgorithm

from smoke.contract.model import CALL, SERVICE, SERVICES, TIER_POOLS, USER, Service, TokenKind
from smoke.contract.verifier import Keys, Verdict, verify

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
    return _claims(
        at.issuer(CALL), at.audience, WALLET, tenant_id=tenant, tier="enterprise", req_hash=req_hash(body)
    )


def req_hash(body: bytes) -> str:
    """What binds a token to one raw request body."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def dixie_service_claims(*, at: Service = SERVICES["dixie"]) -> Claims:
    """Finn's claims towards Dixie (contract 3)."""
    return _claims(at.issuer(SERVICE), at.audience, "loa-finn")


def mint(key: SigningKey, claims: Mapping[str, Any]) -> str:
    """An ordinary ES256 token."""
    return jwt.encode(dict(claims), key.private, "ES256", headers={"kid": key.kid})


def bearer(key: SigningKey, claims: Mapping[str, Any]) -> str:
    """The Authorization header of an ordinary token."""
    return f"Bearer {mint(key, claims)}"


_ECDSA = ec.ECDSA(hashes.SHA256())

#: Signs the signing input of a JWS.
Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Genuine:
    """What a credential that would be accepted is made of, where it is sent, and an attacker's key.

    Each derived token has a ``jti`` of its own, unless they all keep that of the claims.
    """

    kind: TokenKind
    audience: str
    key: SigningKey
    claims: Claims
    attacker: SigningKey
    body: bytes = b""
    keep_jti: bool = False
    #: Keys that the platform publishes for tokens of other issuers.
    others: tuple[SigningKey, ...] = ()

    def renewed(self) -> Genuine:
        """The same for another token."""
        return self if self.keep_jti else replace(self, claims=self.claims | {"jti": str(uuid.uuid4())})

    @property
    def header(self) -> dict[str, Any]:
        """The members of the header."""
        return {"alg": "ES256", "typ": "JWT", "kid": self.key.kid}

    def token(self, *, header: Any = None, claims: Any = None, sign: Sign | None = None) -> str:
        """The token with other parts: members, or the JSON text itself."""
        head, body = (
            part if isinstance(part, str) else json.dumps(part)
            for part in (
                self.header if header is None else header, self.claims if claims is None else claims,
            )
        )  # fmt: skip
        signed = f"{encoded(head.encode())}.{encoded(body.encode())}"
        return f"{signed}.{encoded((sign or self.sign)(signed.encode()))}"

    def sign(self, signed: bytes) -> bytes:
        """The signature by the genuine key."""
        return es256(self.key, signed)

    def verdict(self, header: str | None) -> Verdict:
        """What the contract says of an Authorization header that is sent in place of the genuine one."""
        keys: Keys = {self.key.kid: lambda signed, raw: verifies(self.key, signed, raw)}
        return verify(header, self.kind, self.audience, keys, time.time(), body=self.body)


def encoded(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """The bytes of base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def es256(key: SigningKey, signed: bytes) -> bytes:
    """The raw signature of a key, r and s of 32 bytes each."""
    r, s = utils.decode_dss_signature(key.private.sign(signed, _ECDSA))
    return r.to_bytes(32) + s.to_bytes(32)


def verifies(key: SigningKey, signed: bytes, raw: bytes) -> bool:
    """Whether a raw signature is that key's."""
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    try:
        key.private.public_key().verify(utils.encode_dss_signature(r, s), signed, _ECDSA)
    except InvalidSignature:
        return False
    return True
