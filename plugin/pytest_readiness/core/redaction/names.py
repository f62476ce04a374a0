"""Secrets recognised by their name: ``"access_token":"…"``, ``X-Api-Key: …``, ``?token=…``."""

from __future__ import annotations

import enum
import re
import string
from collections.abc import Container, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

from .shapes import MARK, Found


class Kind(enum.Enum):
    """How much a name says about its value."""

    NONE = enum.auto()
    #: Secret only if it looks random: a signature may be "valid", and a list of tokens may be words.
    WEAK = enum.auto()
    STRONG = enum.auto()


_KINDS_OF_KEY = (
    "access|account|api|auth|client|consumer|deploy|encryption|hmac|master|private|secret|service|session"
    "|shared|signing|ssh|subscription|wallet|webhook"
)
#: Endings of a secret's name, without punctuation and case.
_STRONG = re.compile(
    r"(?:passwords?|passwd|passphrase|passcode|pwd|secrets?|token|cookies?|authorization|credentials?|mnemonic"
    rf"|jwt|seedphrase|recoveryphrase|(?:{_KINDS_OF_KEY})key|amzsignature|paymentsignature|secretkeybase|xpayment|connectionstring)$"
)
_WEAK = re.compile(r"(?:signature|sig|tokens)$")
#: Suffixes that do not change the meaning: an encoding, a number.
_TRIMMINGS = re.compile(
    r"(?:pem|string|binary|value|base64|b64|hex|jwk|raw|plain|plaintext|text|json|header|\d+)$"
)
#: Tokens of pagination and language models, and flags that say whether there is one.
_INNOCENT = re.compile(
    r"(?:next|page|pagination|continuation|cursor|cancel|cancellation|max|per|stop|start|bos|eos|pad|special"
    r"|no|has|is|without|missing|valid|invalid|stale|expired)(?:new)?(?:token|password|secret|credentials?|cookie)$"
)
_WORDS = (
    *("passw", "passph", "passcode", "pwd", "secret", "token", "cookie", "authorization", "credential"),
    *(
        "mnemonic", "jwt", "phrase", "key", "signature", "sig", "x-payment", "connectionstring",
        "connection_string",
    ),
)  # fmt: skip
#: Any of them, in any punctuation; a member of a JWK is recognised by "kty" beside it.
_BARE_WORDS = tuple({re.sub("[^a-z]", "", word): None for word in (*_WORDS, "kty")})
_PUNCTUATION = {code: None for code in range(128) if not chr(code).isalnum()}
_NAME_LETTERS = f"{string.ascii_letters}{string.digits}_.-"
_BEFORE_NAME = tuple(f"{kind} " for kind in (*_KINDS_OF_KEY.split("|"), "refresh", "db"))
_LONGEST_NAME = 40
_KEY_REST = re.compile(r"[A-Za-z0-9_-]{0,24}+")
_STRING = r"[rbfuRBFU]{0,2}(?P<quote%d>[\"'])(?P<%s>(?:(?!(?P=quote%d))[^\\\n]|\\.)*+)"
#: Text after a name that is certainly its value.
_TIGHT = re.compile(
    rf"""["']?[ \t]{{0,8}}(?:=>|->|:=|[:=])\s{{0,8}}{_STRING % (1, "quoted", 1)}
    | ["']\s{{0,4}},?\s{{0,20}}["']?[Vv]alue["']?\s{{0,4}}[:=]\s{{0,4}}{_STRING % (2, "member", 2)}
    | ["'](?:;[^\r\n]*)?\r?\n(?:[A-Z][^\r\n]*\r?\n)?\r?\n(?P<part>[^\r\n]++)
    | =(?P<plain>(?:[^\s"'&;<>\\]|\\(?![nrtu"'\\/])){{1,4096}}+)
    | :[ \t]{{0,8}}[>|][-+0-9]{{0,2}}[ \t]{{0,8}}\r?\n[ \t]{{1,40}}(?P<block>[^\r\n]++)
    | (?:[ ][^<>]{{0,200}})?>(?P<element>[^<>]++)<""",
    re.VERBOSE,
)
_PAIR = re.compile(rf"""["']\s{{0,4}},\s{{0,4}}(?=b?["']){_STRING % (1, "paired", 1)}""", re.VERBOSE)
#: SQL and command lines: only space between a name and its value.
_SPACED = re.compile(
    rf"""[ \t]{{1,8}}(?:{_STRING % (1, "quoted", 1)}|(?P<word>[^\s"'-][^\s"']{{5,}}+))""", re.VERBOSE
)
_OPENING = re.compile(r"[\"']?[ \t]{0,8}[:=]\s{0,8}(?=[\[{(])")
#: A header, a line of YAML, a number in JSON, an assignment with spaces: the rest may also be prose.
_LOOSE = re.compile(
    r"""["']?[ \t]{0,8}(?:->|[:=])[ \t]{0,8}"""
    r"""(?P<line>(?=[^\s"'\[{(])(?:[^\r\n"'\\]|\\(?![nrtu"'\\/])){1,512}+)"""
)
_REST_OF_WORD, _REST_OF_LINE = re.compile(r"[^\s\"'&;<>]*+"), re.compile(r"[^\r\n\"']*+")
#: Words and lines are judged by their start; a secret continues to the end.
_LONGEST_WORD, _LONG_WORD = 4096, 256
_LONGEST_REMARK = 500
_SCHEME = re.compile(r"(?:bearer|basic|dpop|digest|negotiate|token|apikey)[ \t]+", re.IGNORECASE)
_LEAF = re.compile(rf"{_STRING % (1, 'leaf', 1)}[\"'](?P<colon>\s*:)?")
_TAG = re.compile(r"<(?:[\w.-]+:)?\Z")
_BRACKETS = re.compile(r"[\[\]{}()]")
_LONGEST_MEMBER = 100_000
#: Values that are never secret, whatever their name: empty, a placeholder, a reference, our own mark.
_NOTHING = re.compile(
    r"(?i:none|null|nil|true|false|undefined|bearer|basic|dpop|\(?redacted\)?|\(?hidden\)?)?|\W{1,3}|[*x•.…-]+"
    r"|(?:env|file|secretsmanager):[\w./:@~ -]{1,300}|arn:aws.*|https?://[^@?]*|<[^<>]*>|\$\{?\w+\}?|\{[^{}]*\}|%\(?\w+\)?s?"
    r"|\[redacted\b.*"
)
_PROSE = re.compile(
    r"absent|accepted|bad|changed|default|denied|empty|expired|forged|hidden|invalid|issued|masked|missing|ok|old"
    r"|optional|present|rejected|refused|required|revoked|rotated|set|stale|stored|string|unknown|unset|unsigned"
    r"|used|valid|wrong",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"[A-Za-z_]+(?:\.[A-Za-z_]+)*")
_CALL = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*[(\[]")
_WORDY = re.compile(
    r"(?:[A-Za-z]{2,}[0-9]{0,4}|[0-9]{1,4})(?:[-_/.:](?:[A-Za-z]+[0-9]{0,4}|[0-9]{1,4}))+|(?:[A-Z][a-z]{2,}){2,}"
)
_ALGORITHM = re.compile(r"(?i:[ehrp]s|sha)-?(?:256|384|512)")
_JWK_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "k"})
_TELLING_NUMBER = 1000
_LONG = 16


@lru_cache(maxsize=4096)
def kind_of(name: str) -> Kind:
    """Return what a name says about its value, in any spelling: snake, kebab, camel, upper case."""
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    while (trimmed := _TRIMMINGS.sub("", bare)) != bare and trimmed:
        bare = trimmed
    if _INNOCENT.search(bare):
        return Kind.NONE
    if _STRONG.search(bare):
        return Kind.STRONG
    return Kind.WEAK if _WEAK.search(bare) else Kind.NONE


def kind_of_member(key: Any, owner: Container[Any] = ()) -> Kind:
    """Return what a key says about its value; ``owner`` is the mapping that contains the key."""
    if not isinstance(key, str):
        return Kind.NONE
    if key in _JWK_MEMBERS:
        return Kind.STRONG if "kty" in owner else Kind.NONE
    return kind_of(key)


def is_secret_name(key: Any, owner: Container[Any] = ()) -> bool:
    """Tell whether any value under this key is secret."""
    return kind_of_member(key, owner) is Kind.STRONG


def hidden_member(kind: Kind, member: Any) -> Any:
    """Return what to show for a leaf under a name of this kind; the leaf itself if it may be shown."""
    if kind is Kind.NONE:
        return member
    if isinstance(member, int | float) and not isinstance(member, bool):
        return MARK if kind is Kind.STRONG and abs(member) >= _TELLING_NUMBER else member
    if isinstance(member, bytes | bytearray):
        return MARK
    if not isinstance(member, str) or (kind is Kind.WEAK and not _is_long_random(member)):
        return member
    scheme = _SCHEME.match(member)
    shown = scheme.group().rstrip() + " " if scheme else ""
    return member if _NOTHING.fullmatch(member[len(shown) :].strip()) else f"{shown}{MARK}"


def may_name_secret(text: str) -> bool:
    """Tell whether a text, or data as JSON, may contain a secret's name: False is certain, for ASCII."""
    return any(map(text.lower().translate(_PUNCTUATION).__contains__, _BARE_WORDS))


def named_secrets(text: str) -> Iterator[Found]:
    """Yield the values next to secrets' names in a text."""
    lower = text.lower()
    if len(lower) != len(text):  # a letter that is longer in lower case would shift all positions after it
        lower = re.sub(r"[A-Z]", lambda match: match.group().lower(), text)
    for word in _WORDS:
        at = lower.find(word)
        while at >= 0:
            end = at + len(word)
            rest = _KEY_REST.match(text, end)
            end = rest.end() if rest else end
            start = _start_of_name(lower, at)
            kind = kind_of(text[start:end])
            if kind is Kind.NONE and text[start:end] == "key" and text[max(0, start - 1)] in "?&":
                kind = Kind.WEAK
            part_of_arn = text[start - 1 : start] == text[end : end + 1] == ":"
            if kind is not Kind.NONE and not part_of_arn:
                found, end = _values(text, start, end, kind)
                yield from found
            at = lower.find(word, end)


def _start_of_name(lower: str, at: int) -> int:
    """Return the start of the name that contains the word at ``at``: "my.api_key", "secret key"."""
    before = lower[max(0, at - _LONGEST_NAME) : at]
    start = at - len(before) + len(before.rstrip(_NAME_LETTERS))
    before = lower[max(0, start - _LONGEST_NAME) : start]
    kind = next((kind for kind in _BEFORE_NAME if before.endswith(kind)), "") if before[-1:] == " " else ""
    return start - len(kind)


def _values(text: str, start: int, end: int, kind: Kind) -> tuple[list[Found], int]:
    """Return the secrets after the name from ``start`` to ``end``, and where to look for the next name.

    Secrets are not searched again: with a hostile text that would take forever.
    """
    name = text[start:end]
    if opening := _OPENING.match(text, end):
        stop = _closed(text, opening.end())
        leaves = (leaf for leaf in _LEAF.finditer(text, opening.end(), stop) if not leaf["colon"])
        return [found for leaf in leaves for found in _judged(text, leaf.span("leaf"), kind)], max(stop, end)
    if tight := _TIGHT.match(text, end):
        found = [*_assigned(text, start, tight, kind)]
        quoted = tight.lastgroup in {"quoted", "member"}
        return found, tight.end() if quoted else found[-1][1] if found else end
    is_header = "-" in name or name.lower() in {"authorization", "cookie"}
    if pair := _PAIR.match(text, end) if is_header else None:
        if kind_of(pair["paired"]) is not Kind.NONE:  # the next name in a list
            return [], end
        return [*_judged(text, pair.span("paired"), kind)], pair.end()
    is_operand = name.startswith("--") or name.lower().endswith(("password", "passwd"))
    if spaced := _SPACED.match(text, end) if is_operand else None:
        span = spaced.span(spaced.lastgroup or 0)
        word = text[slice(*span)]
        return (
            [] if _PROSE.fullmatch(word) or word.isalpha() else [*_judged(text, span, kind)]
        ), spaced.end()
    if loose := _LOOSE.match(text, end):
        found = [*_line(text, name, loose.span("line"), kind)]
        return found, found[-1][1] if found else end
    return [], end


def _assigned(text: str, start: int, match: re.Match[str], kind: Kind) -> Iterator[Found]:
    """Yield the certain value of the name at ``start``."""
    span = match.span(match.lastgroup or 0)
    if match.lastgroup == "plain":
        if len(match["plain"]) == _LONGEST_WORD:
            span = (span[0], _word_end(text, span[1]))
        else:
            span = (span[0], span[0] + len(match["plain"].rstrip(",)]}.:")))
            if _is_code(text, start, span):
                return
    if match.lastgroup != "element" or _TAG.search(text, max(0, start - _LONGEST_NAME), start):
        yield from _judged(text, span, kind)


def _judged(text: str, span: tuple[int, int], kind: Kind) -> Iterator[Found]:
    """Yield the value without a scheme before it, unless it cannot be a secret."""
    scheme = _SCHEME.match(text, *span)
    begin, end = (scheme.end() if scheme else span[0]), span[1]
    value = text[begin:end].strip()
    if not _NOTHING.fullmatch(value) and (kind is Kind.STRONG or _is_long_random(value)):
        yield begin, end, MARK


def _line(text: str, name: str, span: tuple[int, int], kind: Kind) -> Iterator[Found]:
    """Yield the secrets in the rest of a line: all of a header, or a first word that looks random."""
    bare = re.sub(r"[^a-z]", "", name.lower())
    scheme = _SCHEME.match(text, *span)
    begin = scheme.end() if scheme else span[0]
    line = text[begin : span[1]].rstrip()
    if (bare.endswith("cookie") and "=" in line) or line.startswith("AWS4-"):
        rest = _REST_OF_LINE.match(text, begin + len(line))
        yield begin, rest.end() if rest else begin + len(line), MARK
        return
    first = line.split(maxsplit=1)[0] if line else ""
    if _NOTHING.fullmatch(first) or _CALL.match(first):
        return
    word = first.rstrip(",;.:!?)]}")
    alone = word == line.rstrip(",;.!?)]}")
    named_so = bare.endswith(("password", "passwd", "passphrase", "pwd", "authorization")) or "-" in name
    sure = alone and named_so and not _PROSE.fullmatch(word) and not _is_number(word)
    if (sure and kind is Kind.STRONG) or _looks_random(word, kind):
        end = begin + len(word)
        yield from _judged(text, (begin, _word_end(text, end) if len(word) > _LONG_WORD else end), kind)


def _word_end(text: str, at: int) -> int:
    rest = _REST_OF_WORD.match(text, at)
    return rest.end() if rest else at


def _is_code(text: str, start: int, span: tuple[int, int]) -> bool:
    """Tell whether an assignment is source code: a call, or an argument that is only a name."""
    value = text[slice(*span)]
    if "(" in value and not value.startswith("("):
        return True
    if not _IDENTIFIER.fullmatch(value):
        return False
    line = text[max(0, start - 500) : start].rpartition("\n")[2]
    inside = line.count("(") > line.count(")")
    return (inside and text[span[1] : span[1] + 1] in {",", ")"}) or value in text[start : span[0] - 1]


def _looks_random(word: str, kind: Kind) -> bool:
    """Tell whether a word looks random: not a word of any language, a path, a date or an algorithm."""
    if len(word) < 6 or _ALGORITHM.fullmatch(word) or _WORDY.fullmatch(word) or _is_number(word):
        return len(word) >= 6 and kind is Kind.STRONG and word.isdigit() and len(word) >= 8
    digit, letter = any(map(str.isdigit, word)), any(map(str.isalpha, word))
    if digit and letter:
        return True
    turns = sum(a.islower() != b.islower() for a, b in pairwise(word))
    return len(word) >= _LONG and (turns >= 5 or bool(re.search(r"[+/=]", word)))


def _is_long_random(value: str) -> bool:
    return len(value) >= _LONG and " " not in value and _looks_random(value, Kind.WEAK)


def _is_number(word: str) -> bool:
    return bool(re.fullmatch(r"[\d.,:+-]+(?:ms|s|%)?", word))


def _closed(text: str, opening: int) -> int:
    """Return where the bracket that opens there is closed; if it is not, the furthest place to search."""
    depth = 0
    remark = text[opening] == "("
    limit = min(len(text), opening + (_LONGEST_REMARK if remark else _LONGEST_MEMBER))
    for match in _BRACKETS.finditer(text, opening, limit):
        depth += 1 if match.group() in "[{(" else -1
        if depth <= 0:
            return match.end()
    return opening if remark else limit  # a remark in prose, or truncated data
