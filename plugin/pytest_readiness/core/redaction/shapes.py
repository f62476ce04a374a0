"""Secrets recognised by their shape: tokens, private keys, key ids, credentials in URLs, headers."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

MARK = "[redacted]"
PRIVATE_KEY, JWT = "[redacted private key]", "[redacted jwt]"
API_KEY, AWS_KEY_ID, HEX_KEY = "[redacted api key]", "[redacted aws key id]", "[redacted 32-byte hex]"

#: Start and end of a secret in a text, and its replacement.
Found = tuple[int, int, str]

BEGIN = re.compile(r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
END = re.compile(r"-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
#: Text between the lines of a key's body: quotes of a repr, the margin of a traceback or a log.
_MARGIN = r"(?:\s|[\"'(),\\]|\.\.\.|…|INTERNALERROR>|b(?=[\"'])|[-+?E>|#*](?=\s))"
_BODY = re.compile(
    rf"{_MARGIN}*+(?:(?:Proc-Type|DEK-Info): [^\n]*{_MARGIN}*+)*+"
    rf"[A-Za-z0-9+/=]{{16,}}+(?:{_MARGIN}++[A-Za-z0-9+/=]{{16,}}+)*+(?:{_MARGIN}++[A-Za-z0-9+/]{{1,15}}(?:={{1,2}}|(?=\s*\Z)))?"
)
_MARGIN_WORD = re.compile(r"[\"'(),\\b>|E#*+?.…-]*|INTERNALERROR>")
_BODY_WORD = re.compile(r"[\"'(b]*[A-Za-z0-9+/]{16,}={0,2}[\"'),]*")
_LAST_WORD = re.compile(r"[\"'(b]*[A-Za-z0-9+/]{1,76}={0,2}[\"'),]*")
_LONGEST_BODY = 20_000
_DER = re.compile(r"M[A-P][A-Za-z0-9+/]{30}|b3BlbnNzaC1rZXktdjE")
_JWK_MEMBER = re.compile(r"([\"'])(?:d|p|q|dp|dq|qi|k)\1\s*:\s*b?[\"']([A-Za-z0-9_-]{16,}+)")
#: A JSON object in base64url, a second part, and a signature or the other parts of a JWE; dots may come from
#: truncation.
_JWT = re.compile(
    r"(?:eyJ|eyA|ewo|ew0)[A-Za-z0-9_-]{5,4096}+(?:\.{1,3}|…)[A-Za-z0-9_-]{4,}+"
    r"(?:(?:\.{1,3}|…)[A-Za-z0-9_-]*+)?(?:(?:\.{1,3}|…)[A-Za-z0-9_-]++){0,2}"
)


_PEM_IN_BASE64 = re.compile(
    r"LS0tLS1CRUdJTi[A-Za-z0-9+/]++(?:\s+[A-Za-z0-9+/]{16,}+)*+(?:\s+[A-Za-z0-9+/]++(?==))?={0,2}"
)
#: Keys of common services, by their vendors' prefixes.
_VENDORS = (
    *("ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "xox", "sk_", "rk_", "whsec_", "sk-"),
    *("AIza", "npm_", "pypi-AgE", "hvs.", "hvb.", "hvr.", "SG.", "dop_v1_"),
)
_OF_VENDOR = (
    r"(?<![A-Za-z0-9])(?:gh[opsur]_[A-Za-z0-9]{30,}|github_pat_\w{40,}|glpat-[\w-]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/]{24,}"
    r"|sk-(?:\w{1,20}-){0,3}[A-Za-z0-9]{32,}|AIza[\w-]{35}|npm_[A-Za-z0-9]{36}|pypi-AgE[\w-]{50,}|hv[sbr]\.[\w-]{24,}"
    r"|SG\.[\w-]{22}\.[\w-]{43}|dop_v1_[0-9a-f]{64})"
)
_USER_OPTION = re.compile(
    r"\s[\"']?(?:-u|-U|--user|--proxy-user)(?:[ =]|[\"'],? ?[\"'])?[\"']?"
    r"[^\s:'\"$]+:(?P<value>(?![$]|\d+\b)[^\s'\"]+)"
)
_LONGEST_COMMAND = 2000
_AUTH_OF_REGISTRY = re.compile(
    r"([\"'])auth\1\s*:\s*([\"'])(?P<value>[A-Za-z0-9+/]{8,}={0,2})\2|\b_auth\s*=\s*(?P<plain>[A-Za-z0-9+/]{8,}={0,2})"
)
_BASIC = re.compile(r"\b[Bb]asic (?P<value>[A-Za-z0-9+/]{6,}+={0,2})")


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape. Texts without any of the ``needles``, which are parts of words, are not searched for it.

    A ``strict`` shape is certain: innocent text never has it, so a finished artifact must not contain it.
    """

    needles: tuple[str, ...]
    find: Callable[[str], Iterator[Found]]
    strict: bool = True


def prefixed(prefixes: Iterable[str]) -> Shape:
    """Return the shape of the keys that begin with one of the prefixes."""
    needles = tuple(prefixes)
    alternatives = "|".join(map(re.escape, needles))
    return Shape(needles, _pattern(rf"(?<![A-Za-z0-9])(?:{alternatives})[A-Za-z0-9_-]{{6,}}", API_KEY))


def _pattern(pattern: str, label: str, flags: int = 0) -> Callable[[str], Iterator[Found]]:
    """Return a finder for a regular expression; its group "value", if any, is the secret."""
    compiled = re.compile(pattern, flags)
    group = "value" if "value" in compiled.groupindex else 0

    def find(text: str) -> Iterator[Found]:
        return ((*match.span(group), label) for match in compiled.finditer(text))

    return find


def _private_keys(text: str) -> Iterator[Found]:
    """Yield keys in PEM: complete, without END, and without BEGIN."""
    done = 0
    for begin in BEGIN.finditer(text):
        following = BEGIN.search(text, begin.end())
        limit = min(following.start() if following else len(text), begin.end() + _LONGEST_BODY)
        end = END.search(text, begin.end(), limit)
        body = end or _BODY.match(text, begin.end())
        if body:
            done = body.end()
            yield begin.start(), done, PRIVATE_KEY
    for end in END.finditer(text, done):
        start = _start_of_body(text, done, end.start())
        if start < end.start():
            yield start, end.end(), PRIVATE_KEY
        done = end.end()


def _start_of_body(text: str, floor: int, end: int) -> int:
    """Return the start of the base64 lines that end at ``end``."""
    start = end
    words = [*re.finditer(r"\S+", text[max(floor, end - _LONGEST_BODY) : end])]
    offset = max(floor, end - _LONGEST_BODY)
    pattern = _LAST_WORD
    for word in reversed(words):
        if pattern.fullmatch(word.group()):
            start, pattern = offset + word.start(), _BODY_WORD
        elif not _MARGIN_WORD.fullmatch(word.group()):
            break
    return start


def _key_bodies(text: str) -> Iterator[Found]:
    """Yield the base64 of a private key without its BEGIN line, recognised by the start of its DER."""
    for match in _DER.finditer(text):
        if match.group().startswith("b3") or _is_private_der(match.group()):
            body = _BODY.match(text, match.start())
            if body:
                yield match.start(), body.end(), PRIVATE_KEY


def _is_private_der(start: str) -> bool:
    """Tell whether base64 begins like a private key: a SEQUENCE with version 0, 1 or 3 and its next field."""
    der = base64.b64decode(start[:16])
    body = der[{0x81: 3, 0x82: 4}.get(der[1], 2) :]
    return body[:2] == b"\x02\x01" and body[2] in (0, 1, 3) and body[3] in (0x02, 0x04, 0x30)


def _private_jwks(text: str) -> Iterator[Found]:
    if "kty" in text:
        yield from ((*match.span(2), MARK) for match in _JWK_MEMBER.finditer(text))


def _jwts(text: str) -> Iterator[Found]:
    for match in _JWT.finditer(text):
        head = match.group()[:8].replace("-", "+").replace("_", "/")
        try:
            decoded = base64.b64decode(head)
        except binascii.Error:  # truncated so early that the dot is among the first eight characters
            continue
        if all(0x20 <= byte < 0x7F or byte in b"\r\n\t" for byte in decoded):
            yield match.start(), match.end(), JWT


def _encoded_keys(text: str) -> Iterator[Found]:
    """Yield private keys in PEM that is base64-encoded again, as in Kubernetes and CI variables."""
    for match in _PEM_IN_BASE64.finditer(text):
        if b"PRIVATE KEY" in _decoded(match.group()[:72]):
            yield match.start(), match.end(), PRIVATE_KEY


def _basic(text: str) -> Iterator[Found]:
    """Yield user:password in base64, as in Basic authentication and in files of Docker and npm."""
    for pattern in (_BASIC, _AUTH_OF_REGISTRY):
        for match in pattern.finditer(text):
            group = match.lastgroup or "value"
            decoded = _decoded(match[group])
            if b":" in decoded and decoded.isascii() and decoded.decode().isprintable():
                yield *match.span(group), MARK


def _user_options(text: str) -> Iterator[Found]:
    """Yield the password of ``curl -u user:password``; another command's ``-u`` may be anything."""
    for match in _USER_OPTION.finditer(text):
        floor = max(0, match.start() - _LONGEST_COMMAND)
        command = text[max(floor, text.rfind("\n", floor, match.start())) : match.start()]
        if "curl" in command or "wget" in command:
            yield *match.span("value"), MARK


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except binascii.Error:
        return b""


SHAPES: tuple[Shape, ...] = (
    Shape(("PRIVATE",), _private_keys),
    Shape(("AgEA", "AgEB", "AgED", "IB", "AQAw", "AQEE", "AQAC", "b3Bl"), _key_bodies),
    Shape(('"d"', "'d'", '"k"', "'k'"), _private_jwks),
    Shape(("eyJ", "eyA", "ewo", "ew0"), _jwts),
    Shape(("LS0tLS1CRUdJTi",), _encoded_keys),
    Shape(("asic ", '"auth"', "'auth'", "_auth"), _basic, strict=False),
    Shape(_VENDORS, _pattern(_OF_VENDOR, API_KEY)),
    Shape(
        ("hooks.slack.com", "discord.com/api/webhooks", "webhook.office.com"),
        _pattern(
            r"(?:hooks\.slack\.com/(?:services|workflows)|discord\.com/api/webhooks|webhook\.office\.com/webhookb2)/"
            r"(?P<value>[\w@/-]{16,})",
            MARK,
        ),
        strict=False,
    ),
    # RFC 7616: the response allows guessing the password offline
    Shape(
        ("igest ",),
        _pattern(r"[Dd]igest [^\r\n]{0,1000}?\bresponse=\"?(?P<value>[0-9a-fA-F]{16,})", MARK),
        strict=False,
    ),
    # passwords that SQL and command lines do not call that
    Shape(
        ("dentified", "DENTIFIED"),
        _pattern(
            r"identified\s+(?:with\s+\S+\s+)?(?:by|as)\s+(?:password\s+)?(?P<quote>['\"])(?P<value>[^'\"\n]+)(?P=quote)",
            MARK,
            re.IGNORECASE,
        ),
        strict=False,
    ),
    Shape(("curl", "wget"), _user_options, strict=False),
    # a line of .pgpass: host, port, database, user, password
    Shape(
        (":5432:", ":6432:", ":*:"),
        _pattern(
            r"^(?:\*|[\w.-]+):(?:\*|5432|6432):(?:\*|[A-Za-z_][\w-]*):(?:\*|[A-Za-z_][\w.@-]*):(?P<value>[^\s:\\]\S*)$",
            MARK,
            re.MULTILINE,
        ),
        strict=False,
    ),
    Shape(("AKIA", "ASIA"), _pattern(r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])", AWS_KEY_ID)),
    Shape(
        ("0x", "0X"),
        _pattern(
            r"0[xX][0-9a-fA-F]{64}(?![0-9a-fA-F])|0[xX][0-9a-fA-F]{16,63}(?:\.{3}|…)[0-9a-fA-F]{16,63}",
            HEX_KEY,
        ),
    ),
    Shape(
        ("earer", "EARER", "DPoP"),
        _pattern(
            r"(?<![A-Za-z])(?:bearer|dpop)[\s:]+(?P<value>(?=[^\s\"']{0,200}\d)[\w.~+/=-]{8,}|[\w.~+/=-]{20,})",
            MARK,
            re.IGNORECASE,
        ),
        strict=False,
    ),
    Shape(
        ("://",),
        _pattern(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://(?P<value>(?!git@)[^\s/@\"'<>?#]+)@", MARK),
        strict=False,
    ),
)
