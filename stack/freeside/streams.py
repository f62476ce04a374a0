"""The streamed call: Finn's events become the contract's (1.4), charged before the usage is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stack.common.database import UNREACHABLE
from stack.common.errors import ApiError, unavailable
from stack.common.pricing import Usage, tokens
from stack.faults import stream as broken
from stack.freeside.calls import surely
from stack.freeside.finn_client import usage_in
from stack.freeside.sse import Event, EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from stack.faults.switch import Faults
    from stack.freeside.asks import Ask
    from stack.freeside.calls import Calls, Execution
    from stack.freeside.finn_client import FinnClient
    from stack.freeside.idempotency import Claim


@dataclass(slots=True)
class Progress:
    """How far a stream has come."""

    execution: Execution
    text: str = ""
    usage_told: bool = False


class Streams:
    """Answers a call as an event stream."""

    def __init__(self, calls: Calls, finn: FinnClient, faults: Faults) -> None:
        self._calls = calls
        self._finn = finn
        self._faults = faults

    async def respond(self, ask: Ask, claim: Claim, headers: Mapping[str, str]) -> EventStream:
        """The response; whatever goes wrong before the first event is raised, with its own status."""
        events = _replay(claim.answer) if claim.answer else self._events(ask, claim)
        first = await anext(events)
        whole = broken.events(self._faults, _with_errors(first, events))
        return EventStream(
            whole,
            broken.headers(self._faults, dict(headers)),
            numbered=not self._faults.on("freeside-stream-ids-stand-still"),
        )

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
                await surely(self._hung_up(progress))
                raise
            raise ApiError(502, "UPSTREAM_ERROR", "The answer ended too early")

    async def _translate(self, line: dict[str, Any], progress: Progress) -> Event:
        kind, text = line.get("type"), line.get("text")
        if kind == "content" and isinstance(text, str) and not progress.usage_told:
            progress.text += text
            return Event("content", {"text": text})
        if kind == "usage" and progress.text and not progress.usage_told:
            answer = progress.execution.answer(progress.text, usage_in(line))
            if not self._faults.on("freeside-stream-not-charged"):
                await progress.execution.charge(answer)
            progress.usage_told = True
            return Event("usage", answer["usage"])
        if kind == "done" and progress.usage_told:
            return Event("done", {})
        if kind == "error" and line.get("code") == "PROVIDER_UNAVAILABLE":
            raise ApiError(503, "MODEL_PROVIDER_UNAVAILABLE", "The model provider is down")
        raise ApiError(502, "UPSTREAM_ERROR", "The inference service broke the order of its events")

    async def _hung_up(self, progress: Progress) -> None:
        """Charge for what was produced, nothing if that was nothing."""
        execution, text = progress.execution, progress.text
        if await broken.leaks(self._faults, execution) or broken.fails(self._faults):
            return
        if execution.settled or not text:
            return
        usage = Usage(tokens(execution.ask.prompt), tokens(text))
        await execution.charge(execution.answer(text, usage), keep=False)


async def _with_errors(first: Event, rest: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    """After the first byte a fault can only be told as an event."""
    try:
        yield first
        async for event in rest:
            yield event
    except (ApiError, *UNREACHABLE) as error:
        async for event in failure(error if isinstance(error, ApiError) else unavailable()):
            yield event
    finally:
        await rest.aclose()


async def failure(error: ApiError) -> AsyncGenerator[Event]:
    """The error event that ends a stream."""
    yield Event("error", {"code": error.code, "message": error.message})


async def _replay(stored: str) -> AsyncGenerator[Event]:
    answer = json.loads(stored)
    content = answer["content"]
    middle = max(1, len(content) // 2)
    for part in (content[:middle], content[middle:]):
        yield Event("content", {"text": part})
    yield Event("usage", answer["usage"])
    yield Event("done", {})
