"""A server that answers as a case says: raw bytes on real sockets, over TLS where one is given."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

#: Cuts a connection with a reset instead of an orderly end.
_RESET = struct.pack("ii", 1, 0)


class Peer:
    """One connection of a client, as a behaviour uses it."""

    def __init__(self, connection: socket.socket, stopped: threading.Event, trap: str) -> None:
        self.connection = connection
        self.head = b""
        #: The URL of the other origin, which must never receive a credential.
        self.trap = trap
        self._stopped = stopped

    def send(self, *pieces: bytes) -> None:
        """Send each piece in its own packet; OSError when the client has gone."""
        for piece in pieces:
            self.connection.sendall(piece)

    def endlessly(self, piece: bytes) -> None:
        """Send the same bytes again and again until the client has gone."""
        while not self._stopped.is_set():
            self.connection.sendall(piece)

    def drip(self, text: bytes, every: float = 0.02) -> None:
        """Send byte by byte, so slowly that no single read ever times out."""
        for place in range(len(text)):
            self.connection.sendall(text[place : place + 1])
            if self._stopped.wait(every):
                return

    def hold(self) -> None:
        """Send nothing more and keep the connection until the client or the server ends it."""
        self.connection.settimeout(0.2)
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                if not self.connection.recv(65536):
                    return

    def ignore(self) -> None:
        """Keep the connection without reading from it."""
        self._stopped.wait(30)

    def reset(self) -> None:
        """Cut the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.close()


Behaviour = Callable[[Peer], None]


@dataclass
class Server:
    """Serves each connection with the behaviour that ``choose`` finds for its first bytes."""

    choose: Callable[[bytes], Behaviour | None]
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    trap: str = ""
    #: Whether the behaviour comes before anything is read, as for a raw TCP trick.
    speaks_first: bool = False
    heads: list[bytes] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Server:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.host, 0))
        self._listener.listen(128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name=f"hostile-{self.port}").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}" if self.tls is None else f"https://localhost:{self.port}"

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection:
            connection.settimeout(30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            peer = Peer(connection, self._stopped, self.trap)
            with suppress(OSError, ValueError), connection:
                self._converse(peer)

    def _converse(self, peer: Peer) -> None:
        if self.speaks_first:
            behaviour = self.choose(b"")
            if behaviour is not None:
                behaviour(peer)
            return
        rest = b""
        while True:
            peer.head, rest = _request(peer.connection, rest)
            if not peer.head:
                return
            self.heads.append(peer.head)
            behaviour = self.choose(peer.head)
            if behaviour is None:
                return
            behaviour(peer)


def _request(connection: socket.socket, begun: bytes) -> tuple[bytes, bytes]:
    """Read one request with its body: its head, and what came after it."""
    data = begun
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b"", b""
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    lengths = [
        int(line.partition(b":")[2])
        for line in head.splitlines()
        if line.lower().startswith(b"content-length:")
    ]
    wanted = lengths[0] if lengths else 0
    while len(rest) < wanted:
        piece = connection.recv(65536)
        if not piece:
            break
        rest += piece
    return head, rest[wanted:]


def by_first_segment(behaviours: Mapping[str, Behaviour]) -> Callable[[bytes], Behaviour | None]:
    """Choose by the first segment of the requested path."""

    def choose(head: bytes) -> Behaviour | None:
        path = head.split(b" ", 2)[1].decode("latin-1")
        return behaviours.get(path.lstrip("/").split("/")[0].split("?")[0])

    return choose


def always(behaviour: Behaviour) -> Callable[[bytes], Behaviour | None]:
    """Choose the same behaviour for every request."""
    return lambda _: behaviour
