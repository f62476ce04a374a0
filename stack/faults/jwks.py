"""Broken key sets: what a JWKS route can publish that no verifier should have to meet."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec

from stack.common.jose import SigningKey, b64url

if TYPE_CHECKING:
    from stack.faults.switch import Faults

Document = dict[str, Any]


def document(faults: Faults, service: str, body: Document) -> Document:
    """The key set as published: untouched, or broken in the way that is switched on."""
    for name, distort in _DISTORTIONS.items():
        if faults.on(f"{service}-jwks-{name}") and body["keys"]:
            body = copy.deepcopy(body)
            distort(body["keys"])
    return body


def headers(faults: Faults, service: str, sent: dict[str, str]) -> dict[str, str]:
    """The headers of the key set: for caching, and what a proxy adds."""
    if faults.on(f"{service}-jwks-cached-for-a-day"):
        sent = {**sent, "cache-control": "public, max-age=86400"}
    if faults.on(f"{service}-jwks-uncacheable"):
        sent = {name: value for name, value in sent.items() if name != "cache-control"}
    if faults.on(f"{service}-jwks-ignores-etag"):
        sent = {name: value for name, value in sent.items() if name != "etag"}
    if faults.on(f"{service}-served-by-fly"):
        sent = {**sent, "via": "1.1 fly.io", "fly-request-id": "01JA0000000000000000000000-iad"}
    return sent


def status(faults: Faults, service: str) -> int:
    """200, or 404 for a route that was never mounted."""
    return 404 if faults.on(f"{service}-jwks-missing") else 200


def _private_member(keys: list[Document]) -> None:
    keys[0]["d"] = b64url(_stranger().private.private_numbers().private_value.to_bytes(32, "big"))


def _duplicate_kid(keys: list[Document]) -> None:
    keys.append({**_stranger().jwk(), "kid": keys[0]["kid"]})


def _p384(keys: list[Document]) -> None:
    numbers = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
    x, y = (b64url(n.to_bytes(48, "big")) for n in (numbers.x, numbers.y))
    keys.append({**keys[0], "crv": "P-384", "x": x, "y": y, "kid": "p384-under-es256"})


def _second_malformed(keys: list[Document]) -> None:
    keys.append({"kty": "EC", "crv": "P-256", "kid": "malformed", "use": "sig", "alg": "ES256", "x": "!!"})


def _off_the_curve(keys: list[Document]) -> None:
    keys.append({**_stranger().jwk(), "x": b64url(bytes(31) + b"\x01"), "kid": "off-the-curve"})


def _unrelated(keys: list[Document]) -> None:
    keys[:] = [{**_stranger().jwk(), "kid": key["kid"]} for key in keys]


def _renamed(keys: list[Document]) -> None:
    keys[:] = [{**key, "kid": f"renamed-{n}"} for n, key in enumerate(keys)]


def _empty(keys: list[Document]) -> None:
    keys.clear()


def _no_kid(keys: list[Document]) -> None:
    keys.append({**_stranger().jwk(), "kid": ""})


def _hides_pending(keys: list[Document]) -> None:
    del keys[1:]


def _wrong_use(keys: list[Document]) -> None:
    keys.append({**_stranger().jwk(), "use": "enc"})


def _wrong_algorithm(keys: list[Document]) -> None:
    keys.append({**_stranger().jwk(), "alg": "none"})


def _rsa(keys: list[Document]) -> None:
    modulus = b64url(b"\xc3" * 256)
    keys.append({"kty": "RSA", "n": modulus, "e": "AQAB", "kid": "rsa", "use": "sig", "alg": "RS256"})


def _stranger() -> SigningKey:
    """A fresh key that signs nothing: even the leaked private member protects nobody."""
    private = ec.generate_private_key(ec.SECP256R1())
    return SigningKey(f"stranger-{private.public_key().public_numbers().x % 10**8}", private)


_DISTORTIONS = {
    "private-member": _private_member,
    "duplicate-kid": _duplicate_kid,
    "p384-under-es256": _p384,
    "second-key-malformed": _second_malformed,
    "off-the-curve": _off_the_curve,
    "unrelated-key": _unrelated,
    "renamed-kid": _renamed,
    "empty": _empty,
    "empty-kid": _no_kid,
    "encryption-key": _wrong_use,
    "alg-none": _wrong_algorithm,
    "rsa-key": _rsa,
    "hides-pending-key": _hides_pending,
}
