"""The reference intake: it refuses invalid events, counts an id once, and knows where a score may go."""

import json
import random
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoke.contract import intake
from smoke.contract.intake import Event, Verdict, may_become, read_event, read_rating
from smoke.contract.neighbours import documents

EVENT = {
    "type": "quality_signal",
    "score": 0.5,
    "event_id": "0f9b2c1e-3a4d-4e5f-8a6b-7c8d9e0f1a2b",
    "agent_id": "agent-1",
    "collection_id": "tests",
    "timestamp": "2026-01-01T00:00:00Z",
}
RATING = {"routingKey": "nft:agent-1", "quality": "good", "source": "tests"}
SCORES = st.floats(0, 1)


def event(**members: Any) -> intake.Reading:
    return read_event(json.dumps(EVENT | members).encode())


@given(
    SCORES,
    st.uuids(),
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.datetimes().map(lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)),
)
def test_every_event_of_the_contract_is_accepted(score: float, id_: uuid.UUID, agent: str, at: str) -> None:
    reading = event(score=score, event_id=str(id_), agent_id=agent, timestamp=at)
    assert reading == intake.Reading(Verdict.ACCEPTED, "", Event(str(id_), agent, score))


@pytest.mark.parametrize("member", EVENT)
def test_a_neighbour_of_a_member_is_never_mistaken_for_it(member: str) -> None:
    verdicts = set()
    for near in documents(EVENT, member, other="zz"):
        reading = read_event(near.value.encode())
        verdicts.add(reading.verdict)
        if reading.verdict is Verdict.ACCEPTED:
            assert reading.event != read_event(json.dumps(EVENT).encode()).event or member in (
                "collection_id", "timestamp",
            ), near.name  # fmt: skip
    assert Verdict.REFUSED in verdicts


@pytest.mark.parametrize(
    ("members", "verdict"),
    [
        ({"score": -0.0}, Verdict.ACCEPTED),
        ({"score": 0}, Verdict.ACCEPTED),
        ({"score": 1}, Verdict.ACCEPTED),
        ({"score": -5e-324}, Verdict.REFUSED),
        ({"score": 1.0000000000000002}, Verdict.REFUSED),
        ({"score": True}, Verdict.REFUSED),
        ({"score": "0.5"}, Verdict.REFUSED),
        ({"score": float("nan")}, Verdict.REFUSED),
        ({"event_id": str(EVENT["event_id"]).upper()}, Verdict.OPEN),
        ({"event_id": "{" + str(EVENT["event_id"]) + "}"}, Verdict.REFUSED),
        ({"event_id": str(EVENT["event_id"]).replace("0f9b", "0f9\uff42")}, Verdict.REFUSED),
        ({"agent_id": "agent 1"}, Verdict.REFUSED),
        ({"agent_id": "nft:agent-1"}, Verdict.REFUSED),
        ({"agent_id": "a" * 65}, Verdict.OPEN),
        ({"timestamp": 1_767_225_600}, Verdict.ACCEPTED),
        ({"timestamp": 1_767_225_600_000}, Verdict.OPEN),
        ({"timestamp": True}, Verdict.REFUSED),
        ({"timestamp": "yesterday"}, Verdict.REFUSED),
        ({"timestamp": "2026-01-01T00:00:00+00:00"}, Verdict.OPEN),
        ({"collection_id": " "}, Verdict.OPEN),
        ({"collection_id": 1}, Verdict.REFUSED),
        ({"type": ["quality_signal"]}, Verdict.REFUSED),
        ({"more": 1}, Verdict.OPEN),
    ],
)
def test_events(members: dict[str, Any], verdict: Verdict) -> None:
    assert event(**members).verdict is verdict


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff", b'{"score": NaN}', b"[" * 100_000])
def test_what_is_not_an_object_is_refused(body: bytes) -> None:
    assert read_event(body).verdict is read_rating(body).verdict is Verdict.REFUSED


def test_a_member_that_appears_twice_is_undecided() -> None:
    assert read_event(json.dumps(EVENT)[:-1].encode() + b', "score": 0.7}').verdict is Verdict.OPEN


@pytest.mark.parametrize(
    ("members", "verdict"),
    [
        ({}, Verdict.ACCEPTED),
        ({"quality": "Good"}, Verdict.REFUSED),
        ({"quality": "good "}, Verdict.REFUSED),
        ({"quality": ["good"]}, Verdict.REFUSED),
        ({"quality": 1}, Verdict.REFUSED),
        ({"routingKey": "agent-1"}, Verdict.REFUSED),
        ({"routingKey": "NFT:agent-1"}, Verdict.REFUSED),
        ({"routingKey": "nft:"}, Verdict.REFUSED),
        ({"routingKey": "nft:a:b"}, Verdict.REFUSED),
        ({"source": None}, Verdict.REFUSED),
        ({"source": ""}, Verdict.OPEN),
    ],
)
def test_ratings(members: dict[str, Any], verdict: Verdict) -> None:
    assert read_rating(json.dumps(RATING | members).encode()).verdict is verdict


@given(SCORES, st.lists(st.tuples(SCORES, st.floats(0.001, 1)), max_size=6), st.randoms())
def test_a_score_may_go_where_pulls_take_it(
    before: float, events: list[tuple[float, float]], order: random.Random
) -> None:
    scores = [score for score, _ in events]
    after = before
    order.shuffle(events)
    for score, weight in events:
        after = min(1.0, max(0.0, after + weight * (score - after)))
    hull = min(before, *scores, 1.0) <= after <= max(before, *scores, 0.0)
    assert may_become(before, scores, after) or not hull


@pytest.mark.parametrize(
    ("before", "counted", "after", "may"),
    [
        (0.5, [], 0.5, True),
        (0.5, [], 0.6, False),
        (None, [], None, True),
        (None, [], 0.5, False),
        (None, [1.0], 0.55, True),
        (None, [1.0], None, True),
        (0.5, [1.0], 0.6, True),
        (0.5, [1.0], 0.5, False),
        (0.5, [1.0], 0.4, False),
        (0.5, [0.0], 0.6, False),
        (1.0, [1.0], 1.0, True),
        (0.0, [0.0], 0.0, True),
        (0.0, [0.0], 0.1, False),
        (0.5, [1.0], None, False),
        (0.5, [0.0, 1.0], 0.5, True),
        (0.5, [0.6], 0.7, False),
    ],
)
def test_where_a_score_may_go(
    before: float | None, counted: list[float], after: float | None, may: bool
) -> None:
    assert may_become(before, counted, after) is may
