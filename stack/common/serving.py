"""From routes to an ASGI application: error dialect, 404 in JSON, lifespan, edge."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from stack.common.database import UNREACHABLE
from stack.common.edge import Edge
from stack.common.errors import ApiError, unavailable
from stack.faults import refusals as broken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from stack.faults.switch import Faults


def application(
    routes: Sequence[BaseRoute],
    running: Callable[[], AbstractAsyncContextManager[object]],
    render: Callable[[ApiError], Response],
    faults: Faults,
    service: str,
) -> ASGIApp:
    """Assemble a service: every way out that is not a success goes through `render`."""

    async def declared(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return render(broken.code(faults, service, error))

    async def unrouted(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return render(ApiError(405, "METHOD_NOT_ALLOWED", "The path exists, the method does not"))
        return render(broken.unrouted(faults, service, ApiError(404, "NOT_FOUND", "No such resource")))

    async def without_database(_: Request, __: Exception) -> Response:
        return render(unavailable())

    async def unforeseen(_: Request, __: Exception) -> Response:
        return render(ApiError(500, "INTERNAL_ERROR", "Something went wrong on our side"))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with running():
            yield

    handlers = {ApiError: declared, HTTPException: unrouted, Exception: unforeseen}
    handlers.update(dict.fromkeys(UNREACHABLE, without_database))
    app = Starlette(routes=list(routes), exception_handlers=handlers, lifespan=lifespan)
    # A trailing slash makes another path, and another path is a 404.
    app.router.redirect_slashes = False
    return Edge(app, lambda: faults.on(f"{service}-drops-request-ids"))
