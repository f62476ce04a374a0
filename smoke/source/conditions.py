"""Conditions (`if`) of GitHub jobs and steps: true, false or open, as far as their spelling is understood.

Only what a migration gate is written with is read: status functions, results of needed jobs, inputs of the
run. An open condition depends on something else, such as the branch. What is not understood is said to be so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SUCCESS, FAILURE, CANCELLED, SKIPPED = "success", "failure", "cancelled", "skipped"
OUTCOMES = (SUCCESS, FAILURE, CANCELLED, SKIPPED)

_STATUS = re.compile(r"(always|success|failure|cancelled)\(\s*\)", re.IGNORECASE)
_WORD = r"[\w-]+"
_RESULT = re.compile(rf"needs\.({_WORD})\.result\s*(==|!=)\s*'(\w+)'")
_RESULT_LAST = re.compile(rf"'(\w+)'\s*(==|!=)\s*needs\.({_WORD})\.result")
_RESULT_AMONG = re.compile(
    rf"contains\(\s*fromJSON\('(\[[\w\s,\"]*\])'\)\s*,\s*needs\.({_WORD})\.result\s*\)", re.I
)
_ANY_RESULT = re.compile(
    r"contains\(\s*(?:join\(\s*needs\.\*\.result\s*(?:,\s*'[^']*'\s*)?\)|needs\.\*\.result)\s*,\s*'(\w+)'\s*\)",
    re.IGNORECASE,
)
_INPUT = re.compile(rf"(github\.event\.)?inputs\.({_WORD})(?:\s*(==|!=)\s*('[^']*'|true|false))?")
#: What says nothing of a job's result: the event and the repository's variables.
_ELSEWHERE = re.compile(
    r"(?:github|vars|env)\.[\w.-]+(?:\s*(?:==|!=)\s*(?:'[^']*'|true|false|null))?"
    r"|(?:contains|startsWith|endsWith)\(\s*(?:github|vars|env)\.[\w.-]+\s*,\s*'[^']*'\s*\)",
    re.IGNORECASE,
)
_COMPARED = re.compile(r"==|!=|<|>")


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when a condition is evaluated.

    `needs` are the jobs that the job waits for, `before` those and the ones that they wait for, `ended` the
    known outcomes of some. `inputs` are the run's, by name; None when an operator may choose any.
    `not_understood` is the value of a part that cannot be read.
    """

    needs: Collection[str] = ()
    before: Collection[str] = ()
    ended: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Any] | None = None
    not_understood: bool | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition: `op` is `||`, `&&`, `!`, or empty for one `text` without those."""

    op: str
    parts: tuple[Condition, ...] = ()
    text: str = ""

    @classmethod
    def of(cls, written: str) -> Condition:
        """Read what a job's or step's `if` says; an absent one is `success()`.

        Without a status function GitHub puts `success() &&` in front. Text around `${{ }}`, a line break
        included, makes a string, which is true whatever the expressions in it say.
        """
        if "${{" in written:
            if not re.fullmatch(r"\$\{\{(?:(?!\$\{\{).)*\}\}", written, re.DOTALL):
                return cls("", (), "true")
            written = written[3:-2]
        if not written.strip():
            return cls("", (), "success()")
        condition = cls._parse(written)
        if any(_STATUS.fullmatch(leaf.text) for leaf in condition.leaves()):
            return condition
        return cls("&&", (cls("", (), "success()"), condition))

    @classmethod
    def _parse(cls, text: str) -> Condition:
        for op in ("||", "&&"):
            parts = list(_split(text, op))
            if len(parts) > 1:
                return cls(op, tuple(cls._parse(part) for part in parts))
        text = text.strip()
        if text.startswith("(") and _closes(text) == len(text) - 1:
            return cls._parse(text[1:-1])
        if text.startswith("!"):
            negated = text[1:].strip()
            # `!` binds closer than a comparison, so that `!a == b` is not the negation of `a == b`
            if negated.startswith("(") or not _COMPARED.search(negated):
                return cls("!", (cls._parse(negated),))
        return cls("", (), re.sub(r"\['([\w-]+)'\]", r".\1", text))

    def leaves(self) -> Iterator[Condition]:
        """Yield the parts without an operator."""
        if not self.op:
            yield self
        for part in self.parts:
            yield from part.leaves()

    def not_understood(self) -> str:
        """The first part that cannot be read; empty when there is none."""
        return next((leaf.text for leaf in self.leaves() if leaf._value(Situation()) is _UNREAD), "")

    def holds(self, situation: Situation) -> bool | None:
        """Whether the condition is true; None when that depends on something unknown."""
        if not self.op:
            value = self._value(situation)
            return situation.not_understood if value is _UNREAD else value
        values = [part.holds(situation) for part in self.parts]
        if self.op == "!":
            return None if values[0] is None else not values[0]
        decisive = self.op == "||"
        if decisive in values:
            return decisive
        return None if None in values else not decisive

    def _value(self, situation: Situation) -> Any:
        text = self.text
        if text in ("true", "false"):
            return text == "true"
        if found := _STATUS.fullmatch(text):
            return _status(found[1].lower(), situation)
        if found := _RESULT.fullmatch(text):
            return _result(found[1], {found[3]}, found[2] == "==", situation)
        if found := _RESULT_LAST.fullmatch(text):
            return _result(found[3], {found[1]}, found[2] == "==", situation)
        if found := _RESULT_AMONG.fullmatch(text):
            return _result(found[2], set(re.findall(r'"(\w+)"', found[1])), True, situation)
        if found := _ANY_RESULT.fullmatch(text):
            known = [situation.ended[job] for job in situation.needs if job in situation.ended]
            return True if found[1] in known else False if len(known) == len(situation.needs) else None
        if found := _INPUT.fullmatch(text):
            return _input(found, situation.inputs)
        return None if _ELSEWHERE.fullmatch(text) else _UNREAD


_UNREAD = object()


def _status(function: str, situation: Situation) -> bool | None:
    if function == "always":
        return True
    ended = [situation.ended[job] for job in situation.before if job in situation.ended]
    complete = len(ended) == len(situation.before)
    if function == "success":
        return False if set(ended) - {SUCCESS} else True if complete else None
    if function == "failure":
        return True if FAILURE in ended else False if complete else None
    # a job is also cancelled by its own time limit, which does not cancel the run
    return False if complete and CANCELLED not in ended else None


def _result(job: str, among: set[str], equal: bool, situation: Situation) -> bool | None:
    if job not in situation.needs:
        return not equal  # `needs` knows direct needs only; any other job's result is null there
    return None if job not in situation.ended else (situation.ended[job] in among) == equal


def _input(found: re.Match[str], inputs: Mapping[str, Any] | None) -> bool | None:
    """An input, or its comparison. `github.event.inputs` holds text, so that 'false' is true there."""
    if inputs is None:
        return None
    as_text, name, op, literal = found.groups()
    value = inputs.get(name)
    if isinstance(value, bool) and as_text:
        value = str(value).lower()
    if op is None:
        return bool(value)
    if literal in ("true", "false"):  # against a boolean GitHub compares numbers: absent is 0, a word is none
        number = {None: 0, "": 0, False: 0, True: 1}.get(value)
        return (number == (literal == "true")) == (op == "==")
    same = (
        str(value).lower() == literal[1:-1].lower()
        if isinstance(value, str)
        else literal == "''" and not value
    )
    return same == (op == "==")


def _split(text: str, op: str) -> Iterator[str]:
    """Yield what stands between the operators that are in no parentheses and no quotes."""
    depth, quoted, start, at = 0, False, 0, 0
    while at < len(text):
        sign = text[at]
        quoted ^= sign == "'"
        depth += 0 if quoted else (sign == "(") - (sign == ")")
        if not quoted and depth == 0 and text.startswith(op, at):
            yield text[start:at]
            at += len(op)
            start = at
        else:
            at += 1
    yield text[start:]


def _closes(text: str) -> int:
    """Where the parenthesis that the text begins with is closed; -1 when it is not."""
    depth, quoted = 0, False
    for at, sign in enumerate(text):
        quoted ^= sign == "'"
        depth += 0 if quoted else (sign == "(") - (sign == ")")
        if depth == 0:
            return at
    return -1
