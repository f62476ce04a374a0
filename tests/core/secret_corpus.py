"""Secrets, the ways a text can contain one, and an oracle that tells whether one is still visible."""

from __future__ import annotations

import base64
import binascii
import html
import json
import pprint
import random
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus, unquote
from xml.sax.saxutils import escape, quoteattr

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_ANY = random.Random(8)  # the same corpus in each process
_URLSAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _made(length: int, alphabet: str = _URLSAFE) -> str:
    return "".join(_ANY.choice(alphabet) for _ in range(length))


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, form: str) -> str:
    kinds = {
        "pkcs8": PrivateFormat.PKCS8,
        "traditional": PrivateFormat.TraditionalOpenSSL,
        "openssh": PrivateFormat.OpenSSH,
    }
    return key.private_bytes(Encoding.PEM, kinds[form], NoEncryption()).decode()


_EC, _RSA = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
_ED = ed25519.Ed25519PrivateKey.generate()
_HEADER = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InNtb2tlIn0"
KEYS = {
    "pkcs8": _pem(_EC, "pkcs8"),
    "sec1": _pem(_EC, "traditional"),
    "rsa": _pem(_RSA, "pkcs8"),
    "rsa-pkcs1": _pem(_RSA, "traditional"),
    "ed25519": _pem(_ED, "pkcs8"),
    "openssh": _pem(_ED, "openssh"),
}
#: Recognised by their shape.
SHAPED = {
    "jwt": f"{_HEADER}.{_made(120)}.{_made(86)}",
    "jwt-unsigned": f"eyJhbGciOiJub25lIn0.{_made(90)}.",
    "jwt-spaced-header": f"eyAiYWxnIjogIkVTMjU2IiB9.{_made(90)}.{_made(86)}",
    "jwe": f"eyJhbGciOiJSU0EtT0FFUCJ9.{_made(60)}.{_made(16)}.{_made(80)}.{_made(22)}",
    **{f"pem-{name}": pem for name, pem in KEYS.items()},
    **{f"bare-{name}": pem.split("\n", 1)[1] for name, pem in KEYS.items()},
    "pem-in-base64": base64.b64encode(KEYS["pkcs8"].encode()).decode(),
    "akia": "AKIA" + _made(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    "asia": "ASIA" + _made(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    "wallet-key": "0x" + _made(64, "0123456789abcdef"),
    "prefixed": "acme_live_" + _made(32),
}
#: Recognised because the run has loaded them.
REGISTERED = {
    "token": "s3cr3t/value+with=specials",
    "word": "hunter22",
    "long": _made(400),
    "unicode": "pässwörd-Ω-für-den-Tëst-0123",
    "quoted": "say \"h3llo\" & 'go' <b>\\n</b>",
    "lines": "first-line-of-it-all\nsecond/line+42==and-it-goes-on\nthird&line<x>",
    "percent": "p%41ss%2Fw0rd%25-and-more",
    "key-id-less": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY",
}
PREFIXES = ("acme_",)

COLOUR, RESET = "\x1b[31m", "\x1b[39;49;00m"


def _every(form: str) -> Callable[[str], str]:
    return lambda text: "".join(form.format(byte) for byte in text.encode())


def _margin(lead: str) -> Callable[[str], str]:
    return lambda text: "\n".join(f"{lead}{line}" for line in f"refused: {text}".splitlines()) + "\nthe end"


def _cut(text: str, size: int) -> str:
    """Cut the middle out, as pytest's safe repr does."""
    shown = repr(text)
    head = max(0, (size - 3) // 2)
    return (
        f"token = {shown[:head]}...{shown[len(shown) - head :]}" if len(shown) > size else f"token = {shown}"
    )


#: Ways to write any secret.
WRITTEN: dict[str, Callable[[str], str]] = {
    "alone": lambda text: text,
    "sentence": lambda text: f"the platform refused {text} as it should",
    "full-stop": lambda text: f"refused {text}. Then it went on.",
    "after-underscore": lambda text: f"id_{text}",
    "after-equals": lambda text: f"x={text}&y=2",
    "after-colon": lambda text: f"value:{text},next",
    "in-brackets": lambda text: f"test_call[{text}-p0] PASSED",
    "after-letter-n-escape": lambda text: f'"line one\\n{text}"',
    "after-tab-escape": lambda text: f'"\\t{text}\\r\\n"',
    "after-percent-escape": lambda text: f"https://host/path?next%3D{text}%26x",
    "json": lambda text: json.dumps({"value": text, "n": 1}),
    "json-key": lambda text: json.dumps({text: 1}),
    "json-after-line": lambda text: json.dumps({"log": f"started\n{text}\ndone"}),
    "json-unicode": lambda text: json.dumps({"value": text}, ensure_ascii=False),
    "json-in-json": lambda text: json.dumps({"body": json.dumps({"value": f"a\n{text}"})}),
    "json-in-json-in-json": lambda text: json.dumps(
        [json.dumps([json.dumps([f"\n{text}"], ensure_ascii=False)])]
    ),
    "json-slashes": lambda text: json.dumps([text]).replace("/", "\\/"),
    "repr": lambda text: f"assert {text!r} == ''",
    "repr-bytes": lambda text: f"assert {text.encode()!r} == b''",
    "repr-in-repr": lambda text: repr(f"assert {text!r}"),
    "ascii": lambda text: f"value {text!a}",
    "pprint": lambda text: pprint.pformat({"a": 1, "value": [text, text]}, width=60),
    "html": lambda text: f'<td title="{html.escape(text)}">x</td>',
    "html-numeric": lambda text: f"<td>{html.escape(text).replace('&quot;', '&#34;')}</td>",
    "html-each": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "html-each-hex": lambda text: "".join(f"&#x{ord(letter):X};" for letter in text),
    "html-of-json": lambda text: f'<div data-x="{html.escape(json.dumps({"v": text}))}">',
    "xml": lambda text: f"<failure message={quoteattr(text)}>{escape(text)}</failure>",
    "xml-colour": lambda text: f"<out>#x1B[31m{escape(text)}#x1B[0m</out>",
    "url": lambda text: f"https://host/p?a=1&v={quote(text)}",
    "url-strict": lambda text: f"https://host/p?a=1&v={quote(text, safe='')}",
    "url-plus": lambda text: f"a=1&v={quote_plus(text)}",
    "url-lower": lambda text: re.sub("%[0-9A-F]{2}", lambda one: one.group().lower(), quote(text, safe="")),
    "url-twice": lambda text: f"next={quote(quote(text, safe=''), safe='')}",
    "percent-each": _every("%{:02X}"),
    "percent-each-lower": _every("%{:02x}"),
    "hex-escape-each": _every("\\x{:02x}"),
    "octal-escape-each": _every("\\{:03o}"),
    "unicode-escape-each": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "unicode-braced-each": lambda text: "".join(f"\\u{{{ord(letter):x}}}" for letter in text),
    "unicode-long-each": lambda text: "".join(f"\\U{ord(letter):08x}" for letter in text),
    "unicode-percent-each": lambda text: "".join(f"%u{ord(letter):04x}" for letter in text),
    "invisible-inside": lambda text: "\u200b".join(text),
    "soft-hyphens": lambda text: "\u00ad".join(text[at : at + 4] for at in range(0, len(text), 4)),
    "wide-bytes": lambda text: repr("\0".join(text)),
    "title": lambda text: f"\x1b]0;{COLOUR}{text}{RESET}\x07 {text}",
    "colour-each": lambda text: "".join(f"\x1b[38;5;{n % 9}m{letter}" for n, letter in enumerate(text)),
    "colour-before": lambda text: f"{COLOUR}{text}",
    "colour-around": lambda text: f"E   {COLOUR}{text}{RESET} refused",
    "colour-inside": lambda text: f"{text[: len(text) // 2]}{COLOUR}{text[len(text) // 2 :]}{RESET}",
    "colour-as-text": lambda text: repr(f"{COLOUR}{text}{RESET}"),
    "link": lambda text: f"\x1b]8;;https://host\x07{text}\x1b]8;;\x07",
    "traceback": _margin("E       "),
    "log-margin": _margin("> "),
    "internal-error": _margin("INTERNALERROR> "),
    "diff": _margin("+ "),
    "pipe-margin": _margin("    | "),
    "crlf": lambda text: f"head\r\n{text.replace(chr(10), chr(13) + chr(10))}\r\ntail",
    "yaml": lambda text: "value: |\n" + textwrap.indent(text, "    "),
    "csv": lambda text: f'1,"{text}",3',
    "shell": lambda text: f"curl -H 'X: {text}' https://host",
    "markdown": lambda text: f"| name | `{text}` |",
    "cut-240": lambda text: _cut(text, 240),
    "cut-80": lambda text: _cut(text, 80),
    "cut-42": lambda text: _cut(text, 42),
}


def _basic(lead: str) -> Callable[[str], str]:
    return lambda text: "sent " + base64.b64encode(f"{lead}{text}!?".encode()).decode()


def _wrapped(width: int) -> Callable[[str], str]:
    return lambda text: "\n".join(textwrap.wrap(base64.b64encode(text.encode()).decode(), width))


#: Ways to encode a secret as a whole; nothing recognises those of a secret that the run does not know.
ENCODED: dict[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64-urlsafe": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64-in-sentence": lambda text: f"got {base64.b64encode(text.encode()).decode().rstrip('=')} back",
    "base64-after-1": _basic("u"),
    "base64-after-2": _basic("us"),
    "base64-after-3": _basic("use"),
    "base64-in-json": lambda text: json.dumps({"v": base64.b64encode(text.encode()).decode()}),
    "base64-in-url": lambda text: quote(base64.b64encode(text.encode()).decode(), safe=""),
    "base64-wrapped-76": _wrapped(76),
    "base64-wrapped-64": _wrapped(64),
    "base64-wrapped-20": _wrapped(20),
    "base64-wrapped-in-json": lambda text: json.dumps({"v": _wrapped(20)(text)}),
    "base64-wrapped-in-traceback": lambda text: _margin("E   ")(_wrapped(24)(text)),
    "base64-wrapped-crlf": lambda text: _wrapped(20)(text).replace("\n", "\r\n"),
    "hex": lambda text: text.encode().hex(),
    "hex-upper": lambda text: text.encode().hex().upper(),
    "hex-colons": lambda text: text.encode().hex(":"),
    "hex-spaces": lambda text: text.encode().hex(" "),
    "hex-wrapped": lambda text: "\n".join(textwrap.wrap(text.encode().hex(), 24)),
    "hex-dashes": lambda text: text.encode().hex("-"),
    "numbers": lambda text: f"assert {[*text.encode()]} == []",
    "numbers-hex": lambda text: ", ".join(f"0x{octet:02x}" for octet in text.encode()),
    "base64-of-json": lambda text: _wrapped(10_000)(json.dumps({"a": text})),
    "base64-of-unicode-json": lambda text: _wrapped(10_000)(json.dumps({"a": text}, ensure_ascii=False)),
    "base64-of-form": lambda text: _wrapped(10_000)(f"a=1&b={quote(text, safe='')}&c=2"),
    "upper-case": lambda text: f"HEADER {text.upper()} END",
    "lower-case": lambda text: f"header {text.lower()} end",
    "shell-quoted": lambda text: f"curl -u {shlex.quote(text)}",
    "sql-quoted": lambda text: "values ('" + text.replace("'", "''") + "')",
    "csv-quoted": lambda text: '1,"' + text.replace('"', '""') + '",2',
    "sliced": lambda text: f"begins with {text[: max(20, len(text) * 2 // 3)]} and so on",
}


def what_is_secret(text: str) -> str:
    """Return what of a secret must not be seen: the body of a key, all after the header of a token."""
    if "PRIVATE KEY-----" in text:
        text = "".join(line for line in text.splitlines() if not line.startswith("-----"))
    if text.startswith("ey"):
        text = text.partition(".")[2]
    return re.sub(r"\s", "", text)


def is_visible(text: str, secret: str) -> bool:
    """Tell whether a text still shows a telling part of a secret, by decoders that redaction does not use."""
    kept = what_is_secret(secret)
    size = min(12, len(kept))
    parts = {kept[at : at + size] for at in range(0, len(kept) - size + 1, 1 + len(kept) // 60)}
    return any(part in reading for reading in _readings(text) for part in parts)


def _readings(text: str) -> Iterator[str]:
    readings = fresh = {text}
    for _ in range(3):
        fresh = {undo(one) for one in fresh for undo in _UNDONE} - readings
        readings = readings | fresh
    for one in readings:
        yield re.sub(r"\s", "", one)
        yield re.sub(r"\n(?:INTERNALERROR> |[-+E>|#] |[\s|\"'])*", "", one)
    for run in re.findall(r"[A-Za-z0-9+/_-]{8,}", re.sub(r"\n(?:[E>|+-] |\s)*|\\n", "", text)):
        for shift in range(4):
            part = run[shift:].replace("-", "+").replace("_", "/")
            decoded = base64.b64decode(part + "A" * (-len(part) % 4))
            for undo in (str, unquote, _unescaped):
                yield re.sub(r"\s", "", undo(decoded.decode("utf-8", "ignore")))
    for run in re.findall(r"(?:(?:0x[0-9a-f]{2}|\d+)(?:, |\b)){6,}", text):
        octets = bytes(min(int(number, 0), 255) for number in run.split(", "))
        yield re.sub(r"\s", "", octets.decode("utf-8", "ignore"))
    for run in re.findall(r"[0-9a-fA-F]{12,}", re.sub(r"[\s:-]", "", text)):
        for shift in range(2):
            with_even = run[shift:][: len(run[shift:]) // 2 * 2]
            yield re.sub(r"\s", "", binascii.unhexlify(with_even).decode("utf-8", "ignore"))


def _unescaped(text: str) -> str:
    return re.sub(
        r"(?:\\x[0-9a-f]{2}|\\[0-7]{3})+",
        lambda one: _of_bytes(one.group().encode().decode("unicode_escape").encode("latin-1")),
        re.sub(
            r"\\u([0-9a-f]{4})",
            lambda one: chr(int(one[1], 16)),
            text.replace("\\/", "/").replace('\\"', '"').replace("\\'", "'").replace("\\\\", "\\"),
        ),
    )


def _of_bytes(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


_UNDONE: tuple[Callable[[str], str], ...] = (
    lambda text: re.sub(r"[\u200b\u00ad\0]|\\x00", "", text),
    lambda text: re.sub(r"%u([0-9a-f]{4})", lambda one: chr(int(one[1], 16)), text),
    lambda text: re.sub(
        r"\\u\{([0-9a-f]+)\}|\\U([0-9a-f]{8})", lambda one: chr(int(one[1] or one[2], 16)), text
    ),
    html.unescape,
    unquote,
    lambda text: unquote(text.replace("+", " ")),
    _unescaped,
    lambda text: re.sub(r"\\n|\\r|\\t", "\n", text),
    lambda text: re.sub(r"(?:\x1b|#x1B|\\x1b)\[[0-9;]*m|\x1b\](?:0|8;);[^\x07]*\x07", "", text),
)
