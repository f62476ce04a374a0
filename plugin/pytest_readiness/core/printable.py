"""What may be shown of text from anywhere: nothing that a terminal obeys, or that disguises what is read."""

from __future__ import annotations

import re

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
#: Control characters, lone surrogates (not to be encoded), line separators, changes of direction.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def printable(text: str) -> str:
    """Return ``text`` with what must not be shown replaced by U+FFFD; line breaks and tabs stay."""
    if not _UNPRINTABLE.search(text):
        return text
    return _UNPRINTABLE.sub("\ufffd", _ANSI.sub("", text.replace("\r\n", "\n")))
