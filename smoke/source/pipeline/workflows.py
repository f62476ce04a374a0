"""GitHub workflows: their jobs and steps with their lines, and conditions (`if`) of these.

A condition says with which outcomes of an earlier job it may be true. Only the usual parts of a migration
gate are read: status functions, results of needed jobs, inputs of the run. Conditions on anything else, such
as the branch, may be true or false. Parts that are not understood are named. Each part is read once, so the
work is linear.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from smoke.source.checkout import Finding

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
#: Actions that put nothing into the directory in which steps run, unless their names say so.
OTHERS = re.compile(r"(?:actions|aws-actions|docker|hashicorp)/(?!.*(?:checkout|artifact|cache))")
CHECKOUT = re.compile(r"actions/checkout@")
_ASKED = re.compile(r"\$\{\{\s*inputs\.([\w-]+)\s*\}\}")
SUCCESS, FAILURE, CANCELLED, SKIPPED = "success", "failure", "cancelled", "skipped"
OUTCOMES = frozenset({SUCCESS, FAILURE, CANCELLED, SKIPPED})
NONE: frozenset[str] = frozenset()

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
#: Contexts that say nothing about a job's result: the event and the repository's variables.
_ELSEWHERE = re.compile(
    r"(?:github|vars|env)\.[\w.-]+(?:\s*(?:==|!=)\s*(?:'[^']*'|true|false|null))?"
    r"|(?:contains|startsWith|endsWith)\(\s*(?:github|vars|env)\.[\w.-]+\s*,\s*'[^']*'\s*\)",
    re.IGNORECASE,
)
#: A comparison of the full name of a branch or a tag, `refs/heads/main`, with a short one.
_NO_REF = re.compile(r"github\.ref\s*(==|!=)\s*'(?!refs/|')[^']*'")
#: A literal value.
_LITERAL = re.compile(r"'[^']*'|\d+|null")
_COMPARED = re.compile(r"==|!=|<|>")
#: A value by its name, alone or compared with a text or a number.
_VALUE = re.compile(r"([a-z_][\w.-]*)(?:\s*(==|!=)\s*(?:'([^']*)'|(-?\d+)))?", re.IGNORECASE)


#: The outcomes of the earlier job with which a condition may be true, and those with which it may be false.
Ways = tuple[frozenset[str], frozenset[str]]
_EITHER: Ways = (OUTCOMES, OUTCOMES)
_TRUE: Ways = (OUTCOMES, NONE)
_FALSE: Ways = (NONE, OUTCOMES)


@dataclass(frozen=True, slots=True)
class Situation:
    """The context of a condition: the outcome of the job `target`; "" if all earlier jobs succeeded.

    `behind` has the directly needed jobs, each with the outcomes of `target` with which it may run; `before`
    are those and the jobs that they need. `inputs` are the run's, by name; None if an operator may choose
    any. `unread` is the value assumed for a part that is not understood: every outcome, or none. `known` are
    values by name, such as `steps.migrate.outcome`; None for one that is set and may be anything.
    """

    target: str = ""
    behind: Mapping[str, frozenset[str]] = field(default_factory=dict)
    before: Collection[str] = ()
    inputs: Mapping[str, Any] | None = None
    unread: frozenset[str] = OUTCOMES
    known: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition: `op` is `||`, `&&`, `!`, or empty for one `text` without those."""

    op: str
    parts: tuple[Condition, ...] = ()
    text: str = ""

    @classmethod
    def of(cls, written: str) -> Condition:
        """Read a job's or step's `if`; a missing one is `success()`.

        Without a status function GitHub prepends `success() &&`. Text around `${{ }}`, a line break
        included, makes a string, which is always true.
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

    def not_understood(self, known: Mapping[str, str | None] | None = None) -> str:
        """The first part that cannot be read; empty if there is none."""
        unread = Situation(unread=frozenset({_UNREAD}), known=known or {})
        return next((leaf.text for leaf in self.leaves() if _UNREAD in leaf.ways(unread)[0]), "")

    def ways(self, situation: Situation) -> Ways:
        """The outcomes of the target with which the condition may be true, and with which it may be false."""
        if not self.op:
            return _leaf(self.text, situation)
        true, false = zip(*(part.ways(situation) for part in self.parts), strict=True)
        if self.op == "!":
            return false[0], true[0]
        if self.op == "&&":
            return frozenset.intersection(*true), frozenset.union(*false)
        return frozenset.union(*true), frozenset.intersection(*false)


_UNREAD = "unread"


def _leaf(text: str, situation: Situation) -> Ways:
    if text in ("true", "false"):
        return _TRUE if text == "true" else _FALSE
    if _LITERAL.fullmatch(text):
        return _FALSE if text in ("''", "0", "null") else _TRUE
    if found := _STATUS.fullmatch(text):
        return _status(found[1].lower(), situation)
    if found := _RESULT.fullmatch(text):
        return _result(found[1], {found[3].lower()}, found[2] == "==", situation)
    if found := _RESULT_LAST.fullmatch(text):
        return _result(found[3], {found[1].lower()}, found[2] == "==", situation)
    if found := _RESULT_AMONG.fullmatch(text):
        return _result(found[2], set(re.findall(r'"(\w+)"', found[1])), True, situation)
    if found := _ANY_RESULT.fullmatch(text):
        return _any_result(found[1].lower(), situation)
    if found := _INPUT.fullmatch(text):
        value = _input(found, situation.inputs)
        return _EITHER if value is None else _TRUE if value else _FALSE
    if (found := _VALUE.fullmatch(text)) and found[1] in situation.known:
        return _known(situation.known[found[1]], found)
    return _of_the_event(text) or (situation.unread, situation.unread)


def _of_the_event(text: str) -> Ways | None:
    """A comparison with the event or a variable; None for anything else."""
    if found := _NO_REF.fullmatch(text):
        return _FALSE if found[1] == "==" else _TRUE
    return _EITHER if _ELSEWHERE.fullmatch(text) else None


def _known(value: str | None, found: re.Match[str]) -> Ways:
    """A value, or its comparison: texts are equal in any case, numbers in any spelling."""
    if value is None:
        return _EITHER
    _, operator, text, number = found.groups()
    if operator is None:
        return _TRUE if value else _FALSE
    if number is None:
        same = value.lower() == text.lower()
    else:
        same = re.fullmatch(r"-?\d*", value) is not None and int(value or 0) == int(number)
    return _TRUE if same == (operator == "==") else _FALSE


def _status(function: str, situation: Situation) -> Ways:
    if function == "always":
        return _TRUE
    if not situation.target:
        return _TRUE if function == "success" else _FALSE
    waited = situation.target in situation.before
    alone = waited and len(situation.before) == 1
    if function == "success":
        return (frozenset({SUCCESS}) if waited else OUTCOMES), OUTCOMES - {SUCCESS} if alone else OUTCOMES
    if function == "failure":
        failed = frozenset({FAILURE})
        return (failed if alone else OUTCOMES), (OUTCOMES - failed if waited else OUTCOMES)
    # a job is also cancelled by its own time limit, which does not cancel the run
    return _EITHER


def _result(written: str, among: set[str], equal: bool, situation: Situation) -> Ways:
    job = next((each for each in situation.behind if each.lower() == written.lower()), written)
    if not situation.target:
        true: Ways = _TRUE if SUCCESS in among else _FALSE
    elif job not in situation.behind or not among & OUTCOMES:
        true = _FALSE  # `needs` knows direct needs only; any other job's result is null there
    elif job == situation.target:
        true = (OUTCOMES & among, OUTCOMES - among)
    else:
        true = (situation.behind[job] if among <= {SUCCESS, FAILURE} else OUTCOMES, OUTCOMES)
    return true if equal else (true[1], true[0])


def _any_result(outcome: str, situation: Situation) -> Ways:
    """Whether one of the needed jobs had an outcome."""
    if not situation.target:
        return _TRUE if outcome == SUCCESS else _FALSE
    here = situation.target in situation.behind
    others = [ways for job, ways in situation.behind.items() if job != situation.target]
    true = OUTCOMES if others else NONE
    false = OUTCOMES
    if here:
        true, false = true | {outcome}, false - {outcome}
    if outcome == SKIPPED:  # those that were not skipped did run
        false = false.intersection(*others) if others else false
    return true, false


def _input(found: re.Match[str], inputs: Mapping[str, Any] | None) -> bool | None:
    """An input, or its comparison. `github.event.inputs` holds text, so that 'false' is true there."""
    if inputs is None:
        return None
    as_text, name, op, literal = found.groups()
    value = inputs.get(name)
    if value is ...:
        return None
    if isinstance(value, bool) and as_text:
        value = str(value).lower()
    if op is None:
        return bool(value)
    if literal in (
        "true",
        "false",
    ):  # against a boolean GitHub compares numbers: absent is 0, a word is not a number
        number = {None: 0, "": 0, False: 0, True: 1}.get(value)
        return (number == (literal == "true")) == (op == "==")
    same = (
        str(value).lower() == literal[1:-1].lower()
        if isinstance(value, str)
        else literal == "''" and not value
    )
    return same == (op == "==")


def _split(text: str, op: str) -> Iterator[str]:
    """Yield the parts between operators outside parentheses and quotes."""
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
    """Where the text's first parenthesis is closed; -1 if it is not."""
    depth, quoted = 0, False
    for at, sign in enumerate(text):
        quoted ^= sign == "'"
        depth += 0 if quoted else (sign == "(") - (sign == ")")
        if depth == 0:
            return at
    return -1


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a job. `run_line` is the line before the first one of its script; `env` and `given` are text.

    `given` are the step's values under `with`, `directory` its working directory, "." for the checkout's top.
    """

    line: int
    run_line: int
    id: str
    label: str
    condition: Condition
    run: str
    uses: str
    shell: str
    directory: str
    continue_on_error: Any
    env: dict[str, str]
    given: dict[str, str]

    def with_inputs(self, given: Mapping[str, str]) -> Step:
        """The step with the values of its action's or workflow's inputs."""

        def value(found: re.Match[str]) -> str:
            return given.get(found[1], found[0])

        def filled(texts: dict[str, str]) -> dict[str, str]:
            return {name: _ASKED.sub(value, text) for name, text in texts.items()}

        return replace(self, run=_ASKED.sub(value, self.run), env=filled(self.env), given=filled(self.given))


@dataclass(frozen=True, slots=True)
class Job:
    """A job. `needs` are the jobs that it waits for, `matrix` its values, `shell` the default of its steps.

    `secrets` are those that it passes to the workflow that it calls, `{"*": "inherit"}` for all;
    `environment` is the GitHub environment with its secrets and variables. A `contained` job runs its steps
    in a container; those of a matrix may run one after the other, `in_turn`.
    """

    name: str
    line: int
    needs: tuple[str, ...]
    condition: Condition
    continue_on_error: Any
    uses: str
    steps: tuple[Step, ...]
    matrix: Any
    env: dict[str, str]
    given: dict[str, str]
    secrets: dict[str, str]
    shell: str
    runs_on: str
    outputs: dict[str, str]
    permissions: dict[str, str] | None = None
    environment: str = ""
    contained: bool = False
    in_turn: bool = False


@dataclass(frozen=True, slots=True)
class Workflow:
    """`inputs` maps each input of a manual run to its default, `triggers` are the events that start it.

    `follows` are the names of the workflows that it waits for (`workflow_run`). `defaults` are those of a
    call's inputs, `asked` the inputs with which a job calls it, None if none does. An input that only a run
    knows is `...`. `branches` are those on which a push starts it, empty if there is a pattern; `permissions`
    are its token's, None for GitHub's default.
    """

    path: str
    name: str
    jobs: dict[str, Job]
    inputs: dict[str, Any]
    triggers: tuple[str, ...]
    follows: tuple[str, ...]
    env: dict[str, str]
    defaults: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] | None = None
    branches: tuple[str, ...] = ()
    permissions: dict[str, str] | None = None

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The inputs of the runs to judge: a push and a manual run, or the call."""
        return [{}, self.inputs] if self.asked is None else [self.asked]

    @property
    def events(self) -> list[dict[str, str | None]]:
        """The values of each event that starts the workflow, such as a push to each of its branches."""
        if {"workflow_call", "None"} & {*self.triggers} or not self.triggers:
            return [{}]  # the caller's event, or any
        pushed: list[dict[str, str | None]] = [
            {"github.event_name": "push", "github.ref": f"refs/heads/{each}", "github.ref_name": each}
            for each in self.branches
        ]
        others = [each for each in self.triggers if each != "push" or not pushed]
        return pushed + [{"github.event_name": each} for each in others]

    def called_by(self, job: Job) -> Workflow:
        """The workflow as a job calls it, with the values of its inputs."""
        asked = self.defaults | {name: _typed(text) for name, text in job.given.items()}
        texts = {name: text_of(value) for name, value in asked.items() if value is not ...}
        jobs = {
            name: replace(each, steps=tuple(step.with_inputs(texts) for step in each.steps))
            for name, each in self.jobs.items()
        }
        return replace(self, jobs=jobs, asked=asked)

    def finding(self, line: int, what: str) -> Finding:
        """Return a finding in this file."""
        return Finding(self.path, line, what)

    def around(self, job: Job, text: str) -> str:
        """The text of this file without its other jobs' lines; all of it if jobs share a line or a node."""
        begins = sorted({each.line for each in self.jobs.values()})
        if len(begins) < len(self.jobs) or job.line not in begins or re.search(r":\s+\*\w", text):
            return text
        lines = text.splitlines()
        after = (at for at, line in enumerate(lines) if at >= begins[-1] and re.match(r"[^\s#-]", line))
        ends = [*(each - 1 for each in begins[1:]), next(after, len(lines))]
        own = slice(job.line - 1, ends[begins.index(job.line)])
        return "\n".join([*lines[: begins[0] - 1], *lines[own], *lines[ends[-1] :]])

    def ancestors(self, name: str) -> list[str]:
        """Return the jobs that a job needs, directly or indirectly, each after the jobs that it needs."""
        order: list[str] = []

        def visit(job: str) -> None:
            for needed in self.jobs[job].needs:
                if needed in self.jobs and needed not in order:
                    visit(needed)
                    order.append(needed)

        visit(name)
        return order

    def recovers(self, job: Job) -> bool:
        """Whether a job runs only after a failure, as a notice or a rollback; no other job needs it."""
        behind = dict.fromkeys(job.needs, OUTCOMES)
        failed = [Situation(each, behind, self.ancestors(job.name)) for each in job.needs]
        skipped = Situation(job.name, {job.name: OUTCOMES}, (job.name,))
        after = [each for each in self.jobs.values() if job.name in each.needs]
        return (
            not job.condition.ways(Situation())[0]
            and any(FAILURE in job.condition.ways(each)[0] for each in failed)
            and all(SKIPPED in each.condition.ways(skipped)[0] for each in after)
        )


def text_of(value: Any) -> str:
    """A value as GitHub writes it into a text."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _typed(text: str) -> Any:
    """The values that a job passes to a workflow that it calls; `...` for computed ones."""
    return ... if "${{" in text else text == "true" if text in ("true", "false") else text
