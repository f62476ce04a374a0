"""Freeside's API, put together, and its health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from stack.common import http
from stack.common.context import VERSION, Context
from stack.common.jwks import JwksRoute
from stack.common.outbox import Outbox
from stack.common.serving import application
from stack.faults import health as broken
from stack.faults.money import FaultyLedger
from stack.faults.repeats import FaultyIdempotency
from stack.freeside.agents import Agents
from stack.freeside.auth import Auth
from stack.freeside.budgets import Budgets, Reservations
from stack.freeside.calls import Calls, Leases
from stack.freeside.quality import Quality

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from stack.common.settings import Settings

PROTOCOL_VERSION = "8.3.0"


class Health:
    """The route; `unhealthy` without the database, `degraded` while no signing key has been read."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, _: Request) -> Response:
        """200 with the contract's body, or 503 `database_unreachable`."""
        if not await self._context.db.reachable():
            body = {"status": "unhealthy", "error": "database_unreachable"}
            return await broken.report(self._context.faults, "freeside", body, 503)
        return await broken.report(
            self._context.faults,
            "freeside",
            {
                "status": "healthy" if self._context.keyring.keys else "degraded",
                "version": VERSION,
                "build_sha": self._context.settings.build_sha,
                "protocol_version": PROTOCOL_VERSION,
                "uptime": self._context.uptime,
                "grace_period": False,
            },
        )


def create(settings: Settings) -> ASGIApp:
    """The ASGI application of the API process."""
    context = Context(settings, pool_size=12)
    faults, auth = context.faults, Auth(context)
    ledger, idempotency = FaultyLedger(context.db, faults), FaultyIdempotency(context.db, faults)
    leases = Leases(ledger, idempotency)
    context.background(leases.keep)
    agents = Agents(context, auth, Calls(ledger, idempotency, leases, faults))
    budgets, reservations = Budgets(auth, ledger, faults), Reservations(auth, ledger)
    quality = Quality(auth, Outbox(context.db, "freeside"), faults)
    routes = [
        Route("/health", Health(context).__call__, methods=["GET"]),
        Route("/.well-known/jwks.json", JwksRoute(context).__call__, methods=["GET"]),
        Route("/api/agents/invoke", agents.invoke, methods=["POST"]),
        Route("/api/agents/stream", agents.stream, methods=["POST"]),
        Route("/api/agents/models", agents.models, methods=["GET"]),
        Route("/api/agents/budget", budgets.gateway, methods=["GET"]),
        Route("/api/agents/quality", quality.__call__, methods=["POST"]),
        Route("/api/v1/communities/{community_id}/budget", budgets.community, methods=["GET"]),
        Route("/internal/v1/reservations", reservations.reserve, methods=["POST"]),
        Route("/internal/v1/reservations/{reservation_id}/settle", reservations.settle, methods=["POST"]),
        Route("/internal/v1/reservations/{reservation_id}/release", reservations.release, methods=["POST"]),
    ]
    return application(routes, context.running, http.standard, context.faults, "freeside")
