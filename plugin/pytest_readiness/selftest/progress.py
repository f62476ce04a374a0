"""What a person sees while faults are tried: one line that is kept current, or a line now and then."""

from __future__ import annotations

import time
from typing import TextIO

from ..core.formats import counted
from .bench import CleanRun, Leak
from .campaign import News
from .judging import Finding

_EVERY_S = 10.0
_WIDTH = 110


class Progress:
    """Tells of each piece of news what is worth a line at once, and how far everything is."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._is_terminal = stream.isatty()
        self._began = self._told = time.monotonic()
        self._done = self._undetected = self._alarms = 0

    def heard(self, news: News) -> None:
        """Take one piece of news."""
        if isinstance(news, Finding):
            self._done += 1
            if not news.detected:
                self._undetected += 1
                self._line(f"undetected: {news.fault.id}: {news.why}")
        elif isinstance(news, Leak):
            self._line(f"left something behind: {news.fault}: {news.what}")
        elif isinstance(news, CleanRun):
            self._alarms += len(news.alarms)
            for alarm in news.alarms:
                self._line(f"false alarm: {alarm.run}: {alarm.check} {alarm.summary}")
        self._current()

    def end(self) -> None:
        """Leave the line that was kept current."""
        if self._is_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _current(self) -> None:
        now = time.monotonic()
        state = (
            f"{self._done} of {self._total} faults, {self._undetected} undetected, "
            f"{counted(self._alarms, 'false alarm')}, {now - self._began:.0f} s"
        )
        if self._is_terminal:
            self._stream.write(f"\r\x1b[K{state[:_WIDTH]}")
            self._stream.flush()
        elif now - self._told >= _EVERY_S:
            self._told = now
            self._line(state)

    def _line(self, text: str) -> None:
        self.end()
        self._stream.write(f"{text}\n")
        self._stream.flush()
