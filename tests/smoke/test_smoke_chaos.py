"""Traffic over a restart: when every kind of call works again, what ends a call, what is repeated."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from pytest_readiness import SafetyViolation, SetupError

from smoke.platform.chaos import (
    Attempt,
    Kind,
    TrackedCall,
    Traffic,
    answered,
    blamed,
    ramp,
    refused,
    require_ends,
    require_own_outage,
    take_down,
)
from smoke.platform.spend import SpendJournal

REQUEST = httpx.Request("POST", "http://freeside.test/api/agents/invoke")


def answer(status: int = 200, *events: str) -> httpx.Response:
    if not events:
        return httpx.Response(status, json={}, request=REQUEST)
    data = {"error": '{"code": "SERVICE_UNAVAILABLE", "message": "Try again"}', "error-mute": '{"code": "X"}'}
    body = "".join(f"event: {name.partition('-')[0]}\ndata: {data.get(name, '{}')}\n\n" for name in events)
    return httpx.Response(status, text=body, headers={"content-type": "text/event-stream"}, request=REQUEST)


def ended(response: httpx.Response | None) -> Attempt:
    return Attempt(0.0, 1.0, response, "" if response else "ReadError")


@pytest.mark.parametrize(
    ("text", "blames"),
    [
        ('{"error": "MODEL_PROVIDER_UNAVAILABLE"}', True),
        ('event: error\ndata: {"code": "PROVIDER_UNAVAILABLE"}\n\n', True),
        ('{"error": "SERVICE_UNAVAILABLE"}', False),
    ],
)
def test_the_provider_is_not_to_blame_for_the_platforms_own_outage(text: str, blames: bool) -> None:
    streams = text.startswith("event")
    headers = {"content-type": "text/event-stream" if streams else "application/json"}
    response = httpx.Response(200 if streams else 503, text=text, headers=headers, request=REQUEST)
    calls = [TrackedCall("k", answer, [ended(response), ended(answer())])]
    if blames:
        with pytest.raises(AssertionError, match="1 calls blame"):
            require_own_outage(calls)
    else:
        require_own_outage(calls)


@pytest.mark.parametrize(
    ("response", "ends"),
    [
        (answer(), "answered"),
        (answer(202), "answered"),
        (answer(200, "content", "usage", "done"), "answered"),
        (answer(200, "content", "error"), "refused"),
        (answer(503), "refused"),
        (None, "refused"),
        (answer(200, "content", "usage"), "neither"),
        (answer(200, "content"), "neither"),
        (answer(401), "neither"),
        (answer(402), "neither"),
        (answer(409), "neither"),
    ],
)
def test_a_call_ends_in_its_answer_or_in_an_error_of_the_platform(
    response: httpx.Response | None, ends: str
) -> None:
    attempt = ended(response)
    assert (answered(attempt), refused(attempt)) == (ends == "answered", ends == "refused")
    call = TrackedCall("key", answer, [attempt])
    if ends == "neither":
        with pytest.raises(SafetyViolation, match="neither its answer nor an error"):
            require_ends({"invoke": [call]})
    else:
        assert require_ends({"invoke": [call]}) == 1


def test_an_error_that_ends_a_stream_says_what_it_is() -> None:
    call = TrackedCall("key", answer, [ended(answer(200, "content", "error-mute"))])
    with pytest.raises(AssertionError, match="says too little: event error"):
        require_ends({"stream": [call]})


class Platform:
    """Answers calls until it goes down, and again when it is up."""

    def __init__(self) -> None:
        self.up = threading.Event()
        self.up.set()

    def post(self) -> httpx.Response:
        if not self.up.is_set():
            raise httpx.ConnectError("down", request=REQUEST)
        return answer()


def kinds(*sends: Callable[[], httpx.Response]) -> list[Kind]:
    return [Kind(f"kind-{n}", lambda send=send: TrackedCall("", send), 2) for n, send in enumerate(sends)]  # type: ignore[misc]


def test_traffic_is_back_when_every_kind_is_answered_again() -> None:
    first, second = Platform(), Platform()
    with Traffic(kinds(first.post, second.post)) as traffic:
        began = time.monotonic()
        traffic.await_answers(began, began + 10)
        second.up.clear()
        down = time.monotonic()
        with pytest.raises(AssertionError, match=r"no more answers to kind-1 \(ConnectError\)$"):
            traffic.await_answers(down, down + 0.5)
        second.up.set()
        assert traffic.await_answers(down, down + 10) > down
    assert traffic.under_way() == {"kind-0": 0, "kind-1": 0}
    lost = [call for call in traffic.ended() if not answered(call.first)]
    assert lost
    assert not any(call.reached for call in lost)


def test_a_mistake_of_a_caller_is_not_mistaken_for_silence() -> None:
    def mistaken() -> httpx.Response:
        raise SetupError("the spend cap is reached")

    with pytest.raises(SetupError, match="spend cap"), Traffic(kinds(Platform().post, mistaken)) as traffic:
        traffic.await_answers(0.0, time.monotonic() + 10)


def test_what_a_caller_finds_at_the_end_is_not_lost() -> None:
    sent, ending = threading.Event(), threading.Event()

    def late() -> httpx.Response:
        sent.set()
        assert ending.wait(10)
        raise SafetyViolation("another tenant's answer")

    def drill() -> None:
        with Traffic(kinds(late)):
            assert sent.wait(10)
            ending.set()

    with pytest.raises(SafetyViolation, match="another tenant"):
        drill()


def test_a_repeated_call_is_sent_until_it_is_answered() -> None:
    answers = iter([answer(503), answer()])
    call = TrackedCall("key", lambda: next(answers), [Attempt(0.0, 1.0, None, "ConnectError")])
    assert not call.reached
    call.repeat(answered)
    assert (len(call.attempts), call.last.outcome, call.reached) == (3, "200", True)


def test_a_finding_names_the_part_and_a_lack_of_the_runner_does_not() -> None:
    words = r"^dixie went down and was started again: twice"
    with pytest.raises(SafetyViolation, match=words) as found, blamed("dixie"):
        raise SafetyViolation("twice", breaks="once")
    assert found.value.breaks == "once"
    with pytest.raises(SetupError, match=r"^no key$"), blamed("dixie"):
        raise SetupError("no key")


def test_a_refused_restart_is_reported_without_its_url() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/gone":
            raise httpx.ConnectError("gone")
        return httpx.Response(403)

    with httpx.Client(transport=httpx.MockTransport(refuse)) as pool:
        assert take_down(pool, "finn", "http://ops.test/no?token=1") == "[finn] restart_url answered 403"
        assert take_down(pool, "finn", "http://ops.test/gone") == "[finn] restart_url: ConnectError"


@pytest.mark.parametrize(("most", "calls"), [(16, 200), (1, 5), (3, 7), (20, 21), (16, 16)])
def test_a_ramp_doubles_its_callers_and_respects_the_number_of_calls(most: int, calls: int) -> None:
    steps = [*ramp(most, calls)]
    assert sum(share for _, share in steps) == calls
    callers = [count for count, _ in steps]
    assert callers == sorted(set(callers))
    assert (callers[0], callers[-1]) == (1, most)
    assert all(later <= 2 * earlier for earlier, later in pairwise(callers))


def test_what_is_affordable_keeps_below_the_cap(tmp_path: Path) -> None:
    journal = SpendJournal(tmp_path, 10_000)
    with journal.charging("tenant", "key") as charge:
        charge.settle(2_000)
    assert journal.affordable() == 3
    with journal.charging("tenant", "another") as charge:
        charge.settle(8_000)
    assert journal.affordable() == 0
