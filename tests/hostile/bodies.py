"""Invalid JSON or JSON that two readers would read differently, and values that the contract excludes."""

from __future__ import annotations

from tests.hostile.case import BODY, Case, answer, with_member

_DEEP = 100_000


def body(name: str, content: bytes, says: str, asks: str = "health") -> Case:
    """An answer with this body."""
    return Case(name, answer(content), says, asks)


def member(name: str, key: str, value: str, says: str, asks: str = "health") -> Case:
    """The honest answer with one member replaced."""
    return Case(name, answer(with_member(key, value)), says, asks)


TEXTS = [
    body("json-truncated", BODY[:-5], "expected JSON"),
    body("json-twice", BODY + BODY, "expected JSON"),
    body("json-comment", b"/* */ " + BODY, "expected JSON"),
    body("json-trailing-comma", BODY[:-1] + b",}", "expected JSON"),
    body("json-single-quotes", b"{'status': 'healthy'}", "expected JSON"),
    body("json-bom", b"\xef\xbb\xbf" + BODY, "expected JSON"),
    body("json-utf-16", BODY.decode().encode("utf-16"), "UTF-8"),
    body("json-invalid-utf-8", BODY[:-1] + b', "x": "\xff\xfe"}', "UTF-8"),
    body("json-overlong-utf-8", BODY[:-1] + b', "x": "\xc0\xae"}', "UTF-8"),
    body("json-utf-8-surrogate", BODY[:-1] + b', "x": "\xed\xa0\x80"}', "UTF-8"),
    body("json-half-pair", BODY[:-1] + b', "x": "\\ud800"}', "surrogate"),
    body("json-raw-newline", BODY[:-1] + b', "x": "a\nb"}', "expected JSON"),
    body("json-deep-arrays", b"[" * _DEEP + b"]" * _DEEP, "deeper"),
    body("json-deep-objects", b'{"a":' * _DEEP + b"1" + b"}" * _DEEP, "deeper"),
    body("json-deep-within", BODY[:-1] + b', "x": ' + b"[" * 500 + b"]" * 500 + b"}", "deeper"),
    body("json-deep-unclosed", b"[" * _DEEP, "deeper|expected JSON"),
    body("json-wide", b"[" + b"[]," * 200_000 + b"[]]", "expected an object"),
    body("json-array", b"[1]", "expected an object"),
    body("json-string", b'"healthy"', "expected an object"),
    body("json-null", b"null", "expected an object"),
    body("json-whitespace", b" " * 1_000_000, "expected JSON"),
    body("json-nul", b"\0" * 1000, "expected JSON"),
    body("json-same-name", b'{"status": "unhealthy", "status": "healthy"}', "twice"),
    body("json-same-name-deep", BODY[:-1] + b', "x": [{"a": 1, "\\u0061": 2}]}', "twice"),
    body("json-many-names", b"{" + b",".join(b'"%d":1' % n for n in range(120_000)) + b', "0": 2}', "twice"),
]
NUMBERS = [
    member("nan", "uptime", "NaN", "NaN"),
    member("infinity", "uptime", "Infinity", "Infinity"),
    member("minus-infinity", "uptime", "-Infinity", "Infinity"),
    member("beyond-a-double", "uptime", "1e999", "double"),
    member("integer-5000-digits", "uptime", "9" * 5000, "integer of 5000 digits"),
    member("integer-400-digits", "uptime", "9" * 400, "integer of 400 digits"),
    member("integer-65-bits", "uptime", str(2**64), "integer of 20 digits"),
    member("integer-minus", "uptime", "-" + "9" * 300, "integer of 300 digits"),
    member("float-many-digits", "uptime", "-1." + "0" * 100_000, "expected a number", asks="uptime"),
    member("number-as-text", "uptime", '"1"', "expected a number", asks="uptime"),
    member("boolean-as-number", "uptime", "true", "expected a number", asks="uptime"),
    member("negative-uptime", "uptime", "-1", "expected a number", asks="uptime"),
    member("micro-5000-digits", "committedMicro", '"' + "9" * 5000 + '"', "decimal digits", asks="budget"),
    member("micro-superscript", "committedMicro", '"²"', "decimal digits", asks="budget"),
    member("micro-arabic", "committedMicro", '"٣"', "decimal digits", asks="budget"),
    member("micro-sign", "committedMicro", '"-1"', "decimal digits", asks="budget"),
    member("micro-newline", "committedMicro", '"0\\n"', "decimal digits", asks="budget"),
    member("micro-number", "committedMicro", "0", "decimal digits", asks="budget"),
    member("cents-negative", "monthlyBudgetCents", "-1", "expected an integer", asks="budget"),
    member("cents-fraction", "monthlyBudgetCents", "1.5", "expected an integer", asks="budget"),
    member("cents-exponent", "monthlyBudgetCents", "15e-1", "expected an integer", asks="budget"),
    member("another-tenant", "communityId", '"\\u001b[32mother"', "communityId", asks="budget"),
    member("period-regex", "period", '"2026-11\\n"', "period", asks="budget"),
    member(
        "cost-superscript",
        "usage",
        '{"promptTokens": 1, "completionTokens": 1, "costMicro": "²"}',
        "costMicro",
        asks="invoke",
    ),
    member(
        "cost-5000-digits",
        "usage",
        '{"promptTokens": 1, "completionTokens": 1, "costMicro": "%s"}' % ("9" * 5000),
        "costMicro",
        asks="invoke",
    ),
    member("usage-array", "usage", "[[]]", "usage", asks="invoke"),
    member("trace-colours", "traceId", '"\\u001b[2J"', "traceId", asks="invoke"),
    member("no-echo", "content", '"x"', "x-idempotency-key", asks="invoke"),
]
TEXT_VALUES = [
    member("clear-screen", "status", '"\\u001b[2JREADY"', "status"),
    member("hyperlink", "status", '"\\u001b]8;;http://evil\\u0007READY\\u001b]8;;\\u0007"', "status"),
    member("carriage-return", "status", '"BROKEN\\rREADY  "', "status"),
    member("backspaces", "status", '"BROKEN\\b\\b\\b\\b\\b\\bREADY "', "status"),
    member("bidi-override", "status", '"\\u202eYDAER"', "status"),
    member("bidi-isolate", "status", '"\\u2066READY\\u2069"', "status"),
    member("c1-controls", "status", '"\\u009b31mREADY"', "status"),
    member("line-separator", "status", '"x\\u2028READY  exit 0"', "status"),
    member("markdown", "status", '"| READY |\\n# READY\\n<script>alert(1)</script>"', "status"),
    member("long-text", "status", '"%s"' % ("A" * 1_000_000), "status"),
    member("zalgo", "status", '"a%s"' % ("\\u0300" * 2000), "status"),
]
_KID = '{"kid": "a"}'
_KIND = '"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig"'
KEY_SETS = [
    member("keys-missing", "keys", "null", "keys", asks="jwks"),
    member("keys-scalars", "keys", "[1, 2]", "keys", asks="jwks"),
    member("keys-colours", "keys", '[{"kid": "\\u001b[2J", "kty": "RSA", "x": 1}]', "faulty", asks="jwks"),
    member(
        "keys-point-huge",
        "keys",
        '[{"kty": "EC", "crv": "P-256", "x": "%s", "y": "A"}]' % ("A" * 100_000),
        "faulty",
        asks="jwks",
    ),
    member(
        "keys-off-curve",
        "keys",
        f'[{{{_KIND}, "x": "{"A" * 43}", "y": "{"A" * 43}"}}]',
        "curve|faulty",
        asks="jwks",
    ),
    member("keys-many", "keys", f"[{','.join([_KID] * 20_000)}]", "faulty", asks="jwks"),
]
CASES = [*TEXTS, *NUMBERS, *TEXT_VALUES, *KEY_SETS]
