"""Recipe lines and rules of a Makefile or a justfile: the commands that `make` and `just` run for a name."""

import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

#: Finds a file by a name or a path: where it is in the checkout, and its text.
Find = Callable[[str], tuple[str, str] | None]


@dataclass(frozen=True, slots=True)
class Line:
    """The text that one shell runs, at `line` of `path`, in `directory` ("" for the command's).

    `ignored`: its failure does not affect the command; `maybe` is an unread condition for running it;
    `unread` says why the line is not followed: then `text` is what it mentions.
    """

    path: str
    line: int
    text: str
    options: tuple[str, ...] = ()
    ignored: bool = False
    directory: str = ""
    maybe: str = ""
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The words after a program: options with their values, names, `NAME=value`, what follows `--`."""

    options: dict[str, str]
    names: list[str]
    settings: dict[str, str]
    rest: list[str]

    @classmethod
    def of(cls, words: Sequence[str], valued: Collection[str]) -> "Arguments":
        """Read words; the options in `valued` take the next word as a value, `-j` a number."""
        found, waiting = cls({}, [], {}, []), list(words)
        while waiting:
            word = waiting.pop(0)
            if word == "--":
                found.rest.extend(waiting)
                break
            name, equals, value = word.partition("=")
            if word.startswith("-"):
                takes = waiting and (name in valued or (name == "-j" and waiting[0].isdigit()))
                found.options[name] = value if equals else waiting.pop(0) if takes else ""
            elif equals and name.replace("_", "a").isalnum():
                found.settings[name] = value
            else:
                found.names.append(word)
        return found

    def option(self, *names: str) -> str | None:
        """The value of the first of these options that is present; None if none is."""
        return next((self.options[name] for name in names if name in self.options), None)


_FILES = {"make": ("GNUmakefile", "makefile", "Makefile"), "just": ("justfile", "Justfile", ".justfile")}
_VALUED = frozenset({"-C", "--directory", "-d", "--working-directory", "-f", "--file", "--makefile",
                     "--justfile", "-W", "-o", "-I"})  # fmt: skip
#: Options with which make continues after any failure and succeeds.
IGNORES = re.compile(r"-[bBdeiknrRsStvw]*i[bBdeiknrRsStvw]*|--ignore-errors")
_SETTING = re.compile(r"(?:(?:export|override|set)\s+)*(\.?[\w-]+)\s*(\?|\+|!|:{1,3})?=\s*(.*)", re.DOTALL)
_RULE = re.compile(r"([^:=#\t]+?)\s*::?(?!=)([^;]*)(?:;(.*))?", re.DOTALL)
_JUST_RULE = re.compile(r"@?([A-Za-z_][\w-]*)((?:[ \t]+[^:\n]*)?):(?!=)(.*)", re.DOTALL)
_INCLUDE = re.compile(r"([-s]?)include\s+(.*)|(?:import|mod)(\??)\s+(?:\w+\s+)?['\"](.*)['\"]")
_CONDITION = re.compile(r"(?:else\s+)?(ifn?def|ifn?eq)\b.*")
#: Functions that compute a recipe's text in a way that is not followed.
_FUNCTION = re.compile(r"\$[({](?:foreach|if|or|and|eval|call|file)\b")
_DEEPEST = 12


@dataclass(slots=True)
class _Target:
    """A name's prerequisites, and its recipe: path, line, text and condition of each line.

    A recipe of just may have parameters: `name`, `name="default"`, `+name` or `*name` for all other words.
    """

    parameters: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    body: list[tuple[str, int, str, str]] = field(default_factory=list)
    stem: str = ""


def lines(program: str, words: Sequence[str], find: Find) -> Iterator[Line]:
    """What `make` or `just`, followed by these words, runs."""
    program = program.removeprefix("g")
    given = Arguments.of(words, _VALUED)
    directory = given.option("-C", "--directory", "-d", "--working-directory") or ""
    named = given.option("-f", "--file", "--makefile", "--justfile")
    for name in [named] if named is not None else _FILES[program]:
        if found := find(posixpath.join(directory, name)):
            ignored = program == "make" and any(map(IGNORES.fullmatch, given.options))
            rules = _Targets(program == "just", find, directory, given.settings, ignored)
            rules.read(*found)
            yield from rules.of(rules.calls(given.names) or [rules.first])
            return


class _Targets:
    """The rules of a file and its includes."""

    def __init__(
        self, just: bool, find: Find, directory: str, given: Mapping[str, str], ignored: bool
    ) -> None:
        self.just, self.ignored = just, ignored
        self._find, self._directory = find, directory
        self._given = {"MAKE": "make", **given}
        self.settings: dict[str, str] = dict(self._given)
        self.rules: dict[str, _Target] = {}
        self.unread: Line | None = None
        self._read = set[str]()

    @property
    def first(self) -> str:
        """The default target."""
        names = (each for each in self.rules if not each.startswith(".") and "%" not in each)
        return self.settings.get(".DEFAULT_GOAL") or next(names, "")

    def calls(self, words: Sequence[str]) -> list[str]:
        """The names among these words; for just, each with the arguments that its parameters take."""
        found, waiting = list[str](), [*words]
        while waiting:
            call = [waiting.pop(0)]
            own = self.rules.get(call[0])
            for parameter in own.parameters if own is not None else ():
                taken = len(waiting) if parameter[:1] in "+*" else 1
                call += waiting[:taken]
                del waiting[:taken]
            found.append(shlex.join(call) if self.just else call[0])
        return found

    def read(self, path: str, text: str) -> None:
        """Read the rules, settings and includes of a file."""
        if path in self._read or len(self._read) > _DEEPEST:
            return
        self._read.add(path)
        current: list[_Target] = []
        fresh = False  # whether the next line of a recipe is the first after the names of its rules
        conditions: list[str] = []
        for number, line in self._logical(text):
            maybe = conditions[-1] if conditions else ""
            plain = line.strip()
            if line[:1] == "\t" or (self.just and line[:1] == " "):
                for rule in current:
                    rule.body = [*([] if fresh else rule.body), (path, number, plain, maybe)]
                fresh = False
            elif self._directs(path, number, plain, conditions):
                continue
            elif begun := self._rules(path, number, plain, maybe):
                current, fresh = begun, "::" not in plain

    def _logical(self, text: str) -> Iterator[tuple[int, str]]:
        """The lines with their continuations, each with its number; `define` becomes a setting."""
        defined: list[str] | None = None
        written = ""
        for number, line in enumerate(text.splitlines(), 1):
            if defined is not None:
                defined.append(line)
                if line.strip() == "endef":
                    self.settings[defined[0]] = "\n".join(defined[1:-1])
                    defined = None
            elif not self.just and (found := re.match(r"\s*define\s+([\w.-]+)", line)):
                defined = [found[1]]
            else:
                written += line
                if written.endswith("\\"):
                    written += "\n"
                    continue
                yield number - written.count("\n"), written
                written = ""

    def _directs(self, path: str, line: int, plain: str, conditions: list[str]) -> bool:
        """Apply a line that is not a rule: a condition, an include, a setting; return whether it was one."""
        if not self.just and _CONDITION.fullmatch(plain):
            if plain.startswith("else"):
                conditions.pop()
            conditions.append(plain)
        elif not self.just and plain in ("else", "endif"):
            condition = conditions.pop() if conditions else ""
            conditions += [f"else of {condition}"] if plain == "else" else []
        elif include := _INCLUDE.fullmatch(plain):
            self._include(path, line, include)
        elif setting := _SETTING.fullmatch(plain):
            self._set(setting[1], setting[2] or "", setting[3])
        else:
            return False
        return True

    def _include(self, path: str, line: int, found: re.Match[str]) -> None:
        optional = found[1] or found[3]
        names = [found[4]] if found[4] else self._plain((found[2] or "").partition("#")[0]).split()
        for name in names:
            file = None if "$" in name or "*" in name else self._find(posixpath.join(self._directory, name))
            if file is not None:
                self.read(*file)
            elif not optional or "$" in name or "*" in name:
                self.unread = self.unread or Line(path, line, "", unread=f"include {name}")

    def _set(self, name: str, how: str, value: str) -> None:
        if name in self._given or (how == "?" and name in self.settings):
            return
        value = value if self.just else re.sub(r"\s+#.*", "", value).strip()
        before = self.settings.get(name, "")
        self.settings[name] = f"{before} {value}".strip() if how == "+" else value

    def _rules(self, path: str, line: int, text: str, maybe: str) -> list[_Target]:
        """The rules that a line begins; none if it is not a rule."""
        if self.just:
            found = _JUST_RULE.fullmatch(text)
            if found is None:
                return []
            names, recipe = [found[1]], None
            needs = found[3].partition("#")[0].replace("&&", " ")
            self.rules[found[1]] = _Target(re.findall(r"[^\s=]+(?:=(?:'[^']*'|\"[^\"]*\"|\S*))?", found[2]))
        else:
            found = _RULE.fullmatch(text)
            if found is None:
                return []
            names, recipe = self._plain(found[1]).split(), found[3]
            needs = self._plain(found[2].partition("#")[0])
        if own := _SETTING.fullmatch(needs.strip()):  # a target-specific variable
            self._set(own[1], "?", own[3])
            needs = ""
        pattern, static, behind = ("", "", "") if self.just else needs.partition(":")
        needs = behind if static else needs
        begun = [self.rules.setdefault(name, _Target()) for name in names]
        for name, rule in zip(names, begun, strict=True):
            if static:  # the rule is only for these names, each with its stem
                rule.stem = _stem(name, pattern.strip()) or ""
            calls = re.findall(r"\([^()]*\)|\S+", needs) if self.just else needs.replace("|", " ").split()
            rule.needs += [each.strip("()") for each in calls]
            if recipe and recipe.strip():
                rule.body = [(path, line, recipe.strip(), maybe)]
        return begun

    def of(self, names: Sequence[str], done: set[str] | None = None) -> Iterator[Line]:
        """What the rules of these names run, each once, after the rules that they need.

        In a justfile a name may have its arguments behind it.
        """
        done = set() if done is None else done
        for call in names:
            if call in done:
                continue
            done.add(call)
            name, *arguments = (self.just and shlex.split(call)) or [call]
            rule, stem = self._rule(name)
            if rule is None:
                if self.unread is not None:
                    unread = f"{self.unread.unread}: the rule of {name} may be there"
                    yield Line(self.unread.path, self.unread.line, name, unread=unread)
                elif "::" in name:
                    yield Line("", 0, name, unread=f"{name}, of a module of the justfile")
                continue
            passed = {**self._literals(), **dict(_passed(rule.parameters, arguments))}
            needs = [_resolved(each, passed) if self.just else each.replace("%", stem) for each in rule.needs]
            yield from self.of(needs, done)
            yield from self._body(name, rule, stem, passed)

    def _rule(self, name: str) -> tuple[_Target | None, str]:
        """The rule of a name, and the stem of its pattern."""
        own = self.rules.get(name)
        if own is not None and own.body:
            return own, own.stem
        for pattern, rule in self.rules.items():
            if (stem := _stem(name, pattern)) is not None:
                needs = [*(own.needs if own else ()), *rule.needs]
                return _Target([], needs, rule.body), stem
        return own, ""

    def _body(self, name: str, rule: _Target, stem: str, passed: Mapping[str, str]) -> Iterator[Line]:
        if not rule.body:
            return
        automatic = (
            passed
            if self.just
            else {"@": name, "*": stem, "<": next(iter(rule.needs), ""), "^": " ".join(rule.needs)}
        )
        script = self.just and rule.body[0][2].startswith("#!")
        if script or ".ONESHELL" in self.rules:
            path, first, *_ = rule.body[0]
            maybe = next(filter(None, (each[3] for each in rule.body)), "")
            texts = [self._plain(text, automatic) for _, _, text, _ in rule.body]
            signs, texts[0] = _signs(texts[0])
            text = "\n".join([texts[0], *(each if script else _signs(each)[1] for each in texts[1:])])
            yield self._line(path, first, text, name, signs, maybe)
            return
        for path, number, written, maybe in rule.body:
            for text in re.split(r"(?<!\\)\n", self._plain(written, automatic)):
                signs, text = _signs(text)
                yield self._line(path, number, text, name, signs, maybe)

    def _line(self, path: str, line: int, text: str, name: str, signs: str, maybe: str) -> Line:
        options, unread = self._options(text), ""
        if not self.just and (found := _FUNCTION.search(text)):
            unread = f"{found[0]} …) in the recipe of {name}"
        elif not self.just and not re.search(r"(?:\A|/)(?:ba|da|k|z)?sh\Z", options[0]):
            unread = f"SHELL = {options[0]}"
        ignored = self.ignored or "-" in signs or self._ignores(name)
        return Line(path, line, text, options, ignored, self._directory, maybe, unread)

    def _ignores(self, name: str) -> bool:
        """Whether the file ignores failures of this rule, or of all."""
        flags = self.settings.get("MAKEFLAGS", "").split()
        if any(IGNORES.fullmatch(each) for each in flags) or re.match(r"[a-hj-z]*i[a-z]*\Z", " ".join(flags)):
            return True
        names = self.rules.get(".IGNORE")
        return names is not None and (not names.needs or name in names.needs)

    def _options(self, text: str) -> tuple[str, ...]:
        if text.startswith("#!"):
            return tuple(text.partition("\n")[0].split())
        if self.just:
            return tuple(re.findall(r"[^'\"\[\],\s]+", self.settings.get("shell", "sh -cu")))
        shell = self._plain(self.settings.get("SHELL", "/bin/sh")).split() or ["/bin/sh"]
        shell = shell[shell[0].endswith("/env") :]  # SHELL = /usr/bin/env bash
        flags = self.settings.get(".SHELLFLAGS", "-ec" if ".POSIX" in self.rules else "-c")
        return (*shell, *self._plain(flags).split())

    def _plain(self, text: str, automatic: Mapping[str, str] | None = None, depth: int = 4) -> str:
        """The text as a shell gets it, with the values of variables that the file sets."""
        if self.just:
            values = self._literals() if automatic is None else automatic
            return re.sub(
                r"\{\{\s*(\w+)\s*\}\}", lambda found: values.get(found[1], f"${{{found[1]}}}"), text
            )

        def value(found: re.Match[str]) -> str:
            if found[0] == "$$":
                return "$"
            name = found[1] or found[2] or found[4]
            if found[4] is not None:
                return (automatic or {}).get(name, found[0])
            known = self.settings.get(name)
            if known is None or not depth:
                return f"${{{name}}}" if found[1] else found[0]
            for number, each in enumerate((found[3] or "").split(",")[1:], 1):
                known = known.replace(f"$({number})", each.strip()).replace(f"${number}", each.strip())
            return self._plain(known, automatic, depth - 1)

        text = _SUBSTITUTED.sub(_as_patsubst, text)
        return _BY_WORD.sub(_by_word, _REFERENCE.sub(value, text))

    def _literals(self) -> dict[str, str]:
        """The settings of a justfile that are plain strings."""
        return {name: value[1:-1] for name, value in self.settings.items() if _LITERAL.fullmatch(value)}


_LITERAL = re.compile(r"'[^']*'|\"[^\"\\]*\"")
_REFERENCE = re.compile(r"\$\$|\$[({]([\w.-]+)[)}]|\$[({]call\s+([\w.-]+)((?:,[^(){},]*)*)[)}]|\$([@*<^])")


#: `$(NAMES:%=deploy-%)`, and functions that change each word of a text that has no variables any more.
_SUBSTITUTED = re.compile(r"\$[({]([\w.-]+):([^=$(){}]*)=([^$(){}]*)[)}]")
_BY_WORD = re.compile(r"\$[({](addprefix|addsuffix|patsubst)\s+([^$(){}]*)[)}]")


def _stem(name: str, pattern: str) -> str | None:
    """What `%` stands for in a name; None if the pattern does not match."""
    front, percent, back = pattern.partition("%")
    fits = percent and name.startswith(front) and name.endswith(back) and len(name) >= len(pattern)
    return name[len(front) : len(name) - len(back)] if fits else None


def _as_patsubst(found: re.Match[str]) -> str:
    name, old, new = found.groups()
    old, new = (old, new) if "%" in old else (f"%{old}", f"%{new}")
    return f"$(patsubst {old},{new},$({name}))"


def _by_word(found: re.Match[str]) -> str:
    function, (*how, words) = found[1], [each.strip() for each in found[2].split(",")]
    if len(how) != 1 + (function == "patsubst"):
        return found[0]
    old, new = ("%", f"{how[0]}%" if function == "addprefix" else f"%{how[0]}") if how[1:] == [] else how
    front, percent, back = old.partition("%")
    pattern = re.compile(f"{re.escape(front)}({'.*' if percent else ''}){re.escape(back)}")
    fits = [(each, pattern.fullmatch(each)) for each in words.split()]
    return " ".join(new.replace("%", fit[1], 1) if fit else each for each, fit in fits)


def _passed(parameters: Sequence[str], arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The parameters of a just recipe with the values from a call, or their plain defaults."""
    for at, parameter in enumerate(parameters):
        name, _, default = parameter.lstrip("+*$").partition("=")
        if parameter[:1] in "+*" and arguments[at:]:
            yield name, " ".join(arguments[at:])
        elif at < len(arguments):
            yield name, arguments[at]
        elif _LITERAL.fullmatch(default) or (parameter[:1] == "*" and not default):
            yield name, default[1:-1]


_PART = r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"+/]+)"
_ARGUMENT = re.compile(rf"{_PART}(?:\s*[+/]\s*{_PART})*")


def _resolved(need: str, values: Mapping[str, str]) -> str:
    """A just recipe's dependency with arguments, such as `build "finn" tag`, with plain arguments.

    `values` are by name; other expressions become a shell variable that nothing sets.
    """
    name, *arguments = _ARGUMENT.findall(need) or [""]
    plain = []
    for each in arguments:
        computed = "${" + re.sub(r"\W+", "_", each) + "}"
        plain.append(each[1:-1] if _LITERAL.fullmatch(each) else values.get(each, computed))
    return shlex.join([name, *plain])


def _signs(text: str) -> tuple[str, str]:
    """The prefix characters of a recipe line, and the line without them."""
    found = re.match(r"[@+\s-]*", text)
    assert found is not None
    return found[0], text[found.end() :]
