"""What a text says once its escapes are undone, with the way back to where each part stands in the text.

A secret inside JSON, a URL, HTML, a ``repr`` or coloured output is not spelled as it is: escapes stand in it,
or so close to it that they hide where it begins. Searching the decoded text, level by level, finds it in any
nesting of them, and the map back tells what to take out of the original. A finished artifact of megabytes is
read faster (``reading``), without a way back.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

#: JSON in JSON in a URL in HTML is three levels; what is nested deeper than this is not decoded further.
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
#: The end of a wrapped line, with what a quote, a traceback, a diff or a log puts around its parts.
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
    """A text, and for each of its parts the span in the text that it was decoded from."""

    text: str
    _here: list[int] = field(default_factory=list)
    _there: list[int] = field(default_factory=list)
    _parent: View | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where the part from ``start`` to ``end`` stands in the original text."""
        if self._parent is None:
            return start, end
        first = bisect_right(self._here, start) - 1
        last = bisect_right(self._here, end - 1) - 1
        begin = self._there[first] + start - self._here[first]
        whole = end == self._here[last + 1]
        finish = self._there[last + 1] if whole else self._there[last] + end - self._here[last]
        return self._parent.span(begin, finish)


def views(text: str) -> Iterator[View]:
    """Yield the text itself, then what it says after each level of decoding."""
    view: View | None = View(text)
    for _ in range(LEVELS):
        if view is None:
            return
        yield view
        view = _substituted(view, _ESCAPE, _decoded) if _MAY_ESCAPE.search(view.text) else None


def unfolded(view: View) -> View | None:
    """Return the view with wrapped lines joined, None where nothing is wrapped."""
    return _substituted(view, _FOLD, lambda _: "") if "\n" in view.text else None


def unescaped(text: str) -> list[str]:
    """Return what a text says after each level of decoding, from the text itself on."""
    return [view.text for view in views(text)]


def _substituted(
    parent: View, pattern: re.Pattern[str], replacement: Callable[[re.Match[str]], str]
) -> View | None:
    """Return the parent with each match replaced, None when that changes nothing."""
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
    """Return what a finished file says once the escapes of its own format are undone.

    A reading has one character for each byte of UTF-8, which is what Python searches fastest.
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
        text = text.replace("\\\\", "\0")  # so that it does not join what follows it
        text = _CODE_POINT.sub(lambda match: as_read(chr(int(match[1], 16))), text)
        for escaped, plain in (*_JSON, ("\0", "\\")):
            text = text.replace(escaped, plain)
    if "%" in text:
        text = _OCTET.sub(lambda match: chr(int(match[1], 16)), text)
    return _COLOUR.sub("", text) if "\x1b" in text or "#x1" in text else text
