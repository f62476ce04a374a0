"""Server-sent events: numbered, kept alive, and stopped when the client hangs up."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from starlette.types import Receive, Scope, Send

KEEPALIVE_S = 10.0


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the stream, before it has its number."""

    name: str
    data: dict[str, Any]


class EventStream:
    """An ASGI response that sends events as they are produced.

    The generator is closed in every case: what it holds is given back when the client goes away.
    """

    def __init__(
        self, events: AsyncGenerator[Event], headers: Mapping[str, str], *, numbered: bool = True
    ) -> None:
        self._events = events
        self._headers = {"content-type": "text/event-stream", "cache-control": "no-cache", **headers}
        self._numbered = numbered

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send until the events end or the client is gone."""
        sender = asyncio.create_task(self._send(send))
        watcher = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((sender, watcher), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, watcher):
                task.cancel()
            results = await asyncio.gather(sender, watcher, return_exceptions=True)
            await self._events.aclose()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        MutableHeaders(scope=start).update(self._headers)
        await send(start)
        number = 0
        upcoming = asyncio.ensure_future(anext(self._events, None))
        try:
            while True:
                done, _ = await asyncio.wait((upcoming,), timeout=KEEPALIVE_S)
                if not done:
                    await _chunk(send, ": keepalive\n\n")
                    continue
                event = upcoming.result()
                if event is None:
                    break
                number += 1 if self._numbered or number == 0 else 0
                data = json.dumps(event.data, separators=(",", ":"))
                await _chunk(send, f"id: {number}\nevent: {event.name}\ndata: {data}\n\n")
                upcoming = asyncio.ensure_future(anext(self._events, None))
        finally:
            upcoming.cancel()
            with suppress(asyncio.CancelledError):
                await upcoming
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _chunk(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
