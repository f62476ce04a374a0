"""Answers of the services, decoded strictly: the contract's status and shape, or which field differs."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import httpx
from pytest_readiness import ExternalOutage, SafetyViolation

from smoke.contract.model import POOLS
from smoke.contract.schemas import JSON, JWK_SET, LONGEST_SHOWN
from smoke.contract.schemas import UUID as UUID
from smoke.contract.schemas import shown as shown
from smoke.network.decoders import NotStrict, strict_json
from smoke.network.transport import ContractViolation as ContractViolation

#: The extension of an answer that holds its JSON value once it was read.
_DOCUMENT = "json"
#: More digits than any amount of the contract has; Python itself refuses only thousands.
DIGITS = re.compile(r"[0-9]{1,18}")
#: No time of a service, in epoch seconds; one in milliseconds is below it, and far from now.
LATEST = 1e15


#: The extension of a request that holds the name of the service that it goes to.
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
        """The member as it came; a missing one is a violation."""
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
        valid = isinstance(value, str) and bool(value.strip())
        valid = (
            valid and (not among or value in among) and (not pattern or bool(re.fullmatch(pattern, value)))
        )
        return str(self._typed(name, expected, valid))

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
        """An array, as it came."""
        return list(self._typed(name, "an array", isinstance(self.raw(name, "an array"), list)))


def parse_json(source: httpx.Response | str, route: str) -> Any:
    """The JSON value of an answer's body or of a text, read strictly."""
    try:
        return strict_json(source) if isinstance(source, str) else json_of(source)
    except NotStrict as problem:
        text = source if isinstance(source, str) else source.content[:LONGEST_SHOWN].decode(errors="replace")
        raise ContractViolation(f"{route}: body: expected JSON, got {problem}: {shown(text)}") from None


def json_of(response: httpx.Response) -> Any:
    """The JSON value of an answer's body, read strictly, and once for all that ask. Raises NotStrict."""
    if _DOCUMENT not in response.extensions:
        response.extensions[_DOCUMENT] = strict_json(response.content)
    return response.extensions[_DOCUMENT]


def fields_of(response: httpx.Response) -> Fields:
    """The answer's body, which must be a JSON object under a JSON content type."""
    route = route_of(response)
    if media_type(response) not in (JSON, JWK_SET):
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
    """The code of an error answer: `code` where Finn puts it, else `error`, else an empty string."""
    try:
        body = parse_json(response, route_of(response))
    except ContractViolation:
        return ""
    code = (body.get("code") or body.get("error")) if isinstance(body, dict) else ""
    # messages show it unquoted
    return code if isinstance(code, str) and len(code) <= LONGEST_SHOWN and code.isprintable() else ""


def require_json_error(response: httpx.Response) -> str:
    """Assert that an error answer is the contract's JSON error with a readable `error`; give that text."""
    return fields_of(response).text("error")


PROVIDER_CODES = frozenset({"MODEL_PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"})


class UnexpectedStatus(AssertionError):
    """The platform answered with a status that the contract does not give for this request.

    It carries the answer: what a gateway answers for a service may pass, and is asked for again.
    """

    def __init__(self, text: str, response: httpx.Response, breaks: str = "") -> None:
        super().__init__(text)
        self.response = response
        self.breaks = breaks


def reworded(error: AssertionError, text: str) -> AssertionError:
    """The same failure in other words: it keeps the rule that it breaks, and the answer that shows it."""
    if isinstance(error, UnexpectedStatus):
        return UnexpectedStatus(text, error.response, error.breaks)
    if isinstance(error, SafetyViolation):
        return SafetyViolation(text, breaks=error.breaks)
    return ContractViolation(text)


def require_status(response: httpx.Response, *allowed: int) -> httpx.Response:
    """Assert the status. The model provider's own signal is an ExternalOutage; all else is the platform's."""
    if response.status_code in allowed:
        return response
    code = error_code(response)
    if response.status_code == 503 and code in PROVIDER_CODES:
        raise ExternalOutage(f"{route_of(response)}: 503 {code}: the model provider behind Finn is down")
    expected = " or ".join(str(status) for status in allowed)
    got = f"{response.status_code} {code}".strip()
    hint = " (a route of the contract is missing)" if response.status_code == 404 else ""
    raise UnexpectedStatus(f"{route_of(response)}: expected {expected}, got {got}{hint}", response)


def require_error(response: httpx.Response, status: int, code: str) -> None:
    """Assert Freeside's JSON error with exactly this status and code, and a human-readable message."""
    fields = fields_of(require_status(response, status))
    fields.text("error", among=(code,))
    fields.text("message")


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer consumed; ``cost_micro`` in µUSD."""

    prompt_tokens: int
    completion_tokens: int
    cost_micro: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 of the invoke route. ``replayed``: the stored answer of an earlier call under the same key."""

    tenant: str
    content: str
    model: str
    usage: Usage
    trace_id: str
    idempotency_key: str
    replayed: bool


def usage_of(fields: Fields) -> Usage:
    """Usage as Freeside serves it, in an answer or in a stream's usage event."""
    return Usage(
        fields.integer("promptTokens", minimum=1),
        fields.integer("completionTokens", minimum=1),
        fields.micro("costMicro", minimum=1),
    )


def answer_of(response: httpx.Response, tenant: str) -> Answer:
    """The answer in a 200 of the invoke route (contract 1.2)."""
    fields = fields_of(response)
    return Answer(
        tenant=tenant,
        content=fields.text("content"),
        model=fields.text("model", among=POOLS),
        usage=usage_of(fields.object("usage")),
        trace_id=fields.text("traceId", pattern=UUID),
        idempotency_key=header(response, "x-idempotency-key"),
        replayed=is_replay(response.headers),
    )


def is_replay(headers: httpx.Headers) -> bool:
    """Whether an answer says that it is the stored one of an earlier call (contract 1.2)."""
    return str(headers.get("x-idempotent-replay", "")).lower() == "true"


def header(response: httpx.Response, name: str) -> str:
    """The value of a header that the contract requires."""
    value = response.headers.get(name, "")
    if not value:
        raise ContractViolation(f"{route_of(response)}: header {name}: expected a value, got {shown(None)}")
    return str(value)
