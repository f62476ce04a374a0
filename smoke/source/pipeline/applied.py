"""What Terraform applies in a folder: a service, or only what services stand on, such as a network."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from smoke.source.scripts import shell
from smoke.source.terraform.files import SUFFIXES

from .repository import Placed, Repository

_APPLY = ("terraform apply", "tofu apply")
#: What makes a service or a task, or holds what may.
_SERVES = re.compile(
    r"\baws_(?:ecs_(?:service|task)|codedeploy|cloudformation)|\b(?:helm|kubernetes)_|\becs\b|fargate"
)
_SOURCE = re.compile(r"\bsource\"?\s*[=:]\s*\"([^\"]*)\"")


def commands(repository: Repository, placed: Placed) -> Iterator[list[str]]:
    """Yield the commands of a step without those that apply a folder in which there is no service."""
    folder = placed.step.directory
    for words in repository.commands(placed.step):
        if words[:1] == ["cd"]:
            folder = posixpath.join(folder, words[1]) if len(words) == 2 else ""
        if not any(shell.runs(words, each) for each in _APPLY):
            yield words
            continue
        where = posixpath.join(folder, shell.option(words, "-chdir"))
        if "$" in where or _makes_services(repository, posixpath.normpath(where), set()):
            yield words


def _makes_services(repository: Repository, folder: str, seen: set[str]) -> bool:
    """Whether the Terraform of a folder may make a service; where there is none, it may be anything."""
    seen.add(folder)
    inside = [path for path in repository.paths if (posixpath.dirname(path) or ".") == folder]
    texts = [repository.script(path) for path in inside if path.endswith(SUFFIXES)]
    if not texts or any(text is None or _SERVES.search(text) for text in texts):
        return True
    local = {
        posixpath.normpath(posixpath.join(folder, source))
        for text in texts
        for source in _SOURCE.findall(text or "")
        if source.startswith(("./", "../"))
    }
    return any(_makes_services(repository, each, seen) for each in sorted(local - seen))
