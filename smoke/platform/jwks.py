"""JSON Web Key Sets: strict reading, what is wrong with each key, and the kid of the key that signs."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from .answers import fields_of, shown
from .tokens import SigningKey, private_key_of

Key = dict[str, Any]

#: Members that hold private key material in any kind of key (RFC 7518 section 6, RFC 8037; AKP: its draft).
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_ES256 = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig"}
#: What is base64url in any kind of key.
_ENCODED = ("x", "y", "n", "e", "x5t", "x5t#S256")
#: Bytes of a coordinate by curve (RFC 7518 section 6.2.1.2, RFC 8037 section 2, RFC 8812).
_COORDINATES = {"P-256": 32, "P-384": 48, "P-521": 66, "secp256k1": 32}
_POINTS = {"Ed25519": 32, "X25519": 32, "Ed448": 57, "X448": 56}
#: RFC 7518 section 3.3: a shorter RSA key must not be used.
_RSA_BYTES = 256
#: What key_ops may name beside a use (RFC 7517 section 4.3).
_OPERATIONS = {
    "sig": {"sign", "verify"},
    "enc": {"encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"},
}
#: What turns the key of a certificate into a JWK; a key of another kind is not compared.
_READERS: dict[type, type] = {
    ec.EllipticCurvePublicKey: ECAlgorithm,
    rsa.RSAPublicKey: RSAAlgorithm,
    ed25519.Ed25519PublicKey: OKPAlgorithm,
}


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one JWKS answer, as they came."""

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
    """The key set of an answer; ContractViolation unless it is an object with an array of objects."""
    fields = fields_of(response)
    keys = fields.array("keys")
    for n, key in enumerate(keys):
        if not isinstance(key, dict):
            fields.refuse(f"keys[{n}]", "an object", shown(key))
    return KeySet(fields.route, tuple(keys), response.headers.get("etag", ""))


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
    """What the public members of a kind of key must be; nothing of a kind that is not known."""
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

    Only a success is remembered, so that a rerun asks again.
    """

    def __init__(self, secret: Callable[[], str], key_set: Callable[[], KeySet]) -> None:
        self._secret = secret
        self._key_set = key_set
        self._found: SigningKey | None = None

    def __call__(self) -> SigningKey:
        """The key; AssertionError when its public half is not published: then the platform is at fault."""
        if self._found is None:
            private = private_key_of(self._secret())
            keys = self._key_set()
            kid = keys.kid_of(private.public_key())
            if not kid:
                raise AssertionError(
                    f"{keys.route}: none of {len(keys.keys)} keys is the public half of the key that signs"
                )
            self._found = SigningKey(private, kid)
        return self._found

    def forget(self) -> None:
        """Look again at the next use: the key was rotated."""
        self._found = None
