"""The loop from Freeside's outbox to Dixie's score: exactly once, whatever is down meanwhile (contract 3)."""

import json
import uuid
from pathlib import Path

import httpx
import psycopg

from tests.stack.embedded import AGENT, BYSTANDER, Platform
from tests.stack.tools import poll


def event(score: float, **changes: object) -> dict[str, object]:
    return {
        "type": "quality_signal",
        "score": score,
        "event_id": str(uuid.uuid4()),
        "agent_id": AGENT,
        "collection_id": "test",
        "timestamp": "2026-01-01T00:00:00Z",
    } | changes


def post(platform: Platform, body: object, headers: dict[str, str] | None = None) -> httpx.Response:
    sent = {"content-type": "application/json"} | (platform.service() if headers is None else headers)
    url = f"{platform.dixie}/api/reputation/events"
    return platform.http.post(url, content=json.dumps(body), headers=sent)


def test_good_ratings_raise_and_bad_ratings_lower_the_score(platform: Platform) -> None:
    start = platform.score()
    platform.rate("excellent")
    poll(lambda: platform.score() > start, 10, "praise is seen")
    top = platform.score()
    platform.rate("bad")
    poll(lambda: platform.score() < top, 10, "blame is seen")
    assert platform.score(BYSTANDER) == 0.5


def test_an_event_waits_for_dixie(platform: Platform) -> None:
    platform.control("POST", "/services/dixie/stop")
    platform.rate("bad")
    platform.control("POST", "/services/dixie/start")
    poll(lambda: platform.score() == 0.4, 15, "the event arrived, once")


def test_an_event_is_delivered_after_many_refusals(platform: Platform) -> None:
    dsn = Path(platform.stack.profile["pgbouncer"]["finn_dsn"].removeprefix("file:")).read_text()
    platform.control("POST", "/services/dixie/stop")
    platform.rate("bad")
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as finn:

        def aged() -> bool:
            return (
                finn.execute("UPDATE finn.outbox SET attempts = 1024, next_attempt_at = now()").rowcount == 1
            )

        def refused_again() -> bool:
            return finn.execute("SELECT 1 FROM finn.outbox WHERE attempts > 1024").rowcount == 1

        poll(aged, 10, "Finn owes the event")
        poll(refused_again, 10, "it was tried once more")
    platform.control("POST", "/services/dixie/start")
    poll(lambda: platform.score() == 0.4, 15, "the event arrived")


def test_the_same_event_counts_once(platform: Platform) -> None:
    body = event(1.0)
    assert [post(platform, body).status_code for _ in range(3)] == [202, 202, 202]
    assert platform.score() == 0.55


def test_a_score_cannot_leave_its_range(platform: Platform) -> None:
    for score in [1.0] * 5 + [0.0] * 10:
        assert post(platform, event(score, weight=1)).status_code == 202
        assert platform.score() in (0.0, 1.0)


def test_a_bad_event_is_refused(platform: Platform) -> None:
    bad: list[object] = [
        None,
        [],
        event(1.5),
        event(True),
        event(0.5, agent_id="a:b"),
        event(0.5, event_id="x"),
        event(0.5, collection_id="a\0b"),
        event(0.5, type="x"),
    ]
    assert {post(platform, body).status_code for body in bad} == {400}
    assert platform.score() == 0.5


def test_only_finn_writes(platform: Platform) -> None:
    key = (platform.stack.run_dir / "secrets" / "dixie-api-key").read_text()
    others: list[dict[str, str]] = [
        {},
        platform.user(aud="loa-dixie"),
        {"authorization": f"Bearer {key}"},
        platform.service(aud="arrakis"),
    ]
    for headers in others:
        answer = post(platform, event(1.0), headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert platform.score() == 0.5


def test_a_user_token_that_may_not_write_is_not_spent(platform: Platform) -> None:
    header = platform.user(aud="loa-dixie")
    assert post(platform, event(1.0), header).status_code == 401
    url = f"{platform.dixie}/api/reputation/query?routingKey=nft:{AGENT}"
    assert [platform.http.get(url, headers=header).status_code for _ in range(2)] == [200, 401]


def test_an_answer_counts_for_the_agent_that_was_named(platform: Platform) -> None:
    platform.invoke("without an agent")
    body = {"prompt": "with one", "model": "cheap", "agent": AGENT}
    answer = platform.http.post(f"{platform.freeside}/api/agents/invoke", json=body, headers=platform.user())
    assert answer.status_code == 200
    poll(lambda: platform.score() == 0.505, 10, "the answer is counted")
    assert platform.score(BYSTANDER) == 0.5
