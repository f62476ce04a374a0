"""Back-off and blame: 429 is waited out and never an outage or a bug; only the named signal is an outage."""

from typing import Any

import httpx
import pytest
from pytest_readiness import ExternalOutage, SetupError

from smoke.platform.answers import ContractViolation, UnexpectedStatus, require_status
from smoke.platform.http import BACKOFF_BUDGET_S, MAX_SENDS, HttpClient
from tests.smoke.log import Log


def wire(answers: Any, log: Any, waits: Any) -> Any:
    answers = iter(answers)
    seen = []

    def handle(request: Any) -> Any:
        seen.append(request)
        return next(answers)

    client = httpx.Client(transport=httpx.MockTransport(handle))
    return HttpClient("freeside", "http://h/", client, log, pause=waits.append), seen


def limited(after: Any = "2") -> Any:
    return httpx.Response(
        429, headers={"retry-after": after} if after else {}, json={"error": "RATE_LIMITED"}
    )


def test_429_is_waited_out_and_noted() -> None:
    log = Log()
    waits: list[float] = []
    made = iter(["Bearer 1", "Bearer 2"])
    one, seen = wire([limited("3"), httpx.Response(200, json={})], log, waits)
    assert one.send("GET", "/x", credential=lambda: next(made)).status_code == 200
    assert waits == [3.0]
    assert log.exchanges == [429, 200]
    assert "waited 3 s" in log.notes[0]
    assert [request.headers["authorization"] for request in seen] == ["Bearer 1", "Bearer 2"]


def test_429_that_persists_is_the_runners() -> None:
    log = Log()
    waits: list[float] = []
    one, _ = wire([limited("1")] * MAX_SENDS, log, waits)
    with pytest.raises(SetupError, match="still rate limited after"):
        one.send("GET", "/x")


def test_no_wait_beyond_the_budget() -> None:
    log = Log()
    waits: list[float] = []
    one, _ = wire([limited(str(int(BACKOFF_BUDGET_S) + 1))], log, waits)
    with pytest.raises(SetupError):
        one.send("GET", "/x")
    assert waits == []


@pytest.mark.parametrize("after", ["", "soon", "1.5", "-1"])
def test_429_without_seconds_violates_the_contract(after: Any) -> None:
    one, _ = wire([limited(after)], Log(), [])
    with pytest.raises(ContractViolation, match="retry-after"):
        one.send("GET", "/x")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (503, {"error": "MODEL_PROVIDER_UNAVAILABLE"}, ExternalOutage),
        (503, {"error": "upstream", "code": "PROVIDER_UNAVAILABLE"}, ExternalOutage),
        (503, {"error": "SERVICE_UNAVAILABLE"}, UnexpectedStatus),
        (502, {"error": "MODEL_PROVIDER_UNAVAILABLE"}, UnexpectedStatus),
        (500, {"error": "INTERNAL_ERROR"}, UnexpectedStatus),
        (404, {"error": "NOT_FOUND"}, UnexpectedStatus),
    ],
)
def test_blame(status: Any, body: Any, expected: Any) -> None:
    answer = httpx.Response(status, json=body, request=httpx.Request("GET", "http://h/x"))
    with pytest.raises(expected):
        require_status(answer, 200)


def test_missing_route_is_said() -> None:
    answer = httpx.Response(404, text="not json", request=httpx.Request("GET", "http://h/x"))
    with pytest.raises(UnexpectedStatus, match="a route of the contract is missing"):
        require_status(answer, 200)


def test_no_credential_sends_no_header() -> None:
    one, seen = wire([httpx.Response(200, json={})], Log(), [])
    one.send("GET", "/x", credential=lambda: None)
    assert "authorization" not in seen[0].headers
    assert str(seen[0].url) == "http://h/x"
