"""What `make`, `just` and `npm run` do: the lines of their files that a command stands for."""

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

#: Finds a file by a name or a path: where it is in the checkout, and its text.
Find = Callable[[str], tuple[str, str] | None]

_NODE = ("npm", "pnpm", "yarn", "bun")
_FILES = {"make": ("GNUmakefile", "makefile", "Makefile"), "just": ("justfile", "Justfile", ".justfile")}
_IN_FRONT = frozenset({"sudo", "time", "exec", "command", "env", "nohup"})
#: Options with a value of their own; those of npm that name another package are not followed.
_VALUED = frozenset({"-C", "--directory", "--prefix", "--dir", "--cwd", "-j", "-f", "--file", "--justfile"})
_DIRECTORY = frozenset({"-C", "--directory", "--prefix", "--dir", "--cwd"})
_OTHER_FILE = frozenset({"-f", "--file", "--justfile", "-w", "--workspace", "--workspaces", "--filter", "-r"})
_IGNORES = re.compile(r"-[bBdeiknrRsStvw]*i[bBdeiknrRsStvw]*|--ignore-errors")
_RULE = re.compile(r"@?(?P<names>[\w.%/-]+(?:[ \t]+[^:=\n]*)?):{1,2}(?!=)(?P<needs>[^\n#]*)")
_SETTING = re.compile(r"(?:export\s+)?(\.?\w+)\s*(?::{0,2}|\?)=\s*(.*)")


@dataclass(frozen=True, slots=True)
class Line:
    """What one shell runs, at `line` of `path`; `ignored` where its failure is none of the command's."""

    path: str
    line: int
    text: str
    options: tuple[str, ...] = ()
    ignored: bool = False


def lines(words: Sequence[str], find: Find) -> list[Line]:
    """What a command runs, line by line; empty where it is no such command, or its file does not say."""
    at = next((at for at, word in enumerate(words) if word not in _IN_FRONT and "=" not in word), len(words))
    program = posixpath.basename(words[at]) if at < len(words) else ""
    options, names, rest = _arguments(words[at + 1 :])
    if _OTHER_FILE & {option.partition("=")[0] for option in options}:
        return []
    directory = next((value for option, value in options.items() if option in _DIRECTORY), "")
    if program in _NODE:
        found = find(posixpath.join(directory, "package.json"))
        return list(_of_package(*found, program, names, rest)) if found else []
    for name in _FILES.get(program, ()):
        if found := find(posixpath.join(directory, name)):
            ignored = program == "make" and any(map(_IGNORES.fullmatch, options))
            return list(_Rules(*found, program, ignored).of(names))
    return []


def _arguments(words: Sequence[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """The options with their values, the names, and what stands behind `--`."""
    options, names = dict[str, str](), list[str]()
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            break
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            options[name] = value if equals else waiting.pop(0) if name in _VALUED and waiting else ""
        elif "=" not in word:
            names.append(word)
    return options, names, waiting


def _of_package(path: str, text: str, program: str, names: list[str], rest: Sequence[str]) -> Iterator[Line]:
    """A script of package.json, with those that run before and after it."""
    try:
        scripts = json.loads(text)["scripts"]
        given = names[1:] if names[:1] in (["run"], ["run-script"]) else [] if program == "npm" else names
        name, *more = given
        for each in (f"pre{name}", name, f"post{name}"):
            if each in scripts or each == name:
                found = re.search(rf'"{re.escape(each)}"\s*:', text)
                line = text.count("\n", 0, found.start()) + 1 if found else 1
                yield Line(path, line, " ".join([scripts[each], *((*more, *rest) if each == name else ())]))
    except (ValueError, KeyError, TypeError):  # no JSON, or no such script: a program of that name
        return


class _Rules:
    """The rules of a Makefile or a justfile."""

    def __init__(self, path: str, text: str, program: str, ignored: bool) -> None:
        self.path, self.ignored = path, ignored
        self.just = program == "just"
        self.settings = {"MAKE": "make"}
        self.rules: dict[str, tuple[list[str], list[tuple[int, str]]]] = {}
        self._read(text)

    def _read(self, text: str) -> None:
        current: list[tuple[int, str]] = []
        written = ""
        for number, line in enumerate(text.splitlines(), 1):
            written += line
            if written.endswith("\\"):
                written += "\n"
                continue
            first = number - written.count("\n")
            if written[:1] == "\t" or (self.just and written[:1] == " "):
                current.append((first, written.strip()))
            elif rule := _RULE.match(written):
                current = []
                needs = rule["needs"].replace("&&", " ").split()
                names = rule["names"].split()
                for name in names[:1] if self.just else names:
                    self.rules[name] = (needs, current)
            elif setting := _SETTING.match(written):
                self.settings.setdefault(setting[1], setting[2].strip())
            written = ""

    def of(self, names: Sequence[str], seen: frozenset[str] = frozenset()) -> Iterator[Line]:
        """What the rules of these names run, after that of the rules that they need."""
        for name in names or [next((each for each in self.rules if not each.startswith(".")), "")]:
            needs, body = self.rules.get(name, ([], []))
            if name in seen:
                continue
            if known := [each for each in needs if each in self.rules]:
                yield from self.of(known, seen | {name})
            script = self.just and body and body[0][1].startswith("#!")
            if body and (script or ".ONESHELL" in self.rules):
                text = "\n".join(self._plain(line) for _, line in body)
                yield Line(self.path, body[0][0], text, self._options(text), self.ignored)
                continue
            for number, line in body:
                signs = re.match(r"[@+-]*", line)
                sign = signs.group() if signs else ""
                ignored = self.ignored or "-" in sign or self._ignores(name)
                yield Line(self.path, number, self._plain(line[len(sign) :]), self._options(""), ignored)

    def _ignores(self, name: str) -> bool:
        """Whether `.IGNORE` stands in the file for this rule, or for all."""
        names = self.rules.get(".IGNORE")
        return names is not None and (not names[0] or name in names[0])

    def _options(self, text: str) -> tuple[str, ...]:
        if text.startswith("#!"):
            return tuple(text.partition("\n")[0].split())
        return tuple(self.settings.get(".SHELLFLAGS", "").split())

    def _plain(self, text: str, depth: int = 3) -> str:
        """The text as a shell gets it: variables that the file sets have their values."""
        if self.just:
            return re.sub(r"\{\{\s*(\w+)\s*\}\}", r"${\1}", text)

        def value(found: re.Match[str]) -> str:
            known = self.settings.get(found[1] or "")
            if found[0] == "$$":
                return "$"
            return self._plain(known, depth - 1) if known is not None and depth else f"${{{found[1]}}}"

        return re.sub(r"\$\$|\$[({](\w+)[)}]", value, text)
