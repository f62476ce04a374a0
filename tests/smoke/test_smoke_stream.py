"""Streams are read event by event in both dialects; refusals keep their status, error events their blame."""

import json
from typing import Any

import httpx
import pytest
from pytest_readiness import ExternalOutage

from smoke.platform.answers import ContractViolation, UnexpectedStatus
from smoke.platform.freeside import Dialects, Freeside
from smoke.platform.http import HttpClient, ends_for_rate
from smoke.platform.spend import SpendJournal
from smoke.platform.streams import stream
from smoke.platform.tokens import SigningKey
from tests.smoke.log import Log

USAGE = {"promptTokens": 3, "completionTokens": 4, "costMicro": "2100"}
WHOLE = [("content", {"text": "one "}), ("content", {"text": "two"}), ("usage", USAGE), ("done", {})]


def sse(events: Any) -> Any:
    lines = [
        f"id: {n}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for n, (name, data) in enumerate(events, 1)
    ]
    return ": keepalive\n\n" + "".join(lines)


def freeside(
    tmp_path: Any, answer: Any, *, dialect: Any = "endpoint", invoke: Any = "prompt", seen: Any = None
) -> Any:
    def handle(request: Any) -> Any:
        if seen is not None:
            seen.append(request)
        return answer

    pool = httpx.Client(transport=httpx.MockTransport(handle))
    client = HttpClient("freeside", "http://h", pool, Log())
    key = SigningKey.throwaway()
    return Freeside(
        client, Dialects(invoke, dialect, "community", "agent"), lambda: key, SpendJournal(tmp_path)
    )


def streamed(events: Any, kind: Any = "text/event-stream; charset=utf-8") -> Any:
    return httpx.Response(200, headers={"content-type": kind, "cache-control": "no-cache"}, text=sse(events))


@pytest.mark.parametrize(
    ("dialect", "path"), [("endpoint", "/api/agents/stream"), ("accept", "/api/agents/invoke")]
)
def test_a_complete_stream(tmp_path: Any, dialect: Any, path: Any) -> None:
    seen: list[httpx.Request] = []
    client = freeside(tmp_path, streamed(WHOLE), dialect=dialect, seen=seen)
    received = stream(client, "c", "say it")
    assert received.names() == ["content", "content", "usage", "done"]
    assert (received.text(), received.usage().cost_micro) == ("one two", 2100)
    assert [event.id for event in received.events] == ["1", "2", "3", "4"]
    assert (seen[0].url.path, seen[0].headers["accept"]) == (path, "text/event-stream")
    assert dict(client.journal.spend().charges) == {"c": 2100}


def test_hanging_up_stops_reading_and_leaves_the_cost_unknown(tmp_path: Any) -> None:
    client = freeside(tmp_path, streamed(WHOLE))
    received = stream(client, "c", "say it", hang_up=lambda event: event.name == "content")
    assert received.names() == ["content"]
    assert client.journal.spend().unknown == {"c": 1}


def test_refusal_before_the_first_byte_keeps_its_status(tmp_path: Any) -> None:
    answer = httpx.Response(402, json={"error": "BUDGET_EXCEEDED", "message": "no"})
    with pytest.raises(UnexpectedStatus, match="expected 200, got 402 BUDGET_EXCEEDED"):
        stream(freeside(tmp_path, answer), "c", "say it")


@pytest.mark.parametrize(
    ("code", "expected"),
    [("MODEL_PROVIDER_UNAVAILABLE", ExternalOutage), ("UPSTREAM_ERROR", AssertionError)],
)
def test_error_event_has_its_blame(tmp_path: Any, code: Any, expected: Any) -> None:
    events = [WHOLE[0], ("error", {"code": code, "message": "text"})]
    with pytest.raises(expected, match=code):
        stream(freeside(tmp_path, streamed(events)), "c", "say it")


LIMITED = ("error", {"code": "RATE_LIMITED", "message": "later"})


@pytest.mark.parametrize("before", [[], [WHOLE[0]]])
def test_a_stream_that_ends_for_its_callers_rate_is_read_again(tmp_path: Any, before: Any) -> None:
    answers = iter([streamed([*before, LIMITED]), streamed([*before, LIMITED]), streamed(WHOLE)] * 2)
    client = freeside(tmp_path, None)
    client.http.pool = httpx.Client(transport=httpx.MockTransport(lambda _: next(answers)))
    assert stream(client, "c", "say it").text() == "one two"
    assert dict(client.journal.spend().charges) == {"c": 2100}
    assert b"two" in client.post_invoke(b"{}", tenant="d", streamed=True).content
    assert dict(client.journal.spend().charges) == {"c": 2100, "d": 2100}


def test_content_that_mentions_a_limit_is_not_a_rate_limit() -> None:
    said = sse([("content", {"text": json.dumps(LIMITED[1])}), *WHOLE[1:]])
    assert not ends_for_rate(said.encode())


def test_wrong_content_type_is_a_violation(tmp_path: Any) -> None:
    with pytest.raises(ContractViolation, match="text/event-stream"):
        stream(freeside(tmp_path, streamed(WHOLE, kind="application/json")), "c", "say it")


@pytest.mark.parametrize("events", [WHOLE[:2] + WHOLE[3:], [*WHOLE[:3], WHOLE[2], WHOLE[3]]])
def test_usage_comes_exactly_once(tmp_path: Any, events: Any) -> None:
    received = stream(freeside(tmp_path, streamed(events)), "c", "say it")
    with pytest.raises(ContractViolation, match="exactly one usage event"):
        received.usage()


def test_data_that_is_not_an_object_is_a_violation(tmp_path: Any) -> None:
    received = stream(freeside(tmp_path, streamed([("content", "bare"), *WHOLE])), "c", "say it")
    with pytest.raises(ContractViolation, match="expected a JSON object"):
        received.text()


def test_messages_dialect_names_its_agent(tmp_path: Any) -> None:
    seen: list[httpx.Request] = []
    stream(freeside(tmp_path, streamed(WHOLE), invoke="messages", seen=seen), "c", "say it")
    body = json.loads(seen[0].content)
    assert body == {
        "agent": "agent", "messages": [{"role": "user", "content": "say it"}], "modelAlias": "cheap"
    }  # fmt: skip


@pytest.mark.parametrize("within", [0, 10_000])
def test_what_abandoned_streams_cost_together(tmp_path: Any, within: int) -> None:
    client = freeside(tmp_path, streamed(WHOLE))
    left = [stream(client, "c", "say it", hang_up=lambda event: event.name == "content") for _ in range(2)]
    journal, keys = client.journal, [one.key for one in left]
    journal.learn_all("c", keys, 20_000, within)
    spend = journal.spend()
    assert (dict(spend.charges), dict(spend.unknown), spend.most("c")) == (
        {"c": 20_000}, {}, 20_000 + within
    )  # fmt: skip
    journal.learn_all("c", ["another"], -10_000, within)  # whole cents may fall by one
    assert dict(journal.spend().charges) == {"c": 20_000}


@pytest.mark.parametrize(("first", "charged"), [(409, {}), (504, {"c": 2100})])
def test_a_conflict_before_a_replay_makes_no_charge(tmp_path: Any, first: int, charged: Any) -> None:
    refused = httpx.Response(first, json={"error": "IDEMPOTENCY_CONFLICT", "message": "in use"})
    body = {"content": "one", "model": "cheap", "usage": USAGE, "traceId": "t"}
    stored = httpx.Response(200, headers={"x-idempotent-replay": "true"}, json=body)
    for answer in (refused, stored):
        client = freeside(tmp_path, answer)
        client.post_invoke(b"{}", tenant="c", key="null")
    assert dict(client.journal.spend().charges) == charged
