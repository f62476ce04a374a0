"""What a signing key's secret holds (contract section 4): a PEM, or JSON with an active and a pending key."""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from smoke.platform.tokens import NOT_BOOTSTRAPPED, SigningKey, p256_of

from .errors import KeyFault

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Document:
    """The keys of one version: ``active`` signs, both are published. A bare PEM has the kid ``""``."""

    active: SigningKey = field(repr=False)
    pending: SigningKey | None = field(default=None, repr=False)
    revocation: Mapping[str, Any] | None = None

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """Active first, then pending."""
        return (self.active,) if self.pending is None else (self.active, self.pending)

    def key(self, kid: str) -> SigningKey | None:
        """The key of that kid."""
        return next((key for key in self.keys if key.kid == kid), None)

    def to_secret(self) -> str:
        """The secret's value. It holds private keys: pass it on at once, never keep, show or log it."""
        value: dict[str, Any] = {
            "schemaVersion": SCHEMA_VERSION,
            "activeKid": self.active.kid,
            "privateKey": pem_of(self.active),
        }
        if self.pending is not None:
            value |= {"pendingKid": self.pending.kid, "pendingPrivateKey": pem_of(self.pending)}
        if self.revocation is not None:
            value["revocation"] = dict(self.revocation)
        return json.dumps(value)


def parse(value: str, where: str) -> Document | None:
    """The keys of a secret's value, None for one that was never bootstrapped.

    KeyFault for anything else that is no P-256 key; its text never quotes the value.
    """
    text = value.strip()
    if text in NOT_BOOTSTRAPPED:
        return None
    if not text.startswith("{"):
        return Document(SigningKey(_private(text, where), ""))
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise _unusable("holds broken JSON", where) from None
    if members.get("schemaVersion", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise _unusable("has another schemaVersion than 1", where)
    has_pending = "pendingKid" in members or "pendingPrivateKey" in members
    revocation = members.get("revocation")
    return Document(
        _named(members, "activeKid", "privateKey", where),
        _named(members, "pendingKid", "pendingPrivateKey", where) if has_pending else None,
        revocation if isinstance(revocation, dict) else None,
    )


def new_key(kid: str) -> SigningKey:
    """A fresh P-256 key."""
    return SigningKey(ec.generate_private_key(ec.SECP256R1()), kid)


def rotation_kid(service: str) -> str:
    """A kid for a planned rotation or a bootstrap: service, day, eight random hex digits."""
    return f"{service}-{time.strftime('%Y%m%d', time.gmtime())}-{secrets.token_hex(4)}"


def emergency_kid(service: str) -> str:
    """A kid that shows that the key before it was revoked."""
    return f"{service}-emergency-{time.strftime('%Y%m%d%H%M%S', time.gmtime())}"


def same_key(one: SigningKey, other: SigningKey) -> bool:
    """Whether two keys are the same point, whatever they are called."""
    return one.private.public_key().public_numbers() == other.private.public_key().public_numbers()


def _named(members: Mapping[str, Any], kid: str, key: str, where: str) -> SigningKey:
    name, pem = members.get(kid), members.get(key)
    if not (isinstance(name, str) and name.strip()):
        raise _unusable(f"has no {kid}", where)
    if not isinstance(pem, str):
        raise _unusable(f"has no {key}", where)
    return SigningKey(_private(pem, where), name)


def _private(pem: str, where: str) -> ec.EllipticCurvePrivateKey:
    try:
        return p256_of(pem.strip())
    except ValueError as problem:
        raise _unusable(str(problem), where) from None


def _unusable(what: str, where: str) -> KeyFault:
    return KeyFault(
        f"the secret {what}",
        where=where,
        allowed="a P-256 private key as PKCS#8 PEM, the contract's JSON form, or PLACEHOLDER",
        action="find out what wrote it; if it can be discarded, write PLACEHOLDER and run bootstrap",
    )


def pem_of(key: SigningKey) -> str:
    """The private key in PKCS#8: pass it on at once, never keep, show or log it."""
    return key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
