"""One key: one model run, one charge, one answer (contract 1.2)."""

import asyncio
from typing import Any, cast

import httpx
import pytest

from stack.common.database import Database
from stack.freeside import calls
from stack.freeside.budget_ledger import Claim
from tests.stack.embedded import MAIN, OTHER, Platform, cost, nonce, together


def test_a_replay_is_the_same_answer_and_free(platform: Platform) -> None:
    key, before = nonce(), platform.budget()
    first, second = (platform.invoke("once", key=key) for _ in range(2))
    assert first.json() == second.json()
    assert "x-idempotent-replay" not in first.headers
    assert second.headers["x-idempotent-replay"] == "true"
    assert second.headers["x-trace-id"] == first.json()["traceId"]
    assert platform.budget()["committed"] - before["committed"] == cost(first)


def test_in_parallel_the_model_runs_once(platform: Platform) -> None:
    key, before = nonce(), platform.budget()
    answers = together([lambda: platform.invoke("once", key=key)] * 12)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert sum("x-idempotent-replay" not in answer.headers for answer in answers) == 1
    assert platform.settled()["committed"] - before["committed"] == cost(answers[0])


def test_another_body_under_the_key_is_refused(platform: Platform) -> None:
    key = nonce()
    assert platform.invoke("one", key=key).status_code == 200
    for other in (platform.invoke("another", key=key), platform.invoke("one", key=key, model="reviewer")):
        assert (other.status_code, other.json()["error"]) == (409, "IDEMPOTENCY_CONFLICT")


def test_messages_with_the_same_text_are_another_body(platform: Platform) -> None:
    key = nonce()

    def say(**body: object) -> httpx.Response:
        url, headers = f"{platform.freeside}/api/agents/invoke", platform.user() | {"x-idempotency-key": key}
        return platform.http.post(url, json={"agent": "a"} | body, headers=headers)

    def message(content: str, role: str = "user") -> dict[str, str]:
        return {"role": role, "content": content}

    first = say(messages=[message("one"), message("two")])
    others = [[message("one\ntwo")], [message("one", "system"), message("two")]]
    assert [say(messages=messages).status_code for messages in others] == [409, 409]
    again = say(messages=[dict(reversed(message(word).items())) for word in ("one", "two")])
    assert again.json() == first.json()


def test_tenants_do_not_share_keys(platform: Platform) -> None:
    key = nonce()
    mine, theirs = platform.invoke("mine", MAIN, key=key), platform.invoke("theirs", OTHER, key=key)
    assert (mine.status_code, theirs.status_code) == (200, 200)
    assert mine.json()["traceId"] != theirs.json()["traceId"]


def test_a_failed_call_frees_its_key(platform: Platform) -> None:
    key = nonce()
    platform.fault("provider-down")
    assert platform.invoke("again", key=key).status_code == 503
    platform.control("DELETE", "/faults/provider-down")
    answer = platform.invoke("again", key=key)
    assert answer.status_code == 200
    assert "x-idempotent-replay" not in answer.headers


def test_a_replay_comes_before_the_budget(platform: Platform) -> None:
    small, key = "test-community-staging-003", nonce()
    first = platform.invoke("early", small, key=key)
    while platform.invoke("more", small).status_code == 200:
        pass
    assert platform.invoke("more", small).status_code == 402
    assert platform.invoke("early", small, key=key).json() == first.json()


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
