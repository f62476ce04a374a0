"""The suite's HTTP client: every exchange is bounded in time and bytes, and none affects the next.

A platform under test may be broken or hostile: whatever it sends must lead to a finding of the check in time,
and must neither fill the memory nor carry a credential or cookie to another origin.

httpx limits only single reads, so a slow trickle of bytes or an endless series of 1xx answers would block a
check forever. Here a request's read and write timeouts are the time at which its exchange ends.
"""

from __future__ import annotations

import math
import random
import re
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx
from pytest_readiness import SetupError

from .connections import CONNECT_WITHIN_S, OF_HTTP2, PIECE, Connection, Network, authorities

#: Longer than G-3's latency limit, so that that check can report by how much it is exceeded.
ANSWER_WITHIN_S = 30.0
#: Maximum time of a stream that keeps sending events.
STREAM_WITHIN_S = 120.0
#: Maximum decoded bytes of one answer or stream; the longest normal one has some tens of thousands.
MAX_BODY = 2 * 1024 * 1024
#: This machine: never through a proxy, whatever the environment says.
LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|::1")
_NO_BODY = frozenset({101, 204, 304})
#: The start of an event's data; comments have none.
_DATA = re.compile(rb"[\r\n]data:")


class ContractViolation(AssertionError):
    """The platform's answer violates the contract or HTTP itself."""

    #: The broken rule, see ``SafetyViolation``.
    breaks = ""


class EndlessBody(ContractViolation):
    """The platform's answer has more bytes than any answer of the contract."""


class ClosedWhileIdle(httpx.ReadError):
    """An idle connection was closed while a request was being sent, which got no answer.

    An HTTP server may close an idle connection at any time (RFC 9112, 9.3.1): the request has to be sent
    again, over another one.
    """


def http_pool(
    agent: str,
    *,
    proxies: bool,
    answers_within: float = ANSWER_WITHIN_S,
    max_body: int = MAX_BODY,
    trust: ssl.SSLContext | None = None,
    traced: bool = True,
) -> httpx.Client:
    """A client for all services. ``proxies``: through those of the runner's environment, if there are any.

    ``traced``: each request begins a new trace, with which the platform's side of it can be found.

    A timeout, ``answers_within`` or a request's own, limits the complete exchange. A stream gets it again
    after each event, up to ``STREAM_WITHIN_S``; SetupError if events still arrive then.
    """
    return _Pool(
        transport=BoundedTransport(trust or authorities(), proxies=proxies, max_body=max_body),
        timeout=within(answers_within),
        headers={"User-Agent": agent, "Accept-Encoding": "gzip"},
        traced=traced,
    )


def within(seconds: float) -> httpx.Timeout:
    """The timeouts of an exchange that may take this long in total."""
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_WITHIN_S))


class _Pool(httpx.Client):
    """httpx's client without authentication, redirects and cookies, which would take a fifth of an exchange.

    Hosts share domains, and on one machine services even share their host, so cookies must not be kept.
    """

    def __init__(self, *, transport: BoundedTransport, traced: bool, **options: Any) -> None:
        super().__init__(transport=transport, **options)
        self._bounded = transport
        self._traced = traced
        # its own generator: a pytest plugin may seed the shared one for each test
        self._bits = random.Random().getrandbits  # noqa: S311  # an id is no secret

    def send(self, request: httpx.Request, *, stream: bool = False, **_: Any) -> httpx.Response:
        """The unchanged answer to one request; the body of a ``stream`` is not read."""
        if self._traced:  # W3C Trace Context: version, trace id, parent id, sampled
            trace = f"00-{self._bits(128):032x}-{self._bits(64):016x}-01"
            request.headers.setdefault("traceparent", trace)
        response = self._bounded.handle_request(request)
        response.request = request
        try:
            if not stream:
                response.read()
        except BaseException:
            response.close()
            raise
        return response


#: Idle connections to one service, the last used at the end.
_Idle = list[httpcore.ConnectionInterface]


class BoundedTransport(httpx.BaseTransport):
    """Sends over httpcore. ContractViolation for a body that is too long or does not match its encoding."""

    def __init__(self, trust: ssl.SSLContext, *, proxies: bool, max_body: int) -> None:
        self._trust = trust
        self._proxies = proxies
        self._max_body = max_body
        self._makers: dict[str, httpcore.ConnectionPool] = {}
        self._idle: dict[tuple[str, bytes, bytes, int | None], _Idle] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer's head; its body follows as it is read."""
        start = time.perf_counter()
        url = request.url
        proxy = self._proxy_of(url) if self._proxies else ""
        timeout = request.extensions["timeout"]
        seconds = timeout["read"]
        end = None if seconds is None else time.monotonic() + seconds
        sent = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions={**request.extensions, "timeout": {**timeout, "read": end, "write": end}},
        )
        idle = self._idle.setdefault((proxy, url.raw_scheme, url.raw_host, url.port), [])
        translated = partial(_translated, proxy, seconds)
        with translated():
            connection, came = self._exchange(sent, proxy, idle)
        route, give_back = f"{request.method} {url.path}", partial(_give_back, connection, idle)
        body = _Body(route, came, self._max_body, translated, give_back, start, seconds)
        if request.method == "HEAD" or came.status in _NO_BODY:
            body.expect_nothing()
        # decoded here, within the limit; httpx would decode it without one
        headers = [(name, value) for name, value in came.headers if name.lower() != b"content-encoding"]
        body.answer = _Answer(came.status, headers=headers, stream=body, extensions=came.extensions)
        return body.answer

    def close(self) -> None:
        """Close every idle connection."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def _exchange(
        self, sent: httpcore.Request, proxy: str, idle: _Idle
    ) -> tuple[httpcore.ConnectionInterface, httpcore.Response]:
        """An answer's head, over an idle connection or a new one.

        httpcore's own pool examines all connections before and after each request, under one lock: with
        several threads that took longer than the exchange.
        """
        waiting = _taken(idle)
        connection = waiting or self._maker(proxy).create_connection(sent.url.origin)
        try:
            return connection, connection.handle_request(sent)
        except BaseException as error:
            connection.close()
            if waiting and _was_closed(error):
                raise ClosedWhileIdle(str(error)) from error
            raise

    def _proxy_of(self, url: httpx.URL) -> str:
        if LOOPBACK.fullmatch(url.host) or proxy_bypass(url.host):
            return ""
        found = getproxies()
        return found.get(url.scheme) or found.get("all") or ""

    def _maker(self, proxy: str) -> httpcore.ConnectionPool:
        if proxy not in self._makers:
            options: dict[str, Any] = {"ssl_context": self._trust, "network_backend": Network()}
            self._makers[proxy] = _proxy_pool(proxy, options) if proxy else httpcore.ConnectionPool(**options)
        return self._makers[proxy]


def _taken(idle: _Idle) -> httpcore.ConnectionInterface | None:
    """An idle connection that its service has not closed."""
    with suppress(IndexError):  # another thread took the last one
        while (connection := idle.pop()).has_expired():
            connection.close()
        return connection
    return None


def _was_closed(error: BaseException) -> bool:
    """Whether the peer closed a connection before anything came over it."""
    silent = isinstance(error, httpcore.RemoteProtocolError) and "without sending a response" in str(error)
    return silent or isinstance(error, httpcore.ReadError | httpcore.WriteError)


def _give_back(connection: httpcore.ConnectionInterface, idle: _Idle) -> None:
    """Keep a connection for the next request if it can be reused."""
    if connection.is_available():
        idle.append(connection)
    else:
        connection.close()


def _proxy_pool(address: str, options: dict[str, Any]) -> httpcore.ConnectionPool:
    try:
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
    except (ValueError, httpx.InvalidURL) as problem:
        raise SetupError(
            f"a proxy of this runner's environment is not the URL of a proxy: {problem}"
        ) from None
    return httpcore.HTTPProxy(str(proxy.url), proxy_auth=proxy.raw_auth, **options)


class _Answer(httpx.Response):
    """An answer with a decoded body, because httpx's own decoding would take as long as reading it."""

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """The pieces of the body as they arrive, or in another size once it was read."""
        if self.is_closed or chunk_size is not None:
            yield from super().iter_bytes(chunk_size)
            return
        assert isinstance(self.stream, _Body)
        yield from self.stream
        self.close()


class _Body(httpx.SyncByteStream):
    """The content of one answer, decoded, up to the limit."""

    def __init__(
        self,
        route: str,
        came: httpcore.Response,
        most: int,
        translated: Callable[[], AbstractContextManager[None]],
        give_back: Callable[[], None],
        start: float,
        seconds: float | None,
    ) -> None:
        self._route, self._came, self._most, self._translated = route, came, most, translated
        self._give_back, self._closed = give_back, False
        self._start, self._seconds = start, seconds or 0.0
        self._event_at, self._tail = -math.inf, b"\n"
        self.answer: httpx.Response | None = None
        headers = {name.lower(): value for name, value in came.headers}
        self._encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        self._streams = headers.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        length = headers.get(b"content-length", b"")
        self._announced = int(length) if length.isdigit() and b"transfer-encoding" not in headers else None
        self._connection: Connection = came.extensions["network_stream"]
        self._connection.expect(self._announced)

    def expect_nothing(self) -> None:
        """Treat this answer as having no body, whatever its head announces."""
        self._announced = 0
        self._connection.expect(0)

    def __iter__(self) -> Iterator[bytes]:
        length = 0
        with self._examined(), self._translated():
            for piece in self._decoded(self._received()):
                length += len(piece)
                self._limit(length)
                if self._streams:
                    self._hear(piece)
                yield piece
        if self._announced is None:
            self._connection.close()  # without an announced length, following bytes cannot be separated
        elif self._connection.excess:
            self._connection.close()
            self._refuse(f"ends after {self._announced} bytes", f"{len(self._connection.excess)} bytes more")

    def close(self) -> None:
        """Give the connection back once, or close it if the body was not read to its end."""
        if not self._closed:
            self._closed = True
            if self.answer is not None:
                self.answer.elapsed = timedelta(seconds=time.perf_counter() - self._start)
                self.answer = None
            self._came.close()
            self._give_back()

    def _hear(self, piece: bytes) -> None:
        """After an event, give the next one the same time again, within the stream's total."""
        heard, self._tail = _DATA.search(self._tail + piece), (self._tail + piece)[-5:]
        if not heard:
            return
        self._event_at = now = time.perf_counter()
        ends = min(now + self._seconds, self._start + max(self._seconds, STREAM_WITHIN_S))
        self._connection.extend(time.monotonic() + ends - now)

    @contextmanager
    def _examined(self) -> Iterator[None]:
        """A stream that is too long, but not late, is not examined: the contract does not limit its time."""
        try:
            yield
        except httpx.ReadTimeout as error:
            now = time.perf_counter()
            if now - self._event_at < self._seconds / 2:
                text = f"{self._route}: not examined: events still come after {now - self._start:.0f} s"
                raise SetupError(text) from error
            raise

    def _received(self) -> Iterable[bytes]:
        self._limit(self._announced or 0)
        assert isinstance(self._came.stream, Iterable)
        return self._came.stream

    def _decoded(self, received: Iterable[bytes]) -> Iterator[bytes]:
        if self._encoding in ("", "identity"):
            yield from received
            return
        if self._encoding not in ("gzip", "x-gzip"):
            self._refuse("gzip or no content-encoding", repr(self._encoding[:80]))
        unpacked, came = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), False
        for packed in received:
            came = True
            while packed:
                if unpacked.eof:  # another member follows (RFC 1952, 2.2)
                    unpacked = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
                try:
                    yield unpacked.decompress(packed, PIECE)
                except zlib.error:
                    self._refuse("gzip, as its content-encoding says", "other bytes")
                packed = unpacked.unconsumed_tail or unpacked.unused_data
        if came and not unpacked.eof:
            self._refuse("complete gzip members", "a truncated one")

    def _limit(self, length: int) -> None:
        if length > self._most:
            raise EndlessBody(f"{self._route}: body: expected at most {self._most} bytes, got more")

    def _refuse(self, expected: str, got: str) -> None:
        raise ContractViolation(f"{self._route}: body: expected {expected}, got {got}")


@contextmanager
def _translated(proxy: str, seconds: float | None) -> Iterator[None]:
    """Raise httpx's exception instead of httpcore's of the same name; for a proxy the runner is at fault."""
    try:
        yield
    except (httpcore.ReadTimeout, httpcore.WriteTimeout) as error:
        kind = getattr(httpx, type(error).__name__)
        raise kind(f"no complete answer within {seconds:g} s") from error
    except httpcore.ProxyError as error:
        raise SetupError(f"the proxy of this runner's environment refuses: {error}") from error
    except (
        httpcore.NetworkError,
        httpcore.TimeoutException,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
    ) as error:
        if (
            proxy
            and isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout)
            and not failed_in_handshake(error)
        ):
            raise SetupError(f"the proxy of this runner's environment does not answer: {error}") from error
        if "no application protocol" in str(_tls_error(error)).lower().replace("_", " "):  # RFC 7301, 3.2
            raise SetupError(OF_HTTP2) from error
        raise getattr(httpx, type(error).__name__)(str(error) or type(error).__name__) from error


def failed_in_handshake(error: BaseException) -> bool:
    """Whether a connection failed in its TLS handshake, which behind a proxy concerns the platform."""
    return _tls_error(error) is not None


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    link: BaseException | None = error
    while link is not None and not isinstance(link, ssl.SSLError):
        link = link.__context__ if link.__cause__ is None else link.__cause__  # an exception may be false
    return link
