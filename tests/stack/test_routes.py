"""What the platform does beyond the checks of the suite, which try its contract on every run."""

import asyncio
import json
import re
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx
import psycopg
import pytest

from stack.common.database import Database
from stack.freeside import calls
from stack.freeside.budget_ledger import Claim
from tests.stack.embedded import AGENT, SMALL, Platform, nonce
from tests.stack.tools import poll


def post(platform: Platform, body: object, **headers: str) -> httpx.Response:
    url = f"{platform.freeside}/api/agents/invoke"
    return platform.http.post(url, json=body, headers=platform.user() | headers)


@pytest.mark.parametrize("path", ["/api/agents/invoke", "/api/agents/stream"])
def test_a_caller_who_hangs_up_during_the_request_is_not_a_failure(platform: Platform, path: str) -> None:
    token, request_id = platform.user()["authorization"], f"hangs-up-{nonce()}"
    head = [f"POST {path} HTTP/1.1", "host: x", f"authorization: {token}", f"x-request-id: {request_id}"]
    url = httpx.URL(platform.freeside)
    with socket.create_connection((url.host, url.port)) as caller:
        caller.sendall("\r\n".join([*head, "content-length: 9", "", "{"]).encode())
    log = platform.stack.run_dir / "logs" / "freeside.log"

    def lines() -> list[str]:
        return [line for line in log.read_text().splitlines() if request_id in line]

    poll(lines, 10, "the request in the log")
    assert [line for line in lines() if f"POST {path} 499" not in line] == []


def test_an_invoke_that_accepts_events_is_answered_with_a_stream(platform: Platform) -> None:
    prompt, before = nonce(), platform.budget()
    answer = post(platform, {"prompt": prompt, "model": "cheap"}, accept="text/event-stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = re.findall(r"(?m)^event: (.*)$", answer.text)
    assert (set(names[:-2]), names[-2:]) == ({"content"}, ["usage", "done"])
    data = [json.loads(found) for found in re.findall(r"(?m)^data: (.*)$", answer.text)]
    assert prompt in "".join(each["text"] for each in data[:-2])
    assert platform.settled()["committed"] - before["committed"] == int(data[-2]["costMicro"])


def test_a_word_is_repeated_as_often_as_asked_and_paid_for(platform: Platform) -> None:
    repeated = platform.invoke("Say, 40 times, if you can: hello").json()
    assert repeated["content"].count("hello") == 40
    longer = platform.invoke("Say, once, if you can, and then no more: hello").json()
    assert longer["usage"]["promptTokens"] > repeated["usage"]["promptTokens"]
    assert int(longer["usage"]["costMicro"]) < int(repeated["usage"]["costMicro"])


def test_messages_dialect(platform: Platform) -> None:
    word = nonce()
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": word}]
    answer = post(platform, {"agent": "a", "messages": messages})
    assert (answer.status_code, answer.json()["model"]) == (200, "cheap")
    assert word in answer.json()["content"]
    other = post(platform, {"agent": "a", "messages": messages, "modelAlias": "reviewer"})
    assert other.json()["model"] == "reviewer"


def test_messages_with_the_same_text_are_another_body(platform: Platform) -> None:
    key = nonce()

    def say(*messages: dict[str, str]) -> httpx.Response:
        return post(platform, {"agent": "a", "messages": messages}, **{"x-idempotency-key": key})

    one, two = ({"role": "user", "content": word} for word in ("one", "two"))
    first = say(one, two)
    assert say(one | {"content": "one\ntwo"}).status_code == 409
    assert say(one | {"role": "system"}, two).status_code == 409
    again = say(*(dict(reversed(message.items())) for message in (one, two)))
    assert again.json() == first.json()


def test_headers_of_an_answer(platform: Platform) -> None:
    sent = {"x-request-id": "mine-7", "x-idempotency-key": "k 1"}
    answer = post(platform, {"prompt": "hello", "model": "cheap"}, **sent)
    assert {name: answer.headers[name] for name in sent} == sent
    assert answer.headers["x-trace-id"] == answer.json()["traceId"]
    assert int(answer.headers["x-ratelimit-remaining"]) < int(answer.headers["x-ratelimit-limit"])


def test_gateway_dialect_of_the_budget(platform: Platform) -> None:
    gateway = f"{platform.freeside}/api/agents/budget"
    assert platform.http.get(gateway, headers=platform.user()).status_code == 403
    body = platform.http.get(gateway, headers=platform.user(role="admin")).json()
    assert body["currentSpendCents"] + body["remainingCents"] == body["monthlyLimitCents"] == 50_000


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"iss": "another"}, 401, "ISSUER_NOT_ALLOWED"),
        ({"aud": "arrakis"}, 401, "AUDIENCE_MISMATCH"),
        ({"jti": ""}, 401, "JTI_REQUIRED"),
        ({"tier": 3}, 401, "JWT_INVALID"),
        ({"req_hash": "sha256:" + "0" * 64}, 400, "REQ_HASH_MISMATCH"),
        ({"pool_id": "native"}, 403, "UNKNOWN_POOL"),
        ({"pool_id": "architect"}, 403, "POOL_ACCESS_DENIED"),
    ],
)
def test_finn_codes(platform: Platform, changes: dict[str, Any], status: int, code: str) -> None:
    answer = platform.finn_call({"agent": "a", "prompt": "x"}, **changes)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_health_reports_what_is_down(platform: Platform) -> None:
    platform.control("POST", "/services/finn/stop")
    report = platform.http.get(f"{platform.dixie}/api/health").json()
    assert report["status"] == "degraded"
    assert report["services"]["loa_finn"] == {"status": "unreachable", "circuit_state": "open"}
    platform.control("POST", "/services/finn/start")
    platform.control("POST", "/services/pgbouncer/stop")
    try:
        down = platform.http.get(f"{platform.freeside}/health")
        assert (down.status_code, down.json()["error"]) == (503, "database_unreachable")
        report = platform.http.get(f"{platform.dixie}/api/health").json()
        assert report["status"] == report["infrastructure"]["postgresql"]["status"] == "unhealthy"
        assert platform.http.get(f"{platform.finn}/health").json()["status"] == "unhealthy"
        assert platform.invoke().json()["error"] == "SERVICE_UNAVAILABLE"
    finally:
        platform.control("POST", "/services/pgbouncer/start")


def test_an_event_is_delivered_after_many_refusals(platform: Platform) -> None:
    dsn = Path(platform.stack.profile["pgbouncer"]["finn_dsn"].removeprefix("file:")).read_text()
    platform.control("POST", "/services/dixie/stop")
    platform.rate("bad")
    aged = "UPDATE finn.outbox SET attempts = 1024, next_attempt_at = now()"
    refused_again = "SELECT 1 FROM finn.outbox WHERE attempts > 1024"
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as finn:
        poll(lambda: finn.execute(aged).rowcount == 1, 10, "Finn owes the event")
        poll(lambda: finn.execute(refused_again).rowcount == 1, 10, "it was tried once more")
    platform.control("POST", "/services/dixie/start")
    poll(lambda: platform.score() == 0.4, 15, "the event arrived")


def test_a_score_cannot_leave_its_range(platform: Platform) -> None:
    url = f"{platform.dixie}/api/reputation/events"
    event = {"type": "quality_signal", "agent_id": AGENT, "collection_id": "test", "weight": 1}
    for score in [1.0] * 5 + [0.0] * 10:
        own = {"event_id": str(uuid.uuid4()), "timestamp": "2026-01-01T00:00:00Z", "score": score}
        assert platform.http.post(url, json=event | own, headers=platform.service()).status_code == 202
        assert platform.score() in (0.0, 1.0)


def test_a_fault_runs_the_model_for_refused_calls_only(platform: Platform) -> None:
    log = platform.stack.run_dir / "logs" / "provider.log"

    def runs() -> int:
        return log.read_text().count("POST /v1/complete")

    before, key = runs(), nonce()
    platform.fault("freeside-runs-over-budget-calls")
    assert platform.invoke("fits").status_code == 200
    for _ in range(2):  # an abandoned claim would make the second wait instead of being refused
        assert platform.invoke("x" * 100_000, SMALL, key=key).status_code == 402
    poll(lambda: runs() >= before + 3, 5, "every run is logged")
    assert runs() == before + 3
    platform.fault("provider-down")
    assert platform.invoke("x" * 100_000, SMALL, key=key).status_code == 402


def test_a_killed_process_leaves_no_reservation(platform: Platform) -> None:
    platform.fault("provider-slow", every=1, delay_s=20)
    before = platform.budget()
    with ThreadPoolExecutor(1) as caller:
        caller.submit(_abandoned, platform)
        poll(lambda: platform.budget()["reserved"] > 0, 5, "the call has reserved")
        platform.control("POST", "/services/freeside/stop")
        platform.control("POST", "/services/freeside/start")
        assert platform.settled() == before


def _abandoned(platform: Platform) -> None:
    with suppress(httpx.HTTPError):  # the crash
        platform.invoke("abandoned")


def test_a_replay_comes_before_the_budget(platform: Platform) -> None:
    key = nonce()
    first = platform.invoke("early", SMALL, key=key)
    while platform.invoke("more", SMALL).status_code == 200:
        pass
    assert platform.invoke("early", SMALL, key=key).json() == first.json()


class Keys:
    """A table of keys as `Idempotency` asks for it: one key, which one call at a time has."""

    owner: object = None

    async def execute(self, statement: str, *arguments: Any, **named: Any) -> int:
        if "INSERT" in statement:
            self.owner, taken = self.owner or named["owner"], self.owner is None
            return int(taken)
        self.owner = None
        return 1

    async def one(self, *_: Any) -> dict[str, Any]:
        return {"body_hash": "same", "answer": None}


def test_who_waits_for_a_key_is_woken_when_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_POLL_S", 30.0)

    async def claims() -> list[Claim]:
        idempotency = calls.Idempotency(cast("Database", Keys()))
        first = await idempotency.claim("tenant", "key", "same")
        waiting = asyncio.create_task(idempotency.claim("tenant", "key", "same"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await idempotency.abandon(first)
        return [first, await asyncio.wait_for(waiting, 10)]

    first, second = asyncio.run(claims())
    assert first.owner != second.owner
