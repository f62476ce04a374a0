"""Answers of the services, decoded strictly: the contract's status and shape, or the field that differs.

`AnswerLog` judges every answer when it arrives, in all processes of the run.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn

import httpx
from pytest_readiness import ExternalOutage

from smoke.contract.exchange import FIREWALL, NONCE, Exchange, SentEvent, is_odd, judge, secret_in
from smoke.contract.health import clocks_in
from smoke.contract.model import Service
from smoke.contract.schemas import CODE_MEMBERS, EVENTS, JSON, JWK_SET, LONGEST_SHOWN, PROBLEM, route_key
from smoke.contract.schemas import UUID as UUID
from smoke.contract.schemas import shown as shown
from smoke.network.connections import NotStrict, events_in, strict_json
from smoke.network.transport import ContractViolation as ContractViolation

#: An answer's extension with its JSON value, once it was read.
_DOCUMENT = "json"
#: More digits than any amount of the contract; Python itself refuses only thousands.
DIGITS = re.compile(r"[0-9]{1,18}")
#: Upper limit of a service's time in epoch seconds; one in milliseconds is below it, but far from now.
LATEST = 1e15
#: A request's extension with the name of its service.
SERVICE = "service"


def route_of(response: httpx.Response) -> str:
    """Service, method and path of the request that was answered; a bare request has no service."""
    service = response.request.extensions.get(SERVICE, "")
    return f"{service} {response.request.method} {response.request.url.path}".lstrip()


def media_type(response: httpx.Response) -> str:
    """The media type of an answer without its parameters, in lower case."""
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Fields:
    """The members of one JSON object of an answer; readers raise ContractViolation."""

    route: str
    data: Mapping[str, Any]
    prefix: str = ""

    def refuse(self, name: str, expected: str, got: str) -> NoReturn:
        """Raise the violation of one member."""
        raise ContractViolation(f"{self.route}: {self.prefix}{name}: expected {expected}, got {got}")

    def raw(self, name: str, expected: str) -> Any:
        """The unchanged member; a missing one is a violation."""
        if name not in self.data:
            self.refuse(name, expected, "nothing (the member is missing)")
        return self.data[name]

    def _typed(self, name: str, expected: str, valid: bool) -> Any:
        if not valid:
            self.refuse(name, expected, shown(self.data[name]))
        return self.data[name]

    def text(self, name: str, *, among: Collection[str] = (), pattern: str = "") -> str:
        """A string that is not blank, optionally one of a set or matching a pattern in full."""
        expected = f"one of {', '.join(sorted(among))}" if among else "a non-empty string"
        expected = f"a string matching {pattern}" if pattern else expected
        value = self.raw(name, expected)
        valid = isinstance(value, str) and bool(value.strip()) and (not among or value in among)
        valid = valid and (not pattern or bool(re.fullmatch(pattern, value)))
        return str(self._typed(name, expected, valid))

    def version(self, name: str) -> str:
        """A version, as text or as a number."""
        if type(self.data.get(name)) in (int, float):
            return str(self.data[name])
        return self.text(name)

    def integer(self, name: str, *, minimum: int = 0) -> int:
        """A JSON integer; a fraction, a string, a boolean and null are violations."""
        expected = f"an integer >= {minimum}"
        value = self.raw(name, expected)
        valid = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
        return int(self._typed(name, expected, valid))

    def number(self, name: str, *, minimum: float, maximum: float = math.inf) -> float:
        """A finite JSON number within closed bounds."""
        expected = f"a number in [{minimum}, {maximum}]"
        value = self.raw(name, expected)
        valid = isinstance(value, int | float) and not isinstance(value, bool)
        valid = valid and math.isfinite(value) and minimum <= value <= maximum
        return float(self._typed(name, expected, valid))

    def boolean(self, name: str) -> bool:
        """true or false."""
        return bool(self._typed(name, "true or false", isinstance(self.raw(name, "true or false"), bool)))

    def micro(self, name: str, *, minimum: int = 0) -> int:
        """An amount in µUSD: decimal digits in a JSON string."""
        expected = "µUSD as decimal digits in a string" + (f", >= {minimum}" if minimum else "")
        value = self.raw(name, expected)
        valid = isinstance(value, str) and bool(DIGITS.fullmatch(value)) and int(value) >= minimum
        return int(self._typed(name, expected, valid))

    def moment(self, name: str) -> float:
        """A time, in epoch seconds; a text without its offset from UTC is a violation."""
        expected = "RFC 3339 in UTC or epoch seconds"
        value = self.raw(name, expected)
        seconds = value if type(value) in (int, float) and abs(value) < LATEST else None
        with suppress(ValueError):
            moment = datetime.fromisoformat(value.upper()) if isinstance(value, str) else None
            seconds = moment.timestamp() if moment is not None and moment.tzinfo is not None else seconds
        self._typed(name, expected, seconds is not None)
        return float(seconds or 0)

    def object(self, name: str) -> Fields:
        """A nested object."""
        value = self._typed(name, "an object", isinstance(self.raw(name, "an object"), dict))
        return Fields(self.route, value, f"{self.prefix}{name}.")

    def array(self, name: str) -> list[Any]:
        """An array, unchanged."""
        return list(self._typed(name, "an array", isinstance(self.raw(name, "an array"), list)))


def parse_json(source: httpx.Response | str, route: str) -> Any:
    """The JSON value of an answer's body or of a text, read strictly."""
    try:
        return strict_json(source) if isinstance(source, str) else json_of(source)
    except NotStrict as problem:
        text = source if isinstance(source, str) else source.content[:LONGEST_SHOWN].decode(errors="replace")
        raise ContractViolation(f"{route}: body: expected JSON, got {problem}: {shown(text)}") from None


def json_of(response: httpx.Response) -> Any:
    """The JSON value of an answer's body, parsed strictly and only once. Raises NotStrict."""
    if _DOCUMENT not in response.extensions:
        response.extensions[_DOCUMENT] = strict_json(response.content)
    return response.extensions[_DOCUMENT]


def fields_of(response: httpx.Response) -> Fields:
    """The answer's body, which must be a JSON object under a JSON content type."""
    route = route_of(response)
    if media_type(response) not in (JSON, PROBLEM if response.is_error else JWK_SET):
        kind = response.headers.get("content-type", "")
        raise ContractViolation(f"{route}: content-type: expected application/json, got {shown(kind)}")
    body = parse_json(response, route)
    if not isinstance(body, dict):
        raise ContractViolation(f"{route}: body: expected an object, got {shown(body)}")
    return Fields(route, body)


def body_text(response: httpx.Response) -> str:
    """The body as text to search in: UTF-8, whatever charset it declares; other bytes are replaced."""
    return response.content.decode(errors="replace")


def error_code(response: httpx.Response) -> str:
    """The code of an error answer, from the member in which its service has it; else an empty string.

    Other members may have the same name: Freeside's and Dixie's code is `error`, whatever their `code` is.
    """
    try:
        body = parse_json(response, route_of(response))
    except ContractViolation:
        return ""
    known = CODE_MEMBERS.get(response.request.extensions.get(SERVICE, ""), ("code", "error"))
    code = next(filter(None, map(body.get, known)), "") if isinstance(body, dict) else ""
    # messages show it without quotes
    return code if isinstance(code, str) and len(code) <= LONGEST_SHOWN and code.isprintable() else ""


def require_json_error(response: httpx.Response) -> str:
    """Assert that an error answer is the contract's JSON error with a readable `error`; return that text."""
    return fields_of(response).text("error")


PROVIDER_CODES = frozenset({"MODEL_PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"})
#: Statuses for a missing route, and for a route with a failing upstream.
MISSING = (404, 405, 501)
BEHIND = (502, 503)


def is_of_a_firewall(response: httpx.Response) -> bool:
    """Whether something in front of the service refused an odd request: the answer is not JSON."""
    refused = response.status_code in FIREWALL and media_type(response) not in (JSON, PROBLEM)
    return refused and _is_odd(response.request)


def _is_odd(request: httpx.Request) -> bool:
    target, headers = request.url.raw_path.decode("ascii"), [value for _, value in request.headers.raw]
    body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    return is_odd(request.method, target, headers, body=body)


class UnexpectedStatus(AssertionError):
    """The platform answered with a status that the contract does not allow for this request.

    It carries the answer, because a gateway's error may be transient and is retried. If the route is missing
    or its upstream fails, that is the broken rule, whatever the request was.
    """

    def __init__(self, text: str, response: httpx.Response, breaks: str = "") -> None:
        super().__init__(text)
        self.response = response
        self.breaks = _state_of_route(response) or breaks


def _state_of_route(response: httpx.Response) -> str:
    if response.status_code in MISSING:
        return f"{route_of(response)} is missing"
    if response.status_code in BEHIND:
        return f"{route_of(response)} answers {response.status_code} {error_code(response)}".strip()
    return ""


def require_status(response: httpx.Response, *allowed: int) -> httpx.Response:
    """Assert the status. The model provider's signal is an ExternalOutage; others blame the platform."""
    if response.status_code in allowed:
        _require_provider(response)
        return response
    code = error_code(response)
    if response.status_code == 503 and code in PROVIDER_CODES:
        raise ExternalOutage(f"{route_of(response)}: 503 {code}: the model provider behind Finn is down")
    expected = " or ".join(str(status) for status in allowed)
    got = f"{response.status_code} {code}".strip()
    hint = " (a route of the contract is missing)" if response.status_code == 404 else ""
    raise UnexpectedStatus(f"{route_of(response)}: expected {expected}, got {got}{hint}", response)


def _require_provider(response: httpx.Response) -> None:
    """ExternalOutage for a stream that ended with the model provider's own signal, if it was read already."""
    with suppress(httpx.ResponseNotRead, UnicodeDecodeError):
        if media_type(response) == EVENTS and b"PROVIDER_UNAVAILABLE" in response.content:
            for event in events_in(response.content)[-1:]:
                code = next((one for one in PROVIDER_CODES if f'"{one}"' in event.data), "")
                if event.name == "error" and code:
                    raise ExternalOutage(f"{route_of(response)}: the stream ended with the error {code}")


def require_error(response: httpx.Response, status: int, code: str) -> None:
    """Assert Freeside's JSON error with exactly this status and code, and a human-readable message."""
    fields = fields_of(require_status(response, status))
    fields.text("error", among=(code,))
    fields.text("message")


def header(response: httpx.Response, name: str) -> str:
    """The value of a header that the contract requires."""
    value = response.headers.get(name, "")
    if not value:
        raise ContractViolation(f"{route_of(response)}: header {name}: expected a value, got {shown(None)}")
    return str(value)


#: How many ids are remembered to detect repetitions.
MOST_IDS = 50_000
#: Members of answers with an id that must be unique per answer.
MADE_IDS = {"freeside": ("traceId", "event_id"), "finn": ("trace_id",)}
#: How many findings of one kind are recorded with their text; further ones are only counted.
MOST_TEXTS = 3
#: A request's extension with its path in the contract.
CONTRACT_PATH = "contract_path"
#: The events of a stream: name, id, data.
Events = Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the run saw of one service: answers by route and status, findings as (rule, text) and number.

    ``clocks`` are (monotonic time in s, value) from its health reports, by the clock's name.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)
    secrets: Counter[str] = field(default_factory=Counter)
    clocks: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


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
        entry += _words(exchange, response.request)
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
            name, route, status, findings, secret, readings, tenant, sent, foreign = json.loads(line)
            seen = self._seen.setdefault(name, Seen())
            seen.answers[route, status] += 1
            seen.findings.update((rule, text) for rule, text in findings)
            if secret:
                seen.secrets[f"{route}: {status}: {secret}"] += 1
            for clock, reading in readings.items():
                seen.clocks.setdefault(clock, []).append(reading)
            for word in sent:
                self._senders.setdefault(word, set()).add(tenant)
            self._foreign += [(name, f"{route}: {status}", tenant, word) for word in foreign]
        for name, answer, tenant, word in self._foreign:
            if tenant not in self._senders.get(word, {tenant}):
                self._seen[name].secrets[f"{answer}: a word of another tenant's prompt"] = 1
        return self._seen.setdefault(service, Seen())


def claims_in(request: httpx.Request) -> dict[str, Any]:
    """The claims of the token that a request carries; none if it carries no readable one."""
    try:
        part = request.headers.get("authorization", "").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(f"{part}=="))
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _words(exchange: Exchange, request: httpx.Request) -> tuple[str, list[str], list[str]]:
    """The tenant that a request's token names, the words that it sent, and others that its answer shows."""
    body = ""
    with suppress(httpx.RequestNotRead):  # it was sent as a stream
        body = request.content.decode(errors="replace")
    sent = {*NONCE.findall(f"{request.url} {exchange.sent} {body}")}
    others = {*NONCE.findall(exchange.said)} - sent
    return str(claims_in(request).get("tenant_id", "")), sorted(sent), sorted(others)


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
        body, document, problem, sent, _is_odd(request),
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
