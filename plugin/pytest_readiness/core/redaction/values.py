"""A secret value that the run has loaded, and the forms in which it or a part of it can occur in a text.

A secret inside JSON, a URL, HTML, a ``repr`` or coloured output is not spelled literally: it contains
escapes, or escapes next to it hide its start. `views` decodes a text's escapes level by level, which finds a
secret in any nesting of them, and maps the result back to the original. A finished artifact of megabytes is
decoded faster (``reading``), without that mapping.
"""

from __future__ import annotations

import base64
import html
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from urllib.parse import quote, unquote

from .names import is_secret_name

#: JSON in JSON in a URL in HTML is three levels; deeper nesting is not decoded.
LEVELS = 5

_ESCAPE = re.compile(
    r"""
    (?P<terminal> \x1b\[[0-?]*[ -/]*[@-~] | \x1b\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\) | \x1b[@-Z\\^_]
        | \#x1[bB]\[[0-9;]*m                                # as JUnit XML spells a colour
        | [\u00ad\u200b-\u200f\u2060-\u2064\ufeff] )         # what no reader sees
    | (?P<percent> %[0-7][0-9a-fA-F] | %[c-fC-F][0-9a-fA-F](?:%[89abAB][0-9a-fA-F]){1,3} )
    | (?P<bytes> \\x[0-7][0-9a-fA-F] | \\x[c-fC-F][0-9a-fA-F](?:\\x[89abAB][0-9a-fA-F]){1,3} )
    | \\x(?P<latin> [0-9a-fA-F]{2} )
    | (?P<pair> \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2} )
    | [\\%]u(?P<unicode> [0-9a-fA-F]{4} )
    | \\u\{(?P<braced> [0-9a-fA-F]{1,6} )\}
    | \\U(?P<long> 000[0-9a-fA-F]{5} | 0010[0-9a-fA-F]{4} )
    | (?P<octets> \\[01][0-7]{2} | \\3[0-7]{2}(?:\\2[0-7]{2}){1,3} )
    | \\(?P<simple> [nrtbfav0"'/\\] )
    | (?P<entity> &(?:\#[0-9]{1,7}|\#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8}); )
    """,
    re.VERBOSE,
)
_MAY_ESCAPE = re.compile(r"[\\%&\x1b#\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0"}
#: The end of a wrapped line, with characters that a quote, a traceback, a diff or a log adds.
_FOLD = re.compile(
    r"""(?<=[A-Za-z0-9+/=_-]{8})
    ["'),]{0,3} [ \t]* \r?\n (?:INTERNALERROR>|[-+?E>|#*][ ]|[ \t"'(]|b["'])*
    (?=[A-Za-z0-9+/=_-]{2})""",
    re.VERBOSE,
)  #: JSON in an attribute of HTML with a URL inside, then JSON in that JSON.
_ROUNDS = 2
_HTML = (("&quot;", '"'), ("&#34;", '"'), ("&#x27;", "'"), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"))
_JSON = (("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t"), ('\\"', '"'), ("\\/", "/"))
_CODE_POINT = re.compile(r"\\u([0-9a-fA-F]{4})")
_OCTET = re.compile(r"%([0-9a-fA-F]{2})")
_COLOUR = re.compile(r"(?:\x1b|#x1[bB])\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class View:
    """A decoded text, and for each of its parts the span in the text before decoding."""

    text: str
    _here: list[int] = field(default_factory=list)
    _there: list[int] = field(default_factory=list)
    _parent: View | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where the original text has the part from ``start`` to ``end``."""
        if self._parent is None:
            return start, end
        first = bisect_right(self._here, start) - 1
        last = bisect_right(self._here, end - 1) - 1
        begin = self._there[first] + start - self._here[first]
        complete = end == self._here[last + 1]
        finish = self._there[last + 1] if complete else self._there[last] + end - self._here[last]
        return self._parent.span(begin, finish)


def views(text: str) -> Iterator[View]:
    """Yield the text itself, then the text after each level of decoding."""
    view: View | None = View(text)
    for _ in range(LEVELS):
        if view is None:
            return
        yield view
        view = _substituted(view, _ESCAPE, _decoded) if _MAY_ESCAPE.search(view.text) else None


def unfolded(view: View) -> View | None:
    """Return the view with wrapped lines joined, None if nothing is wrapped."""
    return _substituted(view, _FOLD, lambda _: "") if "\n" in view.text else None


def unescaped(text: str) -> list[str]:
    """Return the text itself, and the text after each level of decoding."""
    return [view.text for view in views(text)]


def _substituted(
    parent: View, pattern: re.Pattern[str], replacement: Callable[[re.Match[str]], str]
) -> View | None:
    """Return the parent with each match replaced, None if that changes nothing."""
    text, parts, here, there = parent.text, [], [], []
    size = at = 0
    for match in pattern.finditer(text):
        start, end = match.span()
        if start > at:
            here.append(size)
            there.append(at)
            parts.append(text[at:start])
            size += start - at
        new = replacement(match)
        here.append(size)
        there.append(start)
        parts.append(new)
        size += len(new)
        at = end
    here += [size, size + len(text) - at]
    there += [at, len(text)]
    parts.append(text[at:])
    changed = "".join(parts)
    return View(changed, here, there, parent) if changed != text else None


def _decoded(match: re.Match[str]) -> str:
    kind, found = match.lastgroup, match.group()
    if kind == "terminal":
        return ""
    if kind in {"percent", "bytes"}:
        octets = bytes.fromhex(found.replace("%", "").replace("\\x", ""))
        return octets.decode("utf-8", "replace").replace("\0", "")  # of UTF-16
    if kind == "octets":
        return bytes(int(octet, 8) for octet in found.split("\\")[1:]).decode("utf-8", "replace")
    if kind == "pair":
        return bytes.fromhex(found.replace("\\u", "")).decode("utf-16-be")
    if kind == "simple":
        return _SIMPLE.get(match["simple"], match["simple"])
    if kind == "entity":
        return html.unescape(found)
    return chr(int(match[kind or ""], 16))


def reading(content: bytes) -> str:
    """Return the content of a finished file with the escapes of its own format decoded.

    A reading has one character per byte of UTF-8, which Python searches fastest.
    """
    text = content.decode("latin-1")
    for _ in range(_ROUNDS):
        before, text = text, _undone(text)
        if text == before:
            break
    return text


def as_read(text: str) -> str:
    """Return how a text is spelled in a reading."""
    return text.encode("utf-8", "replace").decode("latin-1")


def _undone(text: str) -> str:
    if "&" in text:
        for escaped, plain in (*_HTML, ("&amp;", "&")):
            text = text.replace(escaped, plain)
    if "\\" in text:
        text = text.replace("\\\\", "\0")  # so that it does not join the text after it
        text = _CODE_POINT.sub(lambda match: as_read(chr(int(match[1], 16))), text)
        for escaped, plain in (*_JSON, ("\0", "\\")):
            text = text.replace(escaped, plain)
    if "%" in text:
        text = _OCTET.sub(lambda match: chr(int(match[1], 16)), text)
    return _COLOUR.sub("", text) if "\x1b" in text or "#x1" in text else text


#: Shorter values are not searched for: that would redact ordinary words and protect nothing.
SHORTEST = 6
#: In a value of several lines, each line of at least this length is searched for separately.
_TELLING_LINE = 8
#: Parts of a value of at least this length are recognised, in steps of ``_GRAM``.
_TELLING_PART = 15
_GRAM = 8
#: Beside an ellipsis, this many characters of a value's start or end are recognised.
_TELLING_STUMP = 6
_ELLIPSIS = re.compile(r"\.\.\.|…|\Z")
#: pytest omits what two long texts have in common: a line of its diff begins or ends in the middle.
_DIFF_LINE = re.compile(r"\.\.\.|…|\n[ E|]*(?:[-+] )?|\Z")
_PASSWORDS = (re.compile(r"://[^:/@\s]*:([^@/\s]+)@"), re.compile(r"\bpassword=([^\s']+)"))

Span = tuple[int, int]


def any_of(needles: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of many texts, quickly if there is none.

    It compares the first few letters with all that are possible there, then branches by the first letter.
    """
    by_letter: dict[str, list[str]] = {}
    for needle in sorted(needles):
        by_letter.setdefault(needle[0], []).append(needle)
    columns = zip(*chain(*by_letter.values()), strict=False)
    possible = "".join(f"[{re.escape(''.join({*column}))}]" for column in columns)
    branches = (
        f"{re.escape(first)}(?:{'|'.join(re.escape(needle[1:]) for needle in needles)})"
        for first, needles in by_letter.items()
    )
    return re.compile(f"(?={possible})(?:{'|'.join(branches)})")


class SecretValue:
    """One registered value: what to look for, prepared once."""

    def __init__(self, value: str, spared: Collection[str] = ()) -> None:
        """Prepare a value; ``spared`` are words in lower case that are not searched for."""
        plain = _plain_forms(value.strip())
        spelled = {form for text in plain for form in (text, *_respelled(text))}
        #: Searched for in the text and in its decoded forms.
        self.forms = _longest_first((form for text in spelled for form in unescaped(text)), spared)
        #: Also searched for with wrapped lines joined.
        encodings = (chain(*map(_base64, _spelled(text)), _hex(text), _joined(text)) for text in plain)
        self.encoded = _longest_first(chain(*encodings), spared)
        #: Searched for in part.
        self._parts = [form for form in self.forms if form in plain and _is_token(form)]
        #: A text without any of these contains neither the value nor a part of it.
        self.heads = {form[:SHORTEST] for form in (*self.forms, *self.encoded)} | {
            head for form in self._parts for head in (*_grams(form), form[-_TELLING_STUMP:])
        }

    def find(self, text: str) -> Iterator[Span]:
        """Yield the spans of the value in a text, complete or in part."""
        for form in (*self.forms, *self.encoded):
            yield from _occurrences(form, text)
        for form in self._parts:
            yield from _stumps(form, text)
            yield from _fragments(form, text)

    def find_encoded(self, text: str) -> Iterator[Span]:
        """Yield the spans of the value's encoded forms in a text without line breaks."""
        for form in (*self.encoded, *self._parts):
            yield from _occurrences(form, text)

    def is_in(self, reading: str, ordinary: Callable[[], str] = str) -> bool:
        """Tell whether the reading of a file contains the complete value, plain or encoded.

        A form that is also part of ``ordinary``, what any such file may contain, does not count.
        """
        found = [form for form in map(as_read, (*self.forms, *self.encoded)) if form in reading]
        return bool(found) and any(form not in ordinary() for form in found)


def _plain_forms(value: str) -> set[str]:
    """Return the value and parts that reveal it: its lines, its password, its secret fields."""
    lines = [line.strip() for line in value.splitlines()]
    telling = [line for line in lines if len(line) >= _TELLING_LINE and not line.startswith("-----")]
    parts = [*(telling if len(lines) > 1 else ()), *_passwords(value), *_fields(value)]
    return {value, *(part for part in parts if len(part) >= SHORTEST)}


def _longest_first(forms: Iterable[str], spared: Collection[str]) -> list[str]:
    kept = {form for form in forms if len(form) >= SHORTEST and form.lower() not in spared}
    return sorted(kept, key=len, reverse=True)


def _respelled(value: str) -> set[str]:
    """Return the value in upper or lower case, form-encoded, and as CSV, SQL, YAML and shells quote it."""
    if len(value) < _TELLING_LINE:
        return set()
    return {
        *(value.lower(), value.upper(), value.replace(" ", "+"), value.replace('"', '""')),
        *(value.replace("'", "''"), value.replace("'", "'\"'\"'"), value.replace("'", r"'\''")),
    }


def _passwords(value: str) -> list[str]:
    """Return the password inside a connection string, as a URL or as libpq keywords, raw and decoded."""
    found = [match for pattern in _PASSWORDS for match in pattern.findall(value)]
    return [form for text in found for form in (text, unquote(text))]


def _fields(value: str) -> list[str]:
    """Return the secret fields of a value that is a JSON document."""
    if not value.startswith(("{", "[")):
        return []
    try:
        document = json.loads(value)
    except ValueError:
        return []
    return [*_secret_leaves(document, named=False)]


def _secret_leaves(document: Any, *, named: bool) -> Iterator[str]:
    if isinstance(document, dict):
        for key, member in document.items():
            yield from _secret_leaves(member, named=named or is_secret_name(key, document))
    elif isinstance(document, list):
        for member in document:
            yield from _secret_leaves(member, named=named)
    elif named and isinstance(document, str):
        yield document


def _is_token(form: str) -> bool:
    """Tell whether parts of a form are secret; parts of an address or a document may be public."""
    return len(form) >= 2 * _TELLING_STUMP and not re.search(r"://|\bhost=|[\n{}]", form)


def _joined(text: str) -> set[str]:
    return {"".join(line.strip() for line in text.splitlines())}


def _spelled(text: str) -> set[str]:
    """Return the value as it is spelled inside JSON or a form, which is often encoded as a whole."""
    return {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], quote(text, safe="")}


def _base64(text: str) -> set[str]:
    """Encode at the three alignments of a value inside a larger text (as in Basic auth)."""
    raw = text.encode("utf-8", "surrogatepass")
    forms = set()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        # The first characters also encode what precedes the value, the last one what follows.
        first = (0, 2, 3)[shift]
        last = len(encoded) - (1 if (shift + len(raw)) % 3 else 0)
        core = encoded[first:last]
        forms |= {core, core.replace("+", "-").replace("/", "_")}
    return {form for form in forms if form}


def _hex(text: str) -> set[str]:
    raw = text.encode("utf-8", "surrogatepass")
    plain = {raw.hex(), *(raw.hex(between) for between in ":- ")}
    listed = {", ".join(map(form.format, raw)) for form in ("{}", "0x{:02x}")}
    return {*plain, *listed, *(form.upper() for form in plain)}


def _occurrences(form: str, text: str) -> Iterator[Span]:
    at = text.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = text.find(form, at + len(form))


def _stumps(form: str, text: str) -> Iterator[Span]:
    """Yield the start of a value before an ellipsis or the end of the text, and its end after one."""
    head, tail = form[:_TELLING_STUMP], form[-_TELLING_STUMP:]
    if head not in text and tail not in text:
        return
    for cut in (_DIFF_LINE if " identical " in text else _ELLIPSIS).finditer(text):
        start = text.rfind(head, max(0, cut.start() - len(form)), cut.start())
        if start >= 0 and form.startswith(text[start : cut.start()]):
            yield start, cut.start()
        found = text.find(tail, cut.end(), cut.end() + len(form))
        if found >= 0 and cut.end() < len(text) and form.endswith(text[cut.end() : found + len(tail)]):
            yield cut.end(), found + len(tail)


def _fragments(form: str, text: str) -> Iterator[Span]:
    """Yield each part of a value that is long enough to reveal it."""
    for number, gram in enumerate(_grams(form)):
        at = number * _GRAM
        found = text.find(gram)
        while found >= 0:
            start, end = _grown(form, at, text, found)
            if end - start >= _TELLING_PART:
                yield start, end
            found = text.find(gram, end)


def _grams(form: str) -> list[str]:
    return [form[at : at + _GRAM] for at in range(0, len(form) - _GRAM + 1, _GRAM)]


def _grown(form: str, at: int, text: str, found: int) -> Span:
    """Return the longest common part of form and text around a gram that both contain."""
    before = 0
    while before < min(at, found) and form[at - before - 1] == text[found - before - 1]:
        before += 1
    after = _GRAM
    room = min(len(form) - at, len(text) - found)
    while after < room and form[at + after] == text[found + after]:
        after += 1
    return found - before, found + after
