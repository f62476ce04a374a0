"""Text that is safe on one line: no control characters, no line breaks, no hidden direction changes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

ELLIPSIS = "…"

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
#: Control characters, lone surrogates (not to be encoded), direction overrides (they disguise what is read).
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)
_CODE = re.compile(r"`([^`]+)`")


def printable(text: str) -> str:
    """Return ``text`` with what cannot be shown replaced by U+FFFD; line breaks and tabs stay."""
    return _UNPRINTABLE.sub(
        lambda m: m[0] if m[0] in "\n\t" else "\ufffd", _ANSI.sub("", text.replace("\r\n", "\n"))
    )


def one_line(value: object, limit: int | None = None) -> str:
    """Return ``value`` as one printable line of at most ``limit`` characters; a cut ends in an ellipsis."""
    if value is None:
        return ""
    text = printable(" ".join(_ANSI.sub("", str(value)).split()))
    if limit is not None and len(text) > limit:
        return text[: limit - 1].rstrip() + ELLIPSIS
    return text


def segments(text: str) -> Iterator[tuple[bool, str]]:
    """Split ``text`` at its `code` spans into (is code, content); a lone backtick stays text."""
    end = 0
    for match in _CODE.finditer(text):
        if match.start() > end:
            yield False, text[end : match.start()]
        yield True, match[1]
        end = match.end()
    if end < len(text):
        yield False, text[end:]


def number(value: object) -> str:
    """Format a figure: integers exactly, floats to six significant digits, the rest as one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{one_line(name)}: {number(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value))
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.6g}"
    if isinstance(value, float) and abs(value) < 1e15:
        return str(int(value))
    return one_line(value)


def width(text: str) -> int:
    """Return how many terminal columns ``text`` takes: wide characters two, combining marks none."""
    return sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip(text: str, columns: int) -> str:
    """Cut ``text`` so that it takes at most ``columns`` terminal columns."""
    if width(text) <= columns:
        return text
    taken = accumulate(map(_columns, text))
    return text[: sum(1 for columns_so_far in taken if columns_so_far < columns)].rstrip() + ELLIPSIS


def pad(text: str, columns: int) -> str:
    """Fill ``text`` with spaces up to ``columns`` terminal columns."""
    return text + " " * max(0, columns - width(text))


def and_others(row: Mapping[str, Any]) -> str:
    """Return a blocker's check, and how many others share its reason."""
    others = row.get("also") or ()
    if not others:
        return one_line(row.get("check"))
    return f"{one_line(row.get('check'))} and {len(others)} more check{'s' if len(others) > 1 else ''}"
