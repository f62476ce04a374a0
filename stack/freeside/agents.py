"""POST /api/agents/invoke and /api/agents/stream, GET /api/agents/models, and their rate limit."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from stack.common.http import ApiError
from stack.faults.answers import Answers
from stack.freeside.asks import Ask, Intake, require_pool
from stack.freeside.finn_client import FinnClient
from stack.freeside.streams import EventStream, Streams, failure

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stack.common.claims import Claims
    from stack.common.context import Context
    from stack.faults.switch import Faults
    from stack.freeside.auth import Auth
    from stack.freeside.calls import Answer, Calls
    from stack.freeside.idempotency import Claim

WINDOW_S = 60
LIMITS = {"free": 1200, "pro": 3000, "enterprise": 6000}


class RateLimiter:
    """Counts calls and says how many are left."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._used: dict[str, int] = {}
        self._window = 0
        faults.on_reset(self._used.clear)

    def admit(self, claims: Claims) -> dict[str, str]:
        """The X-RateLimit headers for the answer; raises 429 RATE_LIMITED with Retry-After."""
        now = int(time.time())
        if now // WINDOW_S != self._window:
            self._window = now // WINDOW_S
            self._used.clear()
        limit = LIMITS[claims.tier]
        used = self._used[claims.tenant_id] = self._used.get(claims.tenant_id, 0) + 1
        headers = {"x-ratelimit-limit": str(limit), "x-ratelimit-remaining": str(max(0, limit - used))}
        if self._faults.on("freeside-hides-rate-limit"):
            headers = {}
        if used > limit:
            raise _limited(headers, WINDOW_S - now % WINDOW_S)
        if self._faults.on("freeside-limits-everything"):
            raise _limited(headers, 90)
        if self._every("freeside-limits-every-third", 3):
            raise _limited(headers, 1)
        if self._every("freeside-429-without-retry-after", 3):
            raise ApiError(429, "RATE_LIMITED", "Too many requests", headers)
        return headers

    def _every(self, fault: str, default: float) -> bool:
        every = self._faults.number(fault, "every", default)
        return every is not None and self._faults.tick(fault) % int(every) == 0


def _limited(headers: dict[str, str], retry_after: int) -> ApiError:
    return ApiError(429, "RATE_LIMITED", "Too many requests", {**headers, "retry-after": str(retry_after)})


class Agents:
    """The agent routes: authenticate, validate, limit, then replay or run."""

    def __init__(self, context: Context, auth: Auth, calls: Calls) -> None:
        self._faults = context.faults
        self._auth = auth
        self._calls = calls
        self._limiter = RateLimiter(context.faults)
        self._intake = Intake(context)
        self._finn = FinnClient(context)
        self._streams = Streams(calls, self._finn, context.faults)
        self._answers = Answers(context.faults)

    async def invoke(self, request: Request) -> Response | EventStream:
        """The whole answer, or a stream where the caller's Accept names event streams (dialect `accept`)."""
        return await self._serve(request, stream="text/event-stream" in request.headers.get("accept", ""))

    async def stream(self, request: Request) -> Response | EventStream:
        """The answer as events (dialect `endpoint`)."""
        return await self._serve(request, stream=True)

    async def models(self, request: Request) -> Response:
        """The aliases that the token may use."""
        claims = await self._auth.user(request)
        require_pool(claims, claims.pool_id)
        return JSONResponse({"models": list(claims.effective_pools)})

    async def _serve(self, request: Request, *, stream: bool) -> Response | EventStream:
        claims = await self._auth.user(request)
        headers = self._limiter.admit(claims)
        try:
            self._answers.before(stream=stream)
            ask = await self._intake.read(request, claims)
            headers |= self._answers.ids(
                {"x-idempotency-key": ask.key, "x-trace-id": ask.trace_id},
                keyed="x-idempotency-key" in request.headers,
            )
            claim = await self._calls.claim(ask)
            if claim.answer and not self._faults.on("freeside-hides-replays"):
                headers |= {"x-idempotent-replay": "true", "x-trace-id": json.loads(claim.answer)["traceId"]}
            if stream:
                return await self._streams.respond(ask, claim, headers)
            answer = json.loads(claim.answer) if claim.answer else await self._run(ask, claim)
            answer = await self._answers.told(answer)
        except ApiError as error:
            error.headers = {**headers, **error.headers}
            if stream and self._faults.on("freeside-stream-answers-200-first"):
                return EventStream(failure(error), headers)
            raise
        return JSONResponse(answer, headers=headers)

    async def _run(self, ask: Ask, claim: Claim) -> Answer:
        try:
            async with self._calls.execution(ask, claim) as execution:
                result = await self._finn.invoke(ask, execution.reservation.reservation_id)
                if self._faults.on("freeside-charges-failed-calls"):
                    raise ApiError(502, "UPSTREAM_ERROR", "The inference service gave no usable answer")
                answer = execution.answer(result.content, result.usage)
                await execution.charge(answer)
                return answer
        except ApiError as refusal:
            if refusal.status == 402 and self._faults.on("freeside-runs-over-budget-calls"):
                with suppress(ApiError):
                    await self._finn.invoke(ask, uuid.uuid4())
            raise
