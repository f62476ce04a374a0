"""Dixie, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from stack.common import errors
from stack.common.context import Context
from stack.common.jwks import JwksRoute
from stack.common.serving import application
from stack.dixie.auth import Auth
from stack.dixie.health import Health
from stack.dixie.reputation import Reputation
from stack.dixie.scores import Scores

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from stack.common.settings import Settings


def create(settings: Settings) -> ASGIApp:
    """The ASGI application of Dixie's process."""
    context = Context(settings, pool_size=6)
    reputation = Reputation(Auth(context), Scores(context.db), context.faults)
    routes = [
        Route("/api/health", Health(context).__call__, methods=["GET"]),
        Route("/api/auth/.well-known/jwks.json", JwksRoute(context).__call__, methods=["GET"]),
        Route("/api/reputation/query", reputation.query, methods=["GET"]),
        Route("/api/reputation/events", reputation.events, methods=["POST"]),
    ]
    return application(routes, context.running, errors.dixie, context.faults, "dixie")
