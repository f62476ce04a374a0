"""The embedded platform: the contract's services, database and AWS APIs as local processes.

Public: `Stack` (start, profile, control URL, stop) and `StackError`. Both are loaded on first use, so that
`python -m stack.service` and the other entry points import only what they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stack.errors import StackError
    from stack.launch import Stack

__all__ = ["Stack", "StackError"]


def __getattr__(name: str) -> Any:
    if name == "Stack":
        from stack.launch import Stack

        return Stack
    if name == "StackError":
        from stack.errors import StackError

        return StackError
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
