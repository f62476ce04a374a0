"""Compact JWS tokens: minting ours, and taking anybody's apart without trusting it."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stack.common.keys import b64url, unb64url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.common.keys import SigningKey

# Long enough for a slow call, short enough to be worthless in a log.
S2S_LIFETIME_S = 60
MAX_TOKEN_CHARS = 8192


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
    header = {"alg": "ES256", "typ": "JWT", "kid": key.kid}
    signing_input = f"{_part(header)}.{_part(payload)}"
    return f"{signing_input}.{b64url(key.sign(signing_input.encode()))}"


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


def _part(document: Mapping[str, Any]) -> str:
    return b64url(json.dumps(document, separators=(",", ":")).encode())


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document
