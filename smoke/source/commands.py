"""Simple commands: what each does to the status, to values and to failures that nothing has acted on."""

from __future__ import annotations

import posixpath
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from tree_sitter import Node

from . import shell
from .state import (
    DEEPEST,
    EXIT_CODE,
    UNSURE,
    Failure,
    State,
    Word,
    Words,
    ended,
    kept,
    options_of,
    outside,
    short,
)

#: Returns the text of a file of the checkout, None when there is no such file.
Script = Callable[[str], str | None]

MIGRATION = re.compile(r"migrat", re.IGNORECASE)
_NO_MIGRATION = shell.SILENT | frozenset(
    [
        "aws",
        "git",
        "curl",
        "wget",
        "gh",
        "ls",
        "cp",
        "mv",
        "rm",
        "find",
        "tail",
        "head",
        "sleep",
        "touch",
        "chmod",
        "read",
        "export",
        "local",
        "source",
        ".",
    ]
)
_IMAGES_ONLY = re.compile(
    r"(?:docker|podman)\s+(?:compose\s+)?(?:image\s+)?(?:buildx?|push|pull|tag|login|logs|inspect)\b"
)
_OTHER_LANGUAGES = (".py", ".js", ".ts", ".mjs", ".rb", ".pl", ".php")


#: What runs in the background or at the end, and decides the status in a way that is not followed.
_DECIDES_LATER = re.compile(r"coproc\s|trap\s.*exit(\s+0|\s*$)", re.DOTALL)


@dataclass(slots=True)
class Commands(Words):
    """Runs simple commands. `line` is added to lines of `path`; `migrations` counts what migrates.

    `unread` is what could not be read, with its place.
    """

    script: Script
    path: str
    line: int = 0
    migrations: int = 0
    unread: list[Failure] = field(default_factory=list)
    depth: int = 0

    @abstractmethod
    def through(self, text: str, states: Iterable[State]) -> set[State]:
        """Return the states behind a script."""

    @abstractmethod
    def _run(self, node: Node, state: State, cond: bool) -> set[State]:
        """Return the states behind a statement; `cond` where `set -e` does not act on its status."""

    def _not_read(self, node: Node, what: str) -> None:
        self.unread.append(Failure(self.path, self.line + shell.line_of(node), what))

    def _command(self, node: Node, state: State, cond: bool) -> set[State]:
        before = [(state, ())]  # type: list[tuple[State, tuple[Word, ...]]]
        for argument in shell.arguments(node):
            before = [
                (each, (*found, (text, known)))
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
        if name == "test" and len(found) == 4:
            each, truth = self._compared(node, state, texts[2], found[1], found[3], "[")
            return {replace(each, ok=one) for one in ((True, False) if truth is None else (truth,))}
        if _DECIDES_LATER.match(" ".join(texts)):
            self._not_read(node, short(node))
        if name in self.functions:
            return self._called(node, self.functions[name], rest, state, cond)
        if (inline := shell.inline_script(node)) is not None:
            return self._apart(inline[0], inline[1], [], state)
        for path, direct in shell.scripts_called(texts):
            text = self.script(path)
            if text is not None and "\n" in text and not path.endswith(_OTHER_LANGUAGES):
                return self._script(node, path, text, found, direct, state)
        if migrates(texts):
            return self._migrated(node, texts, state)
        if EXIT_CODE.search(shell.text_of(node)) and name not in shell.SILENT:
            state = state.guessed(f"what becomes of the exit code: {short(node)}")
        return {replace(state, ok=True), replace(state, ok=False)}

    def _built_in(self, name: str, found: tuple[Word, ...], state: State) -> set[State] | None:
        """The states behind what the shell does itself; None for any other command."""
        rest = [text for text, _ in found[1:]]
        good, bad = replace(state, ok=True), replace(state, ok=False)
        if name in ("exit", "return"):
            return self._leaving(name, found[1:], state)
        if name in ("break", "continue"):
            return {replace(good, flow=name)}
        if name == "set":
            return {options_of(good, rest)}
        if name in ("", ":", "true", "echo", "printf", "sleep", "shift"):
            return {good}
        if name == "wait":  # with a process: its status
            return {replace(bad, how="") if rest and state.failed else good}
        if name == "read":
            for each in rest:
                good = good if each.startswith("-") else good.having(each, UNSURE)
            return {good, replace(good, ok=False)}
        return {bad} if name == "false" else None

    def _migrated(self, node: Node, texts: Sequence[str], state: State) -> set[State]:
        """A migration fails or not; success repairs the failure of the same command."""
        self.migrations += 1
        task = shell.runs(texts, "aws ecs run-task")
        visible = " ".join(text.replace(UNSURE, "") for text in texts)
        failure = Failure(self.path, self.line + shell.line_of(node), visible, task)
        others = tuple(each for each in state.failed if each != failure)
        failing = replace(state, ok=False, failed=(*others, failure), how=state.how if others else "")
        if task:
            return {failing, replace(failing, ok=True)}
        if any(UNSURE in text for text in texts):  # the same words may stand for another migration
            return {failing, replace(state, ok=True)}
        return {failing, replace(state, ok=True, failed=others, how=state.how if others else "")}

    def _leaving(self, name: str, rest: tuple[Word, ...], state: State) -> set[State]:
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
        inside = state
        for number, text in enumerate(rest, 1):
            inside = inside.having(str(number), text)
        found = self._run(body, replace(inside, ok=True), cond)
        self.depth -= 1
        return {replace(each, flow="") if each.flow == "return" else each for each in found}

    def _script(
        self, node: Node, path: str, text: str, found: Sequence[Word], direct: bool, state: State
    ) -> set[State]:
        texts = [word for word, _ in found]
        first = text.partition("\n")[0]
        own = first if direct and first.startswith("#!") else ""
        if own and not re.search(r"\b(?:ba|da|k|z)?sh\b", own):
            return self._opaque(node, texts, state)
        if self.depth >= DEEPEST:
            self._not_read(node, f"{short(node)}: scripts that are nested deeper than {DEEPEST}")
            return {state}
        at = next(number for number, word in enumerate(texts) if path in word)
        before = self.path, self.line
        self.path, self.line, self.depth = path, 0, self.depth + 1
        try:
            if texts[0] in ("source", "."):
                return self.through(text, {state})
            return self._apart(
                text, own.split() or texts[:at], [kept(*word) for word in found[at + 1 :]], state
            )
        finally:
            (self.path, self.line), self.depth = before, self.depth - 1

    def _opaque(self, node: Node, texts: Sequence[str], state: State) -> set[State]:
        if migrates(texts):
            self._not_read(node, f"a script that is not written in shell: {short(node)}")
            self.migrations += 1
        return {replace(state, ok=True), replace(state, ok=False)}

    def _apart(self, text: str, options: Sequence[str], rest: Sequence[str], state: State) -> set[State]:
        """The states behind a shell of its own: it has its own options, and ends by itself."""
        positions = frozenset((str(number), word) for number, word in enumerate(rest, 1))
        start = replace(
            options_of(State(failed=state.failed, how=state.how, guess=state.guess), options),
            values=positions,
        )
        functions, self.functions = self.functions, {}
        try:
            found = self.through(text, {start})
        finally:
            self.functions = functions
        return {outside(each, state) for each in found}


def migrates(texts: Sequence[str]) -> bool:
    """Whether a command, given as its words, runs a migration, rather than show, build or speak of one."""
    if shell.runs(texts, "aws ecs run-task"):
        return True
    at = 0
    while at < len(texts) - 1 and texts[at] in ("sudo", "time", "exec", "command", "env", "nohup"):
        at += 1
    written = " ".join(texts[at:])
    if posixpath.basename(texts[at]) in _NO_MIGRATION or _IMAGES_ONLY.match(written):
        return False
    return MIGRATION.search(written) is not None
