"""Streams: order, pace, price, and the reservation of a client that hangs up (contract 1.4)."""

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from tests.stack.embedded import Platform, nonce
from tests.stack.tools import poll


def events(lines: Iterator[str]) -> Iterator[tuple[float, int, str, dict[str, Any]]]:
    """(arrival in s, id, name, data) of each event."""
    started = time.monotonic()
    event: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):  # a line that begins so is a comment
            name, _, value = line.partition(": ")
            event[name] = value
        elif event and not line:
            yield time.monotonic() - started, int(event["id"]), event["event"], json.loads(event["data"])
            event = {}


def stream(
    platform: Platform, prompt: str, path: str = "stream", **headers: str
) -> AbstractContextManager[httpx.Response]:
    url, body = f"{platform.freeside}/api/agents/{path}", {"prompt": prompt, "model": "cheap"}
    return platform.http.stream("POST", url, json=body, headers=platform.user() | headers)


@pytest.mark.parametrize("path", ["stream", "invoke"])
def test_content_usage_done_in_both_dialects(platform: Platform, path: str) -> None:
    prompt, before = nonce(), platform.budget()
    with stream(platform, prompt, path, accept="text/event-stream") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        got = list(events(response.iter_lines()))
    names = [name for _, _, name, _ in got]
    assert names[-2:] == ["usage", "done"]
    assert len(names) >= 4
    assert set(names[:-2]) == {"content"}
    assert [number for _, number, _, _ in got] == sorted({number for _, number, _, _ in got})
    assert prompt in "".join(data["text"] for _, _, name, data in got if name == "content")
    assert got[len(names) - 3][0] - got[0][0] > 0.02, "the first content came with the last"
    charged = platform.settled()["committed"] - before["committed"]
    assert charged == int(got[-2][3]["costMicro"])


def test_a_hang_up_releases_the_reservation(platform: Platform) -> None:
    before, prompt = platform.budget(), "a long story " * 60
    with stream(platform, prompt) as response:
        next(events(response.iter_lines()))
    after = platform.settled(within=10)
    complete = platform.invoke(prompt).json()["usage"]["costMicro"]
    assert 0 <= after["committed"] - before["committed"] < int(complete)


def test_a_word_is_repeated_as_often_as_asked_and_paid_for(platform: Platform) -> None:
    repeated = platform.invoke("Say, 40 times, if you can: hello").json()
    assert repeated["content"].count("hello") == 40
    longer = platform.invoke("Say, once, if you can, and then no more: hello").json()
    assert longer["usage"]["promptTokens"] > repeated["usage"]["promptTokens"]
    assert int(longer["usage"]["costMicro"]) < int(repeated["usage"]["costMicro"])


def test_an_error_before_the_first_event_has_its_status(platform: Platform) -> None:
    platform.fault("provider-down")
    with stream(platform, "hello") as response:
        assert (response.status_code, json.loads(response.read())["error"]) == (
            503,
            "MODEL_PROVIDER_UNAVAILABLE",
        )


def test_an_error_in_the_middle_is_an_event_and_free(platform: Platform) -> None:
    before = platform.budget()
    with stream(platform, "a long story " * 320) as response:
        heard = events(response.iter_lines())
        next(heard)
        platform.control("POST", "/services/provider/kill")
        last = list(heard)[-1]
    platform.control("POST", "/services/provider/start")
    assert last[2] == "error"
    assert set(last[3]) == {"code", "message"}
    assert platform.settled() == before


def test_a_replay_streams_the_stored_answer(platform: Platform) -> None:
    key = nonce()
    first = platform.invoke("both ways", key=key).json()
    with stream(platform, "both ways", **{"x-idempotency-key": key}) as response:
        assert response.headers["x-idempotent-replay"] == "true"
        got = list(events(response.iter_lines()))
    assert "".join(data["text"] for _, _, name, data in got if name == "content") == first["content"]
    assert got[-2][3] == first["usage"]


def test_the_first_event_does_not_wait_for_a_slow_neighbour(platform: Platform) -> None:
    with stream(platform, "first " * 200) as slow, stream(platform, "second") as quick:
        names = [name for _, _, name, _ in events(quick.iter_lines())]
        assert names[-1] == "done"
        assert [name for _, _, name, _ in events(slow.iter_lines())][-1] == "done"
    poll(lambda: platform.budget()["reserved"] == 0, 5, "both are settled")
