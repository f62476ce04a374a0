"""Connections that hand out one answer at a time, and the network that opens them, each within its time."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpcore
from pytest_readiness import SetupError

from .sockets import reach

CONNECT_WITHIN_S = 2.0
#: A request is sent in pieces of this size.
PIECE = 64 * 1024
#: Why a service that speaks HTTP/2 alone is not examined.
OF_HTTP2 = "not examined: the service speaks HTTP/2 alone, and this runner HTTP/1.1"
_END_OF_HEAD = re.compile(rb"\n\r?\n")
#: The first frame of a server of HTTP/2: its settings, or its farewell to who has none (RFC 9113).
_FRAME = re.compile(rb"\0\0.[\4\7]", re.DOTALL)


class Connection(httpcore.NetworkStream):
    """One connection. It hands out an answer's head alone, then as much of the body as the head announced.

    So no byte beyond an answer reaches the parser, which would take it for the answer to the next request.
    """

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._to_send = b""
        self._received = b""
        self._seen = b""
        self._in_head = True
        self._announced: int | None = None

    def expect(self, body: int | None) -> None:
        """The head is read: ``body`` bytes follow, or as many as come when it is None."""
        self._in_head, self._announced = False, body

    @property
    def excess(self) -> bytes:
        """What came after the end of the answer."""
        return self._received

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; ``timeout`` is the moment at which the exchange ends."""
        if self._to_send:
            with suppress(httpcore.WriteError):  # a service may answer, and close, before it has read all
                self._flush(timeout)
        if not self._received:
            self._received = self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))
            if self._in_head and not self._seen and _FRAME.match(self._received):
                raise SetupError(OF_HTTP2)
        size = min(max_bytes, len(self._received))
        if self._in_head:
            size = min(size, self._rest_of_head())
        elif self._announced is not None:
            size = min(size, self._announced)
            self._announced -= size
        given, self._received = self._received[:size], self._received[size:]
        self._seen = (self._seen + given)[-3:]
        return given

    def _rest_of_head(self) -> int:
        """How many of the received bytes belong to the head; its end may lie across two reads."""
        before = len(self._seen)
        end = _END_OF_HEAD.search(self._seen + self._received)
        return end.end() - before if end and end.end() > before else len(self._received)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send, a short request all at once: for its first part alone a service would be woken twice.

        What follows is the head of an answer again.
        """
        self._in_head, self._announced, self._seen = True, None, b""
        self._to_send += buffer
        if len(self._to_send) > PIECE:
            self._flush(timeout)

    def _flush(self, end: float | None) -> None:
        sent, self._to_send = self._to_send, b""
        self._inner.write(sent, _left(end, httpcore.WriteTimeout))

    def close(self) -> None:
        """Close the socket."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Go on under TLS; ``timeout`` in seconds, as the handshake belongs to connecting."""
        return Connection(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of a socket."""
        return self._inner.get_extra_info(info)


class Network(httpcore.NetworkBackend):
    """Opens connections."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect within ``timeout`` seconds, the look-up of the name among them."""

        def connect(address: str, share: float) -> httpcore.NetworkStream:
            return self._inner.connect_tcp(address, port, share, local_address, socket_options)

        try:
            return Connection(reach(host, port, CONNECT_WITHIN_S if timeout is None else timeout, connect))
        except socket.gaierror as error:
            raise httpcore.ConnectError(str(error)) from error


def _left(end: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    if end is None:
        return None
    left = end - time.monotonic()
    if left <= 0:
        raise late("timed out")
    return left
