"""What counts as refused, as answered, as moved: the judgements that checks share."""

import threading
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from pytest_readiness import SafetyViolation, SetupError

from smoke.platform.answers import (
    ContractViolation,
    UnexpectedStatus,
    answer_of,
    rate_limit_of,
    require_error,
)
from smoke.platform.attacks import BAD_INPUT, MAX_BODY_BYTES, require_refused, require_spent
from smoke.platform.concurrency import at_once, sampling
from smoke.platform.dixie import Scores
from smoke.platform.freeside import Dialects, Freeside
from smoke.platform.http import require_resolvable
from tests.smoke.log import Log

ANSWER = {
    "content": "yes", "model": "cheap", "traceId": "00000000-0000-4000-8000-000000000000",
    "usage": {"promptTokens": 1, "completionTokens": 1, "costMicro": "2000"},
}  # fmt: skip
HEADERS = {"x-idempotency-key": "k", "x-ratelimit-limit": "60", "x-ratelimit-remaining": "59"}


def answered(status: Any = 200, json: Any = ANSWER, headers: Any = HEADERS) -> Any:
    response = httpx.Response(status, json=json, headers=headers, request=httpx.Request("POST", "http://h/x"))
    response.elapsed = timedelta(milliseconds=5)
    return response


def test_refusal_needs_the_status_and_a_json_error() -> None:
    require_refused(answered(401, {"error": "UNAUTHORIZED"}), "freeside", "expired")
    with pytest.raises(UnexpectedStatus, match="freeside and expired: expected 401 or 403, got 500"):
        require_refused(answered(500, {"error": "X"}), "freeside", "expired")
    with pytest.raises(ContractViolation):
        require_refused(answered(401, {"message": "no"}), "freeside", "expired")


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_success_is_a_safety_violation(status: Any) -> None:
    with pytest.raises(SafetyViolation, match="freeside accepted expired"):
        require_refused(answered(status), "freeside", "expired")


def test_answer_is_read() -> None:
    answer = answer_of(answered(headers=HEADERS | {"x-idempotent-replay": "true"}), "c")
    assert (answer.usage.cost_micro, answer.replayed, answer.ms) == (2000, True, 5.0)


@pytest.mark.parametrize(
    "change",
    [
        {"content": ""}, {"content": None}, {"model": "gpt"}, {"usage": None}, {"traceId": "t"},
        {"usage": {"promptTokens": 0, "completionTokens": 1, "costMicro": "2000"}},
        {"usage": {"promptTokens": 1, "completionTokens": 1, "costMicro": "0"}},
        {"usage": {"promptTokens": 1, "completionTokens": 1, "costMicro": 2000}},
    ],
)  # fmt: skip
def test_answer_in_another_shape_is_refused(change: Any) -> None:
    with pytest.raises(ContractViolation):
        answer_of(answered(json=ANSWER | change), "c")


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-remaining": "61"}, {"x-ratelimit-limit": "many"}])
def test_rate_limit_headers_must_be_there_and_agree(headers: Any) -> None:
    sent = {**HEADERS, **headers} if headers else {"x-idempotency-key": "k"}
    with pytest.raises(ContractViolation):
        rate_limit_of(answered(headers=sent))
    assert rate_limit_of(answered()).remaining == 59


@pytest.mark.parametrize("invoke", ["prompt", "messages"])
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_bad_in_both_dialects(invoke: Any, case: Any) -> None:
    unused: Any = None
    freeside = Freeside(unused, Dialects(invoke, "endpoint", "community", "agent"), unused, unused, dict)
    bad = BAD_INPUT[case](freeside)
    assert all(400 <= status < 500 for status in bad.statuses)
    assert (len(bad.content) > MAX_BODY_BYTES) == (case == "body-over-128-kib")
    assert bad.content.count(b"[") >= 1000 or case != "deep-json"


def test_calls_start_together_and_end_before_an_error_is_raised() -> Any:
    done, gate = [], threading.Barrier(3)

    def call(n: Any) -> Any:
        gate.wait(5)
        if n == 1:
            raise ValueError("one")
        done.append(n)
        return n

    with pytest.raises(ValueError, match="one"):
        at_once([partial(call, n) for n in range(3)])
    assert sorted(done) == [0, 2]


def test_sampling_reads_at_least_once_and_reports_its_error() -> None:
    with sampling(lambda: 7) as samples:
        pass
    assert samples[0] == 7
    with pytest.raises(ZeroDivisionError), sampling(lambda: 1 / 0):
        pass


class Dixie:
    def __init__(self, *scores: Any) -> None:
        self.scores = list(scores)

    def score(self, agent: Any) -> Any:
        return self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]


def eventually(probe: Any, *, within: Any, every: Any = 0.01, what: Any) -> Any:
    for _ in range(20):
        if probe():
            return True
    raise AssertionError(what)


def scores(*values: Any, log: Any = None, target_s: Any = 10) -> Any:
    dixie: Any = Dixie(*values)
    return Scores(dixie, log or Log(), cache_s=0, limit_s=1, target_s=target_s)


def test_score_that_moves_is_told_with_its_delay() -> None:
    log = Log()
    assert scores(0.5, 0.5, 0.6, log=log, target_s=-1).moved("a", 0.5, eventually) == 0.6
    assert "finding: propagation" in log.notes[0]
    with pytest.raises(AssertionError, match="moves from"):
        scores(0.5).moved("a", 0.5, eventually)


def test_score_that_should_stay_is_watched() -> None:
    log = Log()
    scores(0.5, log=log).stays("a", 0.5, "why")
    assert log.rules
    with pytest.raises(AssertionError, match=r"went from 0.5 to 0.6: why"):
        scores(0.5, 0.6).stays("a", 0.5, "why")


def test_null_is_not_a_score() -> None:
    with pytest.raises(AssertionError, match="null"):
        scores(None).of("a")


def test_name_that_does_not_resolve_is_the_runners() -> None:
    require_resolvable("http://127.0.0.1:1")
    with pytest.raises(SetupError, match=r"does-not-exist\.invalid does not resolve"):
        require_resolvable("https://does-not-exist.invalid/path")


def test_error_has_its_code_and_a_message() -> None:
    require_error(answered(402, {"error": "BUDGET_EXCEEDED", "message": "no room"}), 402, "BUDGET_EXCEEDED")
    for body in ({"error": "ERROR", "message": "no room"}, {"error": "BUDGET_EXCEEDED"}):
        with pytest.raises(ContractViolation):
            require_error(answered(402, body), 402, "BUDGET_EXCEEDED")
    require_spent(answered(401, {"error": "UNAUTHORIZED"}), "finn", "a used token")
    with pytest.raises(ContractViolation, match="JTI_REPLAY"):
        require_spent(answered(409, {"error": "CONFLICT", "message": "no"}), "freeside", "a used token")
