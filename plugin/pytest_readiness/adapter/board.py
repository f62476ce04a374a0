"""What the processes of one run tell each other: ended checks, capabilities that are down, a lost phase."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Board:
    """Notes that every process of a run can add and read. Without a path it is one process's own memory.

    A note is one JSON line, written at once to a file that is opened for appending, so that lines never mix.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._offset = 0
        #: Node ids of checks that have ended, however.
        self.ended: set[str] = set()
        #: Capability -> why it is down.
        self.down: dict[str, str] = {}
        #: Why earlier phases will never be complete; "" while they may.
        self.abandoned = ""

    def end(self, nodeid: str) -> None:
        """Note that a check has ended, with all of its attempts."""
        self._post({"kind": "ended", "nodeid": nodeid})

    def take_down(self, capability: str, why: str) -> None:
        """Note that a capability is not there."""
        self._post({"kind": "down", "capability": capability, "why": why})

    def abandon(self, why: str) -> None:
        """Note that some checks will never run, so that nobody waits for them."""
        self._post({"kind": "abandoned", "why": why})

    def refresh(self) -> bool:
        """Read what others have added; True when there was something new."""
        if self.path is None or not self.path.exists():
            return False
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            fresh = stream.read()
        complete = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            self._apply(json.loads(line))
        return bool(complete)

    def _post(self, note: dict[str, Any]) -> None:
        self._apply(note)
        if self.path is not None:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, json.dumps(note).encode() + b"\n")
            finally:
                os.close(descriptor)

    def _apply(self, note: dict[str, Any]) -> None:
        if note["kind"] == "ended":
            self.ended.add(note["nodeid"])
        elif note["kind"] == "down":
            self.down.setdefault(note["capability"], note["why"])
        else:
            self.abandoned = self.abandoned or note["why"]
