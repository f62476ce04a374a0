"""The routes under /api/agents: invoke and stream with their rate limit, models, quality."""

import json
import re
import time
import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.common.auth import FreesideAuth
from stack.common.http import ApiError, bad_request, drained_body, json_object, raw_body, require_json, text
from stack.common.outbox import Outbox
from stack.common.verifier import Claims
from stack.freeside.asks import Ask, FinnClient, read_ask, require_pool
from stack.freeside.budget_ledger import Claim
from stack.freeside.calls import Answer, Calls
from stack.freeside.streams import EventStream, Streams

QUALITIES = ("bad", "good", "excellent")
_ROUTING_KEY = re.compile(r"nft:([A-Za-z0-9_-]{1,128})")
WINDOW_S = 60
LIMITS = {"free": 1200, "pro": 3000, "enterprise": 6000}


class RateLimiter:
    """Counts calls per window and tenant, in this process; the limits are generous enough for a smoke run.

    With ``calls_per_s`` a tenant of any tier has so many in a second, in place of its tier's in a minute.
    """

    def __init__(self, calls_per_s: int) -> None:
        self._calls_per_s = calls_per_s
        self._window_s = 1 if calls_per_s else WINDOW_S
        self._used: dict[str, int] = {}
        self._window = 0

    def forget(self) -> None:
        """Start counting anew."""
        self._used.clear()

    def admit(self, claims: Claims) -> dict[str, str]:
        """The X-RateLimit headers for the answer; raises 429 RATE_LIMITED with Retry-After."""
        now = int(time.time())
        if now // self._window_s != self._window:
            self._window = now // self._window_s
            self._used.clear()
        limit = self._calls_per_s or LIMITS[claims.tier]
        used = self._used[claims.tenant_id] = self._used.get(claims.tenant_id, 0) + 1
        headers = {"x-ratelimit-limit": str(limit), "x-ratelimit-remaining": str(max(0, limit - used))}
        if used > limit:
            headers["retry-after"] = str(self._window_s - now % self._window_s)
            raise ApiError(429, "RATE_LIMITED", "Too many requests", headers)
        return headers


class Agents:
    """The agent routes: authenticate, limit, validate, then replay or run."""

    def __init__(
        self, auth: FreesideAuth, limiter: RateLimiter, calls: Calls, finn: FinnClient, streams: Streams
    ) -> None:
        self._auth = auth
        self._limiter = limiter
        self._calls = calls
        self._finn = finn
        self._streams = streams

    async def invoke(self, request: Request) -> Response | EventStream:
        """The complete answer, or a stream if the caller's Accept names event streams (dialect `accept`)."""
        return await self._serve(request, stream="text/event-stream" in request.headers.get("accept", ""))

    async def stream(self, request: Request) -> Response | EventStream:
        """The answer as events (dialect `endpoint`)."""
        return await self._serve(request, stream=True)

    async def models(self, request: Request) -> Response:
        """The aliases that the token may use."""
        claims = await self._auth.user(request)
        return JSONResponse({"models": self.aliases(claims)})

    def aliases(self, claims: Claims) -> list[str]:
        """The token's effective pools."""
        return list(claims.effective_pools)

    async def _serve(self, request: Request, *, stream: bool) -> Response | EventStream:
        claims = await self._auth.user(request)
        headers = self._limiter.admit(claims)
        try:
            ask = await self.read(request, claims)
            headers |= {"x-idempotency-key": ask.key, "x-trace-id": ask.trace_id}
            claim = await self._calls.claim(ask)
            if claim.answer:
                headers |= {"x-idempotent-replay": "true", "x-trace-id": json.loads(claim.answer)["traceId"]}
            if stream:
                return await self._streams.respond(ask, claim, headers)
            answer = json.loads(claim.answer) if claim.answer else await self.run(ask, claim)
        except ApiError as error:
            error.headers = {**headers, **error.headers}
            raise
        return JSONResponse(answer, headers=headers)

    async def read(self, request: Request, claims: Claims) -> Ask:
        """The call, if its token may make it; raises 400, 403, 413 or 415."""
        ask = read_ask(request, await drained_body(request), claims)
        require_pool(claims, ask.pool)
        return ask

    async def run(self, ask: Ask, claim: Claim) -> Answer:
        """Have Finn answer the call and charge for it; raises 402, 403, 502 or 503."""
        async with self._calls.execution(ask, claim) as execution:
            result = await self._finn.invoke(ask, execution.reservation.reservation_id)
            answer = execution.answer(result.content, result.usage)
            await execution.charge(answer)
            return answer


class Quality:
    """POST /api/agents/quality: accepts a rating of an agent and queues it for Finn (contract section 3)."""

    def __init__(self, auth: FreesideAuth, outbox: Outbox) -> None:
        self._auth = auth
        self._outbox = outbox

    async def __call__(self, request: Request) -> Response:
        """202 with the event's id once it is safely in the outbox; 400, 401."""
        claims = await self._auth.user(request)
        event_id = await self.queue(request, claims.tenant_id)
        return JSONResponse({"accepted": True, "event_id": str(event_id)}, 202)

    async def queue(self, request: Request, tenant: str) -> uuid.UUID:
        """Put the rating into the outbox; the id of its event. Raises 400, 413 or 415."""
        raw = await raw_body(request)
        require_json(request)
        document = json_object(raw)
        agent, quality = self.rating(document)
        event_id = uuid.uuid4()
        event = {
            "event_id": str(event_id),
            "agent_id": agent,
            "quality": quality,
            "source": text(document, "source", longest=128),
            "tenant_id": tenant,
        }
        await self._outbox.put(event_id, event)
        return event_id

    def rating(self, document: dict[str, Any]) -> tuple[str, str]:
        """The agent that is rated and the quality; raises 400."""
        routing_key = _ROUTING_KEY.fullmatch(text(document, "routingKey", longest=132))
        if routing_key is None:
            raise bad_request("routingKey must be nft:<id>")
        if document.get("quality") not in QUALITIES:
            raise bad_request(f"quality must be one of {', '.join(QUALITIES)}")
        return routing_key[1], document["quality"]
