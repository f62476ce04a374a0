"""The side door: a few requests beside the AWS APIs, for what no AWS API does.

- `PUT /_stack/metrics`: the series to publish from now on
- `POST /_stack/remember`: take the present state as the one to come back to
- `POST /_stack/restore`: bring it back, with every alteration undone
- `PUT /_stack/faults/{name}`: alter something (`stack.aws.faults`); the body is its parameters
- `GET /_stack/state`: `{"digest": sha256, "seeded": bool}`
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

from stack.aws import faults, state
from stack.aws.emulator import Emulator
from stack.aws.metrics import install

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from stack.aws.load_balancer import LoadBalancer

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATH = "/_stack/"
TICK_S = 0.1
FEED_EVERY = 150


class ControlApi:
    """An ASGI application that answers under /_stack/ itself and passes everything else on."""

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        endpoint: str,
        load_balancer: LoadBalancer,
    ) -> None:
        self._app = app
        self._memory = state.Memory()
        self._emulator = Emulator(endpoint, load_balancer)
        self._lock = threading.Lock()
        install()
        self._emulator.notices.install()
        threading.Thread(target=self._tick, name="stack-tick", daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"].startswith(PATH):
            await self._answer(scope, receive, send)
        elif not await self._emulator.refusals.refuse(scope, send):
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["path"].removeprefix(PATH).split("/")
        try:
            answer = await asyncio.to_thread(self._act, scope["method"], path, json.loads(body or b"{}"))
            status = 200
        except (LookupError, ValueError, TypeError) as error:
            status, answer = 400, {"error": "INVALID_REQUEST", "message": str(error)}
        data = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    def _act(self, method: str, path: list[str], body: Any) -> dict[str, Any]:
        emulator = self._emulator
        with self._lock:
            match method, path:
                case "PUT", ["metrics"]:
                    emulator.metrics.publish(body["series"])
                    emulator.metrics.feed()
                case "POST", ["remember"]:
                    emulator.metrics.feed()
                    self._memory.remember()
                case "POST", ["restore"]:
                    emulator.heal()
                    self._memory.restore()
                    emulator.metrics.feed()
                case "PUT", ["faults", name]:
                    faults.apply(emulator, name, body)
                    emulator.metrics.feed()
                case "GET", ["state"]:
                    pass
                case _:
                    raise LookupError(f"{method} {'/'.join(path)} is not offered")
            return {"digest": state.digest(), "seeded": self._memory.filled}

    def _tick(self) -> None:
        clock = threading.Event()
        count = 0
        while not clock.wait(TICK_S):
            count += 1
            with self._lock:
                self._emulator.one_shots.finish()
                if count % FEED_EVERY == 0:
                    self._emulator.metrics.feed()
