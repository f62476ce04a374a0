"""Finn and its neighbours: which failures are a provider outage, and what is allowed to be lost."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import httpx
import psycopg
import pytest

from stack.common.context import Context, Transport
from stack.common.http import ApiError
from stack.finn.app import ProviderClient, Reports

OURS, THEIRS = (502, "UPSTREAM_ERROR"), (503, "PROVIDER_UNAVAILABLE")


class Unreachable:
    async def execute(self, *_: Any) -> int:
        raise psycopg.OperationalError("the database is gone")


def context(**members: Any) -> Context:
    settings = SimpleNamespace(provider_url="http://provider")
    return cast("Context", SimpleNamespace(settings=settings, **members))


def asked(answer: httpx.MockTransport, *, stream: bool) -> tuple[int, str]:
    """Status and code that a call of the provider ends in."""

    async def ask() -> None:
        async with httpx.AsyncClient(transport=answer) as http:
            client = ProviderClient(context(http=http))
            if stream:
                async with client.stream("cheap", "hello"):
                    return
            await client.complete("cheap", "hello")

    with pytest.raises(ApiError) as refusal:
        asyncio.run(ask())
    return refusal.value.status, refusal.value.code


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "expected"), [(400, OURS), (413, OURS), (429, OURS), (500, THEIRS), (503, THEIRS)]
)
def test_a_failing_provider_is_an_outage_and_a_refusing_one_is_not(
    status: int, expected: tuple[int, str], *, stream: bool
) -> None:
    answer = httpx.MockTransport(lambda _: httpx.Response(status, json={}))
    assert asked(answer, stream=stream) == expected


@pytest.mark.parametrize("stream", [False, True])
def test_an_unreachable_provider_is_an_outage(*, stream: bool) -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    assert asked(httpx.MockTransport(gone), stream=stream) == THEIRS


def test_a_connection_that_is_lost_as_soon_as_it_is_made_is_an_error_of_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def closed(*_: Any) -> httpx.Response:
        raise AttributeError("'NoneType' object has no attribute 'getpeername'")

    async def ask() -> None:
        async with httpx.AsyncClient(transport=Transport()) as http:
            await http.get("http://provider")

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", closed)
    with pytest.raises(httpx.ConnectError):
        asyncio.run(ask())


def test_an_answer_survives_the_loss_of_its_report(caplog: pytest.LogCaptureFixture) -> None:
    platform = context(db=Unreachable(), background=lambda _: None)
    asyncio.run(Reports(platform, cast("Any", None)).answered("an-agent"))
    assert "answer not reported: OperationalError" in caplog.text
