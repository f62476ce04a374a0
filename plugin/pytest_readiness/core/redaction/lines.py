"""Redaction of output that comes in pieces: lines are looked at as a whole, a private key over its lines."""

from __future__ import annotations

import re
from collections.abc import Callable

from .shapes import BEGIN, END, PRIVATE_KEY

#: A line of a private key, with what a traceback or a log puts before it.
_BODY_LINE = re.compile(r"[^A-Za-z0-9+/=]*(?:\w+> |E |b['\"])?[^A-Za-z0-9+/=]*[A-Za-z0-9+/=]{4,}\W*")


class LineRedactor:
    """Holds back the piece of a line that has not ended, until it ends or must be shown."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._held: list[str] = []
        self._inside_key = False

    def feed(self, text: str) -> str:
        """Return what may be shown once this text has come, too."""
        end = text.rfind("\n") + 1
        if not end:
            self._held.append(text)
            return ""
        complete = "".join((*self._held, text[:end]))
        self._held = [text[end:]]
        return self._clean(complete)

    def flush(self) -> str:
        """Return what was held back."""
        text, self._held = "".join(self._held), []
        return self._clean(text)

    def _clean(self, text: str) -> str:
        if self._inside_key:
            text = self._after_key(text)
        if not text:
            return ""
        clean = self._redact(text)
        # Its other lines may be written one by one.
        self._inside_key = clean.rstrip().endswith(PRIVATE_KEY) and not END.search(text)
        if "PRIVATE KEY" in clean:
            last = text.rstrip().rpartition("\n")[2]
            self._inside_key = self._inside_key or bool(BEGIN.search(last))
        return clean

    def _after_key(self, text: str) -> str:
        """Return what follows the rest of a private key whose first lines have been shown as a mark."""
        lines = text.splitlines(keepends=True)
        while lines:
            if END.search(lines[0]):
                self._inside_key = False
                return "".join(lines[1:])
            if not _BODY_LINE.fullmatch(lines[0].rstrip()):
                self._inside_key = False
                break
            lines.pop(0)
        return "".join(lines)
