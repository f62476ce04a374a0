"""The runner's resolver does not answer, or names dead addresses: every call ends in time."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pytest_readiness import SetupError

from smoke.network.connections import addresses_of, connected, reach, relayed
from smoke.network.transport import http_pool, within
from smoke.platform.http import certificate_of, require_resolvable
from smoke.platform.pgbouncer import ask

#: Limit for every case.
IN_TIME_S = 8.0


def _get(proxies: bool = False) -> None:
    with http_pool("test", proxies=proxies) as pool:
        pool.get("http://silent.example/health")


def _relay() -> None:
    with relayed("silent.example", 5432, within=1.0, most=10):
        raise AssertionError("unreachable")


WAYS: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    "HTTP": (_get, httpx.ConnectError),
    "relay": (_relay, socket.gaierror),
    "PgBouncer": (lambda: ask("postgresql://u@silent.example/db", "SHOW POOLS"), SetupError),
    "TLS": (lambda: certificate_of("https://silent.example"), SetupError),
    "name": (lambda: require_resolvable("https://silent.example"), SetupError),
}


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A resolver that never answers."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(60) and [])
    yield
    over.set()


@pytest.mark.parametrize(("way", "error"), WAYS.values(), ids=WAYS.keys())
def test_a_silent_resolver_ends_every_way_in_time(
    silent: None, way: Callable[[], object], error: type[Exception]
) -> None:
    began = time.monotonic()
    with pytest.raises(error, match=r"no answer within \d"):
        way()
    assert time.monotonic() - began < IN_TIME_S


def test_a_look_up_that_a_short_timeout_cuts_off_is_late(silent: None) -> None:
    with http_pool("test", proxies=False) as pool, pytest.raises(httpx.ConnectTimeout):
        pool.get("http://silent.example/health", timeout=within(0.003))


def test_a_proxy_whose_name_does_not_resolve_in_time_is_the_runners_fault(
    silent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:1")
    with pytest.raises(SetupError, match="proxy of this runner's environment does not answer"):
        _get(proxies=True)


@pytest.mark.parametrize("problem", [OSError(5, "odd"), UnicodeError("label too long")])
def test_whatever_the_resolver_raises_is_about_the_name(
    problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(socket.gaierror):
        addresses_of("x", 1.0)


def test_a_name_that_no_host_can_have() -> None:
    with pytest.raises(socket.gaierror):
        addresses_of("a" * 70 + ".example", 5.0)


def _named(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 1)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)


def test_the_second_address_is_tried_with_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    _named(monkeypatch, "one", "two", "one")
    asked: list[tuple[str, float]] = []

    def connect(address: str, share: float) -> str:
        asked.append((address, share))
        if address == "one":
            raise ConnectionRefusedError
        return address

    assert reach("h", 1, 4.0, connect) == "two"
    assert [address for address, _ in asked] == ["one", "two"]
    assert asked[0][1] == pytest.approx(2.0, abs=0.2)
    assert asked[1][1] == pytest.approx(4.0, abs=0.2)


def test_many_addresses_have_no_more_time_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _named(monkeypatch, *(f"10.0.0.{number}" for number in range(200)))

    def connect(address: str, share: float) -> Any:
        threading.Event().wait(share)
        raise TimeoutError

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        reach("h", 1, 1.5, connect)
    assert time.monotonic() - began < IN_TIME_S


def test_no_address_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    _named(monkeypatch)
    with pytest.raises(socket.gaierror, match="no address"):
        connected("h", 1, 1.0)
