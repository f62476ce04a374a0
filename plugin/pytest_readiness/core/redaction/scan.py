"""How a finished artifact reads, at the speed that a file of megabytes needs: no map back to its bytes.

A reading has one character for each byte of UTF-8, which is what Python searches fastest.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

#: JSON in an attribute of HTML with a URL inside, then JSON in that JSON.
_ROUNDS = 2
_HTML = (("&quot;", '"'), ("&#34;", '"'), ("&#x27;", "'"), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"))
_JSON = (("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t"), ('\\"', '"'), ("\\/", "/"))
_CODE_POINT = re.compile(r"\\u([0-9a-fA-F]{4})")
_COLOUR = re.compile(r"(?:\x1b|#x1[bB])\[[0-9;]*m")


def reading(content: bytes) -> str:
    """Return what a file says once that is undone which encloses texts in files."""
    text = content.decode("latin-1")
    for _ in range(_ROUNDS):
        text = _undone(text)
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
        text = unquote(text, "latin-1")
    return _COLOUR.sub("", text)
