"""A way to a server that speaks no HTTP: it ends after a time, and after so many bytes.

A driver that reads by itself, such as libpq, limits neither; it connects to this socket instead.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from .resolver import connected

_PIECE = 64 * 1024


@dataclass(slots=True)
class Relay:
    """Where to connect on this machine, once. ``cut`` says why the relay ended the connection, if it did."""

    port: int
    cut: str = ""


@contextmanager
def relayed(host: str, port: int, *, within: float, most: int) -> Iterator[Relay]:
    """Relay one connection for ``within`` seconds and ``most`` bytes of answers; OSError without a server."""
    end = time.monotonic() + within
    with (
        connected(host, port, within) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        relay = Relay(listener.getsockname()[1])
        listener.settimeout(within)
        serving = threading.Thread(
            target=_serve, args=(relay, listener, server, end, most), daemon=True, name=f"relay-{host}"
        )
        serving.start()
        try:
            yield relay
        finally:
            for ended in (listener, server):
                with suppress(OSError):
                    ended.shutdown(socket.SHUT_RDWR)
            serving.join(1)


def _serve(relay: Relay, listener: socket.socket, server: socket.socket, end: float, most: int) -> None:
    with suppress(OSError):
        client, _ = listener.accept()
        with client:
            asking = threading.Thread(target=_copy, args=(client, server), daemon=True)
            asking.start()
            with suppress(OSError):
                _answer(relay, server, client, end, most)
            client.shutdown(socket.SHUT_RDWR)
            asking.join(1)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)


def _answer(relay: Relay, server: socket.socket, client: socket.socket, end: float, most: int) -> None:
    """Hand answers on until the server ends them, or a limit does."""
    came = 0
    while came <= most:
        left = end - time.monotonic()
        if left <= 0:
            relay.cut = "no complete answer in time"
            return
        server.settimeout(left)
        with suppress(TimeoutError):
            piece = server.recv(_PIECE)
            if not piece:
                return
            came += len(piece)
            client.sendall(piece)
    relay.cut = f"more than {most} bytes of answers"
