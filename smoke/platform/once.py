"""What may count once: remembered when the run spends it, to be tried again when the run ends."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a line of JSON to a file that all processes of the run write to."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{json.dumps(entry)}\n".encode())  # one short append is atomic
    finally:
        os.close(descriptor)


class Once:
    """The run's memory of what it spent, one for all of its processes, in a directory that they share.

    Kept are ids and claims, never a token: a check that tries one again signs it anew.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def remember(self, kind: str, **what: Any) -> None:
        """Enter one thing of a kind that was spent just now, such as a token of a route; plain JSON data."""
        append(self._directory / f"smoke-once-{kind}.jsonl", what)

    def remembered(self, kind: str) -> list[dict[str, Any]]:
        """Everything of a kind that this run spent, in that order; empty when it spent none."""
        path = self._directory / f"smoke-once-{kind}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
