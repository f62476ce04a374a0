"""POST /api/v1/invoke, and /api/v1/stream for Freeside (contract section 2), answered by the provider."""

import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from stack.common.auth import FinnAuth
from stack.common.claims import POOLS, TIER_POOLS, Claims
from stack.common.context import Context
from stack.common.http import ApiError, json_object, require_json, text
from stack.common.pricing import Usage
from stack.finn.billing import Bill, Billing
from stack.finn.reports import Reports


class ProviderClient:
    """Completions, in one answer or streamed.

    A provider that is down or fails is 503 PROVIDER_UNAVAILABLE; a request that it refuses is our mistake,
    502 UPSTREAM_ERROR.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._url = f"{context.settings.provider_url}/v1/complete"

    async def complete(self, model: str, prompt: str) -> dict[str, Any]:
        """`{content, usage}`."""
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


@dataclass(frozen=True, slots=True)
class Task:
    """One validated request."""

    claims: Claims
    agent: str | None
    prompt: str
    pool: str
    trace_id: str


class Inference:
    """Authenticate, bill, ask the provider, report."""

    def __init__(
        self, context: Context, auth: FinnAuth, billing: Billing, provider: ProviderClient, reports: Reports
    ) -> None:
        self._context = context
        self._auth = auth
        self._billing = billing
        self._provider = provider
        self._reports = reports

    async def invoke(self, request: Request) -> Response:
        """The complete answer."""
        task = await self._task(request)
        async with self._billing.bill(task.claims, task.pool, task.prompt, task.trace_id) as bill:
            result = await self._provider.complete(task.pool, task.prompt)
            usage = _usage(result)
            cost = await bill.settle(usage)
        await self._reports.answered(task.agent)
        return JSONResponse(
            {
                "response": result["content"],
                "model": task.pool,
                "usage": _usage_body(usage),
                "cost_micro": str(cost),
                "trace_id": task.trace_id,
            }
        )

    async def stream(self, request: Request) -> Response:
        """One JSON object a line; a fault before the first has its own status."""
        task = await self._task(request)
        lines = self._lines(task)
        first = await anext(lines)
        return StreamingResponse(_written(first, lines), media_type="application/x-ndjson")

    async def _lines(self, task: Task) -> AsyncGenerator[dict[str, Any]]:
        async with (
            self._billing.bill(task.claims, task.pool, task.prompt, task.trace_id) as bill,
            self._provider.stream(task.pool, task.prompt) as events,
        ):
            async for event in events:
                yield await self._passed_on(event, task, bill)

    async def _passed_on(self, event: dict[str, Any], task: Task, bill: Bill) -> dict[str, Any]:
        if event.get("type") == "usage":
            usage = _usage(event)
            cost = await bill.settle(usage)
            await self._reports.answered(task.agent)
            return {"type": "usage", "usage": _usage_body(usage), "cost_micro": str(cost)}
        return event

    async def _task(self, request: Request) -> Task:
        claims, raw = await self._auth.caller(request)
        require_json(request)
        document = json_object(raw)
        prompt = text(document, "prompt")
        # A caller of Freeside's may name no agent; who calls Finn directly must.
        named = "agent" in document or claims.text("reservation_id") is None
        agent = text(document, "agent", longest=256) if named else None
        pool = claims.text("pool_id") or TIER_POOLS[claims.tier][0]
        if pool not in POOLS:
            raise ApiError(403, "UNKNOWN_POOL", "Forbidden")
        if pool not in TIER_POOLS[claims.tier]:
            raise ApiError(403, "POOL_ACCESS_DENIED", "Forbidden")
        offered = request.headers.get("x-trace-id", "")
        return Task(claims, agent, prompt, pool, offered if len(offered) == 36 else str(uuid.uuid4()))


def _usage(document: dict[str, Any]) -> Usage:
    try:
        counts = document["usage"]
        return Usage(int(counts["prompt_tokens"]), int(counts["completion_tokens"]))
    except (KeyError, TypeError, ValueError):
        raise unavailable() from None


def _usage_body(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


async def _written(first: dict[str, Any], rest: AsyncGenerator[dict[str, Any]]) -> AsyncIterator[str]:
    try:
        yield json.dumps(first) + "\n"
        async for event in rest:
            yield json.dumps(event) + "\n"
    except ApiError as error:
        yield json.dumps({"type": "error", "code": error.code}) + "\n"
    finally:
        await rest.aclose()
