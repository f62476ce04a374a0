"""Names and connections below HTTP, each within one deadline: the runner's resolver, its addresses, a relay.

``getaddrinfo`` takes no timeout: a name server that is silent would hold a check for as long as the runner's
settings say, and each of many addresses for another timeout. The relay limits time and bytes for a driver
that reads by itself, such as libpq, and limits neither; it connects to this socket instead.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import httpx

T = TypeVar("T")

#: The least time that one of several addresses gets: the kernel repeats a lost SYN after a second.
_EACH_S = 1.0


def addresses_of(host: str, within: float, port: int | None = None) -> list[str]:
    """The addresses of a host, as the runner's resolver orders them; gaierror when it knows none in time."""
    found: list[list[str] | OSError] = []

    def look_up() -> None:
        try:
            answer = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.append([*dict.fromkeys(str(address[0]) for *_, address in answer)])
        except socket.gaierror as problem:
            found.append(problem)
        except (OSError, UnicodeError) as problem:
            found.append(socket.gaierror(socket.EAI_NONAME, str(problem)))

    asking = threading.Thread(target=look_up, daemon=True, name=f"resolver-{host}")
    asking.start()
    asking.join(within)
    answer = found[0] if found else socket.gaierror(socket.EAI_AGAIN, f"no answer within {within:g} s")
    if isinstance(answer, OSError):
        raise answer
    return answer


def reach(host: str, port: int, within: float, connect: Callable[[str, float], T]) -> T:
    """What ``connect`` makes of the first address of a host that it reaches, in so many seconds in all.

    It is given an address and how long it may take. The error of the last address when it reaches none.
    """
    end = time.monotonic() + within
    addresses = addresses_of(host, within, port)
    for number, address in enumerate(addresses):
        left = end - time.monotonic()
        share = max(left / (len(addresses) - number), min(left, _EACH_S), 0.001)
        try:
            return connect(address, share)
        except Exception:
            if number + 1 == len(addresses) or time.monotonic() >= end:
                raise
    raise socket.gaierror(socket.EAI_NONAME, "no address")


def connected(host: str, port: int, within: float) -> socket.socket:
    """A connection to a host; OSError if it takes longer than this many seconds."""
    return reach(host, port, within, lambda address, share: socket.create_connection((address, port), share))


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


@cache
def authorities(also: str = "") -> ssl.SSLContext:
    """The certificate authorities that HTTP clients trust, and those in a file, if any.

    Read once: that takes longer than most checks. OSError for a file that cannot be read.
    """
    context = httpx.create_ssl_context()
    if also:
        context.load_verify_locations(also)
    return context


@cache
def trusting(authority: str) -> ssl.SSLContext:
    """The certificate authorities in a file, in place of the runner's own."""
    return ssl.create_default_context(cafile=authority)
