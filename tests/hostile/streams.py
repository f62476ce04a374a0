"""Hostile event streams: endless, slow, broken off, or with invalid events."""

from __future__ import annotations

import zlib

from tests.hostile.case import Case, answer, chunk, head, kept, raw, zipped
from tests.hostile.server import Behaviour, Peer
from tests.hostile.timing import dripping_pieces, endlessly, then

_HEAD = head(kind="text/event-stream")
_CHUNKED = head("Transfer-Encoding: chunked", kind="text/event-stream")
_USAGE = '{"promptTokens": 1, "completionTokens": 1, "costMicro": "2100"}'
_LATE = "no complete answer within"
#: On a busy machine the deadline may come before the limit of bytes or events.
_ENDLESS = f"at most 2097152 bytes|at most 20000 events|{_LATE}"


def event(name: str, data: str, number: int = 1) -> bytes:
    """One event."""
    return f"id: {number}\nevent: {name}\ndata: {data}\n\n".encode()


WHOLE = event("content", '{"text": "hello"}') + event("usage", _USAGE, 2) + event("done", "{}", 3)


def stream(name: str, serves: Behaviour, says: str = "", ends: str = "PLATFORM_BUG") -> Case:
    """A case that the suite's reader of streams asks for."""
    return Case(name, serves, says, asks="stream", ends=ends)


def events(name: str, *sent: bytes, says: str = "", ends: str = "PLATFORM_BUG") -> Case:
    """A stream of exactly these events."""
    return stream(name, raw(_HEAD + b"".join(sent)), says, ends)


def bomb(peer: Peer) -> None:
    """Events in gzip that decode to comments for ever."""
    packer = zlib.compressobj(9, wbits=31)
    peer.send(head("Content-Encoding: gzip", kind="text/event-stream"))
    while True:
        peer.send(packer.compress(b": ping\n\n" * (1 << 17)) + packer.flush(zlib.Z_SYNC_FLUSH))


CASES = [
    stream("sse-honest", raw(_HEAD + WHOLE), ends="passed"),
    stream("sse-chunked", kept(_CHUNKED + chunk(WHOLE) + b"0\r\n\r\n"), ends="passed"),
    stream(
        "sse-gzip", answer(zipped(WHOLE), "Content-Encoding: gzip", kind="text/event-stream"), ends="passed"
    ),
    stream("sse-crlf", raw(_HEAD + WHOLE.replace(b"\n", b"\r\n")), ends="passed"),
    stream("sse-cr", raw(_HEAD + WHOLE.replace(b"\n", b"\r")), ends="passed"),
    stream("sse-no-newline", endlessly(b"data: " + b"A" * 65536, _HEAD), _ENDLESS),
    stream("sse-one-endless-line", endlessly(b"A" * 65536, _HEAD + b"data: "), _ENDLESS),
    stream("sse-endless-data-lines", endlessly(b"data: A\n" * 1000, _HEAD), _ENDLESS),
    stream("sse-endless-events", endlessly(event("content", '{"text": "a"}') * 100, _HEAD), _ENDLESS),
    stream("sse-endless-empty-events", endlessly(b"\n" * 1000, _HEAD + b"id: 1\n"), _ENDLESS),
    stream("sse-endless-comments", endlessly(b": ping\n\n" * 1000, _HEAD), _ENDLESS),
    stream("sse-slow-comments", dripping_pieces(b": ping\n\n", _HEAD), _LATE),
    stream(
        "sse-slow-events",
        dripping_pieces(event("content", '{"text": "a"}'), _HEAD),
        "events still come",
        "SETUP_ERROR",
    ),
    stream("sse-silent", then(_HEAD + WHOLE[:40], lambda peer: peer.hold()), _LATE),
    stream("sse-bomb", bomb, _ENDLESS),
    stream("sse-reset", then(_CHUNKED + chunk(WHOLE[:40]), lambda peer: peer.reset()), "reset|closed"),
    stream("sse-cut-in-chunk", raw(_CHUNKED + b"ff\r\n" + WHOLE[:40]), "complete|closed"),
    stream("sse-as-json", answer(kind="application/json"), "text/event-stream"),
    stream("sse-charset", raw(head(kind="text/event-stream; charset=rot13") + WHOLE), ends="passed"),
    stream("sse-refused-endlessly", endlessly(b"A" * 65536, head(status="500 No")), _ENDLESS),
    stream(
        "sse-redirect",
        lambda peer: peer.send(head(f"Location: {peer.trap}/stolen", status="307 No", length=0)),
        "got 307",
    ),
    events("sse-invalid-utf-8", b"data: \xff\xfe\n\n", WHOLE, says="UTF-8"),
    events("sse-split-utf-8-end", WHOLE, b": \xe2\x82", says="UTF-8"),
    events("sse-no-usage", event("content", "{}"), event("done", "{}"), says="usage|text"),
    events("sse-two-usages", WHOLE, event("usage", _USAGE), says="usage"),
    events("sse-usage-nan", event("usage", '{"costMicro": NaN}'), says="NaN"),
    events("sse-usage-huge", event("usage", '{"costMicro": "%s"}' % ("9" * 5000)), says="costMicro"),
    events("sse-usage-twice-named", event("usage", '{"costMicro": "1", "costMicro": "2"}'), says="twice"),
    events("sse-usage-deep", event("usage", "[" * 100_000), says="deeper|expected JSON"),
    events("sse-content-text", event("content", "bare"), event("usage", _USAGE), says="expected JSON"),
    events("sse-colours", event("content", '"\\u001b[2JREADY"'), event("usage", _USAGE), says="object"),
    events("sse-raw-colours", event("error", '{"code": "\\u001b[31mNO"}'), says="error event"),
    events("sse-retry-huge", b"retry: " + b"9" * 5000 + b"\n\n", WHOLE, ends="passed"),
    events("sse-nul-id", b"id: \0\n", WHOLE, ends="passed"),
]
