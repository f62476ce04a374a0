"""Freeside, the public API: it verifies, reserves, calls Finn and charges exactly once. Parts and health."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from stack.common import http
from stack.common.auth import FreesideAuth
from stack.common.context import VERSION, Context
from stack.common.database import Database
from stack.common.http import application
from stack.common.outbox import Outbox
from stack.common.settings import Settings
from stack.freeside.asks import FinnClient
from stack.freeside.budget_ledger import BudgetLedger
from stack.freeside.calls import Calls, Idempotency, Leases
from stack.freeside.payments import ROUTE as X402_ROUTE
from stack.freeside.payments import FacilitatorClient, Payments, UsedNonces
from stack.freeside.routes import Agents, Budgets, Quality, RateLimiter, Reservations
from stack.freeside.streams import Streams

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
    agents = parts.agents(auth, limiter, calls, finn, parts.streams(calls, finn))
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
