"""Follows every path through a script in outline: can it continue, or succeed, after a migration failed?

A migration may fail or not, and so may any other command. The state of a path is small: the last status, the
unhandled failures, the shell's options, a few values. A retry repairs the failure of the same command. A task
that ECS runs counts as failed until its exit code is read; the code may be 0, another number, or missing.
Work is bounded: states are finite, loops are cut.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from tree_sitter import Node

from . import shell
from .commands import MIGRATION, Commands
from .state import (
    BETWEEN,
    CODE_IS_ZERO,
    EXIT_CODE,
    FIRST_OF_PIPE,
    MOST_ROUNDS,
    MOST_STATES,
    UNSURE,
    State,
    TooMany,
    bounded,
    ended,
    kept,
    outside,
    reads_every,
    short,
)


class Ways(Commands):
    """Follows the paths through scripts."""

    def through(self, text: str, states: Iterable[State]) -> set[State]:
        """Return the states after a script, one per path. TooMany if it has too many."""
        root = shell.parse(text)
        self._note_codes(text)
        if broken := shell.broken(root):
            guess = f"shell: {short(broken)!r}"
            self._not_read(broken, guess)
            self.migrations += MIGRATION.search(text) is not None
            states = {each.guessed(guess, always=True) for each in states}
        for each in shell.below(root, "function_definition"):
            self.functions[shell.text_of(each.named_children[0])] = each.named_children[-1]
        return self._sequence(root.children, set(states), cond=False)

    def _sequence(self, children: Sequence[Node], states: set[State], *, cond: bool) -> set[State]:
        for at, child in enumerate(children):
            if not child.is_named or child.type == "comment":
                continue
            background = at + 1 < len(children) and children[at + 1].type == "&"
            after: set[State] = set()
            for state in states:
                if state.flow:
                    after.add(state)
                    continue
                before = state.lost(
                    f"line {self.line + shell.line_of(child)} runs anyway because set -e is not set"
                )
                found = self._in_background(child, before) if background else self._run(child, before, cond)
                if child.type != "pipeline":
                    found = {each.having(FIRST_OF_PIPE, None) for each in found}
                after |= found
            states = bounded(after)
        return states

    def _in_background(self, node: Node, state: State) -> set[State]:
        """The states after `&`: the script does not notice how that process ends."""
        found = self._run(node, replace(state, failed=(), how="", guess=""), cond=True)
        ends = {each.lost("it runs in the background") for each in found}
        return {
            replace(
                end,
                ok=True,
                failed=tuple(dict.fromkeys((*state.failed, *end.failed))),
                how=state.how or end.how,
                guess=state.guess or end.guess,
                flow="",
            ).having("!", "lost" if end.failed else "fine")
            for end in ends
        }

    def _run(self, node: Node, state: State, cond: bool) -> set[State]:
        handler = getattr(self, f"_{node.type}", None)
        if handler is not None:
            return bounded(handler(node, state, cond))
        self._not_read(node, f"{node.type}: {shell.text_of(node)[:60]!r}")
        return {state}

    def _compound_statement(self, node: Node, state: State, cond: bool) -> set[State]:
        if node.children[0].type == "((":
            return self._tested(node, state, cond)
        return self._sequence(node.children[1:-1], {state}, cond=cond)

    def _do_group(self, node: Node, state: State, cond: bool) -> set[State]:
        return self._sequence(node.children[1:-1], {state}, cond=cond)

    def _subshell(self, node: Node, state: State, cond: bool) -> set[State]:
        found = self._sequence(node.children[1:-1], {state}, cond=cond)
        return {ended(outside(each, state), cond) for each in found}

    def _function_definition(self, _node: Node, state: State, _cond: bool) -> set[State]:
        return {replace(state, ok=True)}

    def _redirected_statement(self, node: Node, state: State, cond: bool) -> set[State]:
        inner, *redirections = node.named_children
        here = next((each for each in redirections if each.type == "heredoc_redirect"), None)
        found = shell.words(inner) if here is not None and inner.type == "command" else []
        if here is not None and _reads_a_script(found):
            body = next(
                (shell.text_of(each) for each in here.named_children if each.type == "heredoc_body"), ""
            )
            at = max(
                (i for i, word in enumerate(found) if posixpath.basename(word) in shell.SHELLS), default=0
            )
            return {ended(each, cond) for each in self._apart(body, found[at + 1 :], [], state)}
        if (
            here is not None
            and _OTHER_LANGUAGE.match(" ".join(found))
            and MIGRATION.search(shell.text_of(here))
        ):
            return self._opaque(node, [*found, "migrate"], state)
        read = next(filter(None, (_READ.match(shell.text_of(each)) for each in redirections)), None)
        if read and inner.type == "command" and MIGRATION.search(read[1]):
            return {
                ended(each, cond)
                for each in self._migrated(inner, [*shell.words(inner), "<", read[1]], state)
            }
        state = self._beside(redirections, state)
        if any(EXIT_CODE.search(shell.text_of(each)) for each in _processes(redirections)):
            state = state.guessed(f"how the exit code is used: {short(node)}")
        into = next(filter(None, (_GITHUB_FILE.search(shell.text_of(each)) for each in redirections)), None)
        self.into = {"ENV": "env", "OUTPUT": "outputs"}[into[1]] if into else ""
        after = self._run(inner, state, cond)
        self.into = ""
        return after

    def _beside(self, redirections: Sequence[Node], state: State) -> State:
        """The state in which a command starts beside those of `<( )`: nothing sees how these end."""
        for process in _processes(redirections):
            start = replace(state, errexit=False)
            for after in self._sequence(process.children[1:-1], {start}, cond=False):
                if {*after.failed} - {*start.failed}:
                    lost = outside(after, state).lost("its status is lost in a process substitution")
                    state = replace(lost, ok=True, flow="")
        return state

    def _list(self, node: Node, state: State, cond: bool) -> set[State]:
        left, operator, right = node.children
        after: set[State] = set()
        for each in self._run(left, state, True):
            if each.flow or (operator.type == "&&") != each.ok:
                each = _unset(right, each)
                after.add(
                    each
                    if each.flow or _is_test(left)
                    else each.lost(f"`{short(node)}` does not end the script")
                )
            else:
                after |= self._run(right, each.lost(f"`|| {short(right)}` continues"), cond)
        return after

    def _negated_command(self, node: Node, state: State, _cond: bool) -> set[State]:
        found = self._run(node.named_children[0], state, True)
        return {each if each.flow else replace(each.lost("`!` inverts it"), ok=not each.ok) for each in found}

    def _pipeline(self, node: Node, state: State, cond: bool) -> set[State]:
        parts = node.named_children
        if parts[0].type == "negated_command":  # `!` applies to the entire pipe
            parts = [parts[0].named_children[0], *parts[1:]]
            found = self._piped(node, parts, state, True)
            return {
                each if each.flow else replace(each.lost("`!` inverts it"), ok=not each.ok) for each in found
            }
        return self._piped(node, parts, state, cond)

    def _piped(self, node: Node, parts: Sequence[Node], state: State, cond: bool) -> set[State]:
        if CODE_IS_ZERO.match(shell.text_of(parts[-1])) and EXIT_CODE.search(shell.text_of(node)):
            read = self._code_read(state, every=reads_every(shell.text_of(node)))
            return {ended(replace(each, ok=code == "0"), cond) for each, code, _ in read} or {state}
        ways = [(state, True, "0")]
        for part in parts:
            last = part == parts[-1]
            following: list[tuple[State, bool, str]] = []
            for before, sound, first in ways:
                for each in self._run(part, before, cond):
                    inner = replace(outside(each, state), ok=each.ok)
                    if not last and not state.pipefail and inner.failed != before.failed:
                        inner = inner.lost("its status is lost in a pipe because pipefail is not set")
                    status = ("0" if inner.ok else "1") if part == parts[0] else first
                    following.append((inner, sound and inner.ok, status))
            ways = list(dict.fromkeys(following))
            if len(ways) > MOST_STATES:
                raise TooMany
        done = {
            replace(each, ok=sound if state.pipefail else each.ok).having(FIRST_OF_PIPE, first)
            for each, sound, first in ways
        }
        if EXIT_CODE.search(shell.text_of(node)):
            done = {each.guessed(f"how the exit code is used: {short(node)}") for each in done}
        return {ended(each, cond) for each in done}

    def _if_statement(self, node: Node, state: State, cond: bool) -> set[State]:
        heads: list[tuple[list[Node], list[Node]]] = [([], [])]
        otherwise: list[Node] = []
        in_body = False
        for child in node.children:
            if child.type in ("then", "if"):
                in_body = child.type == "then"
            elif child.type == "elif_clause":
                at = next(i for i, each in enumerate(child.children) if each.type == "then")
                heads.append((child.children[1:at], child.children[at + 1 :]))
            elif child.type == "else_clause":
                otherwise = child.children[1:]
            elif child.type != "fi":
                heads[-1][in_body].append(child)
        after: set[State] = set()
        waiting = {state}
        for test, body in heads:
            tried = self._sequence(test, waiting, cond=True)
            after |= {each for each in tried if each.flow}
            taken = {each for each in tried if not each.flow and each.ok}
            after |= self._sequence(body, taken, cond=cond)
            waiting = {each for each in tried if not each.flow and not each.ok}
        lost = f"the `if` in line {self.line + shell.line_of(node)} has no branch that ends the script"
        if otherwise:
            return after | self._sequence(otherwise, waiting, cond=cond)
        tests = all(_is_test(each) for test, _ in heads for each in test if each.is_named)
        return after | {replace(each if tests else each.lost(lost), ok=True) for each in waiting}

    def _case_statement(self, node: Node, state: State, cond: bool) -> set[State]:
        value, *items = [each for each in node.named_children if each.type != "comment"]
        after: set[State] = set()
        for each, text, known in self._expand(value, state):
            waiting = {each}
            for item in items:
                at = next((i for i, part in enumerate(item.children) if part.type == ")"), 0)
                patterns = [shell.unquoted(part) for part in item.children[:at] if part.is_named]
                fits = any(shell.compared("==", text, pattern, "[[") for pattern in patterns)
                if not known and UNSURE in text:
                    waiting = {one.guessed(short(node)) for one in waiting}
                if fits or not known:
                    after |= self._sequence(
                        item.children[at + 1 :], {replace(one, ok=True) for one in waiting}, cond=cond
                    )
                if (fits and known) or "*" in patterns:
                    waiting = set()
                    break
            after |= {replace(one, ok=True) for one in waiting}
        return after

    def _for_statement(self, node: Node, state: State, cond: bool) -> set[State]:
        name, body = shell.text_of(node.named_children[0]), node.named_children[-1]
        written = node.named_children[1:-1]
        items = shell.literal_items([each for node in written for each in self._items(node, state)])
        if items is None:
            if self._reads_each(name, node) or any(
                UNSURE in text for each in written for _, text, _ in self._expand(each, state)
            ):
                state = state.guessed(short(node))
            many = shell.is_range([shell.text_of(each) for each in written])
            return self._rounds(
                lambda each: {each}, body, state.having(name, UNSURE), cond, may_end=True, once=many
            )
        states = {state}
        for item in items:
            ready = {each.having(name, item) for each in states if not each.flow}
            done = {each for each in states if each.flow}
            states = done | self._sequence(body.children[1:-1], ready, cond=cond)
            states = bounded({replace(each, flow="") if each.flow == "continue" else each for each in states})
        return {replace(each, flow="") if each.flow == "break" else each for each in states}

    def _items(self, node: Node, state: State) -> list[str | None]:
        """The words of a loop that a word stands for; None for an unknown one."""
        keys = re.fullmatch(r"\$\{!(\w+)\[[@*]\]\}", shell.unquoted(node))
        if keys and (held := state.value(f"{keys[1]}[@]")):
            return [*map(str, range(len(held.split(BETWEEN))))]
        several = state.several(shell.unquoted(node)) if "[@]" in shell.text_of(node) else None
        if several is not None:
            return [text if known else UNSURE for text, known in several]
        plain = self._plain(node, state)
        one = node.type == "string" and re.search(r"[$\[][@*]|[$`]\(", shell.text_of(node)) is None
        return [UNSURE if one and (plain is None or "$" in plain) else plain]

    def _reads_each(self, name: str, loop: Node) -> bool:
        """Whether a loop over tasks, or their exit codes, reads each one's exit code."""
        text = self.with_functions(shell.text_of(loop))
        return EXIT_CODE.search(text) is not None and re.search(rf"\$\{{?{name}\b", text) is not None

    def _plain(self, node: Node, state: State) -> str | None:
        text = shell.text_of(node)
        if node.type == "command_substitution":
            return text
        (_, value, known), *more = self._expand(node, state)
        return value if known and not more else None

    def _c_style_for_statement(self, node: Node, state: State, cond: bool) -> set[State]:
        head = shell.text_of(node).partition("))")[0]
        state = state.guessed(short(node)) if "[@]" in head else state
        names = re.findall(r"[A-Za-z_]\w*", head)
        for name in names[1:]:
            state = state.having(name, UNSURE)
        return self._rounds(lambda each: {each}, node.named_children[-1], state, cond, may_end=True)

    def _while_statement(self, node: Node, state: State, cond: bool) -> set[State]:
        at = next(i for i, child in enumerate(node.children) if child.type == "do_group")
        test = node.children[1:at]
        until = node.children[0].type == "until"

        def tried(each: State) -> set[State]:
            found = self._sequence(test, {each}, cond=True)
            return {one if one.flow else replace(one, ok=one.ok != until) for one in found}

        return self._rounds(tried, node.children[at], state, cond, may_end=False)

    def _rounds(
        self,
        test: Callable[[State], set[State]],
        body: Node,
        state: State,
        cond: bool,
        *,
        may_end: bool,
        once: bool = False,
    ) -> set[State]:
        """The states after a loop that runs while its test holds, or (`may_end`) any number of times.

        `once`: its body runs at least once.
        """
        waiting, seen, after = {state}, set[State](), set[State]()
        for turn in range(MOST_ROUNDS):
            seen |= waiting
            tried = {found for each in waiting for found in test(each)}
            after |= {each for each in tried if each.flow}
            if turn or not once:
                left = {each for each in tried if not each.flow and (may_end or not each.ok)}
                after |= {replace(each, ok=True) for each in left}
            ready = {each for each in tried if not each.flow and (may_end or each.ok)}
            done = self._sequence(body.children[1:-1], ready, cond=cond)
            after |= {replace(each, flow="") for each in done if each.flow == "break"}
            after |= {each for each in done if each.flow not in ("", "break", "continue")}
            waiting = {replace(each, flow="") for each in done if each.flow in ("", "continue")} - seen
            if not waiting:
                return bounded(after)
        raise TooMany

    def _variable_assignment(self, node: Node, state: State, cond: bool) -> set[State]:
        return {ended(each, cond) for each in self._assigned(node, state)}

    def _variable_assignments(self, node: Node, state: State, cond: bool) -> set[State]:
        states = {state}
        for part in node.named_children:
            states = {found for each in states for found in self._assigned(part, each)}
        return {ended(each, cond) for each in states}

    def _assigned(self, node: Node, state: State) -> set[State]:
        name, *value = node.named_children
        said, written = shell.text_of(name), shell.text_of(value[0]) if value else ""
        more = written.startswith(f'("${{{said}[@]}}"')  # pids=("${pids[@]}" "$!")
        if more or "+=" in [child.type for child in node.children]:
            added = [self._plain(each, state) for each in value[0].named_children[more:]] if value else []
            return {replace(state, ok=True).joining(said, added)}
        if name.type == "subscript" and "$!" in written:
            return {replace(state, ok=True).joining(shell.text_of(name.named_children[0]), [None])}
        if re.fullmatch(r"(?!\"?\$!\"?\Z)[^(`]*\$![^(`]*", written):
            return {replace(state, ok=True).having(said, UNSURE)}  # several processes
        if not value:
            return {replace(state, ok=True).having(said, "")}
        if name.type != "variable_name":
            return {each.having(said, None) for each, *_ in self._expand(value[0], replace(state, ok=True))}
        if value[0].type == "array":
            items = [self._expand(each, state) for each in value[0].named_children]
            known = [kept(*found[0][1:]) for found in items if len(found) == 1]
            words = BETWEEN.join(known) if len(known) == len(items) else None
            return {replace(state, ok=True).having(said, None).having(f"{said}[@]", words)}
        found = self._expand(value[0], state)
        if not any(shell.below(node, "command_substitution")):
            found = [(replace(each, ok=True), text, known) for each, text, known in found]
        return {
            # a text that is appended to itself, or that a command prints, is not kept
            each.having(
                said, None if not known and ("$(" in text or f"${said}" in text) else kept(text, known)
            )
            for each, text, known in found
        }

    def _declaration_command(self, node: Node, state: State, _cond: bool) -> set[State]:
        states = {state}
        for part in node.named_children:
            if part.type == "variable_assignment":
                states = {found for each in states for found in self._assigned(part, each)}
            elif part.type == "variable_name" and re.match(r"\w+ -\w*a", shell.text_of(node)):
                states = {each.having(f"{shell.text_of(part)}[@]", "") for each in states}
        how = f"`{shell.text_of(node.children[0])}` hides the status of what is in `$( )`"
        return {replace(each.lost(how) if each.failed != state.failed else each, ok=True) for each in states}

    def _unset_command(self, _node: Node, state: State, _cond: bool) -> set[State]:
        return {replace(state, ok=True)}

    def _test_command(self, node: Node, state: State, cond: bool) -> set[State]:
        return self._tested(node, state, cond)

    def _tested(self, node: Node, state: State, cond: bool) -> set[State]:
        kind = node.children[0].type
        after: set[State] = set()
        parts = shell.joined(node.named_children[0]) if kind == "[" and node.named_children else []
        if parts:
            found = self._truth_of_parts(node, parts, state)
        else:
            found = self._truth(node.named_children[0], state, kind) if node.named_children else []
        for each, truth in found:
            after |= {replace(each, ok=one) for one in ((True, False) if truth is None else (truth,))}
        return {ended(each, cond) for each in after}


_OTHER_LANGUAGE = re.compile(r"(?:.*[ /])?(?:python[\d.]*|node|deno|ruby|perl|php|tsx)(?: -\S*)*\Z")
_READ = re.compile(r"<\s*([^<(&\s]\S*)")
_GITHUB_FILE = re.compile(r">.*\bGITHUB_(ENV|OUTPUT)\b")


def _processes(redirections: Sequence[Node]) -> Iterator[Node]:
    """The commands in `<( )`."""
    return (each for node in redirections for each in shell.below(node, "process_substitution"))


def _reads_a_script(found: Sequence[str]) -> bool:
    """Whether a command runs its input: a shell, also in a container or on a host."""
    names = [posixpath.basename(each) for each in found if not each.startswith("-")]
    return names[:1] == ["ssh"] or any(name in shell.SHELLS for name in (*names[:1], *names[-1:]))


def _unset(node: Node, state: State) -> State:
    """The state after assigning an exit code that never exists: the variable is empty."""
    if node.type != "variable_assignment" or not EXIT_CODE.search(shell.text_of(node)):
        return state
    name = shell.text_of(node.named_children[0])
    return state.having(name, "") if state.value(name) is None else state


def _is_test(node: Node) -> bool:
    """Whether a statement is a test of values: its status is no migration's."""
    return node.type == "test_command" or any(child.type == "((" for child in node.children)
