"""Bytes decoded as strict readers agree on: JSON (RFC 8259, RFC 7493), and server-sent events (HTML, 9.2)."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_DEPTH = 64
_LONGEST_INTEGER = 20
#: Up to this value a double represents exactly one integer.
_EXACT = 2**53
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class NotStrict(ValueError):
    """Not JSON, or JSON that two parsers could read differently; the text says what was found."""


def strict_json(body: bytes | str) -> Any:
    """The value of a body in UTF-8. Raises NotStrict.

    It refuses a repeated name, NaN, an integer beyond 64 bits, a number beyond a double, half of a
    surrogate pair, and a depth that would exhaust the reader's stack. 1.0 and 1e0 are the integer 1.
    """
    try:
        text = body if isinstance(body, str) else body.decode()
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise NotStrict(f"a byte that is not UTF-8 at position {error.start}") from None
    except RecursionError:
        raise NotStrict(f"a value nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise NotStrict(f"none: {error.msg} at position {error.pos} of {len(text)}") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise NotStrict(f"a value nested deeper than {MAX_DEPTH} levels")
    if "\\u" in text and _HALF_PAIR.search(json.dumps(value, ensure_ascii=False)):
        raise NotStrict("half of a surrogate pair")
    return value


def _constant(name: str) -> NoReturn:
    raise NotStrict(f"the constant {name}")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER or not -(2**63) <= int(digits) < 2**64:
        raise NotStrict(f"an integer of {len(digits.lstrip('-'))} digits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NotStrict(f"a number beyond a double: {digits[:40]}")
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise NotStrict(f"the name {twice[:40]!r} twice")
    return members


_DECODER = json.JSONDecoder(
    parse_constant=_constant, parse_int=_integer, parse_float=_number, object_pairs_hook=_members
)


def _depth(value: Any) -> int:
    """The nesting depth of arrays and objects; iterates by level, so that no depth exhausts the stack."""
    depth, level = 0, [value]
    while level:
        depth += 1
        holders = [member for member in level if isinstance(member, dict | list)]
        level = [member for held in holders for member in (held.values() if isinstance(held, dict) else held)]
    return depth


_LINE_END = re.compile("\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event: its name, the last id that was sent with it or before it, and its data."""

    name: str
    id: str
    data: str


class EventDecoder:
    """Decodes one stream. An event without its blank line does not count."""

    def __init__(self) -> None:
        # always UTF-8, whatever the content type says; one byte order mark may come first
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._line: list[str] = []
        self._after_cr = False
        self._name = self._id = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that this chunk completes. UnicodeDecodeError if it is not UTF-8."""
        text = self._decoder.decode(piece)
        if self._after_cr and text:
            # the other half of CR LF; the line ended with the first
            text = text.removeprefix("\n")
            self._after_cr = False
        if not text:
            return []
        self._after_cr = text.endswith("\r")
        events = []
        rest, *lines = _LINE_END.split(text)
        for line in lines:
            self._line.append(rest)
            if event := self._take("".join(self._line)):
                events.append(event)
            self._line.clear()
            rest = line
        self._line.append(rest)
        return events

    def end(self) -> None:
        """UnicodeDecodeError if the stream ended inside a character."""
        self._decoder.decode(b"", final=True)

    def _take(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatched()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None  # a comment has no name; `retry` and unknown fields say nothing about events

    def _dispatched(self) -> ServerSentEvent | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return ServerSentEvent(name or "message", self._id, "\n".join(data)) if data else None


def events_in(body: bytes) -> list[ServerSentEvent]:
    """The events of a body that was read to its end."""
    return EventDecoder().feed(body)
