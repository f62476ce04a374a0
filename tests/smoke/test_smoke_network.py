"""The bounded network: strict JSON as a rule, proxies of the runner, a relay. `make hostile` has the rest."""

import json
import random
import re
import socket
import ssl
import threading
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness import SetupError

from smoke.network.connections import MAX_DEPTH, NotStrict, relayed, strict_json
from smoke.network.transport import EndlessBody, failed_in_handshake, http_pool
from tests.hostile.answers import serve_bomb
from tests.hostile.case import BODY, answer, head
from tests.hostile.server import Behaviour, Peer, Server, always
from tests.hostile.timing import endless_gzip, endlessly

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | TEXT | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
OUTSIDE = "http://192.0.2.1/health"


@given(VALUES, st.booleans())
def test_what_is_strict_is_read_as_json_reads_it(value: object, ascii_only: bool) -> None:
    assert strict_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    ("text", "kind"), [("1.0", int), ("1e0", int), ("-0.0", int), ("1.5", float), ("1e300", float)]
)
def test_an_integer_may_be_written_as_a_fraction(text: str, kind: type) -> None:
    value = strict_json(text)
    assert type(value) is kind
    assert value == float(text)


@given(st.binary(max_size=60))
def test_whatever_comes_is_a_value_or_not_strict(content: bytes) -> None:
    try:
        value = strict_json(content)
    except NotStrict:
        return
    assert json.loads(content) == value


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 5000, 200_000])
def test_depth_has_a_limit(depth: int) -> None:
    body = b"[" * depth + b"]" * depth
    if depth <= MAX_DEPTH:
        strict_json(body)
        return
    with pytest.raises(NotStrict, match="deeper"):
        strict_json(body)


def proxied(monkeypatch: pytest.MonkeyPatch, proxy: str, url: str = OUTSIDE, no_proxy: str = "") -> int:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, no_proxy)
    with http_pool("test", proxies=True, answers_within=1) as pool:
        return pool.get(url).status_code


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(always(lambda peer: peer.send(head(length=len(BODY)) + BODY))) as proxy:
        assert proxied(monkeypatch, proxy.url) == 200
        assert proxy.heads[0].startswith(b"GET http://192.0.2.1/health ")


def test_each_request_begins_a_trace_of_its_own() -> None:
    with (
        Server(always(lambda peer: peer.send(head(length=len(BODY)) + BODY))) as service,
        http_pool("test", proxies=False) as pool,
        http_pool("test", proxies=False, traced=False) as untraced,
    ):
        sent = []
        for _ in range(3):
            random.seed(1)  # as pytest-randomly does before each test
            sent.append(pool.get(f"{service.url}/").request.headers["traceparent"])
        assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", value) for value in sent)
        assert len({value[3:35] for value in sent}) == 3
        assert [value.encode() in text for value, text in zip(sent, service.heads, strict=True)] == [True] * 3
        own = pool.get(service.url, headers={"traceparent": "00-own"})
        assert own.request.headers["traceparent"] == "00-own"
        assert "traceparent" not in untraced.get(service.url).request.headers


def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(always(lambda peer: peer.send(head(length=len(BODY)) + BODY))) as service:
        assert proxied(monkeypatch, "http://127.0.0.1:9", f"{service.url}/health") == 200


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:9", "127.0.0.1:9", "nonsense://x", "http://[", "socks5://x"]
)
def test_a_proxy_that_cannot_be_used_is_the_runners_fault(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    with pytest.raises(SetupError, match=r"proxy of this runner's environment|not the URL of a proxy"):
        proxied(monkeypatch, proxy)


def test_a_proxy_that_refuses_is_the_runners_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = always(lambda peer: peer.send(head(status="407 Log in", length=0)))
    with Server(refuse) as proxy, pytest.raises(SetupError, match="407"):
        proxied(monkeypatch, proxy.url, OUTSIDE.replace("http:", "https:"))


def test_a_host_without_proxy_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(httpx.TransportError):
        proxied(monkeypatch, "http://127.0.0.1:9", no_proxy="192.0.2.1")


@pytest.mark.parametrize(
    ("within", "most", "why"), [(0.5, 10_000_000_000, "in time"), (20, 100_000, "more than")]
)
def test_a_relay_ends_after_its_time_and_its_bytes(within: float, most: int, why: str) -> None:
    with (
        Server(always(lambda peer: peer.endlessly(b"A" * 1000)), speaks_first=True) as server,
        relayed("127.0.0.1", server.port, within=within, most=most) as relay,
        socket.create_connection(("127.0.0.1", relay.port)) as client,
    ):
        came, began = 0, time.monotonic()
        while piece := client.recv(65536):
            came += len(piece)
        assert time.monotonic() - began < 10
        assert why in relay.cut
        assert came <= most + 65536
    assert not [thread for thread in threading.enumerate() if thread.name == "relay-127.0.0.1"]


@pytest.mark.parametrize("serves", [serve_bomb, endless_gzip, endlessly(b"A" * 65536, head())])
def test_a_body_ends_at_its_limit_of_decoded_bytes(serves: Behaviour) -> None:
    with (
        Server(always(serves)) as server,
        http_pool("test", proxies=False, answers_within=60, max_body=100_000) as pool,
        pytest.raises(EndlessBody, match="at most 100000 bytes"),
    ):
        pool.get(server.url)


def eventful(pieces: int, piece: bytes = b"data: {}\n\n", every: float = 0.05) -> Behaviour:
    def serve(peer: Peer) -> None:
        peer.send(head(kind="text/event-stream"))
        for _ in range(pieces):
            peer.send(piece)
            time.sleep(every)
        peer.connection.close()

    return serve


def read_stream(serves: Behaviour) -> int:
    with Server(always(serves)) as server, http_pool("test", proxies=False, answers_within=0.3) as pool:
        return len(pool.get(server.url).content)


def test_a_stream_may_take_its_time_again_after_each_event() -> None:
    assert read_stream(eventful(12)) == 12 * len(b"data: {}\n\n")


def test_an_event_may_come_in_pieces() -> None:
    def serve(peer: Peer) -> None:
        peer.send(head(kind="text/event-stream"))
        peer.drip(b"data: {}\n\n" * 7, 0.01)
        peer.connection.close()

    assert read_stream(serve) == 7 * len(b"data: {}\n\n")


def test_a_stream_that_still_sends_events_at_its_limit_is_not_examined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smoke.network.transport.STREAM_WITHIN_S", 0.5)
    with pytest.raises(SetupError, match="GET /: not examined: events still come after"):
        read_stream(eventful(1000))


@pytest.mark.parametrize("serves", [eventful(100, b": keepalive\n\n"), eventful(2, every=5)])
def test_a_stream_without_further_events_is_late(serves: Behaviour) -> None:
    with pytest.raises(httpx.ReadTimeout, match="no complete answer within"):
        read_stream(serves)


def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    with Server(always(answer())) as server, http_pool("test", proxies=False) as pool:
        pool.get(server.url).extensions["network_stream"].close()
        assert pool.get(server.url).content == BODY


def test_a_service_with_only_http2_is_not_examined() -> None:
    settings = bytes.fromhex("00000c040000000000000300000064000400100000")
    with (
        Server(always(lambda peer: peer.send(settings))) as service,
        http_pool("test", proxies=False) as pool,
        pytest.raises(SetupError, match="only HTTP/2"),
    ):
        pool.get(service.url)


def test_a_service_that_refuses_http1_in_its_handshake_is_not_examined() -> None:
    alert = bytes.fromhex("15030300020278")  # fatal: no_application_protocol
    with (
        Server(always(lambda peer: peer.send(alert)), speaks_first=True) as service,
        http_pool("test", proxies=False) as pool,
        pytest.raises(SetupError, match="only HTTP/2"),
    ):
        pool.get(service.url.replace("http:", "https:"))


class FalseError(Exception):
    def __bool__(self) -> bool:
        return False


def test_a_tls_error_behind_a_false_exception_is_found() -> None:
    false = FalseError()
    false.__cause__ = ssl.SSLError("certificate has expired")
    error = ConnectionError()
    error.__cause__, error.__context__ = false, OSError()
    assert failed_in_handshake(error)
