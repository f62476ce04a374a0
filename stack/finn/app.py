"""Finn, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from stack.common import errors
from stack.common.context import Context
from stack.common.jwks import JwksRoute
from stack.common.serving import application
from stack.finn.auth import Auth
from stack.finn.billing import Billing
from stack.finn.health import Health
from stack.finn.invoke import Inference
from stack.finn.provider import ProviderClient
from stack.finn.reports import Reports

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from stack.common.settings import Settings


def create(settings: Settings) -> ASGIApp:
    """The ASGI application of Finn's process."""
    context = Context(settings, pool_size=6)
    auth = Auth(context)
    reports = Reports(context, auth)
    inference = Inference(context, auth, Billing(context), ProviderClient(context), reports)
    routes = [
        Route("/health", Health(context).__call__, methods=["GET"]),
        Route("/.well-known/jwks.json", JwksRoute(context).__call__, methods=["GET"]),
        Route("/api/v1/invoke", inference.invoke, methods=["POST"]),
        Route("/api/v1/stream", inference.stream, methods=["POST"]),
        Route("/api/v1/quality", reports.quality, methods=["POST"]),
    ]
    return application(routes, context.running, errors.finn, context.faults, "finn")
