"""A hostile case: what is served, which part of the suite asks, and what the check must report."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Any

from tests.hostile.server import Behaviour, Peer

#: Seconds allowed for an exchange, and the additional seconds for its check.
DEADLINE_S = 0.6
SLACK_S = 8.0

#: An answer that satisfies every asker: health, key set, budget, invoke.
HONEST: dict[str, Any] = {
    "status": "healthy",
    "keys": [],
    "communityId": "tenant",
    "monthlyBudgetCents": 100,
    "spentCents": 0,
    "committed": 0,
    "reserved": 0,
    "committedMicro": "0",
    "reservedMicro": "0",
    "period": "2026-11",
    "content": "hello",
    "model": "cheap",
    "usage": {"promptTokens": 1, "completionTokens": 1, "costMicro": "2100"},
    "traceId": "0b1f2f3e-1111-4222-8333-444455556666",
}
BODY = json.dumps(HONEST).encode()


@dataclass(frozen=True)
class Case:
    """One case. ``says``: a pattern of the check's summary; ``ends``: passed, or the class of its failure."""

    name: str
    serves: Behaviour
    says: str = ""
    asks: str = "health"
    ends: str = "PLATFORM_BUG"
    #: The listener: http, tls-<kind of certificate>, raw, postgres.
    place: str = "http"


def raw(*pieces: bytes) -> Behaviour:
    """Send exactly these bytes, each piece in its own packet, and close."""

    def serve(peer: Peer) -> None:
        peer.send(*pieces)
        peer.connection.close()

    return serve


def kept(*pieces: bytes) -> Behaviour:
    """Send exactly these bytes and keep the connection for the next request."""
    return lambda peer: peer.send(*pieces)


def head(
    *headers: str, status: str = "200 OK", length: int | None = None, kind: str = "application/json"
) -> bytes:
    """The head of an answer."""
    lines = [f"HTTP/1.1 {status}", *([f"Content-Type: {kind}"] if kind else []), *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def answer(
    body: bytes = BODY, *headers: str, status: str = "200 OK", kind: str = "application/json"
) -> Behaviour:
    """A well-formed answer with this body."""
    return kept(head(*headers, status=status, length=len(body), kind=kind) + body)


def with_member(name: str, value: str) -> bytes:
    """The honest body with one member replaced by this JSON text."""
    members = {**{key: json.dumps(member) for key, member in HONEST.items()}, name: value}
    return ("{" + ", ".join(f'"{key}": {member}' for key, member in members.items()) + "}").encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunked(*pieces: bytes) -> bytes:
    """A whole chunked body."""
    return b"".join(map(chunk, pieces)) + b"0\r\n\r\n"


def zipped(body: bytes = BODY) -> bytes:
    """The body as gzip."""
    return gzip.compress(body)
