"""The side door: a few requests beside the AWS APIs, for what no AWS API does.

- `POST /_stack/remember`: take the present state as the one to come back to
- `POST /_stack/restore`: bring it back
- `GET /_stack/state`: `{"digest": sha256, "seeded": bool}`
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from stack.aws import state

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATH = "/_stack/"


class SideDoor:
    """An ASGI application that answers under /_stack/ itself and passes everything else on."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._memory = state.Memory()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http" or not scope["path"].startswith(PATH):
            await self._app(scope, receive, send)
            return
        action = f"{scope['method']} {scope['path'].removeprefix(PATH)}"
        status, answer = await asyncio.to_thread(self._answer, action)
        body = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, action: str) -> tuple[int, dict[str, Any]]:
        if action == "POST remember":
            self._memory.remember()
        elif action == "POST restore":
            self._memory.restore()
        elif action != "GET state":
            return 404, {"error": "NOT_FOUND", "message": f"no such action: {action}"}
        return 200, {"digest": state.digest(), "seeded": self._memory.filled}
