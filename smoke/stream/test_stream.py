"""G-3, phase stream: events in order and in time, charged once; nothing stays reserved after a hang-up."""

import time
import uuid
from collections.abc import Callable
from functools import partial
from itertools import groupby

import httpx
import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.contract.exchange import increase
from smoke.contract.schemas import EVENTS
from smoke.platform.answers import require_json_error, require_status
from smoke.platform.attacks import UNKNOWN_MODEL, require_spent
from smoke.platform.batch import at_once
from smoke.platform.freeside import (
    Freeside,
    Tenants,
    answer_of,
    cost_in,
    is_replay,
    nonce,
    once_free,
    prompt_for,
)
from smoke.platform.invariants import RELEASED_WITHIN_S, BudgetReading, Conservation, pauses
from smoke.platform.streams import Stream, StreamEvent, stream

pytestmark = [
    pytest.mark.goal("G-3"),
    pytest.mark.phase("stream"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "key", "signing", "freeside.stream", "stream"),
    pytest.mark.usefixtures("alone"),
]

#: The first content must come at least this long before the last, or the stream was buffered.
SPREAD_MS = 20
#: How many streams may look buffered because the runner was busy.
TRIES = 10
#: A prompt whose answer is a word or two.
SHORT = "Hi"
#: Hang-ups before the first event: the first waits for a fraction of the time to that event, each later one
#: longer, until an answer has begun. So one of them hits a call that is being served.
EARLIEST, LATER, AT_MOST = 1 / 8, 1.5, 12
#: How many streams are abandoned at once: connection pools are rarely larger.
MANY = 16
#: A prompt whose answer takes a model many chunks.
TIMES = 40
#: How long and how often the budget is read until it shows that another stream was left, s.
LOOKS_FOR_S, LOOKS_EVERY_S = 1.0, 0.02
#: Additional characters, for models that echo the whole prompt, and for a short-answer prompt that is no
#: shorter than the long one.
LONG, MORE_PROMPT = 400, 80


@pytest.fixture(scope="module")
def complete() -> list[Stream]:
    """The complete stream that several checks judge, once it was read."""
    return []


@pytest.fixture
def streamed(complete: list[Stream], freeside: Freeside, tenants: Tenants, evidence: Evidence) -> Stream:
    """A complete stream, with its events in the evidence."""
    if not complete:
        complete.append(stream(freeside, tenants.main, prompt_for(times=TIMES)))
    found = complete[0]
    evidence.figure("events", len(found.events))
    evidence.figure("order", shape(found.names()), expected="content+ usage done")
    return found


def shape(names: list[str]) -> str:
    """Event names in order, repetitions folded."""
    runs = [(name, len(list(same))) for name, same in groupby(names)]
    return " ".join(name if count == 1 else f"{name}×{count}" for name, count in runs)


def test_is_declared_as_a_stream(streamed: Stream) -> None:
    """The content type is text/event-stream, and caching is disabled."""
    cache = [part.strip().lower() for part in streamed.headers.get("cache-control", "").split(",")]
    assert "no-cache" in cache or "no-store" in cache, f"cache-control of a stream is {cache}"


def test_events_come_in_order(streamed: Stream) -> None:
    """Content at least twice, then usage once, then done, and nothing after it."""
    contents = len(streamed.named("content"))
    assert contents >= 2, f"{contents} content events: {shape(streamed.names())}"
    expected = ["content"] * contents + ["usage", "done"]
    assert streamed.names() == expected, (
        f"expected content, then usage once, then done; got {shape(streamed.names())}"
    )


def test_ids_increase(streamed: Stream, evidence: Evidence) -> None:
    """Every event has an id, greater than the one before."""
    ids = [event.id for event in streamed.ordered()]
    evidence.evaluated("an id is greater than the one before", len(ids) - 1)
    assert increase(ids), f"event ids do not increase: {ids[:10]}"


@pytest.mark.establishes("stream")
def test_answers_its_prompt(freeside: Freeside, tenants: Tenants) -> None:
    """The joined content answers this prompt."""
    word = nonce()
    text = stream(freeside, tenants.main, prompt_for(word)).text()
    assert word in text, f"the stream does not answer its prompt: it lacks {word}"


def test_is_not_buffered(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """The first content arrives while the rest is still being made, also beside another stream.

    A runner that is busy for a moment reads pieces together that came apart: one stream of several is proof.
    """
    alone = partial(stream, freeside, tenants.main, prompt_for(times=TIMES, padding=LONG))

    def beside() -> Stream:
        """One that is opened and read while another one is open."""
        opened: list[Stream] = []

        def open_another(_: StreamEvent) -> bool:
            if not opened:
                opened.append(alone())
            return False

        alone(hang_up=open_another)
        return opened[0]

    cases: dict[str, Callable[[], Stream]] = {"": alone, " beside another one": beside}
    for where, ask in cases.items():
        arrivals, spread = [0.0], 0.0
        for _ in range(TRIES):
            arrivals = [event.at * 1000 for event in ask().named("content")]
            assert len(arrivals) >= 2, f"{len(arrivals)} content events: nothing to compare"
            spread = arrivals[-1] - arrivals[0]
            if spread >= SPREAD_MS:
                break
        evidence.figure(f"first content{where} after", round(arrivals[0], 1), "ms")
        evidence.figure(f"from first to last content{where}", round(spread, 1), "ms", at_least=SPREAD_MS)
        late = f"all content{where} arrived within {spread:.1f} ms: the stream was buffered"
        assert spread >= SPREAD_MS, late


@pytest.mark.requires("budget")
def test_usage_is_charged(freeside: Freeside, tenants: Tenants, watch: Conservation) -> None:
    """The budget is charged what the usage event declares, however short the answer is.

    Once the stream is done, nothing is reserved for it, even if its reader keeps the connection open (I-6).
    """

    def released_when_done(event: StreamEvent) -> bool:
        if event.name == "done":
            watch.released()
        return False

    cost = stream(freeside, tenants.main, SHORT, hang_up=released_when_done).usage().cost_micro
    watch.charged([cost])


@pytest.mark.requires("budget")
def test_open_stream_takes_room(freeside: Freeside, tenants: Tenants, watch: Conservation) -> None:
    """While a stream is open, the budget has less room: its price is reserved, or charged already (I-1).

    A client that hangs up on another stream meanwhile changes nothing about that.
    """
    meanwhile: list[BudgetReading] = []
    left: list[Stream] = []

    def read() -> bool:
        meanwhile.append(watch.observe(watch.read(), quiet=False))
        return meanwhile[-1].reserved <= meanwhile[0].reserved

    def look(event: StreamEvent) -> bool:
        if event.name == "content" and not meanwhile:  # later the stream may have ended at the service
            read()
            left.append(stream(freeside, tenants.main, SHORT, hang_up=lambda each: each.name == "content"))
            ends, waits = time.monotonic() + LOOKS_FOR_S, pauses(LOOKS_EVERY_S)
            while not read() and time.monotonic() < ends:
                next(waits)
        return False

    cost = stream(freeside, tenants.main, prompt_for(times=TIMES), hang_up=look).usage().cost_micro
    assert meanwhile, "the stream has no content event: nothing to compare"
    watch.released()
    paid = watch.observe(watch.read()).committed - watch.first.committed - cost
    freeside.journal.learn(tenants.main, left[0].key, max(0, paid), watch.last.tolerance_per_call)
    watch.takes_room(meanwhile, cost, f"a stream of {cost} µUSD")


@pytest.mark.requires("budget", "freeside.models")
def test_hang_up_leaves_no_reservation(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """A client that hangs up gets its reservation released, and pays at most for what was produced.

    Where most of a complete answer was still to come, that is less than its price, where a shorter answer to
    a prompt that is no shorter shows that answers have a price; and what was produced is not the answer of
    its key. A platform may produce the answer to its end: then its key has all of it. Its token is spent.
    """
    brief = stream(freeside, tenants.main, prompt_for(padding=LONG + MORE_PROMPT)).usage()
    whole = stream(freeside, tenants.main, prompt_for(times=TIMES, padding=LONG))
    usage, complete = whole.usage(), whole.usage().cost_micro
    priced = brief.prompt_tokens >= usage.prompt_tokens and brief.cost_micro < complete
    evidence.figure("price of a shorter answer", brief.cost_micro, "µUSD", limit=complete)
    watch, prompt = freeside.watch(tenants.main, evidence), prompt_for(times=TIMES, padding=LONG)
    started = time.monotonic()
    left = stream(freeside, tenants.main, prompt, hang_up=lambda event: event.name == "content")
    early = time.monotonic() - started < whole.named("content")[-1].at / 2
    assert left.names() == ["content"], f"hung up after {shape(left.names())}"
    started = time.monotonic()
    watch.released()
    evidence.figure("released after", round(time.monotonic() - started, 3), "s", limit=RELEASED_WITHIN_S)
    paid = watch.last.committed - watch.first.committed
    evidence.figure("paid for an abandoned stream", paid, "µUSD", limit=complete)
    answer = freeside.models(lambda: left.authorization)
    require_spent(answer, "freeside", "the token of an abandoned stream")
    again = once_free(partial(freeside.try_invoke, tenants.main, prompt, key=left.key))
    replayed = is_replay(again.headers)
    cost, within = paid + (0 if replayed else cost_in(again)), watch.last.tolerance_per_call
    freeside.journal.learn_all(tenants.main, [left.key], cost, within)
    kept, length = 0, len(whole.text())
    if again.status_code == 200 and replayed:
        kept = len(answer_of(again, tenants.main).content)
        assert not early or 2 * kept > length, (
            f"an abandoned stream is the answer of its key: {kept} characters, a complete one has {length}"
        )
    in_part = early and not kept and watch.last.exact and priced
    most = complete - 1 if in_part else complete + watch.last.tolerance_per_call
    with watch.unless_others():
        assert paid <= most, f"a stream of {complete} µUSD was abandoned early, but charged {paid}"


@pytest.mark.requires("budget")
def test_hang_up_at_once_leaves_no_reservation(
    freeside: Freeside, tenants: Tenants, evidence: Evidence
) -> None:
    """A client that hangs up before the first event leaves no reservation, and pays for one call at most."""
    whole = stream(freeside, tenants.main, SHORT)
    complete, wait = whole.usage().cost_micro, whole.events[0].at * EARLIEST
    watch, keys = freeside.watch(tenants.main, evidence), []
    for _ in range(AT_MOST):
        keys.append(str(uuid.uuid4()))
        with freeside.journal.charging(tenants.main, keys[-1]) as charge:
            charge.unknown = True
            try:
                freeside.http.once(
                    "POST", freeside.dialects.stream_path, freeside.credential(tenants.main),
                    headers={"X-Idempotency-Key": keys[-1], "Accept": EVENTS},
                    json=freeside.invoke_body(SHORT), stream=True, timeout=wait,
                ).close()  # fmt: skip
            except httpx.TimeoutException:
                wait *= LATER
            else:
                break
    last = stream(freeside, tenants.main, SHORT)  # by its end the other calls began
    watch.released()
    paid = watch.observe(watch.read()).committed - watch.first.committed - last.usage().cost_micro
    freeside.journal.learn_all(tenants.main, keys, paid, watch.last.tolerance_per_call)
    # an answer to the same words may be longer, but not twice as expensive
    most = len(keys) * max(complete, last.usage().cost_micro) * 3 // 2
    evidence.figure("paid for a stream that was abandoned at once", paid, "µUSD", limit=most)
    with watch.unless_others():
        assert paid <= most + watch.last.tolerance_per_call, (
            f"a stream of {complete} µUSD was abandoned at once, {len(keys)} times, but charged {paid}"
        )


@pytest.mark.requires("budget")
def test_many_hang_ups_cost_no_service(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """More clients hang up than there are database connections: the next one is still answered."""
    watch = freeside.watch(tenants.main, evidence)
    leave = partial(
        stream, freeside, tenants.main, prompt_for(times=TIMES), hang_up=lambda event: event.name == "content"
    )
    left = at_once([leave] * MANY)
    watch.released()
    paid = watch.observe(watch.read()).committed - watch.first.committed
    keys = [one.key for one in left]
    freeside.journal.learn_all(tenants.main, keys, paid, watch.last.tolerance_per_call)
    evidence.figure("streams that were abandoned at once", len(left))
    stream(freeside, tenants.main, SHORT).usage()


@pytest.mark.requires("budget")
def test_hang_up_at_the_end_is_paid_once(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """A client that hangs up after the usage event pays at most what that event says."""
    watch = freeside.watch(tenants.main, evidence)
    left = stream(freeside, tenants.main, prompt_for(), hang_up=lambda event: event.name == "usage")
    cost = left.usage().cost_micro
    watch.released()
    paid = watch.observe(watch.read()).committed - watch.first.committed
    freeside.journal.learn_all(tenants.main, [left.key], paid, watch.last.tolerance_per_call)
    evidence.figure("paid for a stream that was abandoned after its usage", paid, "µUSD", limit=cost)
    with watch.unless_others():
        assert paid <= cost + watch.last.tolerance_per_call, (
            f"a stream of {cost} µUSD was abandoned after its usage event, but charged {paid}"
        )


@pytest.mark.requires("budget")
def test_leaving_a_stored_answer_keeps_it(freeside: Freeside, tenants: Tenants, watch: Conservation) -> None:
    """Hanging up on a replay keeps the stored answer under its key, at no further charge."""
    ask = partial(stream, freeside, tenants.main, prompt_for(times=TIMES), key=str(uuid.uuid4()))
    first = ask()
    cost = first.usage().cost_micro
    ask(hang_up=lambda event: event.name == "content")
    freeside.journal.learn(tenants.main, first.key, cost)
    watch.charged([cost])
    again = ask()
    if not again.replayed or again.text() != first.text():
        raise SafetyViolation("a client hung up on a stored answer, and the key no longer has that answer")
    watch.charged([cost])


@pytest.mark.control("stream/answers-its-prompt")
def test_refusal_uses_the_status(freeside: Freeside, tenants: Tenants) -> None:
    """An error before the first byte is reported by the status, not by an empty stream."""
    answer = freeside.http.send(
        "POST",
        freeside.dialects.stream_path,
        freeside.credential(tenants.main),
        headers={"Accept": "text/event-stream"},
        json=freeside.invoke_body(prompt_for(), model=UNKNOWN_MODEL),
    )
    require_json_error(require_status(answer, 400))
