"""The keys of services: their own, read from Secrets Manager, and key sets, published and read.

They are P-256 keys; here are the JOSE encodings around them, and compact JWS tokens.
"""

import asyncio
import base64
import binascii
import hashlib
import json
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwt.algorithms import ECAlgorithm
from starlette.requests import Request
from starlette.responses import Response

from stack.common.settings import Settings

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
        """The public half."""
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
    """A verification key from a JWKS; raises ValueError unless it is an ES256 key on the curve."""
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


TICK_S = 0.1
_NOT_BOOTSTRAPPED = frozenset(("", "PLACEHOLDER", "CHANGE_ME", "{}"))
# Contract section 2: cached up to 60 s. Beyond that an unreachable issuer means no keys.
STALE_LIMIT_S = 60.0
FORCED_REFRESH_EVERY_S = 1.0
_log = logging.getLogger("stack.keys")


class SecretUnreadable(Exception):
    """The value could not be read; this never means that it is empty."""


async def read_secret(http: httpx.AsyncClient, settings: Settings) -> str:
    """The current value of the service's secret; raises SecretUnreadable."""
    body = json.dumps({"SecretId": settings.secret_id}).encode()
    headers = _signed(settings, body)
    try:
        response = await http.post(settings.aws_endpoint + "/", content=body, headers=headers, timeout=5.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SecretUnreadable(f"{settings.secret_id}: {type(error).__name__}") from error
    if response.status_code != 200:
        raise SecretUnreadable(f"{settings.secret_id}: HTTP {response.status_code}")
    try:
        value = response.json().get("SecretString")
    except ValueError as error:
        raise SecretUnreadable(f"{settings.secret_id}: the answer is not JSON") from error
    if not isinstance(value, str):
        raise SecretUnreadable(f"{settings.secret_id}: the answer holds no string")
    return value


def _signed(settings: Settings, body: bytes) -> dict[str, str]:
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager.GetSecretValue"}
    request = AWSRequest("POST", settings.aws_endpoint + "/", headers=headers, data=body)
    credentials = Credentials(settings.aws_access_key_id, settings.aws_secret_access_key)
    SigV4Auth(credentials, "secretsmanager", settings.aws_region).add_auth(request)
    return dict(request.headers)


class BadSecret(ValueError):
    """The secret holds no usable P-256 key; the text never quotes the value."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What one value of the secret says: sign with `active`, publish both."""

    active: SigningKey
    pending: SigningKey | None = None

    def published(self) -> tuple[SigningKey, ...]:
        """Active first, then pending."""
        return (self.active,) if self.pending is None else (self.active, self.pending)


def parse(value: str) -> Keys:
    """A PKCS#8 PEM, or JSON with activeKid, privateKey and their pending twins (contract section 4)."""
    text = value.strip()
    if text in _NOT_BOOTSTRAPPED:
        raise BadSecret("the secret is not bootstrapped")
    try:
        if not text.startswith("{"):
            return Keys(SigningKey.from_pem(text))
        document = json.loads(text)
        active = _named(document, "activeKid", "privateKey")
        pending = _named(document, "pendingKid", "pendingPrivateKey") if document.get("pendingKid") else None
    except (ValueError, RecursionError) as error:
        reason = "it is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        raise BadSecret(f"the secret is unusable: {reason}") from None
    return Keys(active, pending)


def _named(document: dict[str, Any], kid: str, key: str) -> SigningKey:
    name, pem = document.get(kid), document.get(key)
    if not (isinstance(name, str) and name and isinstance(pem, str)):
        raise BadSecret(f"{kid} and {key} must be non-empty strings")
    return SigningKey.from_pem(pem, name)


class Keyring:
    """Re-reads the secret every `secret_poll_s`; a failed read or a bad value leaves the last good keys."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http
        self._value: str | None = None
        self._keys: Keys | None = None
        self._soon = False

    @property
    def keys(self) -> Keys | None:
        """The keys in force; None until the secret has been read once."""
        return self._keys

    @property
    def published(self) -> tuple[SigningKey, ...]:
        """The key set: active first, then pending; empty until the secret has been read once."""
        return self._keys.published() if self._keys else ()

    def signer(self) -> SigningKey:
        """The active key; raises BadSecret until one has been read."""
        if self._keys is None:
            raise BadSecret("no signing key has been read yet")
        return self._keys.active

    async def find(self, kid: str) -> PublicKey | None:
        """The published key of that kid."""
        return next((key.public() for key in self.published if key.kid == kid), None)

    async def refresh(self) -> bool:
        """Read the secret once and take over its keys; False when it cannot be read or is unusable."""
        try:
            value = await read_secret(self._http, self._settings)
            if value != self._value:
                self._take(value)
        except (SecretUnreadable, BadSecret) as error:
            _log.warning("keeping the previous keys: %s", error)
            return False
        return True

    def _take(self, value: str) -> None:
        keys = parse(value)
        self._value, self._keys = value, keys
        _log.info("keys in force: %s", ", ".join(key.kid for key in keys.published()))

    async def follow(self) -> None:
        """Poll forever."""
        while True:
            await self._pause()
            await self.refresh()

    def read_soon(self) -> None:
        """Shorten the pause before the next reading: the secret has probably changed."""
        self._soon = True

    async def _pause(self) -> None:
        clock = asyncio.get_running_loop()
        until = clock.time() + (self._settings.secret_poll_s if self._keys else TICK_S)
        self._soon = False
        while clock.time() < until and not self._soon:
            await asyncio.sleep(TICK_S)


class JwksRoute:
    """`{keys: [...]}` with Cache-Control and a weak ETag; If-None-Match gives 304."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def __call__(self, request: Request) -> Response:
        """Serve the active and the pending key."""
        text = json.dumps({"keys": [key.jwk() for key in self._keyring.published]}, separators=(",", ":"))
        etag = f'W/"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'
        headers = {"cache-control": "public, max-age=60", "etag": etag}
        offered = request.headers.get("if-none-match", "")
        if etag in (tag.strip() for tag in offered.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(text, headers=headers, media_type="application/json")


class JwksClient:
    """Keys of another service, cached for `cache_s` seconds.

    An unknown kid forces one refresh, at most one a second. A failed fetch, a malformed key or an unknown kid
    never evicts a good key: only a successful fetch that no longer lists it does, or an age beyond
    STALE_LIMIT_S.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, cache_s: float) -> None:
        self._http = http
        self._url = url
        self._cache_s = cache_s
        self._lock = asyncio.Lock()
        self.forget()

    def forget(self) -> None:
        """Drop every key; the next look-up fetches them again."""
        self._keys: dict[str, PublicKey] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")

    async def find(self, kid: str) -> PublicKey | None:
        """The key of that kid, fetched if need be."""
        if self._age() > self._cache_s:
            await self._refresh(than=self._cache_s)
        if self._age() > STALE_LIMIT_S:
            return None
        if kid not in self._keys:
            await self._refresh(than=FORCED_REFRESH_EVERY_S)
        return self._keys.get(kid)

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    async def _refresh(self, than: float) -> None:
        """Fetch unless the keys are younger than that, or the last attempt is younger than a second."""
        async with self._lock:
            now = time.monotonic()
            if self._age() <= than or now - self._tried_at < FORCED_REFRESH_EVERY_S:
                return
            self._tried_at = now
            try:
                response = await self._http.get(self._url, timeout=3.0)
                document = response.json() if response.status_code == 200 else None
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                _log.warning("%s: %s, keeping the known keys", self._url, type(error).__name__)
                return
            keys = _usable(document)
            if keys is None:
                _log.warning("%s: no key set, keeping the known keys", self._url)
                return
            self._keys, self._fetched_at = keys, time.monotonic()


def _usable(document: Any) -> dict[str, PublicKey] | None:
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        return None
    keys: dict[str, PublicKey] = {}
    for jwk in document["keys"]:
        try:
            key = public_from_jwk(jwk)
        except (ValueError, AttributeError) as error:
            _log.warning("a published key is unusable: %s", error)
            continue
        keys.setdefault(key.kid, key)
    return keys
