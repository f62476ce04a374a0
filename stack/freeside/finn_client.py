"""Freeside's side of the call to Finn: its own S2S token, and the checks on its answer."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from stack.common.context import Context
from stack.common.http import ApiError, unavailable
from stack.common.jose import bearer, req_hash
from stack.common.keyring import BadSecret
from stack.common.pricing import Usage
from stack.freeside.asks import Ask


@dataclass(frozen=True, slots=True)
class FinnAnswer:
    """A complete answer."""

    content: str
    usage: Usage


class FinnClient:
    """Invoke and stream at Finn; every failure of Finn becomes the ApiError that the caller may see."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def invoke(self, ask: Ask, reservation_id: uuid.UUID) -> FinnAnswer:
        """The complete answer; raises 502 UPSTREAM_ERROR, 503 MODEL_PROVIDER_UNAVAILABLE or 503 ours."""
        body = _body(ask)
        url = f"{self._context.settings.finn_url}/api/v1/invoke"
        try:
            response = await self._context.http.post(
                url, content=body, headers=self._headers(ask, reservation_id, body)
            )
        except (httpx.HTTPError, httpx.InvalidURL, BadSecret):
            raise unavailable() from None
        if response.status_code != 200:
            raise _fault(response.status_code, response.content)
        document = _object(response.content)
        content = document.get("response")
        if not isinstance(content, str) or not content:
            raise _upstream()
        return FinnAnswer(content, usage_in(document))

    @asynccontextmanager
    async def stream(
        self, ask: Ask, reservation_id: uuid.UUID
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Finn's events as they come: `{"type": "content"|"usage"|"done"|"error", ...}`."""
        body = _body(ask)
        url = f"{self._context.settings.finn_url}/api/v1/stream"
        try:
            headers = self._headers(ask, reservation_id, body)
            async with self._context.http.stream("POST", url, content=body, headers=headers) as response:
                if response.status_code != 200:
                    raise _fault(response.status_code, await response.aread())
                yield _lines(response)
        except (httpx.HTTPError, httpx.InvalidURL, BadSecret):
            raise unavailable() from None

    def _headers(self, ask: Ask, reservation_id: uuid.UUID, body: bytes) -> dict[str, str]:
        claims = {
            "iss": self._context.settings.issuers["freeside"],
            "aud": self._context.settings.audiences["finn"],
            "sub": ask.claims.subject,
            "tenant_id": ask.claims.tenant_id,
            "tier": ask.claims.tier,
            "pool_id": ask.pool,
            "req_hash": req_hash(body),
            "reservation_id": str(reservation_id),
        }
        sent = {"content-type": "application/json", "x-trace-id": ask.trace_id}
        return {**bearer(self._context.keyring.signer(), claims), **sent}


def usage_in(document: dict[str, Any]) -> Usage:
    """The usage that Finn reports; raises 502 unless both counts are positive integers."""
    reported = document.get("usage")
    usage: dict[str, Any] = reported if isinstance(reported, dict) else {}
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not all(type(count) is int and count > 0 for count in (prompt, completion)):
        raise _upstream()
    return Usage(int(prompt), int(completion))  # type: ignore[arg-type]


def _body(ask: Ask) -> bytes:
    document = {"prompt": ask.prompt, **({"agent": ask.agent} if ask.agent else {})}
    # Not escaped: a body that was small enough when it came must not grow beyond the limit on its way.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


async def _lines(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line:
            yield _object(line.encode())


def _fault(status: int, content: bytes) -> ApiError:
    code = _object(content, strict=False).get("code")
    if status == 503 and code == "PROVIDER_UNAVAILABLE":
        return ApiError(503, "MODEL_PROVIDER_UNAVAILABLE", "The model provider is down")
    return unavailable() if status == 503 else _upstream()


def _object(content: bytes, *, strict: bool = True) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    if strict:
        raise _upstream()
    return {}


def _upstream() -> ApiError:
    return ApiError(502, "UPSTREAM_ERROR", "The inference service gave no usable answer")
