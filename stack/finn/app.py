"""Finn, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from stack.common import errors
from stack.common.context import Context
from stack.common.serving import application
from stack.finn.health import Health

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from stack.common.settings import Settings


def create(settings: Settings) -> ASGIApp:
    """The ASGI application of Finn's process."""
    context = Context(settings, pool_size=5)
    routes = [Route("/health", Health(context).__call__, methods=["GET"])]
    return application(routes, context.running, errors.finn)
