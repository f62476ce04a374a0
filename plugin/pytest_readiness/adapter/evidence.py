"""What a check records while it runs: exchanges, figures, counts of evaluated rules, notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from threading import Lock
from typing import Any, Protocol, TypeVar

from ..core import formats
from ..core.formats import text_of
from ..core.model import UNREAD
from ..core.redaction import Redactor

BODY_LIMIT = 2048
#: This much of a body is searched for secrets, so that none is cut where the shown part ends.
_SEARCHED = 32 * BODY_LIMIT
#: Headers that explain an exchange; the report omits all others.
SHOWN_HEADERS = frozenset(
    {"accept", "authorization", "cache-control", "content-length", "content-type", "date", "etag"}
    | {"idempotency-key", "if-none-match", "last-modified", "location", "retry-after", "server"}
    | {"traceparent", "www-authenticate"}
)
_SHOWN_PREFIXES = ("x-ratelimit", "ratelimit", "x-request", "x-trace", "x-payment", "payment-")
#: Python does not convert larger integers to text by default.
_LARGEST = 10**1000
_MEASUREMENTS = frozenset({"exchange", "figure", "evaluated"})

SUMMARY_LIMIT = 300

Value = TypeVar("Value")


class EvidenceLog:
    """The entries of one attempt of a check, as plain JSON data, redacted when they are recorded."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._entries: list[dict[str, Any]] = []
        self._taken = 0
        self._lock = Lock()

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        return self._redactor.shown(text)

    @property
    def measured(self) -> int:
        """How many measurements were recorded; notes do not count."""
        return sum(entry["kind"] in _MEASUREMENTS for entry in self._entries)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Record one entry."""
        self._entries.append(self._redactor.data(dict(entry)))

    def count(self, rule: str, times: int) -> None:
        """Count comparisons of a rule, one entry per rule; thread-safe."""
        fresh = {"kind": "evaluated", "rule": self._redactor.shown(rule), "times": times}
        with self._lock:
            for entry in self._entries[self._taken :]:
                if entry["kind"] == "evaluated" and entry["rule"] == fresh["rule"]:
                    entry["times"] += times
                    return
            self._entries.append(fresh)

    def take(self) -> list[dict[str, Any]]:
        """Return the entries recorded since the last call: each report has those of its own phase."""
        fresh = self._entries[self._taken :]
        self._taken = len(self._entries)
        return fresh


@dataclass(slots=True)
class Parts:
    """Subtests of one attempt: whether a phase is running, and which parts of it failed without ending it."""

    running: bool = False
    failures: list[BaseException] = field(default_factory=list)
    #: Why the first part that was skipped did not run.
    skipped: str = ""
    #: What ended the phase, even if a hook swallowed it.
    raised: BaseException | None = None
    #: Whether the check's function was called.
    ran: bool = False

    def take(self) -> list[BaseException]:
        """Return the failures since the last call."""
        failures, self.failures = self.failures, []
        return failures


class Evidence:
    """The fixture ``evidence``. Exchanges, figures and evaluated rules are measurements; a note is not."""

    def __init__(self, log: EvidenceLog) -> None:
        self._log = log

    def exchange(self, response: Any) -> None:
        """Record a request and its response, which must have the attributes of an ``httpx.Response``.

        Kept: method, URL, status, elapsed milliseconds, the headers that explain it, and 2 KiB of each body.
        """
        request = getattr(response, "request", None)
        if request is None:
            raise TypeError(
                f"evidence.exchange takes a response of httpx or requests, not {type(response).__name__}: "
                "record what was measured with evidence.figure"
            )
        self._log.add(
            {
                "kind": "exchange",
                "method": str(request.method),
                "url": str(request.url),
                "status": int(response.status_code),
                "ms": _elapsed_ms(response),
                "request": {"headers": _headers(request), "body": self._body(request)},
                "response": {"headers": _headers(response), "body": self._body(response)},
            }
        )

    def figure(
        self,
        name: str,
        value: Any,
        unit: str = "",
        expected: Any = None,
        limit: Any = None,
        at_least: float | None = None,
    ) -> None:
        """Record a measured value, and its expected value, maximum (``limit``) or minimum (``at_least``)."""
        if at_least is not None:
            if limit is not None:
                raise TypeError("evidence.figure takes limit or at_least, not both: record two figures")
            limit = formats.at_least(at_least)
        entry = {
            "kind": "figure", "name": name, "value": value, "unit": unit, "expected": expected,
            "limit": limit,
        }  # fmt: skip
        self._log.add({key: _plain(content) for key, content in entry.items()})

    def evaluated(self, rule: str, times: int = 1) -> None:
        """Record that an invariant was compared ``times`` times. Zero times is not a measurement."""
        if times > 0:
            self._log.count(str(rule), int(times))

    def note(self, text: str) -> None:
        """Record a remark; it does not count as a measurement."""
        self._log.add({"kind": "note", "text": str(text)})

    def _body(self, message: Any) -> str:
        """Return the start of a body, redacted before it is cut: half a secret would not be recognised."""
        try:  # httpx calls it content; a request of `requests` has a body
            content = message.content if hasattr(message, "content") else message.body
        except (AttributeError, RuntimeError):  # a stream that was not read
            return ""
        if not isinstance(content, bytes | str):  # no body, or a stream that was sent in pieces
            return ""
        head = content[:_SEARCHED]
        text = self._log.text(head.decode(errors="replace") if isinstance(head, bytes) else str(head))
        return text if len(text) <= BODY_LIMIT else f"{text[:BODY_LIMIT]}… ({len(content)} in all)"


class Eventually(Protocol):
    """The type of the fixture ``eventually``."""

    def __call__(self, probe: Callable[[], Value], *, within: float, every: float = 0.2, what: str) -> Value:
        """Call ``probe`` until it returns a true value, and return that; times are in seconds.

        Records the figure "<what> after". AssertionError at the deadline, with the last value.
        """


def _plain(value: Any) -> Any:
    """Return a value that JSON and xdist's channel support: plain values unchanged, others as text."""
    if type(value) is int and abs(value) >= _LARGEST:
        return f"an integer of {value.bit_length()} bits"
    if value is None or type(value) in {bool, int, float, str}:
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return text_of(value)


def _elapsed_ms(response: Any) -> float | None:
    try:
        return round(float(response.elapsed.total_seconds()) * 1000, 1)
    except (AttributeError, RuntimeError):  # httpx knows it only once the response is closed
        return None


def _headers(message: Any) -> dict[str, str]:
    found = getattr(message, "headers", None) or {}
    return {
        str(name): str(value)
        for name, value in found.items()
        if str(name).lower() in SHOWN_HEADERS or str(name).lower().startswith(_SHOWN_PREFIXES)
    }


def unread_in(text: str) -> list[str]:
    """Return every "not examined" place of a failure: those below the first line would be lost."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    starts = [n for n, line in enumerate(lines) if UNREAD in line]
    if not starts:
        return []
    found = takewhile(lambda line: not line.startswith("assert "), lines[starts[0] :])
    return [line if UNREAD in line else f"{UNREAD}: {line}" for line in found]


def advice_in(text: str) -> str:
    """Return what to do next, if the last line of an error says so (see ``three_lines``); otherwise ""."""
    last = text.rstrip().rpartition("\n")[2].strip()
    return first_line(last.removeprefix("next: ")) if last.startswith("next: ") else ""


def first_line(text: str) -> str:
    """Return the first line, truncated, of a text without secrets: half a secret would not be recognised."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first if len(first) <= SUMMARY_LIMIT else f"{first[:SUMMARY_LIMIT]}…"
