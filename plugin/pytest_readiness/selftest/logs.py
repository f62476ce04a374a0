"""The end of a log, for a message of one line."""

from __future__ import annotations

from pathlib import Path

#: What the fork server prints, in the working directory.
FORK_SERVER = "forkserver.log"
_LINES, _WIDTH = 3, 200


def last_words(log: Path) -> str:
    """Return the last lines of a log that are not empty, joined and cut; what to say when there are none."""
    try:
        text = log.read_text("utf-8", "replace")
    except OSError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(line[:_WIDTH] for line in lines[-_LINES:]) or "it wrote nothing"
