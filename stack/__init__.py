"""The embedded platform: the contract's services, database and AWS APIs as local processes.

`stack.launch.Stack` starts and stops it. This module imports nothing, so that a service's process loads only
what the service needs.
"""


class StackError(Exception):
    """The embedded platform could not do something; `str()` is at most three lines.

    `what` says what went wrong, `detail` what was observed (a log's last lines), `action` what to do next.
    """

    def __init__(self, what: str, detail: str = "", action: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.detail = detail
        self.action = action

    def __str__(self) -> str:
        lines = (self.what, self.detail, self.action)
        return "\n".join(" ".join(line.split()) for line in lines if line)
