"""Answers that never end, come drop by drop, or break off, at each phase of an exchange."""

from __future__ import annotations

import zlib
from functools import partial

from tests.hostile.case import BODY, Case, chunk, head
from tests.hostile.server import Behaviour, Peer

_LATE = "no complete answer within"
#: On a busy machine the deadline may come before the limit of bytes.
_ENDLESS = f"at most 2097152 bytes|{_LATE}"
_CUT = "reset|disconnected|closed|complete|Broken|incomplete"
_BLOCK = b"A" * 65536
_LENGTH = len(BODY)
_CHUNKED = head("Transfer-Encoding: chunked")


def then(begin: bytes, go_on: Behaviour) -> Behaviour:
    """Send the beginning, then switch to another behaviour."""

    def serve(peer: Peer) -> None:
        peer.send(begin)
        go_on(peer)

    return serve


def endlessly(piece: bytes, begin: bytes = b"") -> Behaviour:
    """The beginning, then one piece for ever."""
    return then(begin, lambda peer: peer.endlessly(piece))


def drip(text: bytes, begin: bytes = b"") -> Behaviour:
    """The beginning, then byte by byte."""
    return then(begin, lambda peer: peer.drip(text))


def dripping_pieces(piece: bytes, begin: bytes = b"") -> Behaviour:
    """The beginning, then a small piece again and again, each well within the timeout of a read."""

    def serve(peer: Peer) -> None:
        for _ in range(10_000):
            peer.drip(piece, 0.005)

    return then(begin, serve)


def endless_blocks(peer: Peer) -> None:
    """A gzip member of empty blocks: it decodes to nothing and never ends."""
    packer = zlib.compressobj(wbits=31)
    peer.send(head("Content-Encoding: gzip"), packer.compress(b""))
    peer.endlessly(packer.flush(zlib.Z_FULL_FLUSH) * 1000)


def endless_gzip(peer: Peer) -> None:
    """A gzip member that decodes to zeros for ever."""
    packer = zlib.compressobj(9, wbits=31)
    peer.send(head("Content-Encoding: gzip"))
    while True:
        peer.send(packer.compress(b"\0" * (8 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH))


def cut(begin: bytes, peer: Peer, *, reset: bool) -> None:
    """Send a beginning, then end the connection."""
    if begin:
        peer.send(begin)
    if reset:
        peer.reset()
    else:
        peer.connection.close()


SLOW = [
    Case("silent", lambda peer: peer.hold(), _LATE),
    Case("silent-after-status", then(b"HTTP/1.1 200 OK\r\n", lambda peer: peer.hold()), _LATE),
    Case("silent-after-head", then(head(length=_LENGTH), lambda peer: peer.hold()), _LATE),
    Case("silent-in-body", then(head(length=_LENGTH) + BODY[:9], lambda peer: peer.hold()), _LATE),
    Case("silent-in-chunk", then(_CHUNKED + b"ff\r\nab", lambda peer: peer.hold()), _LATE),
    Case("silent-before-last-chunk", then(_CHUNKED + chunk(BODY), lambda peer: peer.hold()), _LATE),
    Case("silent-without-length", then(head() + BODY, lambda peer: peer.hold()), _LATE),
    Case("drip-head", drip(head(length=_LENGTH) + BODY), _LATE),
    Case("drip-body", drip(BODY, head(length=_LENGTH)), _LATE),
    Case("drip-chunks", dripping_pieces(chunk(b" "), _CHUNKED), _LATE),
    Case("drip-chunk-size", dripping_pieces(b"0", _CHUNKED), f"{_LATE}|chunk"),
    Case("drip-gzip", drip(BODY, head("Content-Encoding: gzip", length=_LENGTH)), f"{_LATE}|gzip"),
    Case("drip-1xx", dripping_pieces(b"HTTP/1.1 102 Processing\r\n\r\n"), _LATE),
    Case("unread-request", lambda peer: peer.hold(), _LATE, asks="upload"),
    Case("held-after-answer", then(head(length=_LENGTH) + BODY, lambda peer: peer.hold()), ends="passed"),
]
ENDLESS = [
    Case("endless-headers", endlessly(b"X-A: b\r\n" * 100, b"HTTP/1.1 200 OK\r\n"), "header|event|long"),
    Case("endless-header", endlessly(b"a" * 4096, b"HTTP/1.1 200 OK\r\nX-A: "), "header|event|long"),
    Case("endless-status", endlessly(b"a" * 4096, b"HTTP/1.1 200 "), "header|event|long"),
    Case("endless-100", endlessly(b"HTTP/1.1 100 Continue\r\n\r\n" * 50), _LATE),
    Case("endless-103", endlessly(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 50), _LATE),
    Case("endless-body", endlessly(_BLOCK, head()), _ENDLESS),
    Case("endless-body-of-10-gb", endlessly(_BLOCK, head(length=10 << 30)), _ENDLESS),
    Case("endless-chunks", endlessly(chunk(_BLOCK), _CHUNKED), _ENDLESS),
    Case("endless-tiny-chunks", endlessly(chunk(b" ") * 1000, _CHUNKED), _ENDLESS),
    Case("endless-chunk", endlessly(_BLOCK, _CHUNKED + b"fffffffff\r\n"), _ENDLESS),
    Case("endless-chunk-extension", endlessly(b"a" * 4096, _CHUNKED + b"1;"), "event|long|chunk"),
    Case("endless-trailers", endlessly(b"X-A: b\r\n" * 100, _CHUNKED + b"0\r\n"), "header|event|long"),
    Case("endless-whitespace", endlessly(b" " * 65536, head()), _ENDLESS),
    Case("endless-gzip", endless_gzip, _ENDLESS),
    Case("endless-gzip-blocks", endless_blocks, _LATE),
    Case("endless-error-body", endlessly(_BLOCK, head(status="500 No")), _ENDLESS),
    Case(
        "endless-key-set",
        endlessly(b'{"kid": "a"},', head() + b'{"keys": ['),
        _ENDLESS,
        asks="jwks",
    ),
    Case("endless-redirect-body", endlessly(_BLOCK, head("Location: /x", status="302 Found")), _ENDLESS),
    Case("endless-health-of-build", endlessly(_BLOCK, head()), "no build", asks="build"),
]
_PHASES = {
    "before-status": b"",
    "in-status": b"HTTP/1.1 2",
    "in-head": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "after-head": head(length=_LENGTH),
    "in-body": head(length=_LENGTH) + BODY[:20],
    "in-chunk": _CHUNKED + b"ff\r\nabc",
    "between-chunks": _CHUNKED + chunk(BODY[:9]),
    "in-1xx": b"HTTP/1.1 100 Continue\r\n",
}
CUTS = [
    Case(f"{'reset' if reset else 'closed'}-{phase}", partial(cut, begin, reset=reset), _CUT)
    for phase, begin in _PHASES.items()
    for reset in (True, False)
]
CASES = [*SLOW, *ENDLESS, *CUTS]
