"""Refusals, bad input, and internal details in answers."""

import time
from contextlib import nullcontext
from typing import Any

import httpx
import pytest
from pytest_readiness import SafetyViolation, SetupError

from smoke.contract.exchange import judge
from smoke.contract.model import SERVICES
from smoke.keys.verifiers import TokenReply, finn_verifier
from smoke.platform.answers import (
    ContractViolation,
    UnexpectedStatus,
    is_of_a_firewall,
)
from smoke.platform.attacks import (
    for_one_send,
    is_let_in,
    require_refused,
    require_spent,
    with_new_tokens,
)
from smoke.platform.batch import answering, is_elsewhere
from smoke.platform.http import LEAST_PAUSES_S, MAX_REPEATS, HttpClient
from smoke.platform.recorded import exchange_of
from smoke.platform.tokens import SigningKey, encoded


def answered(status: int, body: Any = None) -> httpx.Response:
    return httpx.Response(status, json=body, request=httpx.Request("POST", "http://h/x"))


@pytest.mark.parametrize(
    ("status", "body", "raised"),
    [
        (200, None, SafetyViolation), (202, None, SafetyViolation), (204, None, SafetyViolation),
        (500, {"error": "X"}, UnexpectedStatus), (401, {"message": "no"}, ContractViolation),
    ],
)  # fmt: skip
def test_refusal_needs_the_status_and_a_json_error(status: int, body: Any, raised: Any) -> None:
    require_refused(answered(401, {"error": "UNAUTHORIZED"}), "freeside", "expired")
    with pytest.raises(raised, match="POST /x"):
        require_refused(answered(status, body), "freeside", "expired")


@pytest.mark.parametrize(
    ("method", "target", "status", "kind", "refused"),
    [
        ("GET", "/q?key=a%00", 403, "text/html", True),
        ("GET", "/a//budget", 403, "text/html", True),
        ("GET", "/a%2F%2E%2E/budget", 403, "text/html", True),
        ("TRACE", "/a/budget", 501, "text/html", True),
        ("GET", "/a/budget?key=nft%3Asmoke-1", 403, "text/html", False),
        ("GET", "/q?key=a%00", 403, "application/json", False),
        ("GET", "/q?key=a%00", 500, "text/html", False),
    ],
)
def test_a_firewall_refuses_what_no_client_sends(
    method: str, target: str, status: int, kind: str, refused: bool
) -> None:
    answer = httpx.Response(
        status, headers={"content-type": kind}, request=httpx.Request(method, f"http://h{target}")
    )
    assert is_of_a_firewall(answer) is refused
    for more in ({"content": b"{}"}, {"headers": {"x-idempotency-key": "a\tb"}}):
        answer.request = httpx.Request(method, "http://h/a", **more)
        assert is_of_a_firewall(answer) is (status != 500 and kind == "text/html")
    answer.request = httpx.Request(method, f"http://h{target}")
    if refused:
        require_refused(answer, "freeside", "a guess", (404,))
        answering(404)(answer)
        assert not list(judge(exchange_of(SERVICES["freeside"], answer)))


@pytest.mark.parametrize(
    ("service", "method", "may"), [("finn", "PUT", True), ("finn", "POST", False), ("freeside", "PUT", False)]
)
def test_only_freeside_has_a_form_for_what_is_no_route(service: str, method: str, may: bool) -> None:
    path = "/api/v1/invoke" if service == "finn" else "/api/agents/invoke"
    request = httpx.Request(method, f"http://h{path}", extensions={"service": service})
    answer = httpx.Response(404, text="404 Not Found", request=request)
    assert is_elsewhere(answer) is may
    with nullcontext() if may else pytest.raises(ContractViolation, match="content-type"):
        answering(404, 405)(answer)


def test_spent_token_has_its_code() -> None:
    require_spent(answered(401, {"error": "UNAUTHORIZED"}), "finn", "a used token")
    for code in ("JTI_REPLAY", "jti_replay"):  # Dixie writes its codes in lower case
        require_spent(answered(409, {"error": code, "message": "used"}), "dixie", "a used token")
    with pytest.raises(ContractViolation, match="JTI_REPLAY"):
        require_spent(answered(409, {"error": "CONFLICT", "message": "no"}), "freeside", "a used token")


@pytest.mark.parametrize("claims", [b'{"exp": %d}', b'{"exp": "%d"}', b"[%d]", b"%d{"])
def test_only_a_token_that_has_ended_may_be_spent_with_401_at_freeside(claims: bytes) -> None:
    for lifetime, may in ((-1, claims.startswith(b'{"exp": %')), (60, False)):
        answer = answered(401, {"error": "UNAUTHORIZED"})
        answer.request.headers["Authorization"] = f"Bearer e.{encoded(claims % (time.time() + lifetime))}.s"
        with nullcontext() if may else pytest.raises(UnexpectedStatus, match="expected 409, got 401"):
            require_spent(answer, "freeside", "a used token")


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (400, {"error": "no", "code": "REQ_HASH_MISMATCH"}, TokenReply.ACCEPTED),
        (400, {"error": "no", "code": "INVALID_REQUEST"}, TokenReply.SILENT),
        (401, {"error": "no", "code": "JWT_INVALID"}, TokenReply.REFUSED),
        (200, {"response": "yes"}, TokenReply.ACCEPTED),
        (503, {"error": "no"}, TokenReply.SILENT),
    ],
)
def test_finn_accepts_a_token_when_only_its_hash_is_wrong(status: int, body: Any, answer: TokenReply) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    with httpx.Client(transport=transport) as http:
        assert (
            finn_verifier("http://finn", "c", "agent", http, SERVICES["finn"]).ask(SigningKey.throwaway())
            is answer
        )


@pytest.mark.parametrize(
    ("status", "accepted"),
    [
        (200, True), (202, True), (400, True), (402, True), (500, True), (503, True),
        (302, False), (401, False), (403, False), (404, False), (405, False), (409, False),
    ],
)  # fmt: skip
def test_token_is_accepted_by_a_service_that_cannot_answer_the_call(status: int, accepted: bool) -> None:
    assert is_let_in(answered(status, {"error": "X"})) is accepted


def test_a_rate_limited_token_may_be_spent_and_is_replaced() -> None:
    seen: set[str] = set()

    def verify_then_limit(request: httpx.Request) -> httpx.Response:
        token = request.headers["Authorization"]
        if token in seen:
            return httpx.Response(409, json={"error": "JTI_REPLAY"})
        seen.add(token)
        return httpx.Response(429 if len(seen) < 3 else 200, headers={"Retry-After": "1"})

    with httpx.Client(transport=httpx.MockTransport(verify_then_limit)) as pool:
        client = HttpClient("freeside", "http://limited", pool, pause=lambda _: None)
        tokens = map(str, range(9))
        answer = with_new_tokens(lambda: client.send("GET", "/", for_one_send(next(tokens))))
    assert (answer.status_code, seen) == (200, {"0", "1", "2"})


def test_a_rate_limit_on_every_token_is_the_runners_fault() -> None:
    def attempt() -> None:
        once = for_one_send("token")
        once()
        once()

    waits: list[float] = []
    with pytest.raises(SetupError, match=f"{MAX_REPEATS} tokens in turn met a rate limit"):
        with_new_tokens(attempt, waits.append)
    assert waits == [*LEAST_PAUSES_S]
