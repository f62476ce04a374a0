"""Freeside's API, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from stack.common import errors
from stack.common.context import Context
from stack.common.jwks import JwksRoute
from stack.common.outbox import Outbox
from stack.common.serving import application
from stack.freeside.auth import Auth
from stack.freeside.budgets import Budgets
from stack.freeside.calls import Calls
from stack.freeside.finn_client import FinnClient
from stack.freeside.health import Health
from stack.freeside.idempotency import Idempotency
from stack.freeside.internal import Reservations
from stack.freeside.invoke import Agents
from stack.freeside.leases import Leases
from stack.freeside.ledger import Ledger
from stack.freeside.quality import Quality
from stack.freeside.ratelimit import RateLimiter
from stack.freeside.stream import Streams

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from stack.common.settings import Settings


def create(settings: Settings) -> ASGIApp:
    """The ASGI application of the API process."""
    context = Context(settings, pool_size=12)
    auth = Auth(context)
    ledger, idempotency = Ledger(context.db), Idempotency(context.db)
    leases = Leases(ledger, idempotency)
    context.background(leases.keep)
    calls, finn = Calls(ledger, idempotency, leases), FinnClient(context)
    agents = Agents(auth, RateLimiter(context.faults), calls, finn, Streams(calls, finn, context.faults))
    budgets, reservations = Budgets(auth, ledger), Reservations(auth, ledger)
    quality = Quality(auth, Outbox(context.db, "freeside"), context.faults)
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
    return application(routes, context.running, errors.standard)
