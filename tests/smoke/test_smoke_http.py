"""HTTP: a 429 is waited out and never an outage or a bug; names that do not resolve."""

from typing import Any

import httpx
import pytest
from pytest_readiness import SetupError

from smoke.platform.answers import ContractViolation
from smoke.platform.http import BACKOFF_BUDGET_S, MAX_SENDS, HttpClient, require_resolvable
from tests.smoke.log import Log


def client(answers: Any, log: Any, waits: Any) -> Any:
    answers = iter(answers)
    seen = []

    def handle(request: Any) -> Any:
        seen.append(request)
        return next(answers)

    pool = httpx.Client(transport=httpx.MockTransport(handle))
    return HttpClient("freeside", "http://h/", pool, log, pause=waits.append), seen


def limited(after: Any = "2") -> Any:
    return httpx.Response(
        429, headers={"retry-after": after} if after else {}, json={"error": "RATE_LIMITED"}
    )


def test_429_is_waited_out_and_noted() -> None:
    log = Log()
    waits: list[float] = []
    made = iter(["Bearer 1", "Bearer 2"])
    one, seen = client([limited("3"), httpx.Response(200, json={})], log, waits)
    assert one.send("GET", "/x", credential=lambda: next(made)).status_code == 200
    assert waits == [3.0]
    assert log.exchanges == [429, 200]
    assert "waited 3 s" in log.notes[0]
    assert [request.headers["authorization"] for request in seen] == ["Bearer 1", "Bearer 2"]


def test_429_that_persists_is_the_runners() -> None:
    log = Log()
    waits: list[float] = []
    one, _ = client([limited("1")] * MAX_SENDS, log, waits)
    with pytest.raises(SetupError, match="still rate limited after"):
        one.send("GET", "/x")


def test_no_wait_beyond_the_budget() -> None:
    log = Log()
    waits: list[float] = []
    one, _ = client([limited(str(int(BACKOFF_BUDGET_S) + 1))], log, waits)
    with pytest.raises(SetupError):
        one.send("GET", "/x")
    assert waits == []


@pytest.mark.parametrize("after", ["", "soon", "1.5", "-1"])
def test_429_without_seconds_violates_the_contract(after: Any) -> None:
    one, _ = client([limited(after)], Log(), [])
    with pytest.raises(ContractViolation, match="retry-after"):
        one.send("GET", "/x")


def test_no_credential_sends_no_header() -> None:
    one, seen = client([httpx.Response(200, json={})], Log(), [])
    one.send("GET", "/x", credential=lambda: None)
    assert "authorization" not in seen[0].headers
    assert str(seen[0].url) == "http://h/x"


def test_name_that_does_not_resolve_is_the_runners() -> None:
    require_resolvable("http://127.0.0.1:1")
    with pytest.raises(SetupError, match=r"does-not-exist\.invalid does not resolve"):
        require_resolvable("https://does-not-exist.invalid/path")
