"""Statuses, codes and headers of the routes, as in the contract."""

import json
import socket
from typing import Any

import httpx
import pytest

from tests.stack.embedded import MAIN, OTHER, Platform, nonce
from tests.stack.tools import poll

GOOD = {"prompt": "hello", "model": "cheap"}


def post(
    platform: Platform, content: bytes, content_type: str = "application/json", **headers: str
) -> httpx.Response:
    sent = platform.user() | {"content-type": content_type} | headers
    return platform.http.post(f"{platform.freeside}/api/agents/invoke", content=content, headers=sent)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"prompt": NaN, "model": "cheap"}', 400),
        (b'{"prompt": "\\ud800", "model": "cheap"}', 400),
        (b'{"prompt": "x", "model": "cheap", "more": ' + b"[" * 1000 + b"]" * 1000 + b"}", 400),
        (json.dumps({**GOOD, "prompt": " \n"}).encode(), 400),
        (json.dumps({**GOOD, "model": "no-such-model"}).encode(), 400),
        (json.dumps({**GOOD, "model": None}).encode(), 400),
        (json.dumps({**GOOD, "agent": 7}).encode(), 400),
        (json.dumps({"agent": "a", "messages": []}).encode(), 400),
        (json.dumps({"agent": "a", "messages": [{"role": "root", "content": "x"}]}).encode(), 400),
        (json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode(), 400),
        (json.dumps({**GOOD, "prompt": "x" * 131_072}).encode(), 413),
        (b"x" * 3_000_000, 413),
    ],
)
def test_bad_bodies(platform: Platform, content: bytes, status: int) -> None:
    before = platform.budget()
    answer = post(platform, content)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "message"}
    assert platform.budget() == before


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


@pytest.mark.parametrize("key", ["", "k" * 129, "tab\there", "caf\u00e9"])
def test_bad_idempotency_keys(platform: Platform, key: str) -> None:
    sent = {name.encode(): value.encode() for name, value in platform.user().items()}
    sent[b"x-idempotency-key"] = key.encode()
    answer = platform.http.post(f"{platform.freeside}/api/agents/invoke", json=GOOD, headers=sent)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "prompt",
    ["\u00e9" * 60_000, "x" * (131_072 - len('{"prompt":"","model":"cheap"}'))],
    ids=["two-bytes-each", "to-the-last-byte"],
)
@pytest.mark.parametrize("path", ["invoke", "stream"])
def test_the_largest_bodies_are_served(platform: Platform, prompt: str, path: str) -> None:
    url, body = f"{platform.freeside}/api/agents/{path}", {"prompt": prompt, "model": "cheap"}
    answer = platform.http.post(url, json=body, headers=platform.user())
    assert answer.status_code == 200, answer.text
    assert path == "invoke" or "event: done\ndata: {}\n\n" in answer.text


def test_the_largest_direct_call_is_served(platform: Platform) -> None:
    room = 131_072 - len(json.dumps({"agent": "a", "prompt": ""}))
    answer = platform.finn_call({"agent": "a", "prompt": "x" * room})
    assert answer.status_code == 200, answer.text


def test_other_media_types(platform: Platform) -> None:
    assert post(platform, json.dumps(GOOD).encode(), "text/plain").status_code == 415
    assert post(platform, json.dumps(GOOD).encode(), "application/json; charset=utf-8").status_code == 200


def test_messages_dialect(platform: Platform) -> None:
    word = nonce()
    body = {
        "agent": "a",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": word}],
    }
    answer = post(platform, json.dumps(body).encode())
    assert answer.status_code == 200
    assert word in answer.json()["content"]
    assert answer.json()["model"] == "cheap"
    assert (
        post(platform, json.dumps({**body, "modelAlias": "reviewer"}).encode()).json()["model"] == "reviewer"
    )


def test_headers_of_an_answer(platform: Platform) -> None:
    answer = post(
        platform, json.dumps(GOOD).encode(), **{"x-request-id": "mine-7", "x-idempotency-key": "k 1"}
    )
    assert answer.headers["x-request-id"] == "mine-7"
    assert answer.headers["x-idempotency-key"] == "k 1"
    assert answer.headers["x-trace-id"] == answer.json()["traceId"]
    assert int(answer.headers["x-ratelimit-remaining"]) < int(answer.headers["x-ratelimit-limit"])


def test_unknown_paths_and_methods(platform: Platform) -> None:
    for path in ("/nope", "/health/", "/api/agents/nope"):
        answer = platform.http.get(platform.freeside + path)
        assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")
        assert answer.headers["x-request-id"]
    assert platform.http.get(f"{platform.freeside}/api/agents/invoke").status_code in (404, 405)


def test_pools(platform: Platform) -> None:
    above = platform.invoke(model="architect", tier="pro")
    assert (above.status_code, above.json()["error"]) == (403, "MODEL_NOT_ALLOWED")
    narrowed = platform.invoke(model="reviewer", allowed_pools=["cheap"])
    assert (narrowed.status_code, narrowed.json()["error"]) == (403, "MODEL_NOT_ALLOWED")
    outside = platform.invoke(pool_id="reviewer", allowed_pools=["cheap"])
    assert (outside.status_code, outside.json()["error"]) == (403, "FORBIDDEN")
    models = platform.http.get(f"{platform.freeside}/api/agents/models", headers=platform.user(tier="pro"))
    assert models.json() == {"models": ["cheap", "fast-code", "reviewer"]}


def test_budget_dialects(platform: Platform) -> None:
    url = f"{platform.freeside}/api/v1/communities"
    assert platform.http.get(f"{url}/{OTHER}/budget", headers=platform.user(MAIN)).status_code == 403
    assert platform.http.get(f"{url}/unknown/budget", headers=platform.user(MAIN)).status_code == 403
    assert platform.http.get(f"{url}/unknown/budget", headers=platform.user("unknown")).status_code == 404
    gateway = f"{platform.freeside}/api/agents/budget"
    assert platform.http.get(gateway, headers=platform.user()).status_code == 403
    body = platform.http.get(gateway, headers=platform.user(role="admin")).json()
    assert body["currentSpendCents"] + body["remainingCents"] == body["monthlyLimitCents"] == 50_000


def test_a_token_is_spent_once_on_every_service(platform: Platform) -> None:
    header = platform.user()
    url = f"{platform.freeside}/api/agents/models"
    assert [platform.http.get(url, headers=header).status_code for _ in range(2)] == [200, 409]
    elsewhere = platform.user(aud="loa-dixie")
    query = f"{platform.dixie}/api/reputation/query?routingKey=nft:smoke-agent-001"
    assert [platform.http.get(query, headers=elsewhere).status_code for _ in range(2)] == [200, 401]
    with_jti = {"jti": "11111111-2222-4333-8444-555555555555"}
    body = {"agent": "a", "prompt": "x"}
    assert platform.finn_call(body, **with_jti).status_code == 200
    assert platform.finn_call(body, tenant=OTHER, **with_jti).json()["code"] == "JTI_REPLAY_DETECTED"


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
        assert (report["status"], report["infrastructure"]["postgresql"]["status"]) == (
            "unhealthy",
            "unhealthy",
        )
        assert platform.http.get(f"{platform.finn}/health").json()["status"] == "unhealthy"
        assert platform.invoke().json()["error"] == "SERVICE_UNAVAILABLE"
    finally:
        platform.control("POST", "/services/pgbouncer/start")
