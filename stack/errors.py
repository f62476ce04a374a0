"""What the embedded platform tells a person when it cannot come up or cannot obey."""

from __future__ import annotations


class StackError(Exception):
    """The embedded platform could not do what was asked; `str()` is at most three lines.

    `what` says what went wrong, `detail` what was seen (a log's last words), `action` what to do next.
    """

    def __init__(self, what: str, detail: str = "", action: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.detail = detail
        self.action = action

    def __str__(self) -> str:
        lines = (self.what, self.detail, self.action)
        return "\n".join(" ".join(line.split()) for line in lines if line)
