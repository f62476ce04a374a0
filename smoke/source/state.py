"""What is known at one place of one way through a script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

MOST_STATES, MOST_ROUNDS, DEEPEST = 300, 40, 12
UNSURE = "\0"  # the value of a variable that a loop or an unread calculation sets
SYMBOL = "\1"  # before the text of a value that is known as written only, such as `$PREFIX-api`


class TooMany(Exception):
    """A script has more ways through it than are followed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A migration that failed, or (`task`) a task that is not known to have succeeded."""

    path: str
    line: int
    command: str
    task: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What is known at one place of one way.

    `how` is where a failure was lost, `guess` a test that could not be read on the way.
    """

    ok: bool = True
    failed: tuple[Failure, ...] = ()
    errexit: bool = False
    pipefail: bool = False
    values: frozenset[tuple[str, str]] = frozenset()
    flow: str = ""
    how: str = ""
    guess: str = ""

    def value(self, name: str) -> str | None:
        """The value of a variable, UNSURE, or None when it is not known."""
        return next((value for each, value in self.values if each == name), None)

    def having(self, name: str, value: str | None) -> State:
        """The same with a variable's value; None forgets it."""
        others = frozenset(pair for pair in self.values if pair[0] != name)
        return replace(self, values=others if value is None else others | {(name, value)})

    def guessed(self, guess: str, *, always: bool = False) -> State:
        """The same on a way that rests on something not understood; of no matter without a failure."""
        return replace(self, guess=self.guess or guess) if self.failed or always else self

    def lost(self, how: str) -> State:
        """The same, and if a failure is about to be passed over: how."""
        return replace(self, how=self.how or how) if self.failed and not self.ok else self


#: A word after expansion: its text, and whether that is its value (else as written).
Word = tuple[str, bool]


def bounded(states: set[State]) -> set[State]:
    """Return the states. TooMany when they are too many."""
    if len(states) > MOST_STATES:
        raise TooMany
    return states


def outside(inner: State, outer: State) -> State:
    """What a subshell leaves behind: its status and the failures in it."""
    return replace(outer, ok=inner.ok, failed=inner.failed, how=inner.how, guess=inner.guess)


def ended(state: State, cond: bool) -> State:
    """End the script where `set -e` does: at a failure outside of a condition."""
    return replace(state, flow="exit") if state.errexit and not (state.ok or cond or state.flow) else state


def options_of(state: State, words: Sequence[str]) -> State:
    """Apply `set`'s words, or those of a command line of a shell."""
    for at, word in enumerate(words):
        on = word.startswith("-")
        if not re.fullmatch(r"[-+][a-zA-Z]+", word):
            continue
        if "e" in word:
            state = replace(state, errexit=on)
        if word.endswith("o") and at + 1 < len(words):
            if words[at + 1] == "errexit":
                state = replace(state, errexit=on)
            if words[at + 1] == "pipefail":
                state = replace(state, pipefail=on)
    return state


def kept(text: str, known: bool) -> str:
    """A word as the value of a variable."""
    return text if known else UNSURE if UNSURE in text else SYMBOL + text
