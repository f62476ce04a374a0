"""Finn, the internal inference service between Freeside and the model provider: its parts and its health.

Its routes are POST /api/v1/invoke, and /api/v1/stream for Freeside (contract section 2).
"""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from stack.common import http
from stack.common.auth import FinnAuth
from stack.common.context import Context, Outbox, post_event
from stack.common.database import UNREACHABLE
from stack.common.http import ApiError, application, bad_request, json_object, require_json, text, unavailable
from stack.common.keys import BadSecret, bearer
from stack.common.provider import Usage, cost_micro, usage_of
from stack.common.settings import Settings
from stack.common.verifier import POOLS, TIER_POOLS, Claims

_AUDIENCE = "arrakis-internal"
# Score and weight of a rating (contract section 3). An answer by itself says little: it was given.
RATINGS = {"bad": (0.0, 0.2), "good": (1.0, 0.1), "excellent": (1.0, 0.2)}
ANSWERED = (1.0, 0.01)
_AGENT = re.compile(r"[A-Za-z0-9_-]{1,128}")
_log = logging.getLogger("stack.finn")


@dataclass(slots=True)
class Bill:
    """What one call costs and whether that is settled; Freeside settles the calls that it makes itself."""

    billing: "Billing"
    pool: str
    trace_id: str
    reservation_id: str | None
    settled: bool = False

    async def settle(self, usage: Usage) -> int:
        """Charge for the usage; the cost in µUSD."""
        if self.reservation_id is None:
            return cost_micro(self.pool, usage)
        document = {"pool": self.pool, "trace_id": self.trace_id, **_counts(usage)}
        body = await self.billing.call(f"/{self.reservation_id}/settle", document, (200,))
        self.settled = True
        return int(body["cost_micro"])


class Billing:
    """Freeside's internal reservations."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @asynccontextmanager
    async def bill(self, claims: Claims, pool: str, prompt: str, trace_id: str) -> AsyncIterator[Bill]:
        """Reserve the price of a direct call inside the block; what is not settled is released.

        Raises 402 BUDGET_EXCEEDED, 403 for an unknown tenant, 503 without Freeside.
        """
        bill = Bill(self, pool, trace_id, None)
        if claims.text("reservation_id") is None:
            document = {"tenant_id": claims.tenant_id, "pool": pool, **_counts(usage_of(prompt))}
            bill.reservation_id = await self.reserve(document)
        try:
            yield bill
        finally:
            if bill.reservation_id is not None and not bill.settled:
                await asyncio.shield(asyncio.create_task(self._release(bill.reservation_id)))

    async def reserve(self, document: dict[str, Any]) -> str | None:
        """Reserve the price; the id of the reservation."""
        return str((await self.call("", document, (201,)))["reservation_id"])

    async def call(self, path: str, document: dict[str, Any], expected: tuple[int, ...]) -> dict[str, Any]:
        """One S2S call to Freeside; its 402 and 403 pass through, everything else is 503."""
        url = f"{self._context.settings.freeside_url}/internal/v1/reservations{path}"
        try:
            signer = self._context.keyring.signer()
            issuer = self._context.settings.issuers["finn"]
            headers = bearer(signer, {"iss": issuer, "aud": _AUDIENCE, "sub": "loa-finn"})
            response = await self._context.http.post(url, json=document, headers=headers, timeout=5.0)
            body = response.json() if response.content else {}
        except (httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError, BadSecret):
            raise unavailable("Billing is unavailable") from None
        if response.status_code in expected and isinstance(body, dict):
            return body
        if response.status_code == 402:
            raise ApiError(402, "BUDGET_EXCEEDED", "The community's budget has no room for this call")
        if response.status_code == 403:
            raise ApiError(403, "FORBIDDEN", "The token's tenant is not known")
        raise unavailable("Billing is unavailable")

    async def _release(self, reservation_id: str) -> None:
        try:
            await self.call(f"/{reservation_id}/release", {}, (204,))
        except ApiError:
            _log.warning("reservation %s not released, its lease will end", reservation_id)


def _counts(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}


class Reports:
    """Queues events for Dixie and delivers them."""

    def __init__(self, context: Context, auth: FinnAuth) -> None:
        self._context = context
        self._auth = auth
        self._outbox = Outbox(context.db, "finn")
        context.background(lambda: self._outbox.deliver(self._send))

    async def quality(self, request: Request) -> Response:
        """POST /api/v1/quality from Freeside's worker: 202; the same id again is the same event."""
        _, raw = await self._auth.caller(request)
        require_json(request)
        document = json_object(raw)
        agent, quality = text(document, "agent_id"), document.get("quality")
        if not _AGENT.fullmatch(agent) or quality not in RATINGS:
            raise bad_request("agent_id and quality must be given")
        try:
            event_id = uuid.UUID(text(document, "event_id"))
        except ValueError:
            raise bad_request("event_id must be a UUID") from None
        await self._queue(event_id, agent, *self.rated(quality))
        return JSONResponse({"accepted": True}, 202)

    def rated(self, quality: str) -> tuple[float, float]:
        """Score and weight of a rating."""
        return RATINGS[quality]

    async def answered(self, agent: str | None) -> None:
        """Report an answer for the agent that the request named, by itself or by its routing key.

        A name that cannot have a score is not reported. The answer is charged by now, so it must not fail for
        the report's sake: without a database the report is lost.
        """
        if agent is not None and _AGENT.fullmatch(agent := agent.removeprefix("nft:")):
            try:
                await self._queue(uuid.uuid4(), agent, *ANSWERED)
            except UNREACHABLE as error:
                _log.warning("answer not reported: %s", type(error).__name__)

    async def _queue(self, event_id: uuid.UUID, agent: str, score: float, weight: float) -> None:
        event = {
            "type": "quality_signal",
            "score": score,
            "weight": weight,
            "event_id": str(event_id),
            "agent_id": agent,
            "collection_id": "arrakis",
            "timestamp": int(time.time()),
        }
        await self._outbox.put(event_id, event)

    async def _send(self, event: dict[str, Any]) -> bool | None:
        settings = self._context.settings
        url = f"{settings.dixie_url}/api/reputation/events"
        claims = {"iss": settings.issuers["finn"], "aud": settings.audiences["dixie"], "sub": "loa-finn"}
        return await post_event(self._context, url, json.dumps(event).encode(), claims)


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
            raise provider_unavailable()
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
            raise provider_unavailable() from None


def provider_unavailable() -> ApiError:
    """503: the third party, not us."""
    return ApiError(503, "PROVIDER_UNAVAILABLE", "The model provider is unavailable")


def _require_ok(status: int) -> None:
    if status >= 500:
        raise provider_unavailable()
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
        raise provider_unavailable() from None


def _usage_body(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


async def _written(first: dict[str, Any], rest: AsyncGenerator[dict[str, Any]]) -> AsyncIterator[str]:
    try:
        yield json.dumps(first, ensure_ascii=False) + "\n"
        async for event in rest:
            yield json.dumps(event, ensure_ascii=False) + "\n"
    except ApiError as error:
        yield json.dumps({"type": "error", "code": error.code}) + "\n"
    finally:
        await rest.aclose()


CONTRACT_VERSION = "8.3.0"


class Health:
    """The route; HTTP 200 always, the truth is in `status`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, _: Request) -> Response:
        """`unhealthy` without the database, `degraded` without the provider or Dixie."""
        settings = self._context.settings
        database, provider, dixie = await asyncio.gather(
            self._context.db.reachable(),
            self._context.answers(f"{settings.provider_url}/health"),
            # Not Dixie's health: that one asks Finn's, and the two would call each other forever.
            self._context.answers(f"{settings.dixie_url}/api/auth/.well-known/jwks.json"),
        )
        checks = {"database": _check(database), "provider": _check(provider), "dixie": _check(dixie)}
        status = "unhealthy" if not database else "healthy" if provider and dixie else "degraded"
        return JSONResponse(
            {
                "status": status,
                "uptime": self._context.uptime,
                "checks": checks,
                "protocol": {"contract_version": CONTRACT_VERSION},
                "ready_for_billing": database,
                "build_sha": settings.build_sha,
            },
        )


def _check(up: bool) -> dict[str, Any]:
    return {"status": "ok" if up else "unreachable"}


@dataclass(frozen=True, slots=True)
class Parts:
    """Factories of the parts; a default makes the part that behaves as the contract says."""

    context: Callable[..., Context] = Context
    auth: Callable[[Context], FinnAuth] = FinnAuth
    billing: Callable[[Context], Billing] = Billing
    provider: Callable[[Context], ProviderClient] = ProviderClient
    reports: Callable[[Context, FinnAuth], Reports] = Reports


def create(settings: Settings, parts: Parts | None = None) -> ASGIApp:
    """The ASGI application of Finn's process."""
    parts = parts or Parts()
    context = parts.context(settings, pool_size=6)
    auth = parts.auth(context)
    reports = parts.reports(context, auth)
    inference = Inference(context, auth, parts.billing(context), parts.provider(context), reports)
    routes = [
        Route("/health", Health(context).__call__, methods=["GET"]),
        Route("/.well-known/jwks.json", context.own_key_set().__call__, methods=["GET"]),
        Route("/api/v1/invoke", inference.invoke, methods=["POST"]),
        Route("/api/v1/stream", inference.stream, methods=["POST"]),
        Route("/api/v1/quality", reports.quality, methods=["POST"]),
    ]
    return application(routes, context.running, http.finn)
