"""The streamed call: Finn's events become the contract's (1.4), charged before the usage is sent."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import Receive, Scope, Send

from stack.common.database import UNREACHABLE, surely
from stack.common.http import ApiError, unavailable
from stack.common.provider import Usage, tokens
from stack.freeside.budget_ledger import Claim
from stack.freeside.calls import Answer, Ask, Calls, Execution, FinnClient, usage_in

# Shorter than the pause between two pieces of an answer: every stream has comments between its events.
KEEPALIVE_S = 0.005


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the stream, before it has its number."""

    name: str
    data: dict[str, Any]


class EventStream:
    """An ASGI response that sends events as they are produced.

    The generator is closed in every case: what it holds is given back when the client goes away. With
    ``finishes``, the events are produced to their end all the same.
    """

    def __init__(
        self, events: AsyncGenerator[Event], headers: Mapping[str, str], *, finishes: bool = False
    ) -> None:
        self.events = events
        self._finishes = finishes
        self._headers = {"content-type": "text/event-stream", "cache-control": "no-cache", **headers}

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send until the events end or the client is gone."""
        sender = asyncio.create_task(self._send(send))
        watcher = asyncio.create_task(_gone(receive))
        try:
            ending = (sender,) if self._finishes else (sender, watcher)
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, watcher):
                task.cancel()
            results = await asyncio.gather(sender, watcher, return_exceptions=True)
            await self.events.aclose()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        MutableHeaders(scope=start).update(self._headers)
        await send(start)
        number = 0
        upcoming = asyncio.ensure_future(anext(self.events, None))
        try:
            while True:
                done, _ = await asyncio.wait((upcoming,), timeout=KEEPALIVE_S)
                if not done:
                    await _chunk(send, ": keepalive\n\n")
                    continue
                event = upcoming.result()
                if event is None:
                    break
                number += 1
                data = json.dumps(event.data, separators=(",", ":"))
                await _chunk(send, f"id: {number}\nevent: {event.name}\ndata: {data}\n\n")
                upcoming = asyncio.ensure_future(anext(self.events, None))
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


@dataclass(slots=True)
class Progress:
    """How far a stream has come."""

    execution: Execution
    text: str = ""
    usage_sent: bool = False


class Streams:
    """Answers a call as an event stream."""

    #: Whether an answer is produced, charged and kept in whole when its caller hangs up.
    finishes = False

    def __init__(self, calls: Calls, finn: FinnClient) -> None:
        self._calls = calls
        self._finn = finn

    async def respond(self, ask: Ask, claim: Claim, headers: Mapping[str, str]) -> EventStream:
        """The response; whatever goes wrong before the first event is raised, with its own status."""
        events = _replay(claim.answer) if claim.answer else self._events(ask, claim)
        first = await anext(events)
        return EventStream(_with_errors(first, events), headers, finishes=self.finishes)

    async def _events(self, ask: Ask, claim: Claim) -> AsyncGenerator[Event]:
        async with (
            self._calls.execution(ask, claim) as execution,
            self._finn.stream(ask, execution.reservation.reservation_id) as lines,
        ):
            progress = Progress(execution)
            try:
                async for line in lines:
                    event = await self._translate(line, progress)
                    yield event
                    if event.name in ("done", "error"):
                        return
            except (asyncio.CancelledError, GeneratorExit):
                await surely(self.hung_up(progress))
                raise
            raise ApiError(502, "UPSTREAM_ERROR", "The answer ended too early")

    async def _translate(self, line: dict[str, Any], progress: Progress) -> Event:
        kind, text = line.get("type"), line.get("text")
        if kind == "content" and isinstance(text, str) and not progress.usage_sent:
            progress.text += text
            return Event("content", {"text": text})
        if kind == "usage" and progress.text and not progress.usage_sent:
            answer = progress.execution.answer(progress.text, usage_in(line))
            await surely(self.charge(progress.execution, answer))  # who hangs up now is not charged twice
            progress.usage_sent = True
            return Event("usage", answer["usage"])
        if kind == "done" and progress.usage_sent:
            return Event("done", {})
        if kind == "error" and line.get("code") == "PROVIDER_UNAVAILABLE":
            raise ApiError(503, "MODEL_PROVIDER_UNAVAILABLE", "The model provider is down")
        raise ApiError(502, "UPSTREAM_ERROR", "The inference service broke the order of its events")

    async def charge(self, execution: Execution, answer: Answer) -> None:
        """Charge for a complete answer; raises 503 when it can no longer be charged."""
        await execution.charge(answer)

    async def hung_up(self, progress: Progress) -> None:
        """Charge a caller who hung up for what was produced."""
        execution, text = progress.execution, progress.text
        if execution.settled or not text:
            return
        usage = Usage(tokens(execution.ask.prompt), tokens(text))
        await execution.charge(execution.answer(text, usage), keep=False)


async def _with_errors(first: Event, rest: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    """Send an error as an event: after the first byte the status is fixed."""
    try:
        yield first
        async for event in rest:
            yield event
    except (ApiError, *UNREACHABLE) as error:
        shown = error if isinstance(error, ApiError) else unavailable()
        yield Event("error", {"code": shown.code, "message": shown.message})
    finally:
        await rest.aclose()


async def _replay(stored: str) -> AsyncGenerator[Event]:
    answer = json.loads(stored)
    content = answer["content"]
    middle = max(1, len(content) // 2)
    for part in (content[:middle], content[middle:]):
        yield Event("content", {"text": part})
    yield Event("usage", answer["usage"])
    yield Event("done", {})
