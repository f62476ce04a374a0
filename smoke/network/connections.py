"""Below and beside HTTP: the resolver, a relay, one answer at a time, and strict decoders of JSON and events.

``getaddrinfo`` has no timeout: a silent name server would block a check for as long as the runner's settings
allow, and each of many addresses for another timeout. The relay limits time and bytes for drivers that do
their own reading without limits, such as libpq; the driver connects to the relay's socket instead.

The decoders refuse what two strict readers would read differently (RFC 8259, RFC 7493; HTML, 9.2).
"""

from __future__ import annotations

import codecs
import json
import math
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, TypeVar

import httpcore
import httpx
from pytest_readiness import SetupError

T = TypeVar("T")

#: Minimum time for one of several addresses: the kernel repeats a lost SYN after a second.
_EACH_S = 1.0


def addresses_of(host: str, within: float, port: int | None = None) -> list[str]:
    """The addresses of a host, in the runner's resolver's order; gaierror if it finds none in time."""
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
    """The result of ``connect`` for the first address of a host that it reaches, within a total time in s.

    ``connect`` gets an address and a timeout. If it reaches none, the error of the last address is raised.
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
    """A local address for one connection. ``cut`` says why the relay ended the connection, if it did."""

    port: int
    cut: str = ""


@contextmanager
def relayed(host: str, port: int, *, within: float, most: int) -> Iterator[Relay]:
    """Relay one connection for ``within`` seconds and ``most`` bytes of answers; OSError without a server."""
    end = time.monotonic() + within
    with connected(host, port, within) as server, socket.create_server(("127.0.0.1", 0)) as listener:
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
    """Forward answers until the server ends them or a limit is reached."""
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


def same_on_every_python(context: ssl.SSLContext) -> ssl.SSLContext:
    """A context that judges certificates alike on every version of Python.

    Since 3.13 the default context refuses certificates without key identifiers, which private authorities
    issue and other clients accept, and takes a trusted authority as the end of a chain.
    """
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@cache
def authorities(also: str = "") -> ssl.SSLContext:
    """The certificate authorities that HTTP clients trust, and those in a file, if any.

    Read once: that takes longer than most checks. OSError for a file that cannot be read.
    """
    context = same_on_every_python(httpx.create_ssl_context())
    if also:
        context.load_verify_locations(also)
    return context


@cache
def trusting(authority: str) -> ssl.SSLContext:
    """The certificate authorities in a file, instead of the runner's own."""
    return same_on_every_python(ssl.create_default_context(cafile=authority))


CONNECT_WITHIN_S = 2.0
#: A request is sent in pieces of this size.
PIECE = 64 * 1024
#: Why a service that speaks only HTTP/2 is not examined.
OF_HTTP2 = "not examined: the service speaks only HTTP/2, and this runner HTTP/1.1"
_END_OF_HEAD = re.compile(rb"\n\r?\n")
#: The first frame of an HTTP/2 server: its settings, or GOAWAY to a client without any (RFC 9113).
_FRAME = re.compile(rb"\0\0.[\4\7]", re.DOTALL)


class Connection(httpcore.NetworkStream):
    """One connection. It returns an answer's head first, then as much of the body as the head announced.

    So no byte beyond an answer reaches the parser, which would treat it as the answer to the next request.
    """

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._to_send = b""
        self._received = b""
        self._seen = b""
        self._in_head = True
        self._announced: int | None = None
        self._extended = 0.0

    def expect(self, body: int | None) -> None:
        """Expect ``body`` bytes after the head, or any number if it is None."""
        self._in_head, self._announced = False, body

    def extend(self, end: float) -> None:
        """Extend this exchange to ``end``, if it would end before that."""
        self._extended = end

    @property
    def excess(self) -> bytes:
        """The bytes after the end of the answer."""
        return self._received

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; ``timeout`` is the time at which the exchange ends."""
        if self._to_send:
            with suppress(httpcore.WriteError):  # a service may answer and close before it has read all
                self._flush(timeout)
        if not self._received:
            end = None if timeout is None else max(timeout, self._extended)
            self._received = self._inner.read(max_bytes, _left(end, httpcore.ReadTimeout))
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
        """Send; a short request is sent in one piece, so that a service is woken only once.

        The next bytes to read are an answer's head again.
        """
        self._in_head, self._announced, self._seen, self._extended = True, None, b"", 0.0
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
        """Start TLS; ``timeout`` in seconds, because the handshake is part of connecting."""
        return Connection(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Socket information that httpcore asks for."""
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
        """Connect within ``timeout`` seconds, including the name look-up; one cut short is merely late."""
        seconds = CONNECT_WITHIN_S if timeout is None else timeout
        end = time.monotonic() + seconds

        def connect(address: str, share: float) -> httpcore.NetworkStream:
            return self._inner.connect_tcp(address, port, share, local_address, socket_options)

        try:
            return Connection(reach(host, port, seconds, connect))
        except socket.gaierror as error:
            late = seconds < CONNECT_WITHIN_S and time.monotonic() >= end
            raise (httpcore.ConnectTimeout if late else httpcore.ConnectError)(str(error)) from error


def _left(end: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    if end is None:
        return None
    left = end - time.monotonic()
    if left <= 0:
        raise late("timed out")
    return left


MAX_DEPTH = 64
_LONGEST_INTEGER = 20
#: Up to this value a double represents exactly one integer.
_EXACT = 2**53
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class NotStrict(ValueError):
    """Not JSON, or JSON that two parsers could read differently; the text says what was found."""


def strict_json(body: bytes | str) -> Any:
    """The value of a body in UTF-8. Raises NotStrict.

    It refuses a repeated name, NaN, an integer beyond 64 bits, a number beyond a double, half of a
    surrogate pair, and a depth that would exhaust the reader's stack. 1.0 and 1e0 are the integer 1.
    """
    try:
        text = body if isinstance(body, str) else body.decode()
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise NotStrict(f"a byte that is not UTF-8 at position {error.start}") from None
    except RecursionError:
        raise NotStrict(f"a value nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise NotStrict(f"none: {error.msg} at position {error.pos} of {len(text)}") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise NotStrict(f"a value nested deeper than {MAX_DEPTH} levels")
    if "\\u" in text and _HALF_PAIR.search(json.dumps(value, ensure_ascii=False)):
        raise NotStrict("half of a surrogate pair")
    return value


def _constant(name: str) -> NoReturn:
    raise NotStrict(f"the constant {name}")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER or not -(2**63) <= int(digits) < 2**64:
        raise NotStrict(f"an integer of {len(digits.lstrip('-'))} digits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NotStrict(f"a number beyond a double: {digits[:40]}")
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise NotStrict(f"the name {twice[:40]!r} twice")
    return members


_DECODER = json.JSONDecoder(
    parse_constant=_constant, parse_int=_integer, parse_float=_number, object_pairs_hook=_members
)


def _depth(value: Any) -> int:
    """The nesting depth of arrays and objects; iterates by level, so that no depth exhausts the stack."""
    depth, level = 0, [value]
    while level:
        depth += 1
        holders = [member for member in level if isinstance(member, dict | list)]
        level = [member for held in holders for member in (held.values() if isinstance(held, dict) else held)]
    return depth


_LINE_END = re.compile("\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event: its name, the last id that was sent with it or before it, and its data."""

    name: str
    id: str
    data: str


class EventDecoder:
    """Decodes one stream. An event without its blank line does not count."""

    def __init__(self) -> None:
        # always UTF-8, whatever the content type says; one byte order mark may come first
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._line: list[str] = []
        self._after_cr = False
        self._name = self._id = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that this chunk completes. UnicodeDecodeError if it is not UTF-8."""
        text = self._decoder.decode(piece)
        if self._after_cr and text:
            # the other half of CR LF; the line ended with the first
            text = text.removeprefix("\n")
            self._after_cr = False
        if not text:
            return []
        self._after_cr = text.endswith("\r")
        events = []
        rest, *lines = _LINE_END.split(text)
        for line in lines:
            self._line.append(rest)
            if event := self._take("".join(self._line)):
                events.append(event)
            self._line.clear()
            rest = line
        self._line.append(rest)
        return events

    def end(self) -> None:
        """UnicodeDecodeError if the stream ended inside a character."""
        self._decoder.decode(b"", final=True)

    def _take(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatched()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None  # a comment has no name; `retry` and unknown fields say nothing about events

    def _dispatched(self) -> ServerSentEvent | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return ServerSentEvent(name or "message", self._id, "\n".join(data)) if data else None


def events_in(body: bytes) -> list[ServerSentEvent]:
    """The events of a body that was read to its end."""
    return EventDecoder().feed(body)
