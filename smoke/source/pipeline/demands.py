"""The variables that the configuration of an image demands, against what its tasks are given."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from smoke.source.checkout import Examined, Finding
from smoke.source.infrastructure.definitions import Definitions
from smoke.source.terraform.references import choices, entries
from smoke.source.terraform.values import Value, is_known, text

from .builds import Build, builds
from .programs import Run, runs_of
from .repository import Repository

#: Files in which a program reads all its configuration.
_CONFIG = re.compile(r"(?:config|configuration|env|environment|settings)\.(?:[cm]?[jt]s|py)")
_ASIDE = re.compile(
    r"(?:\A|/)(?:\..*|__\w+__|tests?|scripts|tools?|examples?|bin|e2e|node_modules|dist)(?:/|\Z)"
)
_NAME = r"([A-Z][A-Z0-9_]{2,})"
#: A function that reads an environment variable and throws if it is missing.
_HELPER = re.compile(
    r"(?:const|function)\s+(\w+)\s*=?\s*(?:async\s*)?\(\s*(\w+)\s*(?::\s*string\s*)?\)[^;]{0,60}?(?:=>|\{)"
    r"(?:(?!\bfunction\b|=>).){0,200}?\benv\[\2\](?:(?!\bfunction\b|=>).){0,120}?\bthrow\b",
    re.DOTALL,
)
_PYTHON = re.compile(rf"(?<!in )os\.environ\[[\"']{_NAME}[\"']\](?!\s*=[^=])")
_DIRECT = re.compile(rf"if\s*\(\s*!\s*(?:process\.)?env\.{_NAME}\s*\)\s*\{{?\s*throw\b")
#: Syntax that makes a requirement conditional.
_MAYBE = re.compile(
    r"\?(?![.?]?\s*:)|&&|\|\||\b(?:if|try|case|else|def|lambda|get|function|async)\b|=>|\A\s*(?:#|//|/?\*)"
)
#: A line that opens an object or a call, and the function that loads the configuration.
_OPENS = re.compile(r"(?:[=:(\[,]|\breturn)\s*[\[({]+\s*\Z")
_LOADS = re.compile(r"(?:export\s+)?(?:default\s+)?function\s.*\{\s*\Z")
_RETURNS = re.compile(r"\breturn\s*[({]+\s*\Z")
_ASSIGNED = re.compile(r"(?<![\w$])([A-Z][A-Z0-9_]{2,})=")
#: Variables that AWS, or every image, provides.
_GIVEN = re.compile(r"(?:AWS|ECS)_\w+|PATH|HOME|HOSTNAME|PWD|USER|TZ|LANG|NODE_VERSION|PYTHON_VERSION")


@dataclass(slots=True)
class _Given:
    """The variables of an image's tasks: names with a value, and whether there may be others."""

    names: set[str] = field(default_factory=set)
    open: bool = False
    among: list[str] = field(default_factory=list)


def ungiven(
    repository: Repository, groups: Mapping[str, Sequence[str]], defined: Definitions
) -> list[Finding]:
    """Return the variables that an image's configuration requires but none of its tasks gets.

    `groups` are the names of services by their image. A file counts as a task's configuration only if that
    task gets another variable of it.
    """
    found, given = list[Finding](), defaultdict[str, _Given](_Given)
    made = builds(repository, groups, Examined())
    for run in runs_of(defined, made):
        _add(given[run.build.image], run)
    filled = any(posixpath.basename(each).startswith(".env") for each in repository.paths)
    for build in made:
        own = given.get(build.image)
        if own is None or own.open or filled or not build.context:
            continue
        set_here = own.names | _of_image(build)
        scripts = [repository.script(each) or "" for each in repository.paths if each.endswith(".sh")]
        set_here |= {name for each in scripts for name in _ASSIGNED.findall(each)}
        for path in repository.paths:
            if not _is_config(path, build, groups[build.image]):
                continue
            demanded = dict(_demanded(repository.script(path) or ""))
            if not set_here & demanded.keys():
                continue
            for name, line in demanded.items():
                if name not in set_here and not _GIVEN.fullmatch(name):
                    tasks = " and ".join(own.among)
                    found.append(Finding(path, line, f"it demands {name}, which no task of {tasks} sets"))
    return list(dict.fromkeys(found))


def _add(given: _Given, run: Run) -> None:
    container = run.container.entries
    given.open |= "environmentFiles" in container or bool(run.task.uncertain)
    given.among.append(run.definition.name)
    given.names |= {*_ASSIGNED.findall(" ".join(run.words() or ()))}
    for kind in ("environment", "secrets"):
        listed = container.get(kind)
        every = choices(listed) if listed is not None else [[]]
        given.open |= len(every) != 1
        for each in every[0] if every else ():
            one = entries(each)
            name, value = one.get("name"), one.get("value")
            if name is None or not is_known(name):
                given.open = True
            elif not _is_empty(value):
                given.names.add(text(name))


def _is_empty(value: Value | None) -> bool:
    return is_known(value) and text(value) == ""


def _of_image(build: Build) -> set[str]:
    """The variables that the stages of an image set."""
    words = [word for stage in build.file.stages for each in stage.instructions
             if each.name == "ENV" for word in re.findall(r"(\w+)(?:=|\s)", each.text)]  # fmt: skip
    return {*words}


def _is_config(path: str, build: Build, names: Sequence[str]) -> bool:
    """Whether a file is the configuration of a service of these names, or of the whole build."""
    directory, name = posixpath.split(path)
    inside = build.context == "." or path.startswith(f"{build.context}/")
    below = directory.removeprefix(build.context).strip("/").split("/")
    own = below in ([""], ["src"]) or bool({*below} & {*names})
    return inside and own and _CONFIG.fullmatch(name) is not None and not _ASIDE.search(directory)


def _demanded(source: str) -> Iterator[tuple[str, int]]:
    """The variables that a source file always requires, with their lines."""
    helpers = {found[1] for found in _HELPER.finditer(source)}
    patterns = [re.compile(rf"\b{re.escape(each)}\(\s*[\"']{_NAME}[\"']\s*\)") for each in helpers]
    lines = source.splitlines()
    for at, line in enumerate(lines, 1):
        if not _is_sure(lines, at - 1):
            continue
        for pattern in (*patterns, _PYTHON) if not _MAYBE.search(line) else ():
            yield from ((found[1], at) for found in pattern.finditer(line))
        yield from ((found[1], at) for found in _DIRECT.finditer(line))


def _is_sure(lines: Sequence[str], at: int) -> bool:
    """Whether a line runs when its file is loaded: only in objects, calls, and functions returning them."""
    around, depth = list[str](), len(lines[at]) - len(lines[at].lstrip())
    for line in reversed(lines[:at]):
        if line.strip() and len(line) - len(line.lstrip()) < depth:
            depth = len(line) - len(line.lstrip())
            around.append(line)
    if around and _LOADS.match(around[-1]) and any(map(_RETURNS.search, around)):
        around.pop()
    return all(_OPENS.search(each) and not _MAYBE.search(each) for each in around)
