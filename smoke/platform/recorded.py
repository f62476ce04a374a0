"""The answers of a run, judged when they arrive, in all of its processes."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import httpx

from smoke.contract.exchange import NONCE, Exchange, SentEvent, judge, secret_in
from smoke.contract.health import clocks_in
from smoke.contract.model import Service
from smoke.contract.schemas import EVENTS, route_key
from smoke.network.connections import NotStrict, events_in, strict_json

from .answers import CONTRACT_PATH, claims_in, is_odd_request, json_of, media_type

#: How many ids are remembered to detect repetitions.
MOST_IDS = 50_000
#: Members of answers with an id that must be unique per answer.
MADE_IDS = {"freeside": ("traceId", "event_id"), "finn": ("trace_id",)}
#: How many findings of one kind are recorded with their text; further ones are only counted.
MOST_TEXTS = 3
#: So many answers of different lengths show whether tokens are counted: the longest has this many times the
#: characters of the shortest, and more per token than any tokenizer.
LEAST_LENGTHS, LENGTHS_APART, MOST_PER_TOKEN = 3, 8, 16
#: The events of a stream: name, id, data.
Events = Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the run saw of one service: answers by route and status, findings as (rule, text) and number.

    ``clocks`` are (monotonic time in s, value) from its health reports, by the clock's name; ``lengths`` are
    (characters, completion tokens) of its answers by route.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)
    secrets: Counter[str] = field(default_factory=Counter)
    clocks: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    lengths: dict[str, set[tuple[int, int]]] = field(default_factory=dict)

    def all_findings(self) -> Counter[tuple[str, str]]:
        """The findings in single answers, and what only many of them show."""
        uncounted = {route: uncounted_in(lengths) for route, lengths in self.lengths.items()}
        return self.findings + Counter(
            ("tokens", f"{route}: 200: {text}") for route, text in uncounted.items() if text
        )


def uncounted_in(lengths: Collection[tuple[int, int]]) -> str:
    """How answers, as (characters, completion tokens), show that nobody counted their tokens; else empty.

    A model may think before it answers, or be cut off at a limit; so only a number that is too small for the
    longest answer is a finding, and only if it is the same for all.
    """
    if len(lengths) < LEAST_LENGTHS:
        return ""
    (shortest, tokens), (longest, _) = min(lengths), max(lengths)
    alike = {count for _, count in lengths} == {tokens}
    if not alike or longest <= max(LENGTHS_APART * shortest, MOST_PER_TOKEN * tokens):
        return ""
    return f"the usage of answers with {shortest} and {longest} characters: {tokens} completion tokens each"


class AnswerLog:
    """The judged answers of a run, in a directory shared by all of its processes."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "smoke-answers.jsonl"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = Lock()
        self._ids: set[tuple[str, str]] = set()
        self._kinds: Counter[tuple[str, str, str, str]] = Counter()
        self._sent: Counter[str] = Counter()
        self._seen: dict[str, Seen] = {}
        self._senders: dict[str, set[str]] = {}
        self._foreign: list[tuple[str, str, str, str]] = []
        self._read_bytes = 0

    def request_id(self, service: str, method: str, path: str) -> str | None:
        """A mixed-case id for every second request of a route: the answer must echo it, or have a new one.

        Every other id is long, because those of proxies and traces have up to a hundred characters.
        """
        name = f"{service} {_name(service, method, path)}"
        with self._lock:
            self._sent[name] += 1
            count = self._sent[name]
        size = 69 if count % 4 == 3 else 24
        return f"smoke-{secrets.token_urlsafe(size)}" if count % 2 else None

    def saw(self, address: Service, response: httpx.Response, prefix: str = "", events: Events = ()) -> None:
        """Judge one answer that was read, or these ``events`` of a stream, by name, id and data.

        ``prefix`` is the path under which the service is served.
        """
        service = address.name
        exchange = exchange_of(address, response, prefix, events)
        name = _name(service, exchange.method, exchange.path)
        found = [(each.rule, each.violation.where, str(each.violation)) for each in judge(exchange)]
        with self._lock:
            found += [("unique", where, text) for where, text in self._repeated(exchange)]
            lines = []
            for rule, where, text in found:
                self._kinds[service, name, rule, where] += 1
                often = self._kinds[service, name, rule, where] > MOST_TEXTS
                lines.append([rule, f"{name}: {exchange.status}: {where if often else text}"])
        readings = {clock: (time.monotonic(), said) for clock, said in clocks_in(exchange).items()}
        entry = [service, name, exchange.status, lines, secret_in(exchange), readings]
        entry += [*_words(exchange, response.request), _length(exchange)]
        os.write(self._file, f"{json.dumps(entry)}\n".encode())  # one short append is atomic

    def _repeated(self, exchange: Exchange) -> Iterator[tuple[str, str]]:
        """Ids that must be unique and already came with another answer."""
        made = {}
        if "x-request-id" not in exchange.sent:
            made["header x-request-id"] = exchange.headers.get("x-request-id")
        elif len(self._ids) < MOST_IDS:
            self._ids.add(("header x-request-id", exchange.sent["x-request-id"]))
        replayed = exchange.headers.get("x-idempotent-replay", "").lower() == "true"
        if exchange.status in (200, 202) and not replayed:
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
        """Everything that all processes have recorded about one service so far; nothing is read twice."""
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            lines, end, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(lines + end)
        for line in lines.splitlines():
            name, route, status, findings, secret, readings, tenant, sent, foreign, length = json.loads(line)
            seen = self._seen.setdefault(name, Seen())
            seen.answers[route, status] += 1
            seen.findings.update((rule, text) for rule, text in findings)
            if secret:
                seen.secrets[f"{route}: {status}: {secret}"] += 1
            for clock, reading in readings.items():
                seen.clocks.setdefault(clock, []).append(reading)
            if length:
                seen.lengths.setdefault(route, set()).add(tuple(length))
            for word in sent:
                self._senders.setdefault(word, set()).add(tenant)
            self._foreign += [(name, f"{route}: {status}", tenant, word) for word in foreign]
        for name, answer, tenant, word in self._foreign:
            if tenant not in self._senders.get(word, {tenant}):
                self._seen[name].secrets[f"{answer}: a word of another tenant's prompt"] = 1
        return self._seen.setdefault(service, Seen())


def _words(exchange: Exchange, request: httpx.Request) -> tuple[str, list[str], list[str]]:
    """The tenant that a request's token names, the words that it sent, and others that its answer shows."""
    body = ""
    with suppress(httpx.RequestNotRead):  # it was sent as a stream
        body = request.content.decode(errors="replace")
    sent = {*NONCE.findall(f"{request.url} {exchange.sent} {body}")}
    others = {*NONCE.findall(exchange.said)} - sent
    return str(claims_in(request).get("tenant_id", "")), sorted(sent), sorted(others)


def _length(exchange: Exchange) -> tuple[int, int] | None:
    """The characters of a model's answer and its completion tokens; None if it has no usage."""
    body = exchange.document if isinstance(exchange.document, dict) else {}
    content, usage = body.get("content", body.get("response")), body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    tokens = counts.get("completionTokens", counts.get("completion_tokens"))
    return (len(content), tokens) if isinstance(content, str) and type(tokens) is int else None


def _name(service: str, method: str, path: str) -> str:
    """A route as the contract writes it; all other paths count as one route."""
    route = route_key(service, method, path)
    return " ".join(route[1:]) if route else f"{method} (no route of the contract)"


def exchange_of(
    address: Service, response: httpx.Response, prefix: str = "", events: Events = ()
) -> Exchange:
    """An answer as the contract judges it, with the contract's names of paths and headers."""
    body, document, problem = b"", None, "nothing"
    with suppress(httpx.ResponseNotRead):  # a stream, with events that are read elsewhere
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
        body, document, problem, sent, is_odd_request(request),
    )  # fmt: skip


def renamed(headers: httpx.Headers, names: Mapping[str, str]) -> httpx.Headers:
    """Headers under other names, with any bytes."""
    if not names:
        return headers
    others = {name.lower().encode(): other.encode() for name, other in names.items()}
    return httpx.Headers([(others.get(name.lower(), name), value) for name, value in headers.raw])


def _json(read: Callable[[], Any]) -> tuple[Any, str]:
    """The JSON value, or None and the reason."""
    try:
        return read(), ""
    except NotStrict as error:
        return None, str(error)
