"""Server-sent events as the HTML standard reads them (section 9.2), from pieces of any size."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_LINE_END = re.compile("\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event: its name, the last id that was sent with it or before it, and its data."""

    name: str
    id: str
    data: str


class EventDecoder:
    """Decodes one stream. An event without its blank line does not count."""

    def __init__(self) -> None:
        # always UTF-8, whatever the content type says; one byte order mark may lead
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._line: list[str] = []
        self._after_cr = False
        self._name = self._id = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that are complete with this piece. UnicodeDecodeError where it is not UTF-8."""
        text = self._decoder.decode(piece)
        if self._after_cr and text:
            # the other half of CR LF; the line ended with the first
            text = text.removeprefix("\n")
            self._after_cr = False
        if not text:
            return []
        self._after_cr = text.endswith("\r")
        events = []
        rest, *lines = _LINE_END.split(text)
        for line in lines:
            self._line.append(rest)
            if event := self._take("".join(self._line)):
                events.append(event)
            self._line.clear()
            rest = line
        self._line.append(rest)
        return events

    def end(self) -> None:
        """UnicodeDecodeError where the stream ended inside of a character."""
        self._decoder.decode(b"", final=True)

    def _take(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatched()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None  # a comment has no name; `retry` and unknown fields say nothing about events

    def _dispatched(self) -> ServerSentEvent | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return ServerSentEvent(name or "message", self._id, "\n".join(data)) if data else None


def events_in(body: bytes) -> list[ServerSentEvent]:
    """The events of a body that was read to its end."""
    return EventDecoder().feed(body)
