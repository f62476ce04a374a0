"""Connections of the suite's HTTP client: each ends in time, and each answer ends where it says that it does.

httpx limits every single read, so that a drip of bytes or an endless row of 1xx answers would hold a check
for ever. Here a request's read and write timeouts are the moment at which its exchange ends.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

_END_OF_HEAD = re.compile(rb"\n\r?\n")


class Connection(httpcore.NetworkStream):
    """One connection. It hands out an answer's head alone, then as much of the body as the head announced.

    So no byte beyond an answer reaches the parser, which would take it for the answer to the next request.
    """

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
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
        if not self._received:
            self._received = self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))
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
        """Send; what follows is the head of an answer again."""
        self._in_head, self._announced, self._seen = True, None, b""
        self._inner.write(buffer, _left(timeout, httpcore.WriteTimeout))

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
        """Connect within ``timeout`` seconds."""
        return Connection(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))


def _left(end: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    if end is None:
        return None
    left = end - time.monotonic()
    if left <= 0:
        raise late("timed out")
    return left
