"""A genuine token and its parts: only here is a JWS put together by hand."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from smoke.contract.model import TokenKind
from smoke.contract.verifier import Keys, Verdict, verify

from .tokens import Claims, SigningKey

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
