"""Strict decoding: an answer has the contract's shape, or the check says which field does not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import httpx

DIGITS = re.compile(r"[0-9]+")
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


class ContractViolation(AssertionError):
    """The platform answered in a shape that the contract does not allow."""


def shown(value: object) -> str:
    """The value as a person wants to see it in a violation: short, with its JSON kind."""
    if value is None:
        return "null"
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    text = text if len(text) <= 80 else text[:77] + "..."
    kind = _KINDS.get(type(value), type(value).__name__)
    return f"{text!r} ({kind})" if isinstance(value, str) else f"{text} ({kind})"


def route_of(response: httpx.Response) -> str:
    """Method and path of the request that was answered."""
    return f"{response.request.method} {response.request.url.path}"


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
        """A string that is not blank, optionally one of a set or matching a whole pattern."""
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

    def number(self, name: str, *, minimum: float, maximum: float) -> float:
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

    def object(self, name: str) -> Fields:
        """A nested object."""
        value = self._typed(name, "an object", isinstance(self.raw(name, "an object"), dict))
        return Fields(self.route, value, f"{self.prefix}{name}.")

    def array(self, name: str) -> list[Any]:
        """An array, as it came."""
        return list(self._typed(name, "an array", isinstance(self.raw(name, "an array"), list)))


def parse_json(text: str, route: str) -> Any:
    """The JSON value of a body; NaN and Infinity are no JSON."""

    def refuse(constant: str) -> NoReturn:
        raise ContractViolation(f"{route}: body: expected JSON, got the constant {constant}")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError:
        raise ContractViolation(f"{route}: body: expected JSON, got {shown(text)}") from None


def fields_of(response: httpx.Response) -> Fields:
    """The answer's body, which must be a JSON object under a JSON content type."""
    route = route_of(response)
    kind = response.headers.get("content-type", "")
    if kind.split(";")[0].strip().lower() != "application/json":
        raise ContractViolation(f"{route}: content-type: expected application/json, got {shown(kind)}")
    body = parse_json(response.text, route)
    if not isinstance(body, dict):
        raise ContractViolation(f"{route}: body: expected an object, got {shown(body)}")
    return Fields(route, body)


def error_code(response: httpx.Response) -> str:
    """The code of an error answer: `code` where Finn puts it, else `error`, else an empty string."""
    try:
        body = json.loads(response.text)
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    return str(body.get("code") or body.get("error") or "")


def require_json_error(response: httpx.Response) -> str:
    """Assert that an error answer is the contract's JSON error with a readable `error`; give that text."""
    return fields_of(response).text("error")
