"""The scripts of package.json: what `npm run` and its like run, and the programs that run several of them."""

import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any

from .recipe_lines import Arguments, Find, Line

_MANAGERS = ("npm", "pnpm", "yarn", "bun")
_SEVERAL = ("npm-run-all", "npm-run-all2", "run-s", "run-p", "concurrently")
#: Programs that run the scripts of other packages as files of theirs say, which are not read.
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


def lines(program: str, words: Sequence[str], find: Find) -> Iterator[Line]:
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
    whole = f"{program} {' '.join(words)}"
    if names[:1] == ["workspaces"] or given.option(*_ALL) is not None:
        yield _unread(whole)
        return
    place = directory if workspace is None else _package(workspace, directory, find)
    if place is None:
        yield _unread(f"{whole}: no package {workspace} is found")
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
    """What a program runs that another one fetches or finds: `npx turbo run x`, `pnpm exec run-s x`."""
    at = next((at for at, word in enumerate(words) if not word.startswith("-")), len(words))
    program = words[at].partition("@")[0] if at < len(words) else ""
    if program in _SEVERAL + _MONOREPO:
        yield from lines(program, words[at + 1 :], find)


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
    """The directory of a package of the workspace, by its name or its path; None where none is found."""
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
    """What `run-s`, `run-p` and `concurrently` run; they fail where one of it does, if no option says no."""
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
