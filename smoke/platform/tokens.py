"""Honest tokens, and the keys that sign and verify them.

The platform's signing keys, the claims of the contract, and ES256 tokens by PyJWT. ``Genuine`` has the
parts of one: only there a JWS is assembled by hand, for the forgeries. JSON Web Key Sets are read
strictly: they report what is wrong with each key, and the kid of the signing key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

import httpx
import jwt
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from smoke.contract.model import CALL, SERVICE, SERVICES, TIER_POOLS, USER, Service

from .answers import fields_of, shown

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
    except Exception:  # the parser's message may quote the text
        raise ValueError("holds no readable private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("holds a key that is not on P-256, so ES256 cannot use it")
    return key


def private_key_of(secret: str) -> ec.EllipticCurvePrivateKey:
    """The active key of a secret's value: a PEM, or JSON whose ``privateKey`` belongs to ``activeKid``.

    AssertionError if the value is not a P-256 key: the platform was not bootstrapped, which is its own fault.
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
    """The hash that binds a token to one raw request body."""
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


Key = dict[str, Any]

#: Members that hold private key material in any kind of key (RFC 7518 section 6, RFC 8037; AKP: its draft).
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_ES256 = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig"}
#: Members that are base64url in any kind of key.
_ENCODED = ("x", "y", "n", "e", "x5t", "x5t#S256")
#: Bytes of a coordinate by curve (RFC 7518 section 6.2.1.2, RFC 8037 section 2, RFC 8812).
_COORDINATES = {"P-256": 32, "P-384": 48, "P-521": 66, "secp256k1": 32}
_POINTS = {"Ed25519": 32, "X25519": 32, "Ed448": 57, "X448": 56}
#: RFC 7518 section 3.3: a shorter RSA key must not be used.
_RSA_BYTES = 256
#: Allowed key_ops for each use (RFC 7517 section 4.3).
_OPERATIONS = {
    "sig": {"sign", "verify"},
    "enc": {"encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"},
}
#: Functions that turn a certificate's key into a JWK; keys of other kinds are not compared.
_READERS: dict[type, type] = {
    ec.EllipticCurvePublicKey: ECAlgorithm,
    rsa.RSAPublicKey: RSAAlgorithm,
    ed25519.Ed25519PublicKey: OKPAlgorithm,
}


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one JWKS answer, unchanged."""

    route: str
    keys: tuple[Key, ...]
    etag: str = ""

    def for_es256(self) -> list[Key]:
        """The keys that are meant for ES256; others belong to other algorithms."""
        return [key for key in self.keys if _is_for_es256(key)]

    def faults(self) -> list[str]:
        """What is wrong with any of the keys, one line each."""
        return [f"keys[{n}].{fault}" for n, key in enumerate(self.keys) for fault in _key_faults(key)]

    def kid_faults(self) -> list[str]:
        """Missing, empty and repeated key ids."""
        kids = [key.get("kid") for key in self.keys]
        bad = [
            f"keys[{n}].kid: expected a non-empty string, got {shown(kid)}"
            for n, kid in enumerate(kids)
            if not isinstance(kid, str) or not kid.strip()
        ]
        return bad + [
            f"keys[{n}].kid: {shown(kid)} is used by keys[{kids.index(kid)}] already"
            for n, kid in enumerate(kids)
            if kid in kids[:n]
        ]

    def private_members(self) -> list[str]:
        """Private members that are published; the names only, never a value."""
        return [
            f"keys[{n}].{name}"
            for n, key in enumerate(self.keys)
            for name in sorted(PRIVATE_MEMBERS & set(key))
        ]

    def kid_of(self, public: ec.EllipticCurvePublicKey) -> str | None:
        """The kid under which a public key is published, or None."""
        point = ECAlgorithm.to_jwk(public, as_dict=True)
        for key in self.keys:
            if (key.get("x"), key.get("y")) == (point["x"], point["y"]) and isinstance(key.get("kid"), str):
                return str(key["kid"])
        return None


def key_set_of(response: httpx.Response) -> KeySet:
    """The key set of an answer; ContractViolation unless it is an object with an array of objects.

    A member that is null counts as missing: some serializers write the members of all kinds of keys.
    """
    fields = fields_of(response)
    keys = fields.array("keys")
    for n, key in enumerate(keys):
        if not isinstance(key, dict):
            fields.refuse(f"keys[{n}]", "an object", shown(key))
    present = [{name: value for name, value in key.items() if value is not None} for key in keys]
    return KeySet(fields.route, tuple(present), response.headers.get("etag", ""))


def _is_for_es256(key: Key) -> bool:
    if key.get("alg") == "ES256":
        return True
    other = key.get("use") == "enc" or str(key.get("alg", "")).startswith("ECDH-ES")
    return key.get("kty") == "EC" and key.get("crv") == "P-256" and not other


def _key_faults(key: Key) -> Iterator[str]:
    if _is_for_es256(key):
        for name, wanted in _ES256.items():
            if key.get(name) != wanted:
                yield f"{name}: expected {wanted!r}, got {shown(key.get(name))}"
    yield from _operations(key)
    malformed = [
        f"{name}: expected base64url without padding, got {shown(key[name])}"
        for name in _ENCODED
        if name in key and _decoded(key[name]) is None
    ]
    yield from malformed or _material(key)
    yield from _certificates(key)


def _operations(key: Key) -> Iterator[str]:
    """RFC 7517 section 4.3: operations that differ, and agree with the use; an ES256 key verifies."""
    operations = key.get("key_ops")
    if operations is None:
        return
    known = isinstance(operations, list) and all(isinstance(one, str) for one in operations)
    if not known or not operations or len(set(operations)) < len(operations):
        yield f"key_ops: expected different operations, got {shown(operations)}"
        return
    allowed = _OPERATIONS.get(str(key.get("use")), {*operations})
    if not allowed.issuperset(operations) or (_is_for_es256(key) and "verify" not in operations):
        yield f"key_ops: expected operations of the use {shown(key.get('use'))}, got {shown(operations)}"


def _material(key: Key) -> Iterator[str]:
    """The requirements on the public members of a kind of key; none for an unknown kind."""
    match key.get("kty"), key.get("crv"):
        case "EC", str(curve) if curve in _COORDINATES:
            sizes = {"x": _COORDINATES[curve], "y": _COORDINATES[curve]}
        case "OKP", str(curve) if curve in _POINTS:
            sizes = {"x": _POINTS[curve]}
        case "RSA", _:
            modulus = _decoded(key.get("n")) or b""
            if len(modulus.lstrip(b"\0")) < _RSA_BYTES:
                yield f"n: expected at least {8 * _RSA_BYTES} bits, got {8 * len(modulus)}"
            if "e" not in key:
                yield "e: expected an exponent, got nothing"
            return
        case _:
            return
    wrong = [
        f"{name}: expected {size} bytes in base64url, got {shown(key.get(name))}"
        for name, size in sizes.items()
        if len(_decoded(key.get(name)) or b"") != size
    ]
    yield from wrong
    if key["kty"] == "EC" and not wrong:
        try:
            ECAlgorithm.from_jwk({name: key[name] for name in ("kty", "crv", "x", "y")})
        except ValueError:
            yield f"x: the point (x, y) is not on {key['crv']}"


def _certificates(key: Key) -> Iterator[str]:
    """RFC 7517 section 4.7: standard base64, with its padding, and the first one's key is this key."""
    if "x5c" not in key:
        return
    chain = key["x5c"]
    try:
        first, *_ = [base64.b64decode(one, validate=True) for one in chain] if isinstance(chain, list) else []
    except (ValueError, TypeError, binascii.Error):
        yield f"x5c: expected certificates in base64, got {shown(chain)}"
        return
    try:
        certified = x509.load_der_x509_certificate(first).public_key()
    except Exception:  # a certificate of a kind that this library does not read
        return
    for kind, reader in _READERS.items():
        if isinstance(certified, kind):
            public = reader.to_jwk(certified, as_dict=True)  # type: ignore[attr-defined]
            if any(key.get(name) != public.get(name) for name in ("kty", "crv", "x", "y", "n", "e")):
                yield "x5c: expected a certificate of this key first, got another key's"


def _decoded(value: Any) -> bytes | None:
    """The bytes of base64url without padding, other letters or stray bits (RFC 7515 section 2), or None."""
    try:
        data = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (TypeError, ValueError):
        return None
    return data if base64.urlsafe_b64encode(data).rstrip(b"=").decode() == value else None


class SigningKeyLookup:
    """Finds one signing key: a secret, and the kid under which its public half is published.

    Only a success is remembered, so that a rerun looks again. With ``again``, the secret is reread
    periodically, because operators may rotate the key at any time, and the previous one stays valid only for
    a while. ``named`` is the setting that the key comes from.
    """

    def __init__(
        self,
        secret: Callable[[], str],
        key_set: Callable[[], KeySet],
        again: Callable[[], str] | None = None,
        every_s: float = math.inf,
        named: str = "",
    ) -> None:
        self._named = f" ({named})" if named else ""
        self._secret = secret
        self._key_set = key_set
        self._again = again
        self._every_s = every_s
        self._read_at = 0.0
        self._reading = Lock()
        self._found: SigningKey | None = None

    def __call__(self) -> SigningKey:
        """The key; AssertionError if its public half is not published, which is the platform's fault."""
        found = self._found
        if found is None:
            found = self._of(private_key_of(self._secret()))
        elif time.monotonic() - self._read_at < self._every_s or not self._reading.acquire(blocking=False):
            return found
        else:
            try:
                found = self._followed(found)
            finally:
                self._reading.release()
        self._found, self._read_at = found, time.monotonic()
        return found

    def _followed(self, known: SigningKey) -> SigningKey:
        """The current signing key, as soon as it is published; the known one while that cannot be seen."""
        with suppress(AssertionError, RuntimeError, httpx.HTTPError):
            private = private_key_of(self._again() if self._again else self._secret())
            if private.private_numbers() != known.private.private_numbers():
                return self._of(private)
        return known

    def _of(self, private: ec.EllipticCurvePrivateKey) -> SigningKey:
        keys = self._key_set()
        kid = keys.kid_of(private.public_key())
        if not kid:
            raise AssertionError(
                f"{keys.route}: none of {len(keys.keys)} keys is the public half of the key that signs"
                f"{self._named}"
            )
        return SigningKey(private, kid)

    def forget(self) -> None:
        """Look again at the next use: the key was rotated."""
        self._found = None
