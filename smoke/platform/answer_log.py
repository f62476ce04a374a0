"""Every answer of the run, judged as it comes: what broke the contract, in all processes of the run."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import httpx

from smoke.contract.exchange import Exchange, SentEvent, judge, secret_in, uptime_in
from smoke.contract.model import Service
from smoke.contract.schemas import EVENTS, route_key
from smoke.network.decoders import NotStrict, events_in, strict_json

from .answers import json_of, media_type

#: Ids that are remembered, so that one that comes twice is noticed; further ones are not.
MOST_IDS = 50_000
#: The members of answers that hold an id which the service made for one of them.
MADE_IDS = {"freeside": ("traceId", "event_id"), "finn": ("trace_id",)}
#: How often one kind of finding is written down with its text; further ones are counted.
MOST_TEXTS = 3
#: The extension of a request that holds its path as the contract has it.
CONTRACT_PATH = "contract_path"
#: The events of a stream: name, id, data.
Events = Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the run saw of one service: answers by route and status, findings as (rule, text) by number.

    ``uptimes`` are (monotonic time, uptime) of its health reports, s.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)
    secrets: Counter[str] = field(default_factory=Counter)
    uptimes: list[tuple[float, float]] = field(default_factory=list)


class AnswerLog:
    """The judged answers of a run, in a directory that all of its processes share."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "smoke-answers.jsonl"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = Lock()
        self._ids: set[tuple[str, str]] = set()
        self._kinds: Counter[tuple[str, str, str, str]] = Counter()
        self._sent: Counter[str] = Counter()
        self._seen: dict[str, Seen] = {}
        self._read_bytes = 0

    def request_id(self, service: str, method: str, path: str) -> str | None:
        """An id in both cases, for every second request of a route: an answer echoes it, or makes one."""
        name = f"{service} {_name(service, method, path)}"
        with self._lock:
            self._sent[name] += 1
            return f"smoke-{secrets.token_urlsafe(24)}" if self._sent[name] % 2 else None

    def saw(self, address: Service, response: httpx.Response, prefix: str = "", events: Events = ()) -> None:
        """Judge one answer; its body has been read, or those ``events`` of a stream, by name, id and data.

        ``prefix`` is the path under which the service is served.
        """
        service = address.name
        exchange = exchange_of(address, response, prefix, events)
        name = _name(service, exchange.method, exchange.path)
        found = [
            (finding.rule, finding.violation.where, str(finding.violation)) for finding in judge(exchange)
        ]
        with self._lock:
            found += [("unique", where, text) for where, text in self._repeated(exchange)]
            lines = []
            for rule, where, text in found:
                self._kinds[service, name, rule, where] += 1
                often = self._kinds[service, name, rule, where] > MOST_TEXTS
                lines.append([rule, f"{name}: {exchange.status}: {where if often else text}"])
        uptime = uptime_in(exchange)
        reading = None if uptime is None else (time.monotonic(), uptime)
        entry = [service, name, exchange.status, lines, secret_in(exchange), reading]
        os.write(self._file, f"{json.dumps(entry)}\n".encode())  # one short append is atomic

    def _repeated(self, exchange: Exchange) -> Iterator[tuple[str, str]]:
        """Ids that belong to one answer and came with another one before."""
        made = {}
        if "x-request-id" not in exchange.sent:
            made["header x-request-id"] = exchange.headers.get("x-request-id")
        if is_fresh(exchange):
            made["header x-trace-id"] = exchange.headers.get("x-trace-id")
            body = exchange.document if isinstance(exchange.document, dict) else {}
            made |= {name: body.get(name) for name in MADE_IDS.get(exchange.service, ())}
        for name, value in made.items():
            if not isinstance(value, str) or not value or len(self._ids) >= MOST_IDS:
                continue
            if (name, value) in self._ids:
                yield name, f"{name}: expected one of its own, got an earlier answer's"
            self._ids.add((name, value))

    def seen(self, service: str) -> Seen:
        """What all processes have written of one service so far; nothing is read twice."""
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            lines, end, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(lines + end)
        for line in lines.splitlines():
            name, route, status, findings, secret, reading = json.loads(line)
            seen = self._of(name)
            seen.answers[route, status] += 1
            seen.findings.update((rule, text) for rule, text in findings)
            if secret:
                seen.secrets[f"{route}: {status}: {secret}"] += 1
            if reading:
                seen.uptimes.append(reading)
        return self._of(service)

    def _of(self, service: str) -> Seen:
        return self._seen.setdefault(service, Seen())


def is_fresh(exchange: Exchange) -> bool:
    """Whether an answer of success is not the stored one of an earlier call."""
    return exchange.status in (200, 202) and exchange.headers.get("x-idempotent-replay", "").lower() != "true"


def _name(service: str, method: str, path: str) -> str:
    """A route as the contract writes it; all other paths are one."""
    route = route_key(service, method, path)
    return " ".join(route[1:]) if route else f"{method} (no route of the contract)"


def exchange_of(
    address: Service, response: httpx.Response, prefix: str = "", events: Events = ()
) -> Exchange:
    """An answer as the contract judges it, under its own names of paths and headers."""
    body, document, problem = b"", None, "nothing"
    with suppress(httpx.ResponseNotRead):  # a stream: its events are read elsewhere
        if body := response.content:
            document, problem = _json(partial(json_of, response))
        if response.is_success and media_type(response) == EVENTS:
            with suppress(UnicodeDecodeError):
                events = [(event.name, event.id, event.data) for event in events_in(body)]
    request = response.request
    path = request.extensions.get(CONTRACT_PATH) or request.url.path.removeprefix(prefix)
    asked = renamed(request.headers, {other: name for name, other in address.headers.items()})
    came = response.headers
    sent = tuple(SentEvent(name, id_, _json(partial(strict_json, data))[0]) for name, id_, data in events)
    return Exchange(
        address.name, request.method, path, dict(asked.items()), response.status_code, dict(came.items()),
        body, document, problem, sent,
    )  # fmt: skip


def renamed(headers: httpx.Headers, names: Mapping[str, str]) -> httpx.Headers:
    """Headers under other names, whatever bytes they hold."""
    if not names:
        return headers
    others = {name.lower().encode(): other.encode() for name, other in names.items()}
    return httpx.Headers([(others.get(name.lower(), name), value) for name, value in headers.raw])


def _json(read: Callable[[], Any]) -> tuple[Any, str]:
    """The JSON value, or None and why there is none."""
    try:
        return read(), ""
    except NotStrict as error:
        return None, str(error)
