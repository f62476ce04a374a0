"""Answers that come at once and are wrong: statuses, heads, framing, encodings, redirects, cookies."""

from __future__ import annotations

import zlib

from tests.hostile.case import BODY, Case, answer, chunk, chunked, head, kept, raw, zipped
from tests.hostile.server import Peer

_FRAMED = len(BODY)
REDIRECTS = ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect")


def redirect(name: str, status: str, location: str = "") -> Case:
    """A redirect to the other origin, or to ``location``."""

    def serve(peer: Peer) -> None:
        peer.send(head(f"Location: {location or f'{peer.trap}/stolen'}", status=status, length=0))

    return Case(f"redirect-{name}", serve, rf"expected 200, got {status[:3]}|[Ll]ocation|Invalid|header")


def to_trap(name: str, header: str) -> Case:
    """A 200 with a header that names the other origin, which must not be contacted."""

    def serve(peer: Peer) -> None:
        peer.send(head(header.format(trap=peer.trap), length=_FRAMED) + BODY)

    return Case(name, serve, ends="passed")


def serve_bomb(peer: Peer) -> None:
    """Ten gigabytes of zeros in ten megabytes of gzip."""
    packer = zlib.compressobj(9, wbits=31)
    begin = packer.compress(b"\0" * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(b"\0" * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    peer.send(head("Content-Encoding: gzip"), begin + again * 10_240)
    peer.connection.close()


FRAMING = [
    Case("no-status-line", raw(BODY), r"Protocol|illegal|status"),
    Case("http-0.9", raw(b"<html>hello"), r"Protocol|illegal|status"),
    Case("http-1.0", raw(head(length=_FRAMED).replace(b"1.1", b"1.0") + BODY), ends="passed"),
    Case("http-1.0-no-length", raw(head().replace(b"1.1", b"1.0") + BODY), ends="passed"),
    Case("http-2-preface", raw(b"HTTP/2.0 200 OK\r\n\r\n"), r"illegal|status|Protocol|expected"),
    Case(
        "http-2-frames",
        raw(b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18),
        "not examined: the service speaks only HTTP/2",
        ends="SETUP_ERROR",
    ),
    Case("status-text", raw(b"HTTP/1.1 abc OK\r\n\r\n"), "illegal|status"),
    Case("status-99", raw(b"HTTP/1.1 99 OK\r\n\r\n"), "illegal|status"),
    Case("status-1000", raw(b"HTTP/1.1 1000 OK\r\n\r\n"), "illegal|status"),
    Case("status-999", answer(status="999 Odd"), "expected 200, got 999"),
    Case("status-000", raw(b"HTTP/1.1 000 \r\n\r\n"), "status|expected|illegal|000"),
    Case(
        "no-reason",
        kept(b"HTTP/1.1 200\r\n" + head(length=_FRAMED).partition(b"\r\n")[2] + BODY),
        ends="passed",
    ),
    Case("bare-lf", kept(head(length=_FRAMED).replace(b"\r\n", b"\n") + BODY), ends="passed"),
    Case("nul-in-header", answer(BODY, "X-Odd: a\0b"), "illegal|header"),
    Case("no-colon", answer(BODY, "odd line"), "illegal|header"),
    Case("space-before-colon", answer(BODY, "X-Odd : a"), "illegal|header"),
    Case(
        "early-hints",
        kept(head(status="103 Early Hints", kind="") + head(length=_FRAMED) + BODY),
        ends="passed",
    ),
    Case(
        "continue-first", kept(b"HTTP/1.1 100 Continue\r\n\r\n", head(length=_FRAMED) + BODY), ends="passed"
    ),
    Case("head-byte-by-byte", lambda peer: peer.drip(head(length=_FRAMED) + BODY, 0.0005), ends="passed"),
    Case(
        "switching-protocols",
        raw(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\nxx"),
        "101|PROTOCOL|proposal",
    ),
    Case("length-too-long", raw(head(length=_FRAMED + 9) + BODY), "complete|closed"),
    Case("length-too-short", kept(head(length=_FRAMED - 9) + BODY), "expected|ends after"),
    Case("length-twice", raw(head("Content-Length: 5", length=_FRAMED) + BODY), "[Ll]ength"),
    Case("length-negative", raw(head("Content-Length: -5") + BODY), "[Ll]ength"),
    Case("length-plus", raw(head("Content-Length: +5") + BODY), "[Ll]ength"),
    Case("length-huge", raw(head("Content-Length: " + "9" * 400) + BODY), "[Ll]ength"),
    Case("length-10-gb", raw(head(length=10 << 30) + BODY), "at most 2097152 bytes"),
    Case(
        "length-and-chunked",
        kept(head("Transfer-Encoding: chunked", length=5) + chunked(BODY)),
        ends="passed",
    ),
    Case("encoding-unknown", raw(head("Transfer-Encoding: gzip") + BODY), "[Tt]ransfer"),
    Case("encoding-twice", raw(head("Transfer-Encoding: chunked, chunked") + BODY), "[Tt]ransfer"),
    Case("chunk-size-text", raw(head("Transfer-Encoding: chunked") + b"zz\r\n"), "chunk"),
    Case("chunk-size-huge", raw(head("Transfer-Encoding: chunked") + b"F" * 30 + b"\r\n"), "chunk"),
    Case(
        "chunk-without-end",
        raw(head("Transfer-Encoding: chunked") + chunk(BODY)),
        "incomplete|closed|complete",
    ),
    Case("chunk-not-closed", raw(head("Transfer-Encoding: chunked") + b"2\r\n{}x"), "chunk"),
    Case(
        "chunk-extension",
        kept(head("Transfer-Encoding: chunked") + b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (_FRAMED, BODY)),
        ends="passed",
    ),
    Case(
        "trailers",
        kept(head("Transfer-Encoding: chunked") + chunk(BODY) + b"0\r\nX-A: b\r\n\r\n"),
        ends="passed",
    ),
    Case("many-headers", answer(BODY, *(f"X-{n}: {n}" for n in range(3000))), ends="passed"),
    Case("one-huge-header", answer(BODY, "X-Odd: " + "a" * 200_000), "header|too long|limit|event"),
    Case("no-content-204", kept(head(status="204 No Content", length=_FRAMED) + BODY), "ends after 0 bytes"),
    Case("not-modified", answer(b"", status="304 Not Modified"), "expected 200, got 304"),
    Case("partial", answer(status="206 Partial Content"), "expected 200, got 206"),
    Case("empty", answer(b""), "expected JSON"),
    Case(
        "desync",
        kept(head(status="500 No", length=2) + b"{}" + head(length=_FRAMED) + BODY),
        "expected 200, got 500|ends after",
        asks="twice",
    ),
    Case(
        "desync-healthy-first",
        kept(head(length=_FRAMED) + BODY + head(length=_FRAMED) + BODY),
        "ends after",
        asks="twice",
    ),
    Case(
        "desync-chunked",
        kept(head("Transfer-Encoding: chunked") + chunked(BODY) + head(length=2) + b"{}"),
        asks="twice",
        ends="passed",
    ),
    Case(
        "body-of-a-304",
        kept(head(status="304 Not Modified", length=_FRAMED) + head(length=_FRAMED) + BODY),
        "304|ends after",
        asks="twice",
    ),
]
ENCODINGS = [
    Case("gzip", answer(zipped(), "Content-Encoding: gzip"), ends="passed"),
    Case("gzip-bomb", serve_bomb, "at most 2097152 bytes"),
    Case("gzip-nested", answer(zipped(zipped()), "Content-Encoding: gzip, gzip"), "content-encoding"),
    Case("gzip-truncated", answer(zipped()[:-9], "Content-Encoding: gzip"), "gzip"),
    Case("gzip-garbage", answer(BODY, "Content-Encoding: gzip"), "gzip"),
    Case("gzip-trailing", answer(zipped() + b"more", "Content-Encoding: gzip"), "gzip"),
    Case(
        "gzip-two-members",
        answer(zipped(BODY[:9]) + zipped(BODY[9:]), "Content-Encoding: gzip"),
        ends="passed",
    ),
    Case("gzip-many-members", answer(zipped() * 1000, "Content-Encoding: gzip"), "JSON"),
    Case("gzip-bad-checksum", answer(zipped()[:-8] + b"\0" * 8, "Content-Encoding: gzip"), "gzip"),
    Case("brotli", answer(b"\x0b\x02\x80abc\x03", "Content-Encoding: br"), "content-encoding"),
    Case("zstd", answer(b"\x28\xb5\x2f\xfd", "Content-Encoding: zstd"), "content-encoding"),
    Case("encoding-colours", answer(BODY, "Content-Encoding: \x1b[31mbr"), "content-encoding"),
]
KINDS = [
    Case("no-content-type", answer(kind=""), "content-type"),
    Case("html", answer(b"<html>FAKE READY", kind="text/html"), "content-type"),
    Case("content-type-colours", answer(kind="\x1b[2J\x1b[32mREADY"), "content-type"),
    Case("charset-rot13", answer(kind="application/json; charset=rot13"), ends="passed"),
    Case("charset-utf-7", answer(kind="application/json; charset=utf-7"), ends="passed"),
    Case("charset-bomb", answer(kind="application/json; charset=" + "a" * 60_000), ends="passed"),
    Case(
        "charset-hex-error",
        answer(status="500 No", kind="application/json; charset=hex"),
        "expected 200, got 500",
    ),
    Case(
        "charset-idna",
        answer(b"x" * 60_000, status="401 No", kind="a/b; charset=idna"),
        asks="internals",
        ends="passed",
    ),
    Case("retry-after-superscript", answer(b"{}", "Retry-After: \xb2", status="429 Slow"), "retry-after"),
    Case("retry-after-negative", answer(b"{}", "Retry-After: -1", status="429 Slow"), "retry-after"),
    Case(
        "retry-after-no-date",
        answer(b"{}", "Retry-After: Thu, 32 Jan 2099 00:00:00 GMT", status="429 Slow"),
        "retry-after",
    ),
    Case(
        "retry-after-date",
        answer(b"{}", "Retry-After: Thu, 01 Jan 2099 00:00:00 GMT", status="429 Slow"),
        "rate limited",
        ends="SETUP_ERROR",
    ),
    Case("retry-after-huge", answer(b"{}", "Retry-After: " + "9" * 400, status="429 Slow"), "retry-after"),
    Case(
        "retry-after-days",
        answer(b"{}", "Retry-After: 99999999", status="429 Slow"),
        "rate limited",
        ends="SETUP_ERROR",
    ),
    Case(
        "outage-without-signal",
        answer(b'{"error": "\\u001b[31mREADY"}', status="503 No"),
        "expected 200, got 503",
    ),
    Case("error-code-object", answer(b'{"error": {"a": [1]}}', status="500 No"), "expected 200, got 500"),
    Case(
        "error-code-long",
        answer(b'{"error": "%s"}' % (b"A" * 1_000_000), status="500 No"),
        "expected 200, got 500",
    ),
    Case("error-deep", answer(b"[" * 100_000, status="500 No"), "expected 200, got 500"),
]
ORIGINS = [
    *(redirect(status[:3], status) for status in REDIRECTS),
    redirect("file", "302 Found", "file:///etc/passwd"),
    redirect("bad-host", "302 Found", "http://[::1"),
    redirect("colours", "302 Found", "\x1b]8;;http://evil\x07READY"),
    redirect("long", "302 Found", "//" + "a" * 70_000),
    redirect("bad-port", "302 Found", "http://h:99999999"),
    to_trap("refresh", "Refresh: 0; url={trap}/stolen"),
    to_trap("link-preload", "Link: <{trap}/stolen>; rel=preload"),
    to_trap("alt-svc", 'Alt-Svc: h2="{trap}"; ma=60'),
    to_trap("content-location", "Content-Location: {trap}/stolen"),
    Case(
        "basic-challenge",
        answer(b"{}", 'WWW-Authenticate: Basic realm="x"', status="401 No"),
        "expected 200, got 401",
    ),
    Case(
        "proxy-challenge",
        answer(b"{}", "Proxy-Authenticate: Basic", status="407 No"),
        "expected 200, got 407",
    ),
    Case("cookie", answer(BODY, "Set-Cookie: session=stolen; Path=/"), asks="cookie", ends="passed"),
    Case(
        "cookie-domain",
        answer(BODY, "Set-Cookie: session=stolen; Domain=127.0.0.1; Path=/"),
        asks="cookie",
        ends="passed",
    ),
    Case(
        "cookie-many",
        answer(BODY, *(f"Set-Cookie: c{n}=stolen; Path=/" for n in range(2000))),
        asks="cookie",
        ends="passed",
    ),
    Case(
        "cookie-date",
        answer(BODY, "Set-Cookie: a=stolen; Path=/; Expires=" + "1" * 60_000),
        asks="cookie",
        ends="passed",
    ),
]
CASES = [*FRAMING, *ENCODINGS, *KINDS, *ORIGINS]
