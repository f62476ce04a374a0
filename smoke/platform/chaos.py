"""Calls during an outage of a part of the platform, or under load, and the result of each."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Self, TypeVar

import httpx
from pytest_readiness import ExternalOutage, SafetyViolation, SetupError

from smoke.contract.schemas import EVENTS, STREAM_EVENTS, violations
from smoke.network.connections import events_in
from smoke.network.transport import within

from .answers import PROVIDER_CODES, error_code, media_type, parse_json, route_of
from .http import RESTARTS_WITHIN_S, resends, wait
from .streams import Stream, StreamEvent

T = TypeVar("T")

#: Between two calls of one caller.
PAUSE_S = 0.1
#: How long it may take until calls of every kind have been answered.
WARM_WITHIN_S = 30.0
#: Repeated calls that are sent at once.
REPEATED_AT_ONCE = 16
#: A key whose first call died with its process may be held for as long as a reservation.
REPEATED_WITHIN_S = 20.0
#: Errors of a call that was never sent.
_UNSENT = frozenset({httpx.ConnectError.__name__, httpx.ConnectTimeout.__name__})


@dataclass(slots=True)
class Attempt:
    """One send of a call, with start and end (monotonic seconds): its answer, or the error that ended it."""

    began: float
    ended: float = 0.0
    answer: httpx.Response | None = None
    error: str = ""

    @property
    def outcome(self) -> str:
        """What its caller saw, in a few words."""
        if self.answer is None:
            return self.error
        ended = media_type(self.answer) == EVENTS and f"up to the event {_last_event(self.answer) or 'none'}"
        return f"{self.answer.status_code} {ended or error_code(self.answer)}".strip()


@dataclass(slots=True)
class TrackedCall:
    """One call, known to the platform by ``name`` (a key, an event's id, a nonce), and every send of it."""

    name: str
    send: Callable[[], httpx.Response]
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def first(self) -> Attempt:
        """Its first send."""
        return self.attempts[0]

    @property
    def last(self) -> Attempt:
        """Its last send."""
        return self.attempts[-1]

    @property
    def reached(self) -> bool:
        """Whether the platform may have received it: a connection was made."""
        return any(attempt.error not in _UNSENT for attempt in self.attempts)

    def attempt(self) -> Attempt:
        """Send it once; a transport error also counts as an outcome."""
        attempt = Attempt(time.monotonic())
        before = resends.set(False)
        try:
            attempt.answer = self.send()
        except httpx.HTTPError as error:
            attempt.error = type(error).__name__
        finally:
            resends.reset(before)
        attempt.ended = time.monotonic()
        self.attempts.append(attempt)
        return attempt

    def repeat(self, until: Callable[[Attempt], bool]) -> None:
        """Send it again until an outcome is as wanted or time is up."""
        deadline = time.monotonic() + REPEATED_WITHIN_S
        while not until(self.attempt()) and time.monotonic() < deadline:
            wait(PAUSE_S)


def answered(attempt: Attempt) -> bool:
    """Whether a call got its complete answer; a stream ends with ``done``."""
    answer = attempt.answer
    if answer is None or not answer.is_success:
        return False
    return media_type(answer) != EVENTS or _last_event(answer) == "done"


def refused(attempt: Attempt) -> bool:
    """Whether a call ended in an error that its caller can recognise: of transport, a 5xx, an event."""
    if (answer := attempt.answer) is None:
        return True
    return answer.is_server_error or (media_type(answer) == EVENTS and _last_event(answer) == "error")


def _last_event(answer: httpx.Response) -> str:
    events = events_in(answer.content)
    return events[-1].name if events else ""


def _amiss_in_error(attempt: Attempt) -> str:
    """The members missing in the event that ends a call in an error (1.4); empty if none are."""
    if (answer := attempt.answer) is None or media_type(answer) != EVENTS or _last_event(answer) != "error":
        return ""
    document = parse_json(events_in(answer.content)[-1].data, f"{route_of(answer)} event error")
    return "; ".join(map(str, violations(document, STREAM_EVENTS["error"], "event error")))


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls of one kind: how to make one, and how many callers send them."""

    name: str
    make: Callable[[], TrackedCall]
    callers: int = 1


class Traffic:
    """Callers of several kinds; each sends one call after another inside the block."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.calls: dict[str, list[TrackedCall]] = {kind.name: [] for kind in kinds}
        self._kinds = kinds
        self._under_way: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._errors: list[BaseException] = []
        self._callers = [
            threading.Thread(target=self._run, args=(kind,), daemon=True, name=f"caller of {kind.name}")
            for kind in kinds
            for _ in range(kind.callers)
        ]

    def __enter__(self) -> Self:
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        """Let every call end: each is bounded in time. Errors of callers are raised here."""
        self._ended.set()
        for caller in self._callers:
            caller.join()
        if raised is None:
            self._raise_errors()

    def under_way(self) -> dict[str, int]:
        """How many calls of each kind are in progress."""
        with self._lock:
            return {kind.name: self._under_way[kind.name] for kind in self._kinds}

    def ended(self) -> list[TrackedCall]:
        """Every call of every kind that has ended."""
        with self._lock:
            return [call for calls in self.calls.values() for call in calls]

    def since(self, moment: float) -> dict[str, Attempt | None]:
        """The first answered call of each kind that began after a time."""
        with self._lock:
            found = {name: [call.first for call in calls] for name, calls in self.calls.items()}
        return {
            name: next((each for each in firsts if each.began >= moment and answered(each)), None)
            for name, firsts in found.items()
        }

    def await_answers(self, moment: float, deadline: float) -> float:
        """Wait until a call of every kind, begun after a time, is answered; return when the last one was.

        AssertionError that names the kinds without an answer, with the outcome of their last call.
        """
        while not all(found := self.since(moment).values()):
            self._raise_errors()
            if time.monotonic() >= deadline:
                silent = [name for name, attempt in self.since(moment).items() if attempt is None]
                raise AssertionError(f"no more answers to {', '.join(map(self._last_of, silent))}")
            wait(PAUSE_S / 4)
        return max(attempt.ended for attempt in found if attempt is not None)

    def await_under_way(self, name: str, count: int) -> dict[str, int]:
        """Wait until this many calls of a kind are in progress; return how many of each kind are then."""
        deadline = time.monotonic() + WARM_WITHIN_S
        while self.under_way()[name] < count and time.monotonic() < deadline:
            self._raise_errors()
            wait(PAUSE_S / 20)
        return self.under_way()

    def _last_of(self, name: str) -> str:
        with self._lock:
            calls = self.calls[name]
            return f"{name} ({calls[-1].first.outcome if calls else 'none has ended'})"

    def _raise_errors(self) -> None:
        if self._errors:
            raise self._errors[0]

    def _run(self, kind: Kind) -> None:
        try:
            while not self._ended.wait(PAUSE_S):
                call = kind.make()
                with self._lock:
                    self._under_way[kind.name] += 1
                try:
                    call.attempt()
                finally:
                    with self._lock:
                        self._under_way[kind.name] -= 1
                        if call.attempts:
                            self.calls[kind.name].append(call)
        except BaseException as error:
            self._errors.append(error)


def take_down(pool: httpx.Client, part: str, url: str, name: str = "restart_url") -> str:
    """Restart, stop or start a part by a POST to a URL of its section; return why that failed, else ""."""
    try:
        answer = pool.post(url, timeout=within(RESTARTS_WITHIN_S))
    except httpx.HTTPError as error:
        return f"[{part}] {name}: {type(error).__name__}"
    return "" if answer.is_success else f"[{part}] {name} answered {answer.status_code}"


def cut_amid(ask: Callable[..., Stream], away: AbstractContextManager[None]) -> tuple[int, str]:
    """Enter a block at a stream's first event: what the stream cost, or how an outage ended it."""
    with ExitStack() as entered:
        once = iter((away,))

        def enter(_: StreamEvent) -> bool:
            for each in once:
                entered.enter_context(each)
            return False

        try:
            return ask(hang_up=enter).usage().cost_micro, ""
        except ExternalOutage as outage:
            return 0, str(outage)


@contextmanager
def blamed(part: str) -> Iterator[None]:
    """Add to every finding in the block which part had gone down."""
    words = f"{part} went down and was started again: "
    try:
        yield
    except SafetyViolation as error:
        raise SafetyViolation(f"{words}{error}", breaks=error.breaks) from error
    except SetupError:
        raise
    except AssertionError as error:
        raise AssertionError(f"{words}{error}") from error


def together(calls: Sequence[T], work: Callable[[T], object], at_once: int = REPEATED_AT_ONCE) -> None:
    """Do something with each call, ``at_once`` at a time; raise the first error once all have ended."""
    with ThreadPoolExecutor(at_once) as workers:
        done = [workers.submit(work, call) for call in calls]
    for one in done:
        one.result()


def blames_the_provider(attempt: Attempt, code: str) -> bool:
    """Whether a call ended in an error with this code of the model provider's outage."""
    return attempt.answer is not None and f'"{code}"'.encode() in attempt.answer.content and refused(attempt)


def require_provider_outage(route: str, attempt: Attempt) -> None:
    """AssertionError for a failed call whose error does not say that the model provider is down (1.3)."""
    is_reported = any(blames_the_provider(attempt, code) for code in PROVIDER_CODES)
    is_reported = is_reported and attempt.outcome.startswith(("200", "503"))
    assert is_reported, f"{route}: expected the error of the provider's outage (1.3), got {attempt.outcome}"


def require_own_outage(calls: Iterable[TrackedCall]) -> None:
    """AssertionError for an error that blames the model provider: the platform itself was down (1.3)."""
    for code in PROVIDER_CODES:
        blaming = [
            attempt.outcome
            for call in calls
            for attempt in call.attempts
            if blames_the_provider(attempt, code)
        ]
        assert not blaming, f"{len(blaming)} calls blame the model provider, first {blaming[0]} ({code})"


def require_ends(calls: Mapping[str, Sequence[TrackedCall]], *, unbroken: Collection[str] = ()) -> int:
    """SafetyViolation for a call that ended in neither an answer nor an error; return how many were compared.

    AssertionError for a stream that ends in an error without code or message, and for a call of the
    ``unbroken`` kinds that broke off although the part that answers them stayed up.
    """
    compared = 0
    for kind, sent in calls.items():
        for call in sent:
            compared += 1
            if not (answered(call.first) or refused(call.first)):
                raise SafetyViolation(
                    f"a call of {kind} ended with neither its answer nor an error of the platform: "
                    f"{call.first.outcome}"
                )
            assert kind not in unbroken or call.first.answer is not None, (
                f"a call of {kind} broke off without the expected error: {call.first.outcome}"
            )
            amiss = _amiss_in_error(call.first)
            assert not amiss, f"a call of {kind} ended in an error that says too little: {amiss}"
    return compared


def ramp(most: int, calls: int) -> Iterator[tuple[int, int]]:
    """Steps of (concurrent callers, calls), doubling the callers up to ``most``; ``calls`` in total."""
    steps = [2**power for power in range(most.bit_length()) if 2**power < most] + [most]
    for place, callers in enumerate(steps):
        share = calls // (len(steps) - place)
        calls -= share
        yield callers, share
