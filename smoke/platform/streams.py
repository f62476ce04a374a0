"""Freeside's event streams, read to their end or until the reader hangs up."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from pytest_readiness import ExternalOutage

from smoke.contract.exchange import is_ordered
from smoke.contract.schemas import EVENTS
from smoke.network.connections import EventDecoder
from smoke.network.transport import STREAM_WITHIN_S, EndlessBody

from .answers import (
    PROVIDER_CODES,
    ContractViolation,
    Fields,
    media_type,
    parse_json,
    require_status,
    route_of,
    shown,
)
from .freeside import Freeside, Usage, is_replay, usage_of
from .http import LEAST_PAUSES_S, ends_for_rate, still_limited, wait

#: More than any answer of the contract has.
MAX_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One server-sent event; ``at`` in seconds since the request was sent."""

    name: str
    id: str
    data: str
    at: float

    def fields(self, route: str) -> Fields:
        """The data, which must be a JSON object."""
        value = parse_json(self.data, f"{route} event {self.name}")
        if not isinstance(value, dict):
            raise ContractViolation(
                f"{route}: event {self.name}: expected a JSON object, got {shown(self.data)}"
            )
        return Fields(route, value, f"event {self.name}: ")


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as it was read, to its end or until the reader hung up."""

    route: str
    key: str
    headers: httpx.Headers
    events: tuple[StreamEvent, ...]
    #: The Authorization header of the token that opened it; rate-limited tokens before it differ.
    authorization: str = field(repr=False)

    @property
    def replayed(self) -> bool:
        """Whether it is marked as the stored answer of an earlier call."""
        return is_replay(self.headers)

    def named(self, name: str) -> list[StreamEvent]:
        """The events of one name, in order."""
        return [event for event in self.events if event.name == name]

    def ordered(self) -> list[StreamEvent]:
        """The events that the contract orders, in their order."""
        return [event for event in self.events if is_ordered(event.name)]

    def names(self) -> list[str]:
        """Their names."""
        return [event.name for event in self.ordered()]

    def text(self) -> str:
        """The content of all events, joined."""
        return "".join(
            str(event.fields(self.route).raw("text", "a string")) for event in self.named("content")
        )

    def usage(self) -> Usage:
        """The usage of the only usage event."""
        events = self.named("usage")
        if len(events) != 1:
            raise ContractViolation(f"{self.route}: expected exactly one usage event, got {len(events)}")
        return usage_of(events[0].fields(self.route))


def stream(
    freeside: Freeside,
    tenant: str,
    prompt: str,
    *,
    model: str = "cheap",
    key: str | None = None,
    hang_up: Callable[[StreamEvent], bool] = lambda _: False,
    **claims: Any,
) -> Stream:
    """Read a stream to its end, or until ``hang_up`` is true of an event; then close at once.

    UnexpectedStatus, which carries the answer, for a refusal. ``claims`` are as for ``Freeside.credential``.
    A stream that ends because of a rate limit is requested again after a while; SetupError if that persists.
    """
    key = key or str(uuid.uuid4())
    for pause in (*LEAST_PAUSES_S, None):
        result = _stream_once(freeside, tenant, prompt, model, key, hang_up, claims)
        if not any(ends_for_rate(event.data.encode()) for event in result.named("error")):
            _require_no_error(result)
            return result
        if pause is not None:
            wait(pause)
    raise still_limited(result.route, sum(LEAST_PAUSES_S))


def _stream_once(
    freeside: Freeside,
    tenant: str,
    prompt: str,
    model: str,
    key: str,
    hang_up: Callable[[StreamEvent], bool],
    claims: Mapping[str, Any],
) -> Stream:
    freeside.journal.open()
    with freeside.journal.charging(tenant, key) as charge:
        started = time.perf_counter()
        response = freeside.http.send(
            "POST",
            freeside.dialects.stream_path,
            freeside.credential(tenant, **claims),
            stream=True,
            timeout=STREAM_WITHIN_S,
            headers={"X-Idempotency-Key": key, "Accept": EVENTS},
            json=freeside.invoke_body(prompt, model=model),
        )
        try:
            freeside.journal.answered(tenant, response)
            require_status(response, 200)
            events, ended = _read(response, started, hang_up)
        finally:
            response.close()
        freeside.http.record(response, [(event.name, event.id, event.data) for event in events])
        charge.unknown, charge.replay = not ended, is_replay(response.headers)
        result = Stream(
            route_of(response),
            key,
            response.headers,
            tuple(events),
            response.request.headers["Authorization"],
        )
        if ended and result.named("usage"):
            charge.settle(result.named("usage")[0].fields(result.route).micro("costMicro"))
    return result


def _require_no_error(result: Stream) -> None:
    """Raise for an error event: the third party's named signal is an outage, others blame the platform."""
    for event in result.named("error"):
        code = event.fields(result.route).text("code")
        text = f"{result.route}: the stream ended with the error event {code}"
        raise ExternalOutage(text) if code in PROVIDER_CODES else AssertionError(text)


def _read(
    response: httpx.Response, started: float, hang_up: Callable[[StreamEvent], bool]
) -> tuple[list[StreamEvent], bool]:
    route, events = route_of(response), list[StreamEvent]()
    if media_type(response) != EVENTS:
        response.read()
        kind = shown(response.headers.get("content-type", ""))
        raise ContractViolation(f"{route}: content-type: expected {EVENTS}, got {kind}")
    decoder = EventDecoder()
    try:
        for piece in response.iter_bytes():
            for one in decoder.feed(piece):
                events.append(StreamEvent(one.name, one.id, one.data, time.perf_counter() - started))
                if len(events) > MAX_EVENTS:
                    raise EndlessBody(f"{route}: expected at most {MAX_EVENTS} events, got more")
                if hang_up(events[-1]):
                    return events, False
        decoder.end()
    except UnicodeDecodeError:
        raise ContractViolation(f"{route}: stream: expected UTF-8, got other bytes") from None
    return events, True
