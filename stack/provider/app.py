"""The model provider: echoes what it is asked, so that an asker can tell its own answer from another's."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stack.common import errors
from stack.common.serving import application
from stack.faults.switch import Faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from stack.common.settings import Settings


def create(settings: Settings) -> ASGIApp:
    """The ASGI application of the provider's process: no database, no keys."""
    faults = Faults(settings.faults_file)

    async def health(_: Request) -> Response:
        if faults.on("provider-down"):
            return JSONResponse({"status": "down"}, 503)
        return JSONResponse({"status": "healthy", "build_sha": settings.build_sha})

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        yield

    return application([Route("/health", health, methods=["GET"])], running, errors.standard)
