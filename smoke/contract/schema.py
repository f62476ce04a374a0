"""JSON Schema (2020-12), as much of it as describes the platform's bodies: what is wrong with a value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

LONGEST_SHOWN = 80
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_TYPES: Mapping[str, type] = {
    "number": float,
    "string": str,
    "array": list,
    "object": dict,
    "null": type(None),
}
_NAMES = {"integer": "an integer", "array": "an array", "object": "an object", "null": "null"}


def shown(value: object) -> str:
    """A value for the message of a violation: shortened, with its JSON type."""
    if value is None:
        return "null"
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    text = text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
    kind = _KINDS.get(type(value), type(value).__name__)
    return f"{text!r} ({kind})" if isinstance(value, str) else f"{text} ({kind})"


@dataclass(frozen=True, slots=True)
class Violation:
    """A member of a body, by its dotted path, that is not what the schema expects."""

    where: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.got}"


def violations(value: Any, schema: Schema, where: str = "") -> Iterator[Violation]:
    """What is wrong with a JSON value, as Python's json reads it; nothing where it fits the schema.

    Read are type, const, enum, pattern, minimum, maximum, properties, required, items and minItems. A
    property A fraction is no integer, however round.
    """
    if not _fits(value, schema):
        yield Violation(where or "body", expectation(schema), shown(value))
        return
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                part = schema.get("properties", {}).get(name, {})
                yield Violation(_at(where, name), expectation(part), "nothing (the member is missing)")
        for name, part in schema.get("properties", {}).items():
            if name in value and part is False:
                yield Violation(_at(where, name), "no such member", "one")
            elif name in value:
                yield from violations(value[name], part, _at(where, name))
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from violations(item, schema["items"], f"{where}[{number}]")


def expectation(schema: Schema) -> str:
    """What a schema expects, in words."""
    if "const" in schema:
        return shown(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    types = _types(schema)
    text = " or ".join(_NAMES.get(name, f"a {name}") for name in types) or "a value"
    if "pattern" in schema:
        text += f" matching {schema['pattern']}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        text += f" >= {low}" if high is None else f" in [{low}, {high}]"
    return text + (f" of at least {schema['minItems']}" if "minItems" in schema else "")


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of JSON Schema is found in a text; a final `$` is the very end, as in ECMAScript."""
    end = r"\Z" if pattern.endswith("$") else ""
    return re.search(pattern.removesuffix("$") + end, text) is not None


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _types(schema: Schema) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else list(types)


def _fits(value: Any, schema: Schema) -> bool:
    types = _types(schema)
    if types and not any(_is(value, name) for name in types):
        return False
    if "const" in schema and not _same(value, schema["const"]):
        return False
    if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
        return False
    if isinstance(value, str):
        return matches(schema.get("pattern", ""), value)
    if isinstance(value, list):
        return bool(len(value) >= schema.get("minItems", 0))
    if _is(value, "number"):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, int):
        return name in ("integer", "number")
    return name in _TYPES and isinstance(value, _TYPES[name])


def _same(value: Any, wanted: Any) -> bool:
    """Equal, and not only to Python, for which True is 1."""
    return type(value) is type(wanted) and bool(value == wanted)
