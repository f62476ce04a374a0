"""A process that a check forked is not the run: nothing of a run may happen in it.

``os.fork`` copies pytest with all that it would still do: run the other checks again, judge, write, record.
So a copy that comes back out of a check's code ends there, and tells the process that started what it was.
"""

from __future__ import annotations

import os
import select
import sys
import time

from ..core.formats import text_of

#: How long the end of a run waits for forked copies of itself.
LAST_COPIES_S = 3.0
_ENDED = 1


class ForkedCopy(RuntimeError):
    """A check forked the run and let the copy come back into it."""

    failure_class = "CHECK_ERROR"


class Origin:
    """The process that started a run, with a pipe on which forked copies of it report their end."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)

    @property
    def is_here(self) -> bool:
        """True in the process that started the run."""
        return os.getpid() == self._pid

    def end_copy(self, check: str, exception: BaseException | None) -> None:
        """In a copy: tell the origin and end, without anything that a process does at its end."""
        if self.is_here:
            return
        how = f"{type(exception).__name__}: {text_of(exception)}" if exception else "as if it were the run"
        line = f"{check}: a process that it forked came back into pytest: {how}".replace("\n", " ")
        os.write(self._write, f"{line[:400]}\n".encode())
        os._exit(_ENDED)

    def told(self) -> list[str]:
        """Return what copies have told since the last call."""
        try:
            return os.read(self._read, 65536).decode(errors="replace").splitlines()
        except BlockingIOError:
            return []

    def last(self) -> list[str]:
        """Wait for copies that still run, and return what they told: called once, at the end of a run.

        The pipe ends when no process holds its other end any more.
        """
        os.close(self._write)
        told: list[str] = []
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None and multiprocessing.active_children():
            return self.told()  # they hold the pipe, too, and never come back into pytest
        deadline = time.monotonic() + LAST_COPIES_S
        while select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]:
            heard = self.told()
            if not heard:
                return told
            told += heard
        return [*told, "a process that a check forked is still running"]
