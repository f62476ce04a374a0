"""Finn's call to the model provider."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from stack.common.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stack.common.context import Context


class ProviderClient:
    """Whole and streamed completions.

    A provider that is not there or fails is 503 PROVIDER_UNAVAILABLE; one that refuses the request found
    fault with us, which is 502 UPSTREAM_ERROR.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._url = f"{context.settings.provider_url}/v1/complete"
        self._desk = ""

    async def complete(self, model: str, prompt: str) -> dict[str, Any]:
        """`{content, usage}`."""
        if self._context.faults.on("finn-mixes-answers"):
            prompt = await self._shared_desk(prompt)
        try:
            response = await self._context.http.post(self._url, json={"model": model, "prompt": prompt})
            _require_ok(response.status_code)
            document = response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            document = None
        if not isinstance(document, dict):
            raise unavailable()
        return document

    @asynccontextmanager
    async def stream(self, model: str, prompt: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The provider's events as they come."""
        body = {"model": model, "prompt": prompt, "stream": True}
        try:
            async with self._context.http.stream("POST", self._url, json=body) as response:
                _require_ok(response.status_code)
                yield _lines(response)
        except (httpx.HTTPError, httpx.InvalidURL):
            raise unavailable() from None

    async def _shared_desk(self, prompt: str) -> str:
        """The fault of one scratch place for all calls: whoever writes last is answered to everybody."""
        self._desk = prompt
        await asyncio.sleep(0.03)
        return self._desk


def unavailable() -> ApiError:
    """503: the third party, not us."""
    return ApiError(503, "PROVIDER_UNAVAILABLE", "The model provider is unavailable")


def _require_ok(status: int) -> None:
    if status >= 500:
        raise unavailable()
    if status != 200:
        raise ApiError(502, "UPSTREAM_ERROR", "The model provider refused the request")


async def _lines(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line:
            yield json.loads(line)
