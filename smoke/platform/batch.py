"""Many calls at once: families of derived cases, concurrent calls, readings at the same time."""

from __future__ import annotations

import json
import shlex
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import httpx
from pytest_readiness import Evidence, SafetyViolation

from smoke.contract.model import CALLS, ROUTES
from smoke.contract.schemas import route_key

from .answers import (
    CONTRACT_PATH,
    SERVICE,
    ContractViolation,
    UnexpectedStatus,
    claims_in,
    is_of_a_firewall,
    require_json_error,
    require_status,
)

T = TypeVar("T")

SAMPLE_EVERY_S = 0.02
#: Threads are reused, because starting one takes as long as reading an answer. Work never waits for one.
_THREADS = ThreadPoolExecutor(1000)


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of all calls, in their order; raises the first error once all have ended."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        gate.wait(timeout=30)
        return call()

    return [future.result() for future in _ended([partial(run, call) for call in calls])]


def _ended(works: Sequence[Callable[[], T]]) -> list[Future[T]]:
    """Runs each in its own thread at once; all have ended afterwards, even if the check is interrupted."""
    futures = [_THREADS.submit(work) for work in works]
    try:
        wait(futures)
    finally:
        wait(futures)
    return futures


@contextmanager
def sampling(read: Callable[[], T]) -> Iterator[list[T]]:
    """Readings in order of time, taken one after another until the block ends; at least one.

    An error of a reading is raised at the end of the block, if the block itself raised none.
    """
    samples: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def sample() -> None:
        try:
            while True:
                samples.append(read())
                if ended.wait(SAMPLE_EVERY_S):
                    return
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=sample, daemon=True, name="sampler")
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join(60)
    if errors:
        raise errors[0]


#: Headers that a client sets by itself.
_OWN_HEADERS = frozenset(
    {"accept-encoding", "authorization", "connection", "content-length", "host"}
    | {"traceparent", "user-agent"}
)
#: The routes that charge, and the claims that decide who pays and what is answered.
OF_A_PAYER = ("tenant_id", "tier", "pool_id", "allowed_pools")
#: A longer body is described in the replay instead of shown.
_LONGEST_BODY = 2048


@dataclass(frozen=True, slots=True)
class Case:
    """One request and the contract's verdict on its answer.

    ``send`` makes the request anew each time and returns the answer, from a client that waits after a 429.
    ``judge`` raises for an answer that breaks the rule: SafetyViolation if once is proof, else another
    AssertionError. ``mint`` returns a shell command that takes `--env` and prints a throw-away Authorization
    header for a replay; "" if there is none.
    """

    name: str
    rule: str
    send: Callable[[], httpx.Response]
    judge: Callable[[httpx.Response], object]
    mint: Callable[[], str] = str


class Batch:
    """Sends the cases of one check, as many concurrently as the profile allows.

    ``env`` is the profile's name for a replay; empty for the embedded platform, which ends with the run.
    """

    def __init__(self, evidence: Evidence, concurrency: int, env: str = "") -> None:
        self._evidence = evidence
        self._concurrency = concurrency
        self._env = env

    def run(self, cases: Sequence[Case]) -> list[httpx.Response]:
        """The answers to all cases, in their order; raises for the first case that breaks its rule.

        Order the cases by the size of the change, so that the first is the smallest. A safety violation takes
        precedence over any other, and a fault of the platform over a request that did not reach it.
        """
        assert cases, "no case to try"
        tried: list[tuple[httpx.Response | None, Exception | None]] = [(None, None)] * len(cases)
        left = iter(range(len(cases)))

        def work() -> None:
            for number in left:  # each is taken by one thread
                tried[number] = _try(cases[number])

        for worker in _ended([work] * self._concurrency):
            worker.result()
        failures = [
            (case, answer, error)
            for case, (answer, error) in zip(cases, tried, strict=True)
            if error is not None
        ]
        broken = Counter(case.rule for case, *_ in failures)
        for rule, times in Counter(case.rule for case in cases).items():
            if broken[rule]:
                self._evidence.figure(rule, times - broken[rule], expected=times)
            else:
                self._evidence.evaluated(rule, times)
        if failures:
            self._raise_first(failures, len(cases))
        answers = [answer for answer, _ in tried if answer is not None]
        self._evidence.exchange(answers[0])
        return answers

    def _raise_first(self, failures: list[tuple[Case, httpx.Response | None, Exception]], tried: int) -> None:
        case, answer, error = min(failures, key=lambda failure: _rank(failure[2]))
        if answer is None:
            raise error
        self._evidence.exchange(answer)
        text = f"{case.rule}: {case.name}: {error} ({len(failures)} of {tried} cases failed)"
        command = case.mint() or minting(answer.request)
        mint = f"{command} --env {self._env or 'PROFILE'}" if command else ""
        where = "" if self._env else " (PROFILE and the address are what `python -m stack up` prints)"
        self._evidence.note(f"{case.name}, to send it again: {replay(answer.request, mint)}{where}")
        if isinstance(error, AssertionError):
            raise reworded(error, text) from error
        raise error


def reworded(error: AssertionError, text: str) -> AssertionError:
    """The same failure with another text; it keeps the broken rule and the answer."""
    if isinstance(error, UnexpectedStatus):
        return UnexpectedStatus(text, error.response, error.breaks)
    if isinstance(error, SafetyViolation):
        return SafetyViolation(text, breaks=error.breaks)
    return ContractViolation(text)


def is_elsewhere(response: httpx.Response) -> bool:
    """Whether it is the 404 of Finn or Dixie for a route that the contract does not have."""
    request = response.request
    service, path = request.extensions.get(SERVICE, "freeside"), request.extensions.get(CONTRACT_PATH)
    known = service == "freeside" or route_key(service, request.method, path or request.url.path)
    return response.status_code == 404 and not known


def answering(*statuses: int) -> Callable[[httpx.Response], object]:
    """Judges an answer by its status; an error needs its JSON form, except a 405, a 411, a firewall's.

    Finn and Dixie may refuse what is no route of theirs with a 404 in any form: only Freeside's has one.
    """

    def judge(answer: httpx.Response) -> None:
        if is_of_a_firewall(answer):
            return
        require_status(answer, *statuses)
        if answer.is_error and answer.status_code not in (405, 411) and not is_elsewhere(answer):
            require_json_error(answer)

    return judge


def _try(case: Case) -> tuple[httpx.Response | None, Exception | None]:
    answer = None
    try:
        answer = case.send()
        case.judge(answer)
    except Exception as error:
        return answer, error
    return answer, None


def _rank(error: Exception) -> int:
    return 0 if isinstance(error, SafetyViolation) else 1 if isinstance(error, AssertionError) else 2


def mint_command(to: str, case: str = "", body: bytes = b"", **changed: Any) -> str:
    """The command that prints the Authorization header of a token for a route, for a replay."""
    words = ["python", "-m", "smoke.platform", "mint", "--to", to]
    words += ["--case", case] if case else []
    words += [word for name, value in changed.items() for word in ("--claim", f"{name}={json.dumps(value)}")]
    return shlex.join(words + (["--body", body.decode()] if body else []))


def minting(request: httpx.Request) -> str:
    """The command that makes a call's token again, with its tenant, tier and pools; "" for other requests."""
    named = [route for route in ROUTES if route.name in CALLS and request.url.path.endswith(route.path)]
    claims = claims_in(request)
    if not named or not claims:
        return ""
    bound = request.content if "req_hash" in claims and request.content.isascii() else b""
    return mint_command(named[0].name, body=bound, **{n: claims[n] for n in OF_A_PAYER if n in claims})


def replay(request: httpx.Request, mint: str = "") -> str:
    """A curl command that sends a request again, with a new credential from the command ``mint``."""
    words = ["curl", "-sSi", "-X", request.method, str(request.url)]
    for name, value in request.headers.items():
        if name.lower() not in _OWN_HEADERS:
            words += ["-H", f"{name}: {value}"]
    body = request.content
    if len(body) > _LONGEST_BODY:
        words += ["--data-binary", f"@a-file-of-{len(body)}-bytes"]
    elif body:
        words += ["--data-binary", body.decode(errors="backslashreplace")]
    text = " ".join(map(shlex.quote, words))
    return f'{text} -H "$({mint})"' if mint else text
