"""Answers of the services, decoded strictly: the contract's status and shape, or the field that differs."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import httpx
from pytest_readiness import ExternalOutage

from smoke.contract.exchange import FIREWALL, is_odd
from smoke.contract.schemas import CODE_MEMBERS, EVENTS, JSON, JWK_SET, LONGEST_SHOWN, PROBLEM
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
#: A request's extension with its path in the contract.
CONTRACT_PATH = "contract_path"


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
    return refused and is_odd_request(response.request)


def is_odd_request(request: httpx.Request) -> bool:
    """Whether something in front of a service may refuse a request for its form."""
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


def claims_in(request: httpx.Request) -> dict[str, Any]:
    """The claims of the token that a request carries; none if it carries no readable one."""
    try:
        part = request.headers.get("authorization", "").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(f"{part}=="))
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
