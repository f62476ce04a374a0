"""Expands `make`, `just`, `task` and `npm run` to the lines in their files.

`makefiles` reads the files of the first two; this module reads the tasks of a Taskfile, its YAML nodes, and
the scripts of package.json.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from . import makefiles
from .makefiles import Arguments, Find, Line

#: A missing entry.
NONE: tuple[int, yaml.Node | None] = (0, None)


class Entries(dict[str, tuple[int, yaml.Node | None]]):
    """The entries of a mapping by key as written: the line of each, and its value. Paths are of keys."""

    def node(self, *path: str) -> yaml.Node | None:
        """The value at a path; None where a key of it is missing."""
        *above, last = path
        return (self.below(*above) if above else self).get(last, NONE)[1]

    def below(self, *path: str) -> Entries:
        """The entries at a path; none if there is no mapping."""
        return entries_of(self.node(*path))

    def plain(self, *path: str) -> Any:
        """The value at a path, or None."""
        return plain(self.node(*path))


def top_of(text: str) -> Entries:
    """The entries of a YAML text. Raises yaml.YAMLError."""
    return entries_of(yaml.compose(text, Loader=yaml.SafeLoader))


def entries_of(node: yaml.Node | None) -> Entries:
    """The entries of a mapping; empty for anything else."""
    if not isinstance(node, yaml.MappingNode):
        return Entries()
    return Entries({str(key.value): (key.start_mark.line + 1, value) for key, value in node.value})


def plain(node: yaml.Node | None) -> Any:
    """The value of a node; texts stay as written, including numbers."""
    if node is None:
        return None
    if isinstance(node, yaml.SequenceNode):
        return [plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): plain(value) for key, value in node.value}
    if node.tag == "tag:yaml.org,2002:bool":
        return str(node.value).lower() in {"true", "yes", "on"}
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


_FILES = ("Taskfile.yml", "taskfile.yml", "Taskfile.yaml", "taskfile.yaml",
          "Taskfile.dist.yml", "taskfile.dist.yml", "Taskfile.dist.yaml", "taskfile.dist.yaml")  # fmt: skip
_VALUED_BY_TASK = frozenset(
    {"-d", "--dir", "-t", "--taskfile", "-C", "--concurrency", "-o", "--output", "-I"}
)
#: Keys that may keep a task or a command from running.
_DECIDES = ("status", "sources", "if", "platforms", "generates")
_DEEPEST = 12


def task_lines(program: str, words: Sequence[str], find: Find) -> Iterator[Line]:
    """What `task`, followed by these words, runs."""
    given = Arguments.of(words, _VALUED_BY_TASK)
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
    """A Taskfile; `settings` are its given variables, `root` is the Taskfile that includes it."""

    path: str
    text: str
    find: Find
    settings: dict[str, str]
    root: _File | None = None
    directory: str = ""
    top: Entries = field(init=False)
    unread: str = field(init=False, default="")
    depth: int = 0

    def __post_init__(self) -> None:
        try:
            self.top = top_of(self.text)
        except yaml.YAMLError:
            self.top, self.unread = Entries(), "it is not valid YAML"
        self.directory = self.directory or posixpath.dirname(self.path)

    def run(self, name: str) -> Iterator[Line]:
        """What a task runs, after those that it depends on."""
        name = self._filled(name)
        if name.startswith(":"):
            name, outer = name[1:], self.root or self
            yield from outer.run(name)
            return
        tasks = self.top.below("tasks")
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

    def _included(self, name: str) -> _File | None:
        node = self.top.node("includes", name)
        if node is None or self.depth >= _DEEPEST:
            return None
        entries = entries_of(node)
        where = str(entries.plain("taskfile") if entries else plain(node))
        place = posixpath.join(posixpath.dirname(self.path), where)
        for each in (place, *(posixpath.join(place, file) for file in _FILES)):
            found = None if "{{" in each or "://" in each else self.find(each)
            if found is not None:
                directory = entries.plain("dir") if entries else None
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
        for item in _items(entries.node("deps")):
            if entries_of(item):
                yield from self._command(item, Line(self.path, item.start_mark.line + 1, ""), entries)
            else:
                yield from self.run(str(plain(item)))
        directory = entries.plain("dir")
        options = [*_options(self.top), *_options(entries)]
        base = Line(
            self.path, line, "", tuple(options),
            entries.plain("ignore_error") is True,
            posixpath.join(self.directory, self._filled(str(directory))) if directory else self.directory,
            next((f"{each} of the task {name}" for each in _DECIDES if each in entries), ""),
        )  # fmt: skip
        written = [entries.node(key) for key in ("cmds", "cmd")] if entries else [node]
        for item in (item for each in written for item in _items(each)):
            yield from self._command(item, replace(base, line=item.start_mark.line + 1), entries)
        self.depth -= 1

    def _command(self, item: yaml.Node, base: Line, task: Entries) -> Iterator[Line]:
        """What an item of `cmds` runs: a command or another task, now or deferred."""
        entries = entries_of(item)
        if not entries:
            block = isinstance(item, yaml.ScalarNode) and item.style in ("|", ">")
            yield replace(base, line=base.line + block, text=self._filled(str(plain(item)), task))
            return
        if "for" in entries:
            yield from self._rounds(item, entries, base, task)
            return
        ignored = base.ignored or entries.plain("ignore_error") is True
        maybe = base.maybe or next((each for each in _DECIDES if each in entries), "")
        base = replace(base, ignored=ignored, maybe=maybe)
        if "defer" in entries and (later := entries["defer"][1]) is not None:
            yield from self._command(later, replace(base, ignored=True), task)
        elif "task" in entries:
            name = self._filled(str(plain(entries["task"][1])), task)
            given = {
                key: self._filled(str(plain(node)), task) for key, (_, node) in entries.below("vars").items()
            }
            inner = replace(self, settings=self.settings | given) if given else self
            for line in inner.run(name):
                why = f"whether the failure of the task {name} is ignored" if base.ignored else ""
                yield replace(line, unread=line.unread or why, maybe=line.maybe or base.maybe)
        else:
            text = self._filled(str(entries.plain("cmd") or ""), task)
            yield replace(base, text=text)

    def _rounds(self, item: yaml.Node, entries: Entries, base: Line, task: Entries) -> Iterator[Line]:
        """What an item with `for` runs: once with each word of a list, or of a variable."""
        loop = entries.node("for")
        named = entries_of(loop).plain("var")
        held = next((node for each in (task, self.top) if (node := each.node("vars", str(named)))), None)
        words = plain(held if named else loop)
        if isinstance(words, str) and named and not {"{", "$"} & {*words}:
            words = words.split(str(entries_of(loop).plain("split") or "") or None)
        if not isinstance(words, list):  # a matrix, or the files of `sources`
            text = " ".join(str(entries.plain(each) or "") for each in ("task", "cmd"))
            yield replace(base, text=text, unread=f"for: {words if named else plain(loop)}")
            return
        called = str(entries_of(loop).plain("as") or "ITEM")
        once = yaml.MappingNode(item.tag, [pair for pair in item.value if pair[0].value != "for"],
                                item.start_mark, item.end_mark)  # fmt: skip
        for word in words:
            inner = replace(self, settings=self.settings | {called: self._filled(str(word), task)})
            yield from inner._command(once, base, task)

    def _filled(self, text: str, task: Entries | None = None) -> str:
        """The text with plain variables instead of `{{.NAME}}`; any other expression becomes a parameter."""
        known = {
            name: written
            for entries in (self.top, task or Entries())
            for name, (_, node) in entries.below("vars").items()
            if isinstance(written := plain(node), str)
        } | self.settings

        def value(found: re.Match[str]) -> str:
            name = re.fullmatch(r"\s*\.(\w+)\s*", found[1])
            return known.get(name[1], f"${{{name[1]}}}") if name else "${_}"

        return re.sub(r"\{\{(.*?)\}\}", value, re.sub(r"\{\{(.*?)\}\}", value, text))


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else [] if node is None else [node]


def _listed(entries: Entries, key: str) -> list[str]:
    return [str(plain(each)) for each in _items(entries.node(key))]


def _options(entries: Entries) -> Iterator[str]:
    """The options of the shell that `set` names: errexit, pipefail, or their letters."""
    for each in _listed(entries, "set"):
        yield from ("-o", each) if len(each) > 1 else (f"-{each}",)


_MANAGERS = ("npm", "pnpm", "yarn", "bun")
_SEVERAL = ("npm-run-all", "npm-run-all2", "run-s", "run-p", "concurrently")
#: Programs that run other packages' scripts according to their own files, which are not read.
_MONOREPO = ("turbo", "nx", "lerna", "wsrun", "ultra")
_FETCHED = ("npx", "bunx", "pnpx")
PROGRAMS = (*_MANAGERS, *_SEVERAL, *_MONOREPO, *_FETCHED)

_DIRECTORY = ("-C", "--prefix", "--dir", "--cwd")
_WORKSPACE = ("--workspace", "--filter", "-F")
_ALL = ("--workspaces", "-ws", "-r", "--recursive", "--filter-prod")
_VALUED = frozenset({*_DIRECTORY, *_WORKSPACE, "-p", "--package", "-c", "--call"})
_OF_SEVERAL = frozenset({"-n", "--names", "-c", "--prefix-colors", "-p", "--prefix", "-m", "--max-processes",
                         "-s", "--success", "-l", "--prefix-length", "--restart-tries"})  # fmt: skip
_SHORT = {"test", "t", "start", "stop", "restart"}


def script_lines(program: str, words: Sequence[str], find: Find) -> Iterator[Line]:
    """What such a program, followed by these words, runs."""
    if program in _MONOREPO:
        yield _unread(f"{program} {' '.join(words)}")
    elif program in _SEVERAL:
        yield from _several(program, words, find)
    elif program in _FETCHED:
        yield from _other(words, find)
    else:
        yield from _managed(program, words, find)


def _managed(program: str, words: Sequence[str], find: Find) -> Iterator[Line]:
    """What a package manager runs: scripts of a package, or a program."""
    own = ["-w"] if program == "npm" else []
    given = Arguments.of(words, _VALUED.union(own))
    names, directory, workspace = (
        given.names,
        given.option(*_DIRECTORY) or "",
        given.option(*_WORKSPACE, *own),
    )
    if names[:1] == ["workspace"] and len(names) > 1:
        workspace, names = names[1], names[2:]
    command = f"{program} {' '.join(words)}"
    if names[:1] == ["workspaces"] or given.option(*_ALL) is not None:
        yield _unread(command)
        return
    place = directory if workspace is None else _package(workspace, directory, find)
    if place is None:
        yield _unread(f"{command}: no package {workspace} is found")
        return
    if names[:1] in (["exec"], ["dlx"], ["x"]):
        yield from _other([*names[1:], *given.rest], find)
        return
    asked = names[:1] in (["run"], ["run-script"])
    if program == "npm" and not asked and names[:1] and names[0] not in _SHORT:
        return
    found = find(posixpath.join(place, "package.json"))
    scripts = list(_script(*found, names[1:] if asked else names, given.rest)) if found else []
    yield from scripts or ([] if asked else _other(words, find))


def _unread(what: str) -> Line:
    return Line("", 0, what, unread=f"what {what[:80]} runs")


def _other(words: Sequence[str], find: Find) -> Iterator[Line]:
    """The program that another one finds and runs: `npx turbo run x`, `pnpm exec run-s x`."""
    at = next((at for at, word in enumerate(words) if not word.startswith("-")), len(words))
    program = words[at].partition("@")[0] if at < len(words) else ""
    if program in _SEVERAL + _MONOREPO:
        yield from script_lines(program, words[at + 1 :], find)


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _scripts(text: str) -> dict[str, str]:
    found = _read(text).get("scripts")
    return (
        {name: each for name, each in found.items() if isinstance(each, str)}
        if isinstance(found, dict)
        else {}
    )


def _script(path: str, text: str, names: Sequence[str], rest: Sequence[str]) -> Iterator[Line]:
    """A script of package.json, with those that run before and after it."""
    scripts = _scripts(text)
    name, *more = names or [""]
    if name not in scripts:
        return
    for each in (f"pre{name}", name, f"post{name}"):
        if each in scripts:
            found = re.search(rf'"{re.escape(each)}"\s*:', text)
            line = text.count("\n", 0, found.start()) + 1 if found else 1
            written = " ".join([scripts[each], *((*more, *rest) if each == name else ())])
            yield Line(path, line, written, directory=posixpath.dirname(path))


def _package(name: str, directory: str, find: Find) -> str | None:
    """The directory of a package of the workspace, by name or path; None if none is found."""
    patterns: list[Any] = []
    if root := find(posixpath.join(directory, "package.json")):
        listed = _read(root[1]).get("workspaces")
        listed = listed.get("packages") if isinstance(listed, dict) else listed
        patterns += listed if isinstance(listed, list) else []
    if other := find(posixpath.join(directory, "pnpm-workspace.yaml")):
        patterns += re.findall(r"^\s*-\s*[\"']?([^\"'\s!#]+)", other[1], re.MULTILINE)
    plain = name.strip(".{}").lstrip("/") if name.startswith((".", "{")) else name
    short = plain.rpartition("/")[2]
    for pattern in [plain, *filter(lambda each: isinstance(each, str), patterns)]:
        place = re.sub(r"/?\*\*?\Z", f"/{short}", pattern.removeprefix("./").rstrip("/"))
        found = None if "*" in place else find(posixpath.join(directory, place, "package.json"))
        if found is not None:
            own = str(_read(found[1]).get("name", ""))
            if plain in (own, place) or own.endswith(f"/{plain}"):
                return posixpath.dirname(found[0])
    return None


def _several(program: str, words: Sequence[str], find: Find) -> Iterator[Line]:
    """What `run-s`, `run-p` and `concurrently` run; all fail with one script, unless an option says no."""
    path, text = find("package.json") or ("", "")
    valued = _OF_SEVERAL if program == "concurrently" else {"--max-parallel"}
    given = Arguments.of(words, valued)
    passes = given.option("--success", "-s") if program == "concurrently" else None
    race = program != "concurrently" and given.option("-r", "--race") is not None
    if race or passes not in (None, "all"):
        yield _unread(f"{program} {' '.join(words)}")
        return
    for name in given.names:
        prefix = re.match(r"(?:npm|pnpm|yarn|bun):", name)
        if program == "concurrently" and prefix is None:
            yield Line(path, 1, name)
            continue
        pattern, *more = (name[prefix.end() :] if prefix else name).split() or [""]
        wanted = re.compile("[^:]*".join(map(re.escape, pattern.replace("**", "*").split("*"))))
        scripts = [each for each in _scripts(text) if wanted.fullmatch(each)]
        for each in scripts:
            yield from _script(path, text, [each, *more], ())
        if not scripts:
            yield _unread(f"{program} {name}")


_IN_FRONT = frozenset({"sudo", "time", "exec", "command", "env", "nohup"})
_READERS = {
    **dict.fromkeys(("make", "gmake", "just"), makefiles.lines),
    **dict.fromkeys(("task", "go-task"), task_lines),
    **dict.fromkeys(PROGRAMS, script_lines),
}


def lines(words: Sequence[str], find: Find) -> list[Line]:
    """The lines that a command runs; empty if it is not such a command, or its file does not say."""
    at = next((at for at, word in enumerate(words) if word not in _IN_FRONT and "=" not in word), len(words))
    if at == len(words):
        return []
    program = posixpath.basename(words[at]).partition("@")[0]
    reader = _READERS.get(program)
    return list(reader(program, words[at + 1 :], find)) if reader is not None else []
