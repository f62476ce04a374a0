"""Simple commands: their effect on the status, on values and on unhandled failures."""

from __future__ import annotations

import posixpath
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from tree_sitter import Node

from . import recipes, shell
from .makefiles import IGNORES, Line
from .state import (
    CODE_IS_ZERO,
    DEEPEST,
    EXIT_CODE,
    UNSURE,
    Failure,
    State,
    Word,
    Words,
    bounded,
    ended,
    kept,
    options_of,
    outside,
    reads_every,
    short,
)

#: Returns the text of a file in the checkout, None if there is no such file.
Script = Callable[[str], str | None]

#: Commands that change a database's schema: by their names, or the tools' names.
MIGRATION = re.compile(
    r"migrat|\b(?:alembic|flask\s+db)\b.*\bupgrade\b|\b(?:liquibase|ef\s+database)\b.*\bupdate\b"
    r"|\b(?:goose|dbmate)\b.*\bup\b|\batlas\b.*\bapply\b|\bsqitch\b.*\bdeploy\b"
    r"|\b(?:prisma\s+db|drizzle-kit)\s+push\b",
    re.IGNORECASE,
)
_NO_MIGRATION = shell.SILENT | frozenset(
    [
        "aws", "git", "curl", "wget", "gh", "ls", "cp", "mv", "rm", "find", "tail", "head", "sleep", "touch",
        "chmod", "read", "export", "local", "source", ".",
    ]
)  # fmt: skip
_IMAGES_ONLY = re.compile(
    r"(?:docker|podman)\s+(?:compose\s+)?(?:image\s+)?(?:buildx?|push|pull|tag|login|logs|inspect)\b"
)
OTHER_LANGUAGES = (".py", ".js", ".ts", ".mjs", ".rb", ".pl", ".php")


#: Commands that run in the background or at the end, with a status that is not followed.
_DECIDES_LATER = re.compile(r"coproc\s|trap\s.*exit(\s+0|\s*$)", re.DOTALL)
_SUCCESS = re.compile(r"\bexit(?:\s+0\b|\s*[;}\n])")
#: A detached container: its status is that of its start.
_DETACHED = re.compile(
    r"(?:docker|podman)\s+(?:compose\s+)?(?:-\S+\s+)*(?:run|exec)\s(?:.*\s)?(?:-[it]*d[it]*|--detach)\s"
)
_COMPOSE_UP = re.compile(
    r"(?:docker[\s-]|podman[\s-])compose\s(?:.*\s)?up\b(?!.*--(?:exit-code-from|abort-on-container))"
)
_PSQL_GOES_ON = re.compile(r"psql\s(?!.*\bON_ERROR_STOP\b).*(?:-f\b|--file\b|<)")


def migrates(texts: Sequence[str]) -> bool:
    """Whether a command, given as words, runs a migration instead of showing, building or mentioning one."""
    if shell.runs(texts, "aws ecs run-task"):
        return shell.option(texts, "--count") != "0"
    at = 0
    while at < len(texts) - 1 and texts[at] in ("sudo", "time", "exec", "command", "env", "nohup"):
        at += 1
    written = " ".join(texts[at:])
    if posixpath.basename(texts[at]) in _NO_MIGRATION or _IMAGES_ONLY.match(written):
        return False
    return MIGRATION.search(written) is not None


@dataclass(slots=True)
class Commands(Words):
    """Runs simple commands. `line` is added to lines of `path`; `migrations` counts what migrates.

    `counts` may name other commands: their failure must not be lost.

    `unread` are parts that could not be read, with their places, `unfollowed` parts that may migrate if
    nothing else does. Scripts are searched in `directories`, the last one first. `into` is what `echo` sets:
    "env" or "outputs" if it writes to GitHub's file, else nothing. `visited` are the places of the commands
    on some path, `unset` the variables that certainly have no value.
    """

    script: Script
    path: str
    line: int = 0
    directories: list[str] = field(default_factory=lambda: ["."])
    into: str = ""
    migrations: int = 0
    unread: list[Failure] = field(default_factory=list)
    unfollowed: list[Failure] = field(default_factory=list)
    depth: int = 0
    visited: set[tuple[str, int]] = field(default_factory=set)
    unset: frozenset[str] = frozenset()
    counts: Callable[[Sequence[str]], bool] = migrates

    @abstractmethod
    def through(self, text: str, states: Iterable[State]) -> set[State]:
        """Return the states after a script."""

    @abstractmethod
    def _run(self, node: Node, state: State, cond: bool) -> set[State]:
        """Return the states after a statement; `cond`: `set -e` does not apply to its status."""

    def _not_read(self, node: Node, what: str) -> None:
        self.unread.append(Failure(self.path, self.line + shell.line_of(node), what))

    def _command(self, node: Node, state: State, cond: bool) -> set[State]:
        self.visited.add((self.path, self.line + shell.line_of(node)))
        before = [(state, ())]  # type: list[tuple[State, tuple[Word, ...]]]
        for argument in shell.arguments(node):
            several = state.several(shell.unquoted(argument))
            if several is not None:
                before = [(start, (*found, *several)) for start, found in before]
                continue
            before = [
                (each, found if _vanishes(argument, text, found) else (*found, (text, known)))
                for start, found in before
                for each, text, known in self._expand(argument, start)
            ]
        after: set[State] = set()
        for start, found in before:
            if start.failed != state.failed:
                start = start.lost(f"`{short(node)}` hides the status of what is in `$( )`")
            after |= self._simple(node, found, replace(start, ok=state.ok), cond)
        return {ended(each, cond) for each in after}

    def _simple(self, node: Node, found: tuple[Word, ...], state: State, cond: bool) -> set[State]:
        texts = [text for text, _ in found]
        name, rest = (texts[0] if texts else ""), [kept(*word) for word in found[1:]]
        if (built_in := self._built_in(name, found, state)) is not None:
            return built_in
        if test := _test(found):
            each, truth = self._compared(node, state, *test, "[")
            return {replace(each, ok=one) for one in ((True, False) if truth is None else (truth,))}
        if _DECIDES_LATER.match(" ".join(texts)) or self._ends_in_success(texts):
            self._not_read(node, short(node))
        if name in self.functions:
            return self._called(node, self.functions[name], rest, state, cond)
        inline = shell.inline_script(shell.words(node)) or shell.inline_script(texts)
        if inline is not None:
            return self._apart(inline[0], inline[1], [], state)
        if (followed := self._followed(node, found, state)) is not None:
            return followed
        if self.counts(texts):
            return self._migrated(node, texts, state)
        text = shell.text_of(node)
        if CODE_IS_ZERO.match(text) and (read := self._code_read(state, every=reads_every(text))):
            return {replace(each, ok=code == "0") for each, code, _ in read}
        shown = self.depth == 0 and _only_prints(node, texts)
        if EXIT_CODE.search(text) and name not in shell.SILENT and not shown:
            state = state.guessed(f"how the exit code is used: {short(node)}")
        return {replace(state, ok=True), replace(state, ok=False)}

    def _followed(self, node: Node, found: tuple[Word, ...], state: State) -> set[State] | None:
        """The states after a script or a recipe of the checkout; None for any other command."""
        texts = [text for text, _ in found]
        if texts[:1] in (["cd"], ["pushd"]) and len(found) == 2 and found[1][1]:
            self.directories.append(posixpath.join(self.directories[-1], texts[1]))
        if recipe := recipes.lines(texts, self._find):
            return self._recipe(node, recipe, texts, state)
        for path, direct in shell.scripts_called(texts):
            file = self._find(path)
            if file is not None and "\n" in file[1] and not path.endswith(OTHER_LANGUAGES):
                return self._script(node, path, file, found, direct, state)
        return None

    def _find(self, path: str) -> tuple[str, str] | None:
        return found_in(self.directories, path, self.script)

    def _recipe(self, node: Node, recipe: Sequence[Line], texts: Sequence[str], state: State) -> set[State]:
        """The states after a command's recipe lines, each in its own shell, up to a failure.

        If no line migrates, but the command mentions it, the programs that they run do.
        """
        if self.depth >= DEEPEST:
            self._not_read(node, f"{short(node)}: calls that are nested deeper than {DEEPEST}")
            return {state}
        migrations = self.migrations
        self.depth += 1
        states, after = {replace(state, ok=True)}, set[State]()
        for each in recipe:
            if each.unread:
                self._unfollowed(node, each, texts)
                after |= {replace(one, ok=False) for one in states}
                continue
            done = self._of_line(each, states)
            after |= {one for one in done if not one.ok}
            states = bounded({one for one in done if one.ok} | (states if each.maybe else set()))
        self.depth -= 1
        if self.migrations == migrations and self.counts(texts):
            return self._migrated(node, texts, state)
        return after | states

    def _of_line(self, line: Line, states: Iterable[State]) -> set[State]:
        """The states after a line of a recipe."""
        before = self.path, self.line, self.directories
        self.path, self.line = line.path, line.line - 1
        self.directories = [*self.directories, *([line.directory] if line.directory else [])]
        done = {one for start in states for one in self._apart(line.text, line.options, [], start)}
        self.path, self.line, self.directories = before
        if line.ignored:
            done = {replace(one.lost("a failure of this line is ignored"), ok=True) for one in done}
        return {one.guessed(line.maybe) for one in done} if line.maybe else done

    def _unfollowed(self, node: Node, line: Line, texts: Sequence[str]) -> None:
        """Note a part of a recipe that is not followed: it may migrate, and does if its words say so."""
        place = (line.path, line.line) if line.path else (self.path, self.line + shell.line_of(node))
        failure = Failure(*place, line.unread)
        if MIGRATION.search(line.text) or self.counts(texts):
            self.migrations += 1
            self.unread.append(failure)
        else:
            self.unfollowed.append(failure)

    def _ends_in_success(self, texts: Sequence[str]) -> bool:
        """Whether a trap calls a function that may end the script in success."""
        handler = (
            self.functions.get((texts[1].split() or [""])[0]) if texts[:1] == ["trap"] and texts[1:] else None
        )
        return handler is not None and _SUCCESS.search(shell.text_of(handler)) is not None

    def _built_in(self, name: str, found: tuple[Word, ...], state: State) -> set[State] | None:
        """The states after a shell built-in; None for any other command."""
        rest = [text for text, _ in found[1:]]
        good, bad = replace(state, ok=True), replace(state, ok=False)
        if name in ("exit", "return", "break", "continue"):
            return self._leaving(name, found[1:], state)
        if name == "set":
            return {options_of(good, rest)}
        if name == "shift":
            return {good.shifted(int(rest[0]) if rest and rest[0].isdigit() else 1)}
        if name == "trap" and "ERR" in rest and not state.errexit:  # it may end the script as `set -e` does
            return {good.guessed(f"trap {' '.join(rest)}", always=True)}
        if name in ("", ":", "true", "echo", "printf", "sleep"):
            return {_said(good, self.into, found[1:]) if self.into and name == "echo" else good}
        if name == "wait":
            return _waited(rest, good, bad)
        if name == "let":  # arithmetic as separate words
            return {each.guessed(" ".join([name, *rest])) for each in (good, bad)}
        if name == "read":
            for each in rest:
                good = good if each.startswith("-") else good.having(each, UNSURE)
            return {good, replace(good, ok=False)}
        return {bad} if name == "false" else None

    def _migrated(self, node: Node, texts: Sequence[str], state: State) -> set[State]:
        """A migration fails or not; success repairs the failure of the same command."""
        self.migrations += 1
        visible = " ".join(text.replace(UNSURE, "") for text in texts)
        task = shell.runs(texts, "aws ecs run-task") or _DETACHED.match(visible) is not None
        failure = Failure(self.path, self.line + shell.line_of(node), visible, task)
        others = tuple(each for each in state.failed if each != failure)
        failing = replace(state, ok=False, failed=(*others, failure), how=state.how if others else "")
        if why := _goes_on(texts, visible):
            failing = replace(failing.lost(why), ok=True)
        if task:
            return {failing, replace(failing, ok=True)}
        again = shell.text_of(node).startswith('"$@"')
        if not again and any(UNSURE in text for text in texts):  # they may stand for another migration
            return {failing, replace(state, ok=True)}
        return {failing, replace(state, ok=True, failed=others, how=state.how if others else "")}

    def _leaving(self, name: str, rest: tuple[Word, ...], state: State) -> set[State]:
        if name in ("break", "continue"):
            return {replace(state, ok=True, flow=name)}
        if not rest:
            return {replace(state, flow=name)}
        text, known = rest[0]
        if known:
            return {replace(state, ok=text == "0", flow=name)}
        if UNSURE in text:
            state = state.guessed(f"{name} {text}")
        return {replace(state, ok=ok, flow=name) for ok in (True, False)}

    def _called(self, node: Node, body: Node, rest: Sequence[str], state: State, cond: bool) -> set[State]:
        if self.depth >= DEEPEST:
            self._not_read(node, f"{short(node)}: calls that are nested deeper than {DEEPEST}")
            return {state}
        self.depth += 1
        found = self._run(body, replace(state.called_with(rest), ok=True), cond)
        self.depth -= 1
        own = [text for _, text in state.positions()]
        found = {each.called_with(own) for each in found}
        return {replace(each, flow="") if each.flow == "return" else each for each in found}

    def _script(
        self, node: Node, path: str, file: tuple[str, str], found: Sequence[Word], direct: bool, state: State
    ) -> set[State]:
        (place, text), texts = file, [word for word, _ in found]
        at = next(number for number, word in enumerate(texts) if path in word)
        first = text.partition("\n")[0]
        own = first if direct and first.startswith("#!") else ""
        programs = {*map(posixpath.basename, texts[:at])}
        if (own and not re.search(r"\b(?:ba|da|k|z)?sh\b", own)) or shell.INTERPRETERS & programs:
            return self._opaque(node, texts, state)
        if self.depth >= DEEPEST:
            self._not_read(node, f"{short(node)}: scripts that are nested deeper than {DEEPEST}")
            return {state}
        before = self.path, self.line
        self.path, self.line, self.depth = place, 0, self.depth + 1
        try:
            if texts[0] in ("source", "."):
                return self.through(text, {state})
            return self._apart(
                text, own.split() or texts[:at], [kept(*word) for word in found[at + 1 :]], state
            )
        finally:
            (self.path, self.line), self.depth = before, self.depth - 1

    def _opaque(self, node: Node, texts: Sequence[str], state: State) -> set[State]:
        if self.counts(texts):
            self._not_read(node, f"a script that is not written in shell: {short(node)}")
            self.migrations += 1
        return {replace(state, ok=True), replace(state, ok=False)}

    def _apart(self, text: str, options: Sequence[str], rest: Sequence[str], state: State) -> set[State]:
        """The states after a subshell, which has its own options and exits separately."""
        positions = frozenset((str(number), word) for number, word in enumerate(rest, 1))
        start = replace(
            options_of(State(failed=state.failed, how=state.how, guess=state.guess), options),
            values=positions | state.github() | {(name, "") for name in self.unset},
        )
        functions, self.functions = self.functions, {}
        try:
            found = self.through(text, {start})
        finally:
            self.functions = functions
        return {outside(each, state) for each in found}


def _waited(rest: Sequence[str], good: State, bad: State) -> set[State]:
    """The states after `wait`: with a process it has that one's status, with several the last one's."""
    if not rest or not good.failed:
        return {good}
    processes = [each for each in rest if not each.startswith("-")]
    last = processes[-1] if "-n" not in rest and {*processes} <= {"lost", "fine"} and processes else ""
    if last == "lost":
        return {replace(bad, how="")}
    if last == "fine" and "lost" not in processes:
        return {good}
    found = {replace(bad, how="")} if not last else set()
    if "-n" in rest or any("[@]" in each or UNSURE in each for each in rest):
        found.add(good.guessed(" ".join(["wait", *rest])))
    elif sum(not each.startswith("-") for each in rest) > 1:
        found.add(replace(good, how="`wait` with several processes has the status of the last one"))
    return found


def _test(found: Sequence[Word]) -> tuple[str, Word, Word] | None:
    """The operator and both sides of a comparison by `test`; None for any other command."""
    texts = [text for text, _ in found]
    if texts[:1] == ["test"] and len(texts) == 4:
        return texts[2], found[1], found[3]
    if texts[:1] == ["test"] and len(texts) == 3 and texts[1] in ("-z", "-n"):
        return "==" if texts[1] == "-z" else "!=", found[2], ("", True)
    return None


def _said(state: State, kind: str, found: Sequence[Word]) -> State:
    """The state after `echo name=value` into GitHub's file of the environment or of a step's outputs."""
    (text, known), *more = found or (("", True),)
    name, equals, value = text.partition("=")
    return state.having(f"{kind}.{name}", kept(value, known)) if equals and not more else state


def found_in(directories: Sequence[str], path: str, script: Script) -> tuple[str, str] | None:
    """The path and text of a file that a command names: below the last directory, or one before it."""
    for place in dict.fromkeys(
        posixpath.normpath(posixpath.join(each, path)) for each in (*directories[::-1], ".")
    ):
        if (text := script(place)) is not None:
            return place, text
    return None


def _goes_on(texts: Sequence[str], written: str) -> str:
    """Why a program succeeds although its command has failed; empty if it does not."""
    if posixpath.basename(texts[0]) == "make" and any(map(IGNORES.fullmatch, texts)):
        return "make ignores what fails"
    if _COMPOSE_UP.match(written):
        return "`up` succeeds even if a container fails because there is no --exit-code-from"
    return "psql continues after an error: ON_ERROR_STOP is not set" if _PSQL_GOES_ON.match(written) else ""


#: Commands that may have a migration run elsewhere.
_ELSEWHERE = re.compile(
    r"curl|wget|http|gh\s+workflow\s+run|aws\s+(?:ssm\s+send-command|lambda\s+invoke|codebuild\s+start-build"
    r"|stepfunctions\s+start-execution)"
)


def _only_prints(node: Node, texts: Sequence[str]) -> bool:
    """Whether a command only prints an exit code to the log."""
    above = node.parent
    while above is not None and above.type not in _TAKES_OUTPUT:
        above = above.parent
    return above is None and shell.runs(texts, "aws ecs describe-tasks")


#: Nodes around a command that redirect its output, or may.
_TAKES_OUTPUT = frozenset(
    [
        "pipeline",
        "redirected_statement",
        "command_substitution",
        "process_substitution",
        "function_definition",
    ]
)


def _vanishes(argument: Node, text: str, before: Sequence[Word]) -> bool:
    """Whether an empty variable leaves `exit` without an argument, so that it keeps the previous status."""
    leaves = bool(before) and before[0][0] in ("exit", "return")
    return leaves and text == "" and argument.type in ("simple_expansion", "expansion")


def asks_for_one(texts: Sequence[str]) -> bool:
    """Whether a command asks another system for a migration, so that its outcome is unknown here."""
    written = " ".join(texts)
    return _ELSEWHERE.match(written) is not None and MIGRATION.search(written) is not None
