"""HTTP: a 429 is waited out and never an outage or a bug; names that do not resolve."""

from functools import partial

import httpx
import pytest
from pytest_readiness import SetupError

from smoke.platform.answers import ContractViolation
from smoke.platform.http import BACKOFF_BUDGET_S, MAX_SENDS, HttpClient, require_resolvable
from tests.smoke.log import Log


class Sender:
    """A client whose answers are made up, with what it sent, recorded and waited for."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.log, self.waits, self.seen = Log(), list[float](), list[httpx.Request]()
        left = iter(answers)

        def handle(request: httpx.Request) -> httpx.Response:
            self.seen.append(request)
            return next(left)

        pool = httpx.Client(transport=httpx.MockTransport(handle))
        http = HttpClient("freeside", "http://h/", pool, self.log, pause=self.waits.append)
        self.send = partial(http.send, "GET", "/x")


def limited(after: str) -> httpx.Response:
    return httpx.Response(
        429, headers={"retry-after": after} if after else {}, json={"error": "RATE_LIMITED"}
    )


def test_429_is_waited_out_and_noted() -> None:
    made = iter(["Bearer 1", "Bearer 2"])
    sender = Sender(limited("3"), httpx.Response(200, json={}))
    assert sender.send(credential=lambda: next(made)).status_code == 200
    assert (sender.waits, sender.log.exchanges) == ([3.0], [429, 200])
    assert "waited 3 s" in sender.log.notes[0]
    assert [request.headers["authorization"] for request in sender.seen] == ["Bearer 1", "Bearer 2"]


@pytest.mark.parametrize(("after", "waits"), [(1, MAX_SENDS), (int(BACKOFF_BUDGET_S) + 1, 0)])
def test_429_that_persists_is_the_runners(after: int, waits: int) -> None:
    sender = Sender(*[limited(str(after))] * MAX_SENDS)
    with pytest.raises(SetupError, match="still rate limited after"):
        sender.send()
    assert len(sender.waits) == waits


@pytest.mark.parametrize("after", ["", "soon", "1.5", "-1"])
def test_429_without_seconds_violates_the_contract(after: str) -> None:
    with pytest.raises(ContractViolation, match="retry-after"):
        Sender(limited(after)).send()


def test_no_credential_sends_no_header() -> None:
    sender = Sender(httpx.Response(200, json={}))
    sender.send(credential=lambda: None)
    assert "authorization" not in sender.seen[0].headers
    assert str(sender.seen[0].url) == "http://h/x"


def test_name_that_does_not_resolve_is_the_runners() -> None:
    require_resolvable("http://127.0.0.1:1")
    with pytest.raises(SetupError, match=r"does-not-exist\.invalid does not resolve"):
        require_resolvable("https://does-not-exist.invalid/path")
