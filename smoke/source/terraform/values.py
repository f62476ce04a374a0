"""The values of expressions: plain values, each with its place, and unknown ones."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

from .hcl import Place

#: Maximum combinations of alternatives; a value with more is unknown.
MOST = 64


class Thing(Protocol):
    """A resource or data source, as far as values refer to it."""

    @property
    def address(self) -> str:
        """Such as `module.finn.aws_ecs_service.this["a"]`."""

    @property
    def type(self) -> str:
        """Such as aws_ecs_service."""

    def attribute(self, name: str) -> Value | None:
        """An attribute that the files set."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """Something that the files do not say. Two with one name are the same thing.

    With a `resource` it is that, or its attribute at `path`; otherwise `why` says what hides the value.
    """

    name: str
    why: str = ""
    resource: Thing | None = field(default=None, compare=False)
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A string with symbols as parts of it."""

    parts: tuple[str | Value, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of several values; the files do not say which."""

    options: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The JSON of a value."""

    value: Value


@dataclass(frozen=True, slots=True)
class Value:
    """`content` is a str, int, float, bool or None, a tuple or dict of values, or of a class above."""

    content: Any
    at: Place = field(compare=False)

    def to(self, content: Any) -> Value:
        """Return another content at the same place."""
        return Value(content, self.at)

    def symbol(self, name: str, why: str) -> Value:
        """Return something unknown at the same place."""
        return Value(Symbol(name, why), self.at)


def settle(value: Value) -> Value:
    """Follow a resource's attribute to the value that the files set, if they do."""
    for _ in range(20):
        content = value.content
        if not isinstance(content, Symbol) or content.resource is None or not content.path:
            return value
        found = content.resource.attribute(content.path[0])
        for name in content.path[1:]:
            found = found.content.get(name) if found and isinstance(found.content, dict) else None
        if found is None:
            if content.resource.type == "module":
                return value.symbol(content.name, f"there is no {content.name}")
            return value
        value = found
    return value


def flat(value: Value) -> Value:
    """Follow a value, and each part of a string, to the values that the files set."""
    value = settle(value)
    if not isinstance(value.content, Text):
        return value
    parts = [part if isinstance(part, str) else scalar(flat(part).content) for part in value.content.parts]
    known = [part for part in parts if part is not None]
    return value.to("".join(known)) if len(known) == len(parts) else value


def options(value: Value | None) -> list[Value]:
    """Every possible value: those of an Either, or the value itself; none of None."""
    if value is None:
        return []
    value = settle(value)
    if isinstance(value.content, Either):
        return [each for option in value.content.options for each in options(option)]
    return [value]


def either(values: Iterable[Value]) -> Value:
    """Return an Either of the distinct values; a single one unchanged."""
    found: list[Value] = []
    for each in values:
        found += [option for option in options(each) if option not in found]
    return found[0] if len(found) == 1 else Value(Either(tuple(found)), found[0].at)


def lift(function: Callable[..., Value], *values: Value, name: str) -> Value:
    """Apply a function to every combination of its arguments' alternatives."""
    alternatives = [options(value) for value in values]
    total = math.prod(map(len, alternatives))
    if total == 1:
        return function(*(each[0] for each in alternatives))
    if total > MOST:
        return values[0].symbol(name, f"{name} has more than {MOST} possible values")
    return either(function(*chosen) for chosen in itertools.product(*alternatives))


def scalar(content: Any) -> str | None:
    """A plain value as Terraform writes it into a string; None for any other value."""
    if content is None:
        return ""
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, int):
        return str(content)
    if isinstance(content, float):
        return str(int(content)) if content.is_integer() else repr(content)
    return content if isinstance(content, str) else None


def concatenated(values: Iterable[Value], at: Place) -> Value:
    """Return the concatenation of values; symbols stay symbols in it."""

    def join(*chosen: Value) -> Value:
        parts: list[str | Value] = []
        for value in chosen:
            for part in _parts(value):
                if isinstance(part, str) and parts and isinstance(parts[-1], str):
                    parts[-1] += part
                elif part != "":
                    parts.append(part)
        if all(isinstance(part, str) for part in parts):
            return Value("".join(map(str, parts)), at)
        return Value(Text(tuple(parts)), at)

    listed = list(values)
    if any(isinstance(settle(each).content, Either) for each in listed):
        return lift(join, *listed, name="a string")
    return join(*listed)


def _parts(value: Value) -> tuple[str | Value, ...]:
    content = value.content
    if isinstance(content, Text):
        return content.parts
    if isinstance(content, Encoded):
        return _parts(encoded(content.value))
    text = scalar(content)
    return (text,) if text is not None else (value,)


def text(value: Value | None) -> str:
    """Return a value as text; unknown parts read ${as.written}, alternatives are joined by "or"."""
    if value is None:
        return ""
    content = settle(value).content
    if isinstance(content, Text):
        return "".join(part if isinstance(part, str) else text(part) for part in content.parts)
    if isinstance(content, Symbol):
        return "${" + content.name + "}"
    if isinstance(content, Either):
        return " or ".join(dict.fromkeys(text(option) for option in content.options))
    if isinstance(content, Encoded):
        return text(encoded(content.value))
    if isinstance(content, tuple):
        return "[" + ", ".join(map(text, content)) + "]"
    if isinstance(content, dict):
        return "{" + ", ".join(f"{key} = {text(each)}" for key, each in content.items()) + "}"
    return scalar(content) or ""


def known_text(value: Value | None) -> str:
    """A known value as text; empty for any other."""
    return text(value) if is_known(value) else ""


def number(value: Value | None) -> float | None:
    """A number, also as a string; None for anything else, including booleans."""
    content = flat(value).content if value is not None else None
    if isinstance(content, bool) or not isinstance(content, int | float | str):
        return None
    try:
        return float(content)
    except ValueError:
        return None


def size(value: Value | None) -> float | None:
    """The CPU units or MiB of a task: a number, or a size in `vCPU` or `GB`; None for anything else."""
    written = re.fullmatch(r"(\d*\.?\d+) ?(?:vcpu|gb)", text(value).strip(), re.IGNORECASE)
    return float(written[1]) * 1024 if written else number(value)


def boolean(value: Value | None) -> bool | None:
    """A boolean, also as a string, as Terraform reads it; None for anything else."""
    content = settle(value).content if value is not None else None
    if isinstance(content, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(content)
    return content if isinstance(content, bool) else None


def symbols(value: Value | None) -> Iterator[Symbol]:
    """Yield every symbol in a value, at any depth, also those that the files explain."""
    content = value.content if value is not None else None
    if isinstance(content, Symbol):
        yield content
    elif isinstance(content, Encoded):
        yield from symbols(content.value)
    elif isinstance(content, Text | Either | tuple | dict):
        inner = (
            content.parts if isinstance(content, Text)
            else content.options if isinstance(content, Either)
            else content.values() if isinstance(content, dict)
            else content
        )  # fmt: skip
        for each in inner:
            if isinstance(each, Value):
                yield from symbols(each)


def why_unknown(value: Value) -> str:
    """Why the value itself is not known; empty if it is, even if its members are not."""
    content = settle(value).content
    return content.why if isinstance(content, Symbol) else ""


def hidden(value: Value | None) -> str:
    """Why a value is not known from the files; empty if it is, or is an attribute of a resource."""
    if value is None:
        return ""
    return next((each.why for each in symbols(settle(value)) if each.why), "")


def is_known(value: Value | None) -> TypeGuard[Value]:
    """Whether a value is known and plain at any depth."""
    if value is None:
        return False
    content = flat(value).content
    if isinstance(content, Encoded):
        return is_known(content.value)
    if isinstance(content, tuple):
        return all(map(is_known, content))
    if isinstance(content, dict):
        return all(map(is_known, content.values()))
    return not isinstance(content, Symbol | Text | Either)


def plain(value: Value) -> Any:
    """A known value as Python data."""
    content = flat(value).content
    if isinstance(content, Encoded):
        return json.dumps(plain(content.value))
    if isinstance(content, tuple):
        return [plain(each) for each in content]
    if isinstance(content, dict):
        return {key: plain(each) for key, each in content.items()}
    return content


def of_plain(data: Any, at: Place) -> Value:
    """Return Python data as a value."""
    if isinstance(data, dict):
        return Value({str(key): of_plain(each, at) for key, each in data.items()}, at)
    if isinstance(data, list | tuple | set):
        return Value(tuple(of_plain(each, at) for each in data), at)
    return Value(data, at)


def encoded(value: Value) -> Value:
    """Return the JSON of a value as a string, in which symbols stay symbols."""
    value = settle(value)
    content = value.content
    if isinstance(content, tuple):
        pieces = [value.to("[")]
        for index, each in enumerate(content):
            pieces += [value.to(", " if index else ""), encoded(each)]
        return concatenated([*pieces, value.to("]")], value.at)
    if isinstance(content, dict):
        pieces = [value.to("{")]
        for index, (key, each) in enumerate(content.items()):
            pieces += [value.to(f"{', ' if index else ''}{json.dumps(key)}: "), encoded(each)]
        return concatenated([*pieces, value.to("}")], value.at)
    if isinstance(content, Text | Symbol | Encoded):
        inner = [
            json.dumps(part)[1:-1] if isinstance(part, str) else part
            for part in _parts(value)
        ]  # fmt: skip
        return concatenated(
            [value.to('"'), *(value.to(p) if isinstance(p, str) else p for p in inner), value.to('"')],
            value.at,
        )
    if isinstance(content, Either):
        return either(encoded(option) for option in content.options)
    return value.to(json.dumps(content))


#: Represents a symbol while JSON is read: a private-use character that no file should contain.
_MARK = "\ue000"


def decoded(value: Value) -> Value | None:
    """Return the value of JSON, with symbols; None if it is not JSON."""
    value = settle(value)
    content = value.content
    if isinstance(content, Encoded):
        return content.value
    if not isinstance(content, str | Text):
        return None
    written, held, _ = _as_json(value)
    try:
        data = json.loads(written)
    except ValueError:
        return None
    return _restored(data, held, value.at)


def malformed(value: Value) -> bool:
    """Whether a text is not JSON for any value of its symbols, which are parts of its strings."""
    if not isinstance(settle(value).content, str | Text):
        return False
    written, _, inside = _as_json(settle(value))
    try:
        json.loads(written)
    except ValueError:
        return inside and written.lstrip().startswith(("{", "["))
    return False


def _as_json(value: Value) -> tuple[str, list[Value], bool]:
    """A text with marks for its symbols, the symbols, and whether each of them is part of a string."""
    held: list[Value] = []
    written, quoted, inside = "", False, True
    for part in _parts(value):
        if isinstance(part, str):
            written += part
            quoted ^= part.replace("\\\\", "").replace('\\"', "").count('"') % 2 == 1
        else:
            mark = f"{_MARK}{len(held)}{_MARK}"
            held.append(part)
            written += mark if quoted else f'"{mark}"'
            inside &= quoted
    return written, held, inside


def _restored(data: Any, held: list[Value], at: Place) -> Value:
    if isinstance(data, dict):
        return Value(
            {text(_restored(key, held, at)): _restored(each, held, at) for key, each in data.items()}, at
        )
    if isinstance(data, list):
        return Value(tuple(_restored(each, held, at) for each in data), at)
    if not isinstance(data, str) or _MARK not in data:
        return Value(data, at)
    pieces = data.split(_MARK)
    parts = [held[int(each)] if index % 2 else Value(each, at) for index, each in enumerate(pieces)]
    if len(pieces) == 3 and not pieces[0] and not pieces[2]:
        return parts[1]
    return concatenated(parts, at)
