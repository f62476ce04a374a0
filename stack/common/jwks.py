"""JWKS, both sides: the route that publishes a service's keys, and the cache of another's."""

import asyncio
import hashlib
import json
import logging
import time
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response

from stack.common.jose import PublicKey, public_from_jwk
from stack.common.keyring import Keyring

# Contract section 2: cached up to 60 s. Beyond that an unreachable issuer means no keys.
STALE_LIMIT_S = 60.0
FORCED_REFRESH_EVERY_S = 1.0
_log = logging.getLogger("stack.jwks")


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
        """Drop every key; the next question fetches them."""
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
