"""Freeside, the public API: its routes with their rate limit, its parts and its health.

Budgets are as callers see them (contract 1.5); Finn reserves for the calls that reach it directly.
"""

import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from stack.common import http
from stack.common.auth import FreesideAuth
from stack.common.context import VERSION, Context, Outbox
from stack.common.database import Database
from stack.common.http import (
    ApiError,
    application,
    bad_request,
    drained_body,
    json_object,
    raw_body,
    require_json,
    text,
)
from stack.common.provider import Usage, cost_micro
from stack.common.settings import Settings
from stack.common.verifier import POOLS, Claims
from stack.freeside.budget_ledger import MICRO_PER_CENT, BudgetLedger, Charge, Claim, Figures
from stack.freeside.calls import Answer, Ask, Calls, FinnClient, Idempotency, Leases, read_ask, require_pool
from stack.freeside.payments import ROUTE as X402_ROUTE
from stack.freeside.payments import FacilitatorClient, Payments, UsedNonces
from stack.freeside.streams import EventStream, Streams

QUALITIES = ("bad", "good", "excellent")
_ROUTING_KEY = re.compile(r"nft:([A-Za-z0-9_-]{1,128})")
WINDOW_S = 60
#: Calls per window: a run on a fast machine stays below them.
LIMITS = {"free": 6_000, "pro": 15_000, "enterprise": 30_000}


class RateLimiter:
    """Counts calls per window and tenant, in this process.

    With ``calls_per_s`` a tenant of any tier has so many in a second, in place of its tier's in a minute.
    """

    def __init__(self, calls_per_s: int) -> None:
        self._calls_per_s = calls_per_s
        self._window_s = 1 if calls_per_s else WINDOW_S
        self._used: dict[str, int] = {}
        self._window = 0

    def forget(self) -> None:
        """Start counting again."""
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
        return JSONResponse({"models": self.aliases(claims)}, headers=self._limiter.admit(claims))

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


class Budgets:
    """The budget routes: a token shows its own tenant's figures and no other's."""

    def __init__(self, auth: FreesideAuth, ledger: BudgetLedger) -> None:
        self._auth = auth
        self._ledger = ledger

    async def community(self, request: Request) -> Response:
        """Dialect `community`; 403 for any other tenant, existing or not; 404 for an unknown own one."""
        claims = await self._auth.user(request)
        tenant_id = request.path_params["community_id"]
        if tenant_id != claims.tenant_id:
            raise ApiError(403, "FORBIDDEN", "The token is for another community")
        return JSONResponse(community_view(await self.figures(tenant_id)))

    async def gateway(self, request: Request) -> Response:
        """Dialect `gateway`; admins only."""
        claims = await self._auth.user(request)
        if not claims.is_admin:
            raise ApiError(403, "FORBIDDEN", "Admins only")
        return JSONResponse(gateway_view(await self.figures(claims.tenant_id)))

    async def figures(self, tenant_id: str) -> Figures:
        """The tenant's budget; raises 404 for an unknown one."""
        figures = await self._ledger.figures(tenant_id)
        if figures is None:
            raise ApiError(404, "NOT_FOUND", "No such community")
        return figures


def community_view(figures: Figures) -> dict[str, Any]:
    """Cents as integers, µUSD as digits in a string."""
    committed = figures.committed_micro // MICRO_PER_CENT
    return {
        "communityId": figures.tenant_id,
        "monthlyBudgetCents": figures.limit_micro // MICRO_PER_CENT,
        "committed": committed,
        "reserved": figures.reserved_micro // MICRO_PER_CENT,
        "spentCents": committed,
        "committedMicro": str(figures.committed_micro),
        "reservedMicro": str(figures.reserved_micro),
        "period": figures.period,
    }


def gateway_view(figures: Figures) -> dict[str, Any]:
    """Whole cents only, as the gateway has them."""
    limit, spent = figures.limit_micro // MICRO_PER_CENT, figures.committed_micro // MICRO_PER_CENT
    return {
        "communityId": figures.tenant_id,
        "monthlyLimitCents": limit,
        "currentSpendCents": spent,
        "remainingCents": max(0, limit - spent),
        "percentUsed": 100 * spent // limit if limit else 100,
    }


# Finn does not extend leases. A call that takes longer is charged late, if there is still room for it.
_LEASE_S = 8.0


class Reservations:
    """Reserve, settle, release; the price is Freeside's own, from pool and tokens."""

    def __init__(self, auth: FreesideAuth, ledger: BudgetLedger) -> None:
        self._auth = auth
        self._ledger = ledger

    async def reserve(self, request: Request) -> Response:
        """`{tenant_id, pool, prompt_tokens, completion_tokens}`: 201 `{reservation_id, amount_micro}`."""
        await self._auth.service(request)
        document = json_object(await raw_body(request))
        reservation = await self._ledger.reserve(text(document, "tenant_id"), _price(document), _LEASE_S)
        body = {"reservation_id": str(reservation.reservation_id), "amount_micro": reservation.amount_micro}
        return JSONResponse(body, 201)

    async def settle(self, request: Request) -> Response:
        """`{pool, prompt_tokens, completion_tokens, trace_id}`: 200 `{cost_micro}`; 409: nothing is held."""
        await self._auth.service(request)
        document = json_object(await raw_body(request))
        cost = _price(document)
        if not await self._ledger.commit(_id(request), Charge(cost, text(document, "trace_id"))):
            raise ApiError(409, "NOT_HELD", "Nothing is reserved under this id")
        return JSONResponse({"cost_micro": cost})

    async def release(self, request: Request) -> Response:
        """204, whether or not something was held."""
        await self._auth.service(request)
        await self._ledger.release(_id(request))
        return Response(status_code=204)


def _price(document: dict[str, Any]) -> int:
    pool = document.get("pool")
    counts = [document.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if pool not in POOLS or not all(type(count) is int and count > 0 for count in counts):
        raise bad_request("pool, prompt_tokens and completion_tokens must be given")
    return cost_micro(pool, Usage(*counts))  # type: ignore[arg-type]


def _id(request: Request) -> uuid.UUID:
    try:
        return uuid.UUID(request.path_params["reservation_id"])
    except ValueError:
        raise bad_request("The reservation's id is not a UUID") from None


PROTOCOL_VERSION = "8.3.0"


class Health:
    """The route; `unhealthy` without the database, `degraded` while no signing key has been read."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, _: Request) -> Response:
        """200 with the contract's body, or 503 `database_unreachable`."""
        if not await self._context.db.reachable():
            body = {"status": "unhealthy", "error": "database_unreachable"}
            return JSONResponse(body, 503)
        return JSONResponse(
            {
                "status": "healthy" if self._context.keyring.keys else "degraded",
                "version": VERSION,
                "build_sha": self._context.settings.build_sha,
                "protocol_version": PROTOCOL_VERSION,
                "uptime": self._context.uptime,
                "grace_period": False,
            },
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """Factories of the parts; a default makes the part that behaves as the contract says."""

    context: Callable[..., Context] = Context
    auth: Callable[[Context], FreesideAuth] = FreesideAuth
    ledger: Callable[[Database], BudgetLedger] = BudgetLedger
    idempotency: Callable[[Database], Idempotency] = Idempotency
    calls: Callable[[BudgetLedger, Idempotency, Leases], Calls] = Calls
    finn: Callable[[Context], FinnClient] = FinnClient
    streams: Callable[[Calls, FinnClient], Streams] = Streams
    agents: Callable[[FreesideAuth, RateLimiter, Calls, FinnClient, Streams], Agents] = Agents
    budgets: Callable[[FreesideAuth, BudgetLedger], Budgets] = Budgets
    outbox: Callable[[Database, str], Outbox] = Outbox
    quality: Callable[[FreesideAuth, Outbox], Quality] = Quality
    facilitator: Callable[[Context], FacilitatorClient] = FacilitatorClient
    nonces: Callable[[Database], UsedNonces] = UsedNonces
    payments: Callable[[Context, FinnClient, FacilitatorClient, UsedNonces], Payments] = Payments


def create(settings: Settings, parts: Parts | None = None) -> ASGIApp:
    """The ASGI application of the API process."""
    parts = parts or Parts()
    context = parts.context(settings, pool_size=12)
    auth, finn = parts.auth(context), parts.finn(context)
    limiter = RateLimiter(settings.calls_per_s)
    ledger, idempotency = parts.ledger(context.db), parts.idempotency(context.db)
    leases = Leases(ledger, idempotency)
    context.background(leases.keep)
    context.on_reset(limiter.forget)
    calls = parts.calls(ledger, idempotency, leases)
    calls.reserve_times = settings.reserve_times
    idempotency.waits = settings.waits_for_keys
    streams = parts.streams(calls, finn)
    streams.finishes = settings.finishes_streams
    agents = parts.agents(auth, limiter, calls, finn, streams)
    budgets, reservations = parts.budgets(auth, ledger), Reservations(auth, ledger)
    quality = parts.quality(auth, parts.outbox(context.db, "freeside"))
    payments = parts.payments(context, finn, parts.facilitator(context), parts.nonces(context.db))
    routes = [
        Route("/health", Health(context).__call__, methods=["GET"]),
        Route("/.well-known/jwks.json", context.own_key_set().__call__, methods=["GET"]),
        Route("/api/agents/invoke", agents.invoke, methods=["POST"]),
        Route("/api/agents/stream", agents.stream, methods=["POST"]),
        Route("/api/agents/models", agents.models, methods=["GET"]),
        Route("/api/agents/budget", budgets.gateway, methods=["GET"]),
        Route("/api/agents/quality", quality.__call__, methods=["POST"]),
        Route(X402_ROUTE, payments.invoke, methods=["POST"]),
        Route("/api/v1/communities/{community_id}/budget", budgets.community, methods=["GET"]),
        Route("/internal/v1/reservations", reservations.reserve, methods=["POST"]),
        Route("/internal/v1/reservations/{reservation_id}/settle", reservations.settle, methods=["POST"]),
        Route("/internal/v1/reservations/{reservation_id}/release", reservations.release, methods=["POST"]),
    ]
    return application(routes, context.running, http.standard)
