"""What `make`, `just`, `task` and `npm run` do: the lines of their files that a command stands for."""

import posixpath
from collections.abc import Sequence

from . import makefiles, packages, taskfiles
from .recipe_lines import Find, Line

_IN_FRONT = frozenset({"sudo", "time", "exec", "command", "env", "nohup"})
_READERS = {
    **dict.fromkeys(("make", "gmake", "just"), makefiles.lines),
    **dict.fromkeys(("task", "go-task"), taskfiles.lines),
    **dict.fromkeys(packages.PROGRAMS, packages.lines),
}


def lines(words: Sequence[str], find: Find) -> list[Line]:
    """What a command runs, line by line; empty where it is no such command, or its file does not say."""
    at = next((at for at, word in enumerate(words) if word not in _IN_FRONT and "=" not in word), len(words))
    if at == len(words):
        return []
    program = posixpath.basename(words[at]).partition("@")[0]
    reader = _READERS.get(program)
    return list(reader(program, words[at + 1 :], find)) if reader is not None else []
