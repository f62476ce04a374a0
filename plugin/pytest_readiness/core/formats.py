"""How values are written: text, counts and times for people, canonical JSON, patterns of ids."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import secrets
import time as clock
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, partial
from typing import Any, TypeGuard

ELLIPSIS = "…"
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
#: Control characters, lone surrogates (not to be encoded), line separators, changes of direction.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 check", "2 checks", "3 entries"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _steady_clock() -> Callable[[], float]:
    """Return a clock that cannot be set; on Linux it also counts the time that the machine sleeps."""
    if hasattr(clock, "CLOCK_BOOTTIME"):
        return partial(clock.clock_gettime, clock.CLOCK_BOOTTIME)
    return clock.monotonic


class _Clocks:
    """The clocks at import, before any conftest: freezegun replaces names in modules, not in classes."""

    steady = staticmethod(_steady_clock())
    start, began, monotonic, wall = datetime.now(UTC), steady(), clock.monotonic, clock.time


def monotonic() -> float:
    """Return seconds of a clock that freezegun does not stop."""
    return _Clocks.monotonic()


def utc_now() -> datetime:
    """Return the present in UTC, even if a conftest moved or froze the time: waivers depend on it."""
    return _Clocks.start + timedelta(seconds=_Clocks.steady() - _Clocks.began)


def clock_lead() -> float:
    """Return how far the time of day is ahead of `monotonic`, s; it moves if a machine sleeps or is set."""
    return _Clocks.wall() - _Clocks.monotonic()


#: A supervisor's variables for a run: its id, and the file in which it writes where its reports are.
RUN_ID, HANDOVER = "READINESS_RUN_ID", "READINESS_HANDOVER"


def new_run_id() -> str:
    """Return an id that sorts by time and cannot collide."""
    return f"{utc_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def text_of(value: object) -> str:
    """Return ``str(value)``, or the error that it raised: a report must not fail on a value that it shows."""
    try:
        return str(value)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        return f"<{type(value).__name__} with a text that raises {type(problem).__name__}>"


def parse_moment(text: str) -> datetime:
    """Read an RFC 3339 time such as ``2027-03-01T00:00:00Z``; ValueError for any other text."""
    return usable(datetime.fromisoformat(text))


def usable(moment: datetime) -> datetime:
    """Return a time that has an offset and a day in UTC; ValueError for any other."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no offset")
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment} has no day in UTC") from None
    return moment


def format_moment(moment: datetime) -> str:
    """Write a time as RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_day(moment: datetime) -> str:
    """Write the UTC day of a time, for sentences."""
    return moment.astimezone(UTC).date().isoformat()


def canonical_json(value: Any) -> bytes:
    """Encode a JSON value in its one canonical form: sorted keys, no spaces, UTF-8; times as ISO 8601.

    ValueError for NaN and infinities, TypeError for what JSON cannot hold.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
    )
    return text.encode()


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value's canonical form, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def suite_digest(files: Mapping[str, bytes]) -> str:
    """Return one SHA-256 over a suite's files (path -> content), independent of their order."""
    return digest({path: hashlib.sha256(content).hexdigest() for path, content in files.items()})


def _plain(value: object) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")


def printable(text: str) -> str:
    """Return ``text`` with U+FFFD for control and disguising characters; line breaks and tabs stay."""
    if not _UNPRINTABLE.search(text):
        return text
    return _UNPRINTABLE.sub("\ufffd", _ANSI.sub("", text.replace("\r\n", "\n")))


def is_one_line(text: str) -> bool:
    """Tell whether a text is one line that a terminal shows unchanged."""
    return printable(text) == text and not any(char in text for char in "\n\t")


def matches(pattern: str, text: str) -> bool:
    """Tell whether the pattern matches the complete text: the one language for ids of checks, faults, goals.

    ``*`` matches any run of characters and ``?`` one character. Everything else is literal, the brackets of
    parametrised ids included.
    """
    return _compiled(pattern).fullmatch(text) is not None


def matching(patterns: Iterable[str], ids: Iterable[str]) -> list[str]:
    """Return the ids that at least one of the patterns matches, in their order."""
    wanted = list(patterns)
    return [each for each in ids if any(matches(pattern, each) for pattern in wanted)]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def one_line(value: object, limit: int | None = None) -> str:
    """Return ``value`` as one printable line of at most ``limit`` characters; a cut ends in an ellipsis."""
    if value is None:
        return ""
    text = printable(" ".join(str(value).split()))
    if limit is not None and len(text) > limit:
        return text[: limit - 1].rstrip() + ELLIPSIS
    return text


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


def at_least(least: object) -> str:
    """Return a minimum as text for a figure's limit; a number there is a maximum."""
    return f">= {number(least)}"


def bound(limit: object, unit: str = "") -> str:
    """Return the limit of a figure in words: "at most 2 s", "at least 14 days"; any other text as it is."""
    text = limit[3:] if isinstance(limit, str) and limit.startswith(">= ") else limit
    word = "at least" if text is not limit else "at most" if isinstance(limit, int | float) else ""
    return " ".join(filter(None, (word, number(text), unit)))


def figure_bounds(entry: Mapping[str, Any]) -> list[str]:
    """Return a figure's bounds in words: the expected value, then the limit."""
    unit = one_line(entry.get("unit"))
    expected, limit = entry.get("expected"), entry.get("limit")
    found = [f"expected {number(expected)} {unit}".rstrip()] if expected is not None else []
    return [*found, bound(limit, unit)] if limit is not None else found


def filled(text: str) -> str:
    """Refuse control characters and an empty value: an unset CI variable must not mean the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("empty (next: give a value, or leave the option out)")
    if not is_one_line(text):
        raise argparse.ArgumentTypeError("it contains a control character (next: give the value without it)")
    return text


#: Larger numbers cannot be drawn, nor can NaN.
LARGEST = 1e15


def is_amount(value: object) -> TypeGuard[int | float]:
    """Tell whether a value is a number that can be drawn and compared."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
