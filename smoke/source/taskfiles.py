"""The tasks of a Taskfile: what `task` runs for a name."""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import yaml

from .nodes import NONE, Entries, entries_of, plain
from .recipe_lines import Arguments, Find, Line

_FILES = ("Taskfile.yml", "taskfile.yml", "Taskfile.yaml", "taskfile.yaml",
          "Taskfile.dist.yml", "taskfile.dist.yml", "Taskfile.dist.yaml", "taskfile.dist.yaml")  # fmt: skip
_VALUED = frozenset({"-d", "--dir", "-t", "--taskfile", "-C", "--concurrency", "-o", "--output", "-I"})
#: What decides by itself whether a task or a command runs.
_DECIDES = ("status", "sources", "if", "platforms", "generates")
_DEEPEST = 12


def lines(program: str, words: Sequence[str], find: Find) -> Iterator[Line]:
    """What `task`, followed by these words, runs."""
    given = Arguments.of(words, _VALUED)
    directory = given.option("-d", "--dir") or ""
    named = given.option("-t", "--taskfile")
    for name in [named] if named is not None else _FILES:
        if found := find(posixpath.join(directory, name)):
            file = _File(*found, find, given.settings)
            for each in given.names or ["default"]:
                yield from file.run(each)
            return


@dataclass(slots=True)
class _File:
    """A Taskfile; `settings` are variables that it is given, `root` is the one that includes it."""

    path: str
    text: str
    find: Find
    settings: dict[str, str]
    root: "_File | None" = None
    directory: str = ""
    top: Entries = field(init=False)
    unread: str = field(init=False, default="")
    depth: int = 0

    def __post_init__(self) -> None:
        try:
            self.top = entries_of(yaml.compose(self.text, Loader=yaml.SafeLoader))
        except yaml.YAMLError:
            self.top, self.unread = {}, "it is not valid YAML"
        self.directory = self.directory or posixpath.dirname(self.path)

    def run(self, name: str) -> Iterator[Line]:
        """What a task runs, after those that it depends on."""
        name = self._filled(name)
        if name.startswith(":"):
            name, outer = name[1:], self.root or self
            yield from outer.run(name)
            return
        tasks = entries_of(self.top.get("tasks", NONE)[1])
        line, node = tasks.get(name, NONE)
        if node is None:
            line, node = next(
                (found for found in tasks.values() if name in _listed(entries_of(found[1]), "aliases")), NONE
            )
        if node is not None:
            yield from self._task(name, line, node)
            return
        front, colon, rest = name.partition(":")
        inner = self._included(front) if colon else None
        if inner is not None:
            yield from inner.run(rest)
        else:
            yield Line(
                self.path, 0, name, unread=f"the task {name}: {self.unread or 'it is not in the files'}"
            )

    def _included(self, name: str) -> "_File | None":
        node = entries_of(self.top.get("includes", NONE)[1]).get(name, NONE)[1]
        if node is None or self.depth >= _DEEPEST:
            return None
        entries = entries_of(node)
        where = str(plain(entries.get("taskfile", NONE)[1]) if entries else plain(node))
        place = posixpath.join(posixpath.dirname(self.path), where)
        for each in (place, *(posixpath.join(place, file) for file in _FILES)):
            found = None if "{{" in each or "://" in each else self.find(each)
            if found is not None:
                directory = plain(entries.get("dir", NONE)[1]) if entries else None
                file = _File(*found, self.find, self.settings, self.root or self, depth=self.depth + 1)
                file.directory = (
                    posixpath.join(self.directory, str(directory)) if directory else self.directory
                )
                return file
        return None

    def _task(self, name: str, line: int, node: yaml.Node) -> Iterator[Line]:
        entries = entries_of(node)
        if self.depth >= _DEEPEST:
            yield Line(
                self.path, line, name, unread=f"the task {name}: tasks that are nested deeper than {_DEEPEST}"
            )
            return
        self.depth += 1
        for item in _items(entries.get("deps", NONE)[1]):
            yield from self.run(
                str(plain(entries_of(item).get("task", NONE)[1]) if entries_of(item) else plain(item))
            )
        directory = plain(entries.get("dir", NONE)[1])
        options = [*_options(self.top), *_options(entries)]
        base = Line(
            self.path, line, "", tuple(options),
            plain(entries.get("ignore_error", NONE)[1]) is True,
            posixpath.join(self.directory, self._filled(str(directory))) if directory else self.directory,
            next((f"{each} of the task {name}" for each in _DECIDES if each in entries), ""),
        )  # fmt: skip
        written = [entries.get(key, NONE)[1] for key in ("cmds", "cmd")] if entries else [node]
        for item in (item for each in written for item in _items(each)):
            yield from self._command(item, replace(base, line=item.start_mark.line + 1), entries)
        self.depth -= 1

    def _command(self, item: yaml.Node, base: Line, task: Entries) -> Iterator[Line]:
        """What an item of `cmds` runs: a command, another task, or either of them at the end."""
        entries = entries_of(item)
        if not entries:
            block = isinstance(item, yaml.ScalarNode) and item.style in ("|", ">")
            yield replace(base, line=base.line + block, text=self._filled(str(plain(item)), task))
            return
        ignored = base.ignored or plain(entries.get("ignore_error", NONE)[1]) is True
        maybe = base.maybe or next((each for each in _DECIDES if each in entries), "")
        base = replace(base, ignored=ignored, maybe=maybe)
        if "defer" in entries and (later := entries["defer"][1]) is not None:
            yield from self._command(later, replace(base, ignored=True), task)
        elif "task" in entries:
            name = self._filled(str(plain(entries["task"][1])), task)
            for line in self.run(name):
                why = f"whether the failure of the task {name} is ignored" if base.ignored else ""
                yield replace(line, unread=line.unread or why, maybe=line.maybe or base.maybe)
        else:
            text = self._filled(str(plain(entries.get("cmd", NONE)[1]) or ""), task)
            yield replace(base, text=text)

    def _filled(self, text: str, task: Entries | None = None) -> str:
        """The text with plain variables in place of `{{.NAME}}`; any other expression is a parameter."""
        known = {
            name: written
            for entries in (self.top, task or {})
            for name, (_, node) in entries_of(entries.get("vars", NONE)[1]).items()
            if isinstance(written := plain(node), str)
        } | self.settings

        def value(found: re.Match[str]) -> str:
            name = re.fullmatch(r"\s*\.(\w+)\s*", found[1])
            return known.get(name[1], f"${{{name[1]}}}") if name else "${_}"

        return re.sub(r"\{\{(.*?)\}\}", value, re.sub(r"\{\{(.*?)\}\}", value, text))


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else [] if node is None else [node]


def _listed(entries: Entries, key: str) -> list[str]:
    return [str(plain(each)) for each in _items(entries.get(key, NONE)[1])]


def _options(entries: Entries) -> Iterator[str]:
    """The options of the shell that `set` names: errexit, pipefail, or their letters."""
    for each in _listed(entries, "set"):
        yield from ("-o", each) if len(each) > 1 else (f"-{each}",)
