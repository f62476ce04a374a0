"""The known state at one place on one path through a script, and the expansion of words there."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tree_sitter import Node

from . import shell

MOST_STATES, MOST_ROUNDS, DEEPEST = 300, 40, 12
UNSURE = "\0"  # the value of a variable that a loop or an unread calculation sets
BETWEEN = "\2"  # between the words of an array
SYMBOL = "\1"  # before the text of a value that is known as written only, such as `$PREFIX-api`


GITHUB = frozenset({"env", "outputs", "steps"})


class TooMany(Exception):
    """A script has too many paths through it to follow."""


#: A word after expansion: its text, and whether that is its value (else as written).
Word = tuple[str, bool]


@dataclass(frozen=True, slots=True)
class Failure:
    """A migration that failed, or (`task`) a task that is not known to have succeeded."""

    path: str
    line: int
    command: str
    task: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """The known state at one place of one path.

    `how` says where a failure was lost, `guess` is a test on the path that could not be read.
    """

    ok: bool = True
    failed: tuple[Failure, ...] = ()
    errexit: bool = False
    pipefail: bool = False
    nounset: bool = False
    values: frozenset[tuple[str, str]] = frozenset()
    flow: str = ""
    how: str = ""
    guess: str = ""

    def value(self, name: str) -> str | None:
        """The value of a variable, UNSURE, or None if unknown."""
        return next((value for each, value in self.values if each == name), None)

    def having(self, name: str, value: str | None) -> State:
        """The same with a variable's value; None forgets it."""
        others = frozenset(pair for pair in self.values if pair[0] != name)
        return replace(self, values=others if value is None else others | {(name, value)})

    def github(self) -> frozenset[tuple[str, str]]:
        """The values that GitHub keeps for later steps: the environment, outputs, outcomes of steps."""
        return frozenset(pair for pair in self.values if pair[0].partition(".")[0] in GITHUB)

    def positions(self) -> list[tuple[int, str]]:
        """The arguments `$1`, `$2` and so on that are known, by their numbers."""
        return sorted((int(name), value) for name, value in self.values if name.isdigit())

    def called_with(self, arguments: Sequence[str]) -> State:
        """The same with these arguments instead of others."""
        named = {pair for pair in self.values if not pair[0].isdigit()}
        numbered = {(str(number), text) for number, text in enumerate(arguments, 1)}
        return replace(self, values=frozenset(named | numbered))

    def shifted(self, by: int) -> State:
        """The same without the first arguments."""
        return self.called_with([text for _, text in self.positions()[by:]])

    def several(self, text: str) -> list[Word] | None:
        """The words of `$@` or of an array; None for anything else, or if unknown."""
        if text in ("$@", "${@}"):
            found = [value for _, value in self.positions()]
        else:
            array = re.fullmatch(r"\$\{(\w+)\[[@*]\](?::?-)?\}", text)
            value = self.value(f"{array[1]}[@]") if array else None
            found = value.split(BETWEEN) if value else []
        return [(each.removeprefix(SYMBOL), not each.startswith(SYMBOL)) for each in found] or None

    def joining(self, name: str, added: Sequence[str | None]) -> State:
        """The same with more processes in an array; it is forgotten if it has anything else, or many."""
        held = self.value(f"{name}[@]")
        words = [*(held.split(BETWEEN) if held else []), *added]
        known = held is not None and len(words) <= _MOST_PROCESSES and {*words} <= {"lost", "fine"}
        return self.having(name, UNSURE).having(
            f"{name}[@]", BETWEEN.join(map(str, words)) if known else None
        )

    def guessed(self, guess: str, *, always: bool = False) -> State:
        """The same on a path that depends on something not understood; unchanged without a failure."""
        return replace(self, guess=self.guess or guess.replace(UNSURE, "")) if self.failed or always else self

    def lost(self, how: str) -> State:
        """The same, and how a failure is about to be lost, if one is."""
        return replace(self, how=self.how or how) if self.failed and not self.ok else self


def bounded(states: set[State]) -> set[State]:
    """Return the states. TooMany if there are too many."""
    if len(states) > MOST_STATES:
        raise TooMany
    return states


def outside(inner: State, outer: State) -> State:
    """The effects of a subshell: its status, its failures, its writes to GitHub's files."""
    values = frozenset(pair for pair in outer.values if pair[0].partition(".")[0] not in GITHUB)
    return replace(
        outer,
        ok=inner.ok,
        failed=inner.failed,
        how=inner.how,
        guess=inner.guess,
        values=values | inner.github(),
    )


def ended(state: State, cond: bool) -> State:
    """End the script as `set -e` does: at a failure outside a condition."""
    return replace(state, flow="exit") if state.errexit and not (state.ok or cond or state.flow) else state


def options_of(state: State, words: Sequence[str]) -> State:
    """Apply `set`'s words, or those of a command line of a shell."""
    for at, word in enumerate(words):
        on = word.startswith("-")
        if not re.fullmatch(r"[-+][a-zA-Z]+", word):
            continue
        if "e" in word:
            state = replace(state, errexit=on)
        if "u" in word:
            state = replace(state, nounset=on)
        if word.endswith("o") and at + 1 < len(words):
            if words[at + 1] == "nounset":
                state = replace(state, nounset=on)
            if words[at + 1] == "errexit":
                state = replace(state, errexit=on)
            if words[at + 1] == "pipefail":
                state = replace(state, pipefail=on)
    return state


def kept(text: str, known: bool) -> str:
    """A word as the value of a variable."""
    return text if known else UNSURE if UNSURE in text else SYMBOL + text


_STEPS = ("++", "--", "+=", "-=")  # how arithmetic changes a number
EXIT_CODE = re.compile(r"exit_?code|(?:docker|podman)\s+wait\b", re.IGNORECASE)
#: The end of a pipe that succeeds only if the code is 0.
CODE_IS_ZERO = re.compile(
    r"jq\s(?:-\w+\s+)*-\w*e\w*\s.*==\s*0\b|grep\s(?:-\w+\s+)*(?:-\w*x\w*\s+[\"']?0|-\w+\s+[\"']?\^0\$)[\"']?\Z",
    re.DOTALL,
)
#: Filters for failed containers, in jq and in a query of the AWS CLI.
_FAILED_ONLY = re.compile(r"(?:\bselect\(|\[\?)[^\])]*exit_?code\s*!=", re.IGNORECASE)
FIRST_OF_PIPE = "PIPESTATUS[0]"
_STATUS = re.compile(r"\$\?|\$\{\?\}|\$\{PIPESTATUS\[0\]\}")
#: Values that a script compares with a number, or handles in a `case`.
_COMPARED = re.compile(
    r"(?:-eq|-ne|-g[te]|-l[te]|[=!]=?|[<>]=?)[ \t]*[\"']?(\d{1,3})\b"
    r"|^[ \t(]*(?:\d+[ \t]*\|[ \t]*)*(\d{1,3})[ \t]*[|)]",
    re.MULTILINE,
)
#: Exit codes from this one on mean a time limit, a missing program or a signal.
_NEVER_SUCCESS = 124
_MOST_CODES = 8
_MOST_PROCESSES = 4
#: Placeholder for a code that cannot be read.
_INSTEAD = re.compile(r"\|\|\s*(?:true\b|:|echo\s+[\"']?([\w.-]*)[\"']?\s*[)\n;`])")
#: Expressions that turn a missing code into 0.
_ZERO_FOR_NONE = re.compile(r"//\s*[\"']?0\b|\|\|\s*(?:echo\s+)?[`\"'\\]*0\b|:-0\b")
#: Expressions that turn it into an empty text.
_EMPTY_FOR_NONE = re.compile(r"//\s*(?:empty\b|\\?\"\\?\")|\|\s*values\b")
_OUTPUT = re.compile(r"--output[\s=]+[\"']?(\w+)")


@dataclass(slots=True)
class Words(ABC):
    """Expands words and evaluates tests.

    `functions` are those of the script, `codes` the numbers above 1 that it compares something with.
    """

    functions: dict[str, Node] = field(default_factory=dict, kw_only=True)
    codes: set[int] = field(default_factory=set, kw_only=True)

    def _note_codes(self, text: str) -> None:
        """Remember the exit codes that a script may treat specially."""
        found = {int(one or other) for one, other in _COMPARED.findall(text)}
        self.codes |= {code for code in sorted(found)[:_MOST_CODES] if 1 < code < 256}

    def _failed_with(self, state: State) -> list[tuple[State, str, bool]]:
        """The exit codes with which a migration may have failed: 1, and those that the script looks for."""
        found = [(state, "1", True)]
        for code in sorted(self.codes):
            way = state.guessed(f"whether exit code {code} stands for a failure")
            passes = replace(state, how=state.how or f"exit code {code} passes")
            found.append((passes if code >= _NEVER_SUCCESS else way, str(code), True))
        return found

    @abstractmethod
    def _sequence(self, children: Sequence[Node], states: set[State], *, cond: bool) -> set[State]:
        """Return the states after statements."""

    def _expand(self, node: Node, state: State) -> list[tuple[State, str, bool]]:
        """Expand a word: the states after it, each with the text and whether that is its value."""
        kind, text = node.type, shell.text_of(node)
        if kind in ("simple_expansion", "expansion"):
            return self._expanded(text, state)
        if kind == "variable_name":  # in (( ))
            value = state.value(text)
            return [
                (state, f"{text}{UNSURE}" if value == UNSURE else value or text, value not in (None, UNSURE))
            ]
        if kind == "command_substitution":
            return self._substituted(node, state)
        if kind == "arithmetic_expansion":
            held = [(state.value(name) or "", True) for name in re.findall(r"[A-Za-z_]\w*", text)]
            if _ends_at(state, "((", "", *held):
                return []
            result = shell.evaluated(text[3:-2], state.value)
            return [(state, f"{text}{UNSURE}" if result is None else result, result is not None)]
        if kind in ("string", "concatenation"):
            before = [(state, "", True)]
            for child in node.children:
                if child.type != '"':
                    before = [
                        (each, written + more, known and more_known)
                        for start, written, known in before
                        for each, more, more_known in self._expand(child, start)
                    ]
            return before
        if kind in ("process_substitution", "subscript", "ansi_c_string"):
            return [(state, text, False)]
        return [(state, shell.unquoted(node), True)]

    def _expanded(self, text: str, state: State) -> list[tuple[State, str, bool]]:
        value = self._parameter(text, state)
        if value == "1" and state.failed and _STATUS.fullmatch(text):
            return self._failed_with(state)
        if value is None or value.startswith(SYMBOL):
            return [(state, text if value is None else value[1:], False)]
        return [(state, f"{text}{UNSURE}" if value == UNSURE else value, value != UNSURE)]

    def _parameter(self, text: str, state: State) -> str | None:
        if text in ("$?", "${?}"):
            return "0" if state.ok else "1"
        if text in ("$!", "${!}"):
            return state.value("!")
        if re.fullmatch(r"\$\{_+\}", text.strip()) or "PIPESTATUS" in text:
            return state.value(text[2:-1]) or UNSURE
        array = re.fullmatch(r"\$\{([#!]?)(\w+)\[[@*]\].*\}", text)
        if array and array[1] == "#" and (words := state.value(f"{array[2]}[@]")) is not None:
            return str(len(words.split(BETWEEN))) if words else "0"
        if array and state.value(array[2]) == UNSURE:
            return UNSURE
        if element := re.fullmatch(r"\$\{(\w+)\[(?:(\d+)|\$?\{?(\w+)\}?)\]\}", text):
            held, at = state.value(f"{element[1]}[@]"), element[2] or state.value(element[3]) or ""
            listed = held.split(BETWEEN) if held and at.isdigit() else []
            return listed[int(at)] if at.isdigit() and int(at) < len(listed) else None
        found = re.fullmatch(r"\$\{?(\w+)(?::?([-?])([^}]*))?\}?", text)
        if not found:
            return None
        value = state.value(found[1])
        return found[3] if value == "" and found[2] == "-" else value

    def with_functions(self, text: str) -> str:
        """The text with the functions that it names."""
        named = (shell.text_of(body) for name, body in self.functions.items()
                 if re.search(rf"\b{re.escape(name)}\b", text))  # fmt: skip
        return " ".join([text, *named])

    def _substituted(self, node: Node, state: State) -> list[tuple[State, str, bool]]:
        text = shell.text_of(node)
        inside = self.with_functions(text)
        if EXIT_CODE.search(inside) and (read := self._code_read(state, inside, every=reads_every(inside))):
            return read
        found = self._sequence(node.children[1:-1], {replace(state, errexit=False)}, cond=False)
        return [(outside(each, state), f"{text}", False) for each in found]

    def _code_read(
        self, state: State, written: str = "", *, every: bool = False
    ) -> list[tuple[State, str, bool]]:
        """The paths after reading a task's exit code, or every task's, with the code; none without a task."""
        task = next((each for each in state.failed if each.task), None)
        if task is None:
            return []
        # where the only failure was lost so far no longer matters: it is read
        failed = replace(state, ok=True, how=state.how if state.failed[1:] else "")
        left = tuple(each for each in state.failed if not (each.task if every else each == task))
        good = replace(failed, failed=left)
        if _FAILED_ONLY.search(written):  # a missing code is also not 0
            counted = re.search(r"\blength\b", written) is not None
            return [(good, "0" if counted else "", True), (failed, "1" if counted else "api", True)]
        read = [(good, "0", True), (failed, "1", True), (failed, "137", True)]
        if not task.command.startswith("aws"):
            return read  # an ended container has a code
        missing = replace(failed, how=failed.how or "a task without an exit code (null) passes")
        nothing = _nothing(written)
        if nothing != ["0"] and (instead := _INSTEAD.search(written)):
            unasked = replace(failed, how=failed.how or "a task whose exit code cannot be read passes")
            read.append((unasked, instead[1] or "", True))
        return [*read, *((missing, each, True) for each in nothing)]

    def _truth(self, node: Node, state: State, kind: str) -> list[tuple[State, bool | None]]:
        if node.type == "parenthesized_expression":
            return self._truth(node.named_children[0], state, kind)
        if node.type == "unary_expression" and node.children[0].type == "!":
            return [
                (each, None if truth is None else not truth)
                for each, truth in self._truth(node.children[1], state, kind)
            ]
        if node.type == "binary_expression" and node.children[1].type in ("&&", "||"):
            found: list[tuple[State, bool | None]] = []
            for each, first in self._truth(node.children[0], state, kind):
                decided = node.children[1].type == "||"
                if first is None or first == decided:
                    found.append((each, decided))
                if first is None or first != decided:
                    found += self._truth(node.children[2], each, kind)
            return found
        if node.type == "binary_expression" and node.children[1].type not in _STEPS:
            operator = shell.text_of(node.children[1])
            return [
                self._compared(node, second, operator, (left, left_known), (right, right_known), kind)
                for first, left, left_known in self._expand(node.children[0], state)
                for second, right, right_known in self._expand(node.children[2], first)
                if not _ends_at(second, kind, operator, (left, left_known), (right, right_known))
            ]
        if node.type == "unary_expression" and shell.text_of(node.children[0]) in ("-z", "-n"):
            empty = shell.text_of(node.children[0]) == "-z"
            return [
                self._compared(node, each, "==" if empty else "!=", (text, known), ("", True), "[")
                for each, text, known in self._expand(node.children[1], state)
            ]
        if node.type.endswith(("ary_expression", "postfix_expression")):  # ((n++)), ((n += 1)), [ -f file ]
            return [self._counted(node, state)]
        arithmetic = kind == "((" or node.type == "number"
        return [
            self._compared(node, each, "!=", (text, known), ("0" if arithmetic else "", True), kind)
            for each, text, known in self._expand(node, state)
            if not _ends_at(each, kind, "", (text, known))
        ]

    def _truth_of_parts(
        self, node: Node, parts: list[list[list[Node]]], state: State
    ) -> list[tuple[State, bool | None]]:
        """What `[ a -a b -o c ]` says: all conditions of at least one alternative hold."""
        some: list[tuple[State, bool | None]] = [(state, False)]
        for part in parts:
            every: list[tuple[State, bool | None]] = [(start, True) for start, _ in some]
            for nodes in part:
                every = [
                    (after, False if False in (held, truth) else None if None in (held, truth) else True)
                    for start, held in every
                    for after, truth in self._condition(node, nodes, start)
                ]
            some = [
                (after, True if True in (held, truth) else None if None in (held, truth) else False)
                for _, held in some
                for after, truth in every
            ]
        return some

    def _condition(self, node: Node, nodes: list[Node], state: State) -> list[tuple[State, bool | None]]:
        operators = {"-z": "==", "-n": "!="}
        if len(nodes) == 3:
            first, operator, last = nodes[0], shell.text_of(nodes[1]), nodes[2]
        elif len(nodes) == 2 and shell.text_of(nodes[0]) in operators:
            first, operator, last = nodes[1], operators[shell.text_of(nodes[0])], None
        else:
            return [(state, None)]
        return [
            self._compared(node, each, operator, (written, known), (other, other_known), "[")
            for start, written, known in self._expand(first, state)
            for each, other, other_known in (self._expand(last, start) if last else [(start, "", True)])
        ]

    def _compared(
        self, node: Node, state: State, operator: str, left: Word, right: Word, kind: str
    ) -> tuple[State, bool | None]:
        if left[1] and right[1]:
            return state, shell.compared(operator, left[0], right[0], kind)
        unsure = UNSURE in left[0] + right[0]
        return (state.guessed(short(node)) if unsure else state), None

    def _counted(self, node: Node, state: State) -> tuple[State, bool | None]:
        name = next((shell.text_of(each) for each in node.named_children if each.type == "variable_name"), "")
        sign = next((each.type for each in node.children if not each.is_named), "")
        before = state.value(name)
        if sign not in _STEPS or before is None:
            return state, None
        by = shell.text_of(node.named_children[-1]) if sign.endswith("=") else "1"
        after = shell.evaluated(f"{name} {sign[0]} {by}", state.value)
        if after is None:
            return state.having(name, UNSURE), None
        return state.having(name, after), int(before if node.type.startswith("postfix") else after) != 0


def _ends_at(state: State, kind: str, operator: str, *words: Word) -> bool:
    """Whether arithmetic ends the script: under `set -u`, at a word that names no variable."""
    counts = kind == "((" or (kind == "[[" and operator in shell.INTEGERS)
    unset = (known and text.isidentifier() and state.value(text) is None for text, known in words)
    return state.nounset and counts and any(unset)


def reads_every(written: str) -> bool:
    """Whether the exit codes of all tasks are read, not only those of one that a variable names."""
    one = re.search(r"--tasks[\s=]+\"\$\{?\w+\}?\"[\s\\]*(?:--|[|)]|\Z)", written)
    return one is None and re.search(r"\btasks\[\*?\]", written) is not None


def _nothing(written: str) -> list[str]:
    """The text of a missing exit code, which depends on the AWS CLI's output format."""
    if _ZERO_FOR_NONE.search(written):
        return ["0"]
    if "jq" in written:
        return ["" if _EMPTY_FOR_NONE.search(written) else "null"]
    output = _OUTPUT.search(written)
    if output is None:
        return ["None", "null"]  # text or JSON, depending on the configuration
    return ["None" if output[1] == "text" else "null"]


def short(node: Node) -> str:
    """The text of a node on one line, cut if it is long."""
    text = " ".join(shell.text_of(node).split())
    return text if len(text) <= 60 else f"{text[:57]}…"
