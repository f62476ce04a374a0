"""G-3, phase stream: events in order and in time, charged once, and nothing left of a client that hung up."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from pytest_readiness import Eventually, Evidence

from smoke.conftest import Tenants
from smoke.platform.answers import DIGITS, require_json_error, require_status
from smoke.platform.freeside import Freeside
from smoke.platform.http import JSON_HEADERS
from smoke.platform.invariants import Conservation
from smoke.platform.prompts import nonce, prompt_for
from smoke.platform.stream import Stream, stream, stream_path

pytestmark = [
    pytest.mark.goal("G-3"),
    pytest.mark.phase("stream"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]

#: The first content must come at least this long before the last, or the stream was held back.
SPREAD_MS = 20
RELEASED_WITHIN_S = 10
#: An answer that a model needs many pieces for.
TIMES = 40


@pytest.fixture
def heard(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> Stream:
    """A whole stream, with its events in the evidence."""
    found = stream(freeside, tenants.main, prompt_for(nonce(), times=TIMES))
    evidence.figure("events", len(found.events))
    evidence.figure("order", shape(found.names()), expected="content+ usage done")
    return found


def shape(names: list[str]) -> str:
    """Event names in order, repetitions folded."""
    runs: list[tuple[str, int]] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + 1)
        else:
            runs.append((name, 1))
    return " ".join(name if count == 1 else f"{name}×{count}" for name, count in runs)


def test_is_declared_as_a_stream(heard: Stream) -> None:
    """The content type is that of an event stream, and no cache may keep it."""
    cache = [part.strip().lower() for part in heard.headers.get("cache-control", "").split(",")]
    assert "no-cache" in cache or "no-store" in cache, f"cache-control of a stream is {cache}"


def test_events_come_in_order(heard: Stream) -> None:
    """Content at least twice, then usage once, then done, and nothing after it."""
    contents = len(heard.named("content"))
    assert contents >= 2, f"{contents} content events: {shape(heard.names())}"
    expected = ["content"] * contents + ["usage", "done"]
    assert heard.names() == expected, (
        f"expected content, then usage once, then done; got {shape(heard.names())}"
    )
    assert heard.named("done")[0].fields(heard.route).data == {}, "done carries data"


def test_ids_increase(heard: Stream, evidence: Evidence) -> None:
    """Every event has an id, greater than the one before."""
    ids = [event.id for event in heard.events]
    assert all(DIGITS.fullmatch(text) for text in ids), f"event ids are {ids[:5]}, expected whole numbers"
    numbers = [int(text) for text in ids]
    evidence.evaluated("an id is greater than the one before", len(numbers) - 1)
    assert all(a < b for a, b in pairwise(numbers)), f"event ids do not increase: {numbers[:10]}"


def test_answers_its_prompt(freeside: Freeside, tenants: Tenants) -> None:
    """The content put together answers this prompt."""
    word = nonce()
    text = stream(freeside, tenants.main, prompt_for(word)).text()
    assert word in text, f"the stream does not answer its prompt: no {word} in it"


def test_is_not_buffered(heard: Stream, evidence: Evidence) -> None:
    """The first content arrives while the rest is still being made."""
    arrivals = [event.at * 1000 for event in heard.named("content")]
    assert len(arrivals) >= 2, f"{len(arrivals)} content events: nothing to compare"
    spread = arrivals[-1] - arrivals[0]
    evidence.figure("first content after", round(arrivals[0], 1), "ms")
    evidence.figure("from first to last content", round(spread, 1), "ms", limit=f">= {SPREAD_MS}")
    assert spread >= SPREAD_MS, f"all content arrived within {spread:.1f} ms: the stream was held back"


def test_usage_is_charged(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """What the usage event declares is what the budget pays."""
    watch = Conservation(freeside.at_rest(tenants.main), evidence)
    cost = stream(freeside, tenants.main, prompt_for(nonce())).usage().cost_micro
    watch.charged_soon(lambda: freeside.budget(tenants.main), [cost])


def test_hang_up_leaves_no_reservation(
    freeside: Freeside, tenants: Tenants, evidence: Evidence, eventually: Eventually
) -> None:
    """A client that hangs up gets its reservation back, and pays at most for a whole answer."""
    whole = stream(freeside, tenants.main, prompt_for(nonce(), times=TIMES)).usage().cost_micro
    before = freeside.at_rest(tenants.main)
    watch = Conservation(before, evidence)
    left = stream(
        freeside,
        tenants.main,
        prompt_for(nonce(), times=TIMES),
        hang_up=lambda event: event.name == "content",
    )
    assert left.names() == ["content"], f"hung up after {shape(left.names())}"

    def released() -> bool:
        return watch.observe(freeside.budget(tenants.main), quiet=False).reserved <= before.reserved

    eventually(
        released, within=RELEASED_WITHIN_S, what="the reservation of a client that hung up is released"
    )
    paid = watch.last.committed - before.committed
    evidence.figure("paid for a stream that was left", paid, "µUSD", limit=whole)
    assert paid <= whole + watch.last.tolerance_per_call, f"left a stream of {whole} µUSD and paid {paid}"
    freeside.journal.learn(tenants.main, left.key, paid)


def test_refusal_uses_the_status(freeside: Freeside, tenants: Tenants) -> None:
    """What is wrong before the first byte is told by the status, not by an empty stream."""
    body = freeside.invoke_body(prompt_for(nonce()), model="smoke-no-such-model")
    answer = freeside.http.send(
        "POST",
        stream_path(freeside.dialects),
        credential=freeside.credential(tenants.main),
        headers={**JSON_HEADERS, "Accept": "text/event-stream"},
        content=json.dumps(body).encode(),
    )
    require_json_error(require_status(answer, 400))
