"""P-256 keys, the JOSE encodings around them, and compact JWS tokens."""

import base64
import binascii
import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwt.algorithms import ECAlgorithm

_ALGORITHM = ec.ECDSA(hashes.SHA256())
SIGNATURE_BYTES = 64
# Long enough for a slow call, short enough to be worthless in a log.
S2S_LIFETIME_S = 60
MAX_TOKEN_CHARS = 8192


def b64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64url(text: str) -> bytes:
    """The reverse; raises ValueError for any text that `b64url` would not have written.

    A lenient decoder ignores the unused bits of the last character: a changed signature would still pass.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error
    if b64url(data) != text:
        raise ValueError("not canonical base64url")
    return data


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A verification key under the kid that it was published with."""

    kid: str
    key: ec.EllipticCurvePublicKey

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether the 64-byte ES256 signature is this key's over the message."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        try:
            self.key.verify(encode_dss_signature(r, s), message, _ALGORITHM)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its kid; never shown by repr."""

    kid: str
    private: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"

    @classmethod
    def from_pem(cls, pem: str, kid: str = "") -> "SigningKey":
        """Load a PKCS#8 P-256 key, or raise ValueError; kid defaults to the RFC 7638 thumbprint."""
        try:
            private = serialization.load_pem_private_key(pem.encode("utf-8"), password=None)
        except (ValueError, TypeError):
            # Without the cause: its text may quote what it could not read.
            raise ValueError("the value is not a readable private key") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise ValueError("the key is not on P-256")
        return cls(kid or thumbprint(private.public_key()), private)

    def public(self) -> PublicKey:
        """The half that others may know."""
        return PublicKey(self.kid, self.private.public_key())

    def jwk(self) -> dict[str, str]:
        """The public JWK as the contract's JWKS shows it."""
        return {
            **ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True),
            "kid": self.kid,
            "use": "sig",
            "alg": "ES256",
        }


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638 thumbprint of a P-256 key."""
    canonical = json.dumps(ECAlgorithm.to_jwk(key, as_dict=True), sort_keys=True, separators=(",", ":"))
    return b64url(hashlib.sha256(canonical.encode()).digest())


def public_from_jwk(jwk: Mapping[str, Any]) -> PublicKey:
    """A verification key out of a JWKS; raises ValueError unless it is an ES256 key on the curve."""
    kid, x, y = jwk.get("kid"), jwk.get("x"), jwk.get("y")
    if jwk.get("kty") != "EC" or jwk.get("crv") != "P-256":
        raise ValueError("not a P-256 key")
    if jwk.get("alg", "ES256") != "ES256" or jwk.get("use", "sig") != "sig":
        raise ValueError("not an ES256 signature key")
    if not (isinstance(kid, str) and kid and isinstance(x, str) and isinstance(y, str)):
        raise ValueError("kid, x and y must be non-empty strings")
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(unb64url(x), "big"), int.from_bytes(unb64url(y), "big"), ec.SECP256R1()
    )
    return PublicKey(kid, numbers.public_key())


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token taken apart; nothing in it may be believed yet."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes


def mint(key: SigningKey, claims: Mapping[str, Any]) -> str:
    """A service's own token: ES256, 60 s, fresh jti, plus the claims given."""
    now = int(time.time())
    payload = {"iat": now, "exp": now + S2S_LIFETIME_S, "jti": str(uuid.uuid4()), **claims}
    return jwt.encode(payload, key.private, algorithm="ES256", headers={"kid": key.kid})


def bearer(key: SigningKey, claims: Mapping[str, Any]) -> dict[str, str]:
    """The Authorization header of a service-to-service call."""
    return {"authorization": f"Bearer {mint(key, claims)}"}


def req_hash(body: bytes) -> str:
    """`sha256:` and the hex digest of the raw body (contract section 2)."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def take_apart(token: str) -> Unverified:
    """Decode the three parts; raises ValueError unless the first two are JSON objects."""
    parts = token.split(".")
    if len(token) > MAX_TOKEN_CHARS or len(parts) != 3:
        raise ValueError("not a compact token")
    header, claims = (_object(unb64url(part)) for part in parts[:2])
    return Unverified(header, claims, f"{parts[0]}.{parts[1]}".encode(), unb64url(parts[2]))


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document
