"""From routes to an ASGI application: error dialect, 404 in JSON, lifespan, request ids, access log."""

import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stack.common.database import UNREACHABLE
from stack.common.http import ApiError, unavailable

_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}")
_log = logging.getLogger("stack.access")


class RequestBoundary:
    """Echoes `x-request-id` or makes one, on every response, errors included.

    The log line carries method, path, status and time: never a header, a query string or a body, since those
    hold tokens and prompts.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if _ACCEPTABLE.fullmatch(offered) else str(uuid.uuid4())
        started = time.perf_counter()
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except Exception:
            # Starlette has answered 500 already and raises again for the server to log; with our id, we do.
            _log.exception("%s %s failed, request %s", scope["method"], scope["path"], request_id)
        finally:
            took = (time.perf_counter() - started) * 1000
            _log.info("%s %s %s %.1f ms %s", scope["method"], scope["path"], status, took, request_id)


def application(
    routes: Sequence[BaseRoute],
    running: Callable[[], AbstractAsyncContextManager[object]],
    render: Callable[[ApiError], Response],
) -> ASGIApp:
    """Assemble a service: every way out that is not a success goes through `render`."""

    async def declared(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return render(error)

    async def unrouted(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return render(ApiError(405, "METHOD_NOT_ALLOWED", "The path exists, the method does not"))
        return render(ApiError(404, "NOT_FOUND", "No such resource"))

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
    return RequestBoundary(app)
