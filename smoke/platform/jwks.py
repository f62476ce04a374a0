"""JSON Web Key Sets: strict reading, what is wrong with each key, and the kid of the key that signs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from .answers import fields_of, shown
from .tokens import SigningKey, private_key_of

#: Members that hold private key material in any kind of key (RFC 7518 section 6).
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_FIXED = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig"}
#: 32 bytes in base64url without padding.
_COORDINATE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one JWKS answer, as they came."""

    route: str
    keys: tuple[dict[str, Any], ...]

    def faults(self) -> list[str]:
        """What keeps any of the keys from being an ES256 verification key, one line each."""
        return [f"keys[{n}]: {fault}" for n, key in enumerate(self.keys) for fault in _key_faults(key)]

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
    return KeySet(fields.route, tuple(keys))


def _key_faults(key: dict[str, Any]) -> list[str]:
    faults = [
        f"{name}: expected {wanted!r}, got {shown(key.get(name))}"
        for name, wanted in _FIXED.items()
        if key.get(name) != wanted
    ]
    point = {name: key.get(name) for name in ("x", "y")}
    malformed = [
        f"{name}: expected 32 bytes in base64url, got {shown(value)}"
        for name, value in point.items()
        if not isinstance(value, str) or not _COORDINATE.fullmatch(value)
    ]
    if not malformed:
        try:
            ECAlgorithm.from_jwk({"kty": "EC", "crv": "P-256", **point})
        except ValueError:
            malformed = ["the point (x, y) is not on P-256"]
    return faults + malformed


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
