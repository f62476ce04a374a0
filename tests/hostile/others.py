"""Everything but plain HTTP from the platform: TLS, bare sockets, AWS APIs, PostgreSQL, key verifiers."""

from __future__ import annotations

import struct

from tests.hostile.case import BODY, Case, answer, head, raw
from tests.hostile.server import Behaviour, Peer
from tests.hostile.timing import endlessly, then

_JSON = "application/x-amz-json-1.1"
_POOLER = "PgBouncer"


def hold(peer: Peer) -> None:
    """Say nothing."""
    peer.hold()


def refused(kind: str, says: str) -> tuple[Case, Case]:
    """A certificate that both the HTTP client and the check of the certificate must refuse."""
    serves = answer()
    return (
        Case(f"tls-{kind}", serves, says, place=f"tls-{kind}"),
        Case(f"certificate-{kind}", serves, says, asks="certificate", place=f"tls-{kind}"),
    )


TLS = [
    Case("tls-good", answer(), ends="passed", place="tls-good"),
    *refused("expired", "expired"),
    *refused("early", "not yet valid"),
    *refused("wrong-host", "[Hh]ostname|match"),
    *refused("self-signed", "self-signed|self signed"),
    *refused("unknown", "signature|unable|issuer"),
    Case("tls-plain-text", raw(b"HTTP/1.1 400 No\r\n\r\n"), "SSL|TLS|wrong version", place="raw-tls"),
    Case("tls-silent", hold, "timed out|complete|handshake", place="raw-tls"),
    Case("tls-closed", raw(b""), "SSL|EOF|reset|TLS", place="raw-tls"),
    Case("tls-reset", lambda peer: peer.reset(), "SSL|EOF|reset|TLS", place="raw-tls"),
    Case(
        "tls-garbage",
        endlessly(b"\x16\x03\x01\xff\xff" + b"A" * 4096),
        "SSL|TLS|long|record",
        place="raw-tls",
    ),
    Case("tls-truncated", raw(head(length=len(BODY)) + BODY[:9]), "complete|closed|EOF", place="tls-good"),
    Case(
        "tls-drip",
        then(head(length=len(BODY)), lambda peer: peer.drip(BODY)),
        "complete answer",
        place="tls-good",
    ),
    Case("certificate-silent", hold, "does not speak TLS", asks="certificate", place="raw-tls"),
    Case(
        "plain-http-speaks-tls", answer(), "Protocol|illegal|status|disconnected|reset", place="tls-as-http"
    ),
]


def _early(peer: Peer) -> None:
    peer.send(head(status="413 Too Large", length=0))
    peer.reset()


SOCKETS = [
    Case("refused-port", answer(), "refused", place="closed"),
    Case("ssh-banner", raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "illegal|Protocol|status|reset", place="raw"),
    Case("smtp-banner", raw(b"220 ready ESMTP\r\n"), "illegal|Protocol|status|reset", place="raw"),
    Case("reset-at-once", lambda peer: peer.reset(), "reset|disconnected", place="raw"),
    Case("closed-at-once", raw(b""), "disconnected|reset|closed", place="raw"),
    Case("never-reads", lambda peer: peer.ignore(), "complete answer|timed out", asks="upload", place="raw"),
    Case(
        "answers-early-and-resets",
        _early,
        "reset|200|complete|closed|Broken",
        asks="upload",
        place="raw",
    ),
]


def aws(name: str, serves: Behaviour, *, asks: str = "aws", ends: str = "SETUP_ERROR") -> Case:
    """An endpoint of AWS, which is not the platform: its errors are never the platform's fault."""
    return Case(f"aws-{name}", serves, "" if ends == "passed" else "AWS|aws|answer", asks=asks, ends=ends)


def xml(content: bytes) -> Behaviour:
    """An answer in XML."""
    return answer(content, kind="text/xml")


_REFUSAL = b'{"__type": "\\u001b[2JNo", "message": "\\u001b[31mREADY"}'
_ENTITIES = b"".join(b'<!ENTITY %c "%s">' % (n + 1, b"&%c;" % n * 20) for n in range(97, 110))
_LAUGHS = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + _ENTITIES + b"]><a>&n;</a>"
_FOREIGN = b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><a>&a;</a>'


def to_the_trap(status: str) -> Behaviour:
    """A redirect to the other origin."""
    return lambda peer: peer.send(head(f"Location: {peer.trap}/stolen", status=status, length=0))


AWS = [
    aws("honest", answer(b'{"clusterArns": []}', kind=_JSON), ends="passed"),
    aws("html", answer(b"<html>", kind="text/html")),
    aws("no-kind", answer(b'{"clusterArns": []}', kind="")),
    aws("deep", answer(b'{"a":' * 100_000, kind=_JSON)),
    aws("integer", answer(b'{"a": %s}' % (b"9" * 5000), kind=_JSON)),
    aws("array", answer(b"[]", kind=_JSON)),
    aws("invalid-utf-8", answer(b'{"a": "\xff"}', kind=_JSON)),
    aws("error-colours", answer(_REFUSAL, status="400 No", kind=_JSON)),
    aws("silent", hold),
    aws("drip", then(head(length=len(BODY), kind=_JSON), lambda peer: peer.drip(BODY))),
    aws("endless-body", endlessly(b"A" * 65536, head(kind=_JSON))),
    aws("endless-100", endlessly(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)),
    aws("redirect", to_the_trap("307 No")),
    aws("reset", lambda peer: peer.reset()),
    aws("xml-bomb", xml(_LAUGHS), asks="aws_xml"),
    aws("xml-external", xml(_FOREIGN), asks="aws_xml"),
    aws("xml-deep", xml(b"<a>" * 200_000), asks="aws_xml"),
    aws("xml-none", xml(b"READY"), asks="aws_xml"),
]


def message(kind: bytes, content: bytes = b"") -> bytes:
    """One message of PostgreSQL's protocol."""
    return kind + struct.pack("!i", len(content) + 4) + content


def logged_in(*more: bytes) -> Behaviour:
    """Let the client in, then send what the case has, whatever is asked."""

    def serve(peer: Peer) -> None:
        peer.connection.recv(4096)
        peer.send(message(b"R", struct.pack("!i", 0)) + message(b"Z", b"I"))
        peer.connection.recv(4096)
        peer.send(*more)
        peer.hold()

    return serve


_ROW = message(b"T", b"\0\1a\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0))
POSTGRES = [
    Case(f"postgres-{name}", serves, _POOLER, asks="postgres", place="raw")
    for name, serves in (
        ("silent", lambda peer: peer.ignore()),
        ("http", raw(b"HTTP/1.1 400 No\r\n\r\n")),
        ("reset", lambda peer: peer.reset()),
        ("hangs-after-login", logged_in()),
        ("error-colours", raw(message(b"E", b"SERROR\0CXX000\0M\x1b[2J\x1b[32mREADY\0\0"))),
        ("garbage", logged_in(b"\xff" * 4096)),
        ("huge-message", logged_in(b"D\x7f\xff\xff\xff")),
        ("endless-rows", logged_in(_ROW, *[message(b"D", b"\0\1\0\0\0\1a") * 10 + b"\xff" * 9])),
    )
]
VERIFIERS = [
    Case(f"probe-{name}", serves, "silent", asks="probe")
    for name, serves in (
        ("endless", endlessly(b"A" * 65536, head())),
        ("silent", hold),
        ("retry-after", answer(b"{}", "Retry-After: \xb2", status="429 No")),
        (
            "redirect",
            to_the_trap("302 No"),
        ),
        ("deep-400", answer(b"[" * 100_000, status="400 No")),
    )
]
CASES = [*TLS, *SOCKETS, *AWS, *POSTGRES, *VERIFIERS]
