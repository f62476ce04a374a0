"""Broken event streams: what a client can be sent instead of content+, usage, done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import stack.freeside.streams as sse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from stack.faults.switch import Faults
    from stack.freeside.calls import Execution


async def events(faults: Faults, sound: AsyncGenerator[sse.Event]) -> AsyncGenerator[sse.Event]:
    """The events as sent: untouched, or broken in the way that is switched on."""
    stream: AsyncIterator[sse.Event] = sound
    for name, distort in _DISTORTIONS.items():
        if faults.on(f"freeside-stream-{name}"):
            stream = distort(stream)
    try:
        async for event in stream:
            yield event
    finally:
        await sound.aclose()


def headers(faults: Faults, sent: dict[str, str]) -> dict[str, str]:
    """The stream's own headers, or wrong ones."""
    if faults.on("freeside-stream-wrong-content-type"):
        sent["content-type"] = "text/plain; charset=utf-8"
    if faults.on("freeside-stream-cacheable"):
        sent["cache-control"] = "public, max-age=60"
    return sent


async def leaks(faults: Faults, execution: Execution) -> bool:
    """The fault of a hang-up that nobody cleans up: the money stays reserved for good."""
    if not faults.on("freeside-stream-hangup-leaks"):
        return False
    await execution.ledger.db.execute(
        "UPDATE freeside.reservations SET expires_at = now() + interval '1 day' WHERE reservation_id = %s",
        execution.reservation.reservation_id,
    )
    execution.settled = True
    return True


def fails(faults: Faults) -> bool:
    """Whether a stream that stops before its end was stopped here, by an error event, which costs nothing."""
    return faults.on("freeside-stream-error-only")


async def _buffered(sound: AsyncIterator[sse.Event]) -> AsyncIterator[sse.Event]:
    for event in [event async for event in sound]:
        yield event


async def _without_done(sound: AsyncIterator[sse.Event]) -> AsyncIterator[sse.Event]:
    async for event in sound:
        if event.name != "done":
            yield event


async def _without_usage(sound: AsyncIterator[sse.Event]) -> AsyncIterator[sse.Event]:
    async for event in sound:
        if event.name != "usage":
            yield event


async def _usage_twice(sound: AsyncIterator[sse.Event]) -> AsyncIterator[sse.Event]:
    async for event in sound:
        yield event
        if event.name == "usage":
            yield event


async def _done_first(sound: AsyncIterator[sse.Event]) -> AsyncIterator[sse.Event]:
    late: sse.Event | None = None
    async for event in sound:
        if event.name == "usage":
            late = event
            continue
        yield event
        if event.name == "done" and late is not None:
            yield late


async def _one_content(sound: AsyncIterator[sse.Event]) -> AsyncIterator[sse.Event]:
    text = ""
    async for event in sound:
        if event.name == "content":
            text += event.data["text"]
            continue
        if text:
            yield sse.Event("content", {"text": text})
            text = ""
        yield event


async def _error_only(sound: AsyncIterator[sse.Event]) -> AsyncIterator[sse.Event]:
    async for _ in sound:
        yield sse.Event("error", {"code": "UPSTREAM_ERROR", "message": "The answer ended too early"})
        return


async def _foreign_content(sound: AsyncIterator[sse.Event]) -> AsyncIterator[sse.Event]:
    async for event in sound:
        yield sse.Event("content", {"text": "lorem ipsum "}) if event.name == "content" else event


_DISTORTIONS: dict[str, Callable[[AsyncIterator[sse.Event]], AsyncIterator[sse.Event]]] = {
    "buffered": _buffered,
    "without-done": _without_done,
    "without-usage": _without_usage,
    "usage-twice": _usage_twice,
    "done-before-usage": _done_first,
    "in-one-piece": _one_content,
    "error-only": _error_only,
    "foreign-content": _foreign_content,
}
