"""The outermost layer of every service: request ids, one access log line, a log of what nobody caught."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}")
_log = logging.getLogger("stack.access")


class Edge:
    """Echoes `x-request-id` or makes one, on every response, errors included.

    The log line carries method, path, status and time: never a header, a query string or a body, since those
    hold tokens and prompts.
    """

    def __init__(self, app: ASGIApp, tagless: Callable[[], bool]) -> None:
        """`tagless` tells whether answers go without an id: only a fault makes it true."""
        self._app = app
        self._tagless = tagless

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
                if not self._tagless():
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
