"""Freeside's API, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from stack.common import errors
from stack.common.context import Context
from stack.common.jwks import JwksRoute
from stack.common.outbox import Outbox
from stack.common.serving import application
from stack.faults.money import FaultyLedger
from stack.faults.repeats import FaultyIdempotency
from stack.freeside.agents import Agents
from stack.freeside.auth import Auth
from stack.freeside.budgets import Budgets
from stack.freeside.calls import Calls
from stack.freeside.health import Health
from stack.freeside.internal import Reservations
from stack.freeside.leases import Leases
from stack.freeside.quality import Quality

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from stack.common.settings import Settings


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
    return application(routes, context.running, errors.standard, context.faults, "freeside")
