"""Who is to blame for a network failure, with real clients: the runner (proxy, files) or the platform."""

import asyncio
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests
from pytest_readiness.core.classify import classify, is_passing
from pytest_readiness.core.network import environment_of, peer_of

#: Addresses reserved for documentation (RFC 5737).
PLAIN, SECURE = "http://192.0.2.1/health", "https://192.0.2.1/health"
TUNNEL = b"HTTP/1.1 200 Connected\r\n\r\n"


def with_urllib(url: str) -> None:
    # the opener of the module keeps the environment of its first call
    urllib.request.build_opener(urllib.request.ProxyHandler()).open(url, timeout=3).close()


def with_requests(url: str) -> None:
    requests.get(url, timeout=3).raise_for_status()


def with_httpx(url: str) -> None:
    httpx.get(url, timeout=3).raise_for_status()


def with_async_httpx(url: str) -> None:
    async def call() -> None:
        async with httpx.AsyncClient(timeout=3) as client:
            (await client.get(url)).raise_for_status()

    asyncio.run(call())


def with_aiohttp(url: str) -> None:
    async def call() -> None:
        limit = aiohttp.ClientTimeout(total=3)
        async with aiohttp.ClientSession(trust_env=True, timeout=limit) as client, client.get(url) as answer:
            answer.raise_for_status()

    asyncio.run(call())


Client = Callable[[str], None]
CLIENTS = [with_urllib, with_requests, with_httpx, with_async_httpx, with_aiohttp]
each_client = pytest.mark.parametrize("client", CLIENTS)


def failure(client: Client, url: str) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # any exception will do
        client(url)
    return caught.value


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Answer each connection with the same bytes, then close it; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(65536)
                    peer.sendall(answer)
                    if answer is TUNNEL:
                        peer.recv(65536)  # the greeting of the handshake

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def proxy(monkeypatch: pytest.MonkeyPatch, url: object) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{url}" if isinstance(url, int) else str(url))


@each_client
@pytest.mark.parametrize("url", [PLAIN, SECURE])
def test_a_proxy_that_does_not_exist_is_the_runners_fault(
    monkeypatch: pytest.MonkeyPatch, client: Client, url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    proxy(monkeypatch, port)
    error = failure(client, url)
    assert classify(error) == "SETUP_ERROR"
    assert not is_passing(error)
    said = environment_of(error)
    assert said.startswith("this runner's proxy"), said
    assert said.endswith("(http_proxy, https_proxy)"), said
    if client is not with_aiohttp:
        assert f" 127.0.0.1:{port} " in said


@each_client
@pytest.mark.parametrize("answer", [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", b""])
def test_a_proxy_that_refuses_a_tunnel_is_the_runners_fault(
    monkeypatch: pytest.MonkeyPatch, client: Client, answer: bytes
) -> None:
    with answering(answer) as port:
        proxy(monkeypatch, port)
        error = failure(client, SECURE)
    assert classify(error) == "SETUP_ERROR"
    assert "(http_proxy, https_proxy)" in environment_of(error)


@each_client
def test_a_proxy_that_requires_a_login_is_the_runners_fault(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    with answering(b"HTTP/1.1 407 Log in\r\nContent-Length: 0\r\nProxy-Authenticate: Basic\r\n\r\n") as port:
        proxy(monkeypatch, port)
        assert classify(failure(client, PLAIN)) == "SETUP_ERROR"
        assert classify(failure(client, SECURE)) == "SETUP_ERROR"


@each_client
@pytest.mark.parametrize("value", ["http://proxy.invalid:3128", "nonsense://x", "http://["])
def test_a_proxy_that_leads_nowhere_is_the_runners_fault(
    monkeypatch: pytest.MonkeyPatch, client: Client, value: str
) -> None:
    proxy(monkeypatch, value)
    assert classify(failure(client, PLAIN)) == "SETUP_ERROR"


def test_an_unreadable_no_proxy_is_the_runners_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "[::1]")
    assert classify(failure(with_httpx, PLAIN)) == "SETUP_ERROR"


@each_client
def test_what_fails_behind_a_tunnel_is_the_platforms(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    with answering(TUNNEL) as port:
        proxy(monkeypatch, port)
        error = failure(client, SECURE)
    assert classify(error) == "PLATFORM_BUG"
    assert environment_of(error) == ""
    if client is with_urllib:
        assert peer_of(error) == ("192.0.2.1", 443)


@each_client
def test_what_a_proxy_hands_on_is_the_platforms(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    with answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n") as port:
        proxy(monkeypatch, port)
        assert classify(failure(client, PLAIN)) == "PLATFORM_BUG"


@each_client
@pytest.mark.parametrize("form", ["*", "127.0.0.1", "localhost, 127.0.0.1"])
def test_a_host_without_proxy_is_asked_itself(
    monkeypatch: pytest.MonkeyPatch, client: Client, form: str
) -> None:
    proxy(monkeypatch, "http://127.0.0.2:9")
    monkeypatch.setenv("no_proxy", form)
    assert classify(failure(client, "http://127.0.0.1:9/health")) == "PLATFORM_BUG"


@pytest.mark.parametrize(
    ("client", "variable"),
    [(with_httpx, "SSL_CERT_FILE"), (with_requests, "REQUESTS_CA_BUNDLE"), (with_requests, "CURL_CA_BUNDLE")],
)
def test_missing_certificates_are_the_runners_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client: Client, variable: str
) -> None:
    missing = tmp_path / "ca.pem"
    monkeypatch.setenv(variable, str(missing))
    error = failure(client, "https://127.0.0.1:9/health")
    assert classify(error) == "SETUP_ERROR"
    assert environment_of(error) == f"{variable} (no {missing})"


def test_an_unknown_issuer_is_the_runners_fault_only_without_its_certificates(tmp_path: Path) -> None:
    error = ssl.SSLCertVerificationError("unable to get local issuer certificate")
    error.verify_code = 20
    assert environment_of(error, {"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
    assert environment_of(error, {"SSL_CERT_FILE": str(tmp_path)}) == ""
    error.verify_code = 10  # expired
    assert environment_of(error, {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}) == ""


def test_a_checks_own_certificate_file_is_the_checks() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ssl.create_default_context(cafile="no-such.pem")
    assert classify(caught.value) == "CHECK_ERROR"


def test_a_missing_network_is_recognised_from_text_only() -> None:
    kind = type("RpcError", (Exception,), {"__module__": "grpc"})
    assert classify(kind("UNAVAILABLE: DNS resolution failed for api:443")) == "SETUP_ERROR"
    assert classify(kind("UNAVAILABLE: connection refused")) == "PLATFORM_BUG"
