"""Jobs of a workflow: whether one can succeed although a command failed, and scripts that it cannot run."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tree_sitter import Node

from smoke.source.checkout import Examined, Finding
from smoke.source.scripts import shell
from smoke.source.scripts.commands import MIGRATION, asks_for_one, migrates
from smoke.source.scripts.state import SYMBOL, UNSURE, Failure, State, TooMany
from smoke.source.scripts.ways import Ways

from .repository import Placed, Repository, may_be_fetched
from .unset import GITHUBS_MACHINES, without_value
from .workflows import EXPRESSION, OUTCOMES, Condition, Job, Situation, Step, Workflow

#: GitHub's default shell of a step, and the meaning of `bash`.
_DEFAULT_SHELL = "bash -e {0}"
_RUN_TASK = re.compile(r"\becs\s+run-task\b|\brun_task\b|\bNew-ECSTask\b", re.IGNORECASE)
_NAMED_SHELLS = {"": _DEFAULT_SHELL, "bash": "bash -eo pipefail {0}", "sh": "sh -e {0}"}


def examine_job(repository: Repository, workflow: Workflow, job: Job) -> Examined:
    """How the job can succeed without successful migrations, and what cannot be examined."""
    found = Examined()
    _read_continue(job.continue_on_error, workflow, workflow.finding(job.line, job.name), found)
    if not job.uses:
        migrates, inner = _steps(repository, workflow, job)
        if not migrates and not inner.not_examined:
            inner.findings.append(workflow.finding(job.line, f"no step of {job.name} migrates anything"))
        return _merged([found, inner])
    called = repository.called(job)
    if called is None:
        what = f"{job.name} calls the workflow {job.uses}, which is not in the checkout"
        found.not_examined.append(workflow.finding(job.line, what))
        return found
    inside = [(each, _steps(repository, called, each)) for each in called.jobs.values()]
    migrating = [(each, inner) for each, (migrates, inner) in inside if migrates or inner.not_examined]
    if not migrating:
        found.findings.append(workflow.finding(job.line, f"no job of {job.uses} migrates anything"))
    for each, _ in migrating:
        _read_continue(each.continue_on_error, called, called.finding(each.line, each.name), found)
        _read_skipped(called, each.condition, called.finding(each.line, each.name), found)
    return _merged([found, *(inner for _, inner in migrating)])


def unreached(
    repository: Repository, workflow: Workflow, job: Job, named: Callable[[str], bool],
    others: Iterable[tuple[str, int]] = (),
) -> Finding | None:  # fmt: skip
    """The first command of a job with a word that `named` accepts, if none of these ever runs.

    `others` are places of further commands, such as those of scripts, as path and line.
    """
    ways = Ways(repository.script, workflow.path)
    _, examined = _steps(repository, workflow, job, ways=ways)
    if job.uses or ways.unread or any("too many paths" in each.what for each in examined.not_examined):
        return None
    places = list(others)
    for placed in repository.steps(workflow.path, job.steps):
        step = placed.step
        if step.run and _options(step, job) is None:
            return None
        for node in shell.commands(shell.parse(step.run)):
            found = shell.words(node)
            if found[:1] and found[0] not in shell.SILENT and any(map(named, found)):
                if is_within(node, ("command_substitution", "pipeline")):
                    return None
                places.append((placed.path, step.run_line + shell.line_of(node)))
    if not places or ways.visited & {*places}:
        return None
    return Finding(*places[0], "")


def is_within(node: Node, kinds: Sequence[str]) -> bool:
    """Whether a node stands in another one of these kinds, at any depth."""
    above = node.parent
    while above is not None and above.type not in kinds:
        above = above.parent
    return above is not None


def unnoticed(
    repository: Repository, workflow: Workflow, job: Job, counts: Callable[[Sequence[str]], bool]
) -> Examined:
    """How the job can succeed although a command accepted by `counts` has failed."""
    found, inner = Examined(), repository.called(job)
    for each in inner.jobs.values() if inner is not None else ():
        found = _merged([found, unnoticed(repository, inner, each, counts)])  # type: ignore[arg-type]
    number, lost = _steps(repository, workflow, job, counts)
    if number:
        _read_continue(job.continue_on_error, workflow, workflow.finding(job.line, job.name), found)
        found = _merged([found, lost])
    return found


def _continues(value: object, workflow: Workflow) -> bool | None:
    """Whether `continue-on-error` holds for any manual input; None if unknown."""
    if value is None or isinstance(value, bool):
        return value is True
    condition = Condition.of(str(value))
    if not _may_be(condition, workflow, index=0, unread=OUTCOMES):
        return False
    return None if _may_be(condition, workflow, index=1, unread=OUTCOMES) else True


def _read_continue(value: object, workflow: Workflow, place: Finding, found: Examined) -> None:
    """Judge `continue-on-error` of a job."""
    continues = _continues(value, workflow)
    if continues is False:
        return
    if continues:
        found.findings.append(
            replace(place, what=f"{place.what} counts as a success when it fails: continue-on-error")
        )
    else:
        found.not_examined.append(replace(place, what=f"continue-on-error: {value}"))


def _read_skipped(workflow: Workflow, condition: Condition, place: Finding, found: Examined) -> None:
    """Judge whether the migration may be skipped although everything before it succeeded."""
    if _may_be(condition, workflow, index=1, unread=frozenset()):
        found.findings.append(replace(place, what=f"{place.what} can be skipped by its condition"))
    elif _may_be(condition, workflow, index=1, unread=OUTCOMES):
        found.not_examined.append(replace(place, what=condition.not_understood()))


def _may_be(
    condition: Condition,
    workflow: Workflow,
    *,
    index: int,
    unread: frozenset[str],
    known: Mapping[str, str | None] | None = None,
) -> bool:
    """Whether a condition may be true (`index` 0) or false (1) when all before succeeded."""
    situations = [Situation(inputs=inputs, unread=unread, known=known or {}) for inputs in workflow.runs]
    return any(condition.ways(each)[index] for each in situations)


def _steps(
    repository: Repository,
    workflow: Workflow,
    job: Job,
    counts: Callable[[Sequence[str]], bool] = migrates,
    ways: Ways | None = None,
) -> tuple[int, Examined]:
    """How many commands of a job migrate, or are accepted by `counts`, and the findings in its steps."""
    found = Examined()
    ways = ways or Ways(repository.script, workflow.path, counts=counts)
    ways.unset = without_value(repository, workflow, job)
    states = {State()}
    for placed in repository.steps(workflow.path, job.steps):
        step, before = placed.step, ways.migrations
        sides = [_sides(step, workflow, each) for each in states]
        running = {each for side, _ in sides for each in side}
        if not running:
            continue
        try:
            after = _behind(ways, placed, workflow, job, running, found)
        except TooMany:
            what = f"the step {step.label!r} has too many paths through it to follow"
            found.not_examined.append(Finding(placed.path, step.line, what))
            continue
        if ways.migrations > before and counts is migrates:
            _read_skipped(
                workflow, step.condition, Finding(placed.path, step.line, f"the step {step.label!r}"), found
            )
            states = after
        else:
            states = after | {each for _, side in sides for each in side}
    if not ways.migrations and counts is migrates:  # the part that cannot be followed may migrate
        local = [
            each for each in repository.steps(workflow.path, job.steps) if each.step.uses.startswith("./")
        ]
        for each in local:
            found.not_examined.append(Finding(each.path, each.step.line, f"uses: {each.step.uses}"))
        for each in repository.steps(workflow.path, job.steps):
            asking = [words for words in repository.commands(each.step) if asks_for_one(words)]
            found.not_examined.extend(
                Finding(each.path, each.step.line, f"what follows from {' '.join(words)[:60]}")
                for words in asking
            )
    found.not_examined.extend(
        Finding(each.path, each.line, each.command)
        for each in dict.fromkeys(ways.unread if ways.migrations else ways.unfollowed)
    )
    _read_lost(states, found)
    return ways.migrations, found


def _sides(step: Step, workflow: Workflow, state: State) -> tuple[set[State], set[State]]:
    """The states in which a step runs, and those in which it is skipped: one each, or none."""
    known = _known(state)
    may = [_may_be(step.condition, workflow, index=at, unread=OUTCOMES, known=known) for at in (0, 1)]
    if all(may):  # an unknown part decides
        state = state.guessed(step.condition.not_understood(known))
    skipped = _keeping(state, step, "skipped", "skipped")
    return ({state} if may[0] else set()), ({skipped} if may[1] else set())


def _known(state: State) -> dict[str, str | None]:
    """The values that conditions and scripts may name, `steps.build.outputs.tag` and `env.TAG`, by name."""
    return {name: None if value.startswith((SYMBOL, UNSURE)) else value for name, value in state.github()}


def _keeping(state: State, step: Step, outcome: str, conclusion: str) -> State:
    """The state after a step: what GitHub keeps of it, by its id."""
    for name, value in state.github():
        kind, _, output = name.partition(".")
        if kind == "outputs":
            state = state.having(name, None).having(f"steps.{step.id}.outputs.{output}", value)
    if step.id:
        state = state.having(f"steps.{step.id}.outcome", outcome)
        state = state.having(f"steps.{step.id}.conclusion", conclusion)
    return State(failed=state.failed, how=state.how, guess=state.guess, values=state.github())


def _behind(
    ways: Ways, placed: Placed, workflow: Workflow, job: Job, states: set[State], found: Examined
) -> set[State]:
    """The states in which the job continues after a step."""
    step = placed.step
    if step.uses:
        runs_a_task = step.given.get("run-task", "").lower() == "true" or "run-task" in step.uses
        if ways.counts is not migrates:
            return states
        if runs_a_task or MIGRATION.search(f"{step.uses}\n{step.label}\n{' '.join(step.given.values())}"):
            found.not_examined.append(Finding(placed.path, step.line, f"uses: {step.uses}"))
        return states
    options = _options(step, job)
    if options is None:
        if ways.counts is not migrates:
            return states
        if MIGRATION.search(f"{step.run}\n{step.label}") or _RUN_TASK.search(step.run):
            what = f"shell: {step.shell or job.shell or job.runs_on}"
            found.not_examined.append(Finding(placed.path, step.line, what))
        return states
    ways.path, ways.line, ways.functions, ways.directories = placed.path, step.run_line, {}, [step.directory]
    errexit, pipefail = options
    after: set[State] = set()
    for state in states:
        known = _known(state)
        variables: dict[str, str | None] = dict.fromkeys(ways.unset, "")
        variables |= {
            name.removeprefix("env."): text for name, text in known.items() if name.startswith("env.")
        }
        variables |= {
            name: filled for name, text in step.env.items() if (filled := _filled(text, known)) != text
        }
        start = State(
            failed=state.failed, how=state.how, guess=state.guess, errexit=errexit, pipefail=pipefail,
            values=state.github() | {(name, text) for name, text in variables.items() if text is not None},
        )  # fmt: skip
        for each in ways.through(_filled(step.run, known), {start}):
            after.update(_ended(step, workflow, each))
    return after


def _filled(text: str, known: Mapping[str, str | None]) -> str:
    """The text with known values instead of expressions."""
    return EXPRESSION.sub(lambda found: known.get(found[1].strip()) or found[0], text)


def _ended(step: Step, workflow: Workflow, state: State) -> Iterable[State]:
    """The state in which the job continues: none if the step fails, unless that is ignored."""
    if state.ok:
        return [_keeping(state, step, "success", "success")]
    continues = _continues(step.continue_on_error, workflow)
    if continues is False:
        return []
    done = _keeping(state, step, "failure", "success")
    if continues:
        return [replace(done, how=f"the step {step.label!r} may fail: continue-on-error")]
    return [done.guessed(f"continue-on-error: {step.continue_on_error}")]


def _options(step: Step, job: Job) -> tuple[bool, bool] | None:
    """Whether errexit and pipefail hold in the shell of a step; None for a shell that is not read."""
    named = step.shell or job.shell
    machines = f"{job.runs_on} {job.matrix if 'matrix' in job.runs_on else ''}"
    if not named and "windows" in machines.lower():
        return None
    words = _NAMED_SHELLS.get(named, named).split()
    if not words or words[0].rpartition("/")[2] not in ("bash", "sh", "dash"):
        return None
    if len(words) > 1 and "{0}" not in words:
        return None
    short = "".join(word for word in words[1:] if re.fullmatch(r"-[a-zA-Z]+", word))
    return "e" in short or "errexit" in words, "pipefail" in words


def _read_lost(states: set[State], found: Examined) -> None:
    """Report each failure with which the job can succeed once, by the simplest path to it."""
    lost: dict[Failure, list[State]] = {}
    for state in states:
        for failure in state.failed[:1]:
            lost.setdefault(failure, []).append(state)
    for failure, ways in lost.items():
        plainest = min(ways, key=lambda each: (bool(each.guess), "(null)" in each.how, each.how))
        if plainest.guess:
            found.not_examined.append(Finding(failure.path, failure.line, plainest.guess))
            continue
        what = f"`{_shown(failure.command)}` can fail unnoticed"
        if failure.task:
            what = f"the task of {what}"
        how = plainest.how or (
            "the job continues after any exit code" if failure.task else "the script continues"
        )
        found.findings.append(Finding(failure.path, failure.line, f"{what}: {how}"))


def _shown(command: str) -> str:
    return command if len(command) <= 60 else f"{command[:57]}…"


def _merged(parts: Iterable[Examined]) -> Examined:
    parts = list(parts)
    return Examined(
        [each for part in parts for each in part.findings],
        [each for part in parts for each in part.not_examined],
    )


FETCHES = re.compile(r"\bgit\s+(?:clone|init|fetch)|\bgh\s+repo\s+clone|\bcurl\b|\btar\b")
_SCRIPT = re.compile(r"(?:[\w.-]+/)+[\w.-]+\.(?:sh|bash|py)")
#: GitHub's runners on which `sh` is dash.
_DASH = re.compile(r"ubuntu-(?:latest|2[024]\.04)(?:-arm)?")
_OF_SH = re.compile(r"#!\s*(?:/usr)?/bin/(?:env\s+)?sh\b")


def _scripts(step: Step) -> Iterator[tuple[str, str, bool]]:
    """The scripts that a step runs: as written, from the checkout's top, and whether as programs."""
    for command in shell.commands(shell.parse(step.run)):
        for path, direct in shell.scripts_called(shell.words(command)):
            yield path, posixpath.normpath(posixpath.join(step.directory, path)), direct


def missing_scripts(repository: Repository, job: Job) -> Iterator[tuple[str, int]]:
    """Scripts that steps run from a directory of the checkout, which does not have them."""
    top = {path.partition("/")[0] for path in repository.paths if "/" in path}
    before = ""
    for step in job.steps:
        if may_be_fetched(step) or "${{" in step.directory:
            return
        for path, located, _ in _scripts(step):
            name = posixpath.basename(path)
            once = step.run.count(name) == 1 and name not in before
            below = _SCRIPT.fullmatch(path) and located.partition("/")[0] in top
            moves = re.search(r"\b(?:cd|pushd)\b", step.run)
            if below and located not in repository.paths and once and not moves:
                yield f"{path} is not in the checkout", step.line
        if FETCHES.search(step.run):
            return
        before += _without_calls(repository, step)


def _without_calls(repository: Repository, step: Step) -> str:
    """A step's script without the names of scripts of the checkout; the rest may make a file."""
    text = step.run
    for path, located, _ in _scripts(step):
        if located in repository.paths:
            text = text.replace(path, "")
    return text


def inert_scripts(repository: Repository, job: Job) -> Iterator[tuple[str, int]]:
    """Scripts that a step runs as programs, but that are not executable in git."""
    for step in job.steps:
        if any(
            each in f"{job.runs_on} {job.shell} {step.shell}" for each in ("windows", "pwsh", "powershell")
        ):
            return
        if may_be_fetched(step) or "${{" in step.directory or re.search(r"\bchmod\b|\bcd\b", step.run):
            return
        for path, located, direct in _scripts(step):
            if direct and located in repository.inert and repository.script(located) is not None:
                yield f"{path} is not a program: its mode in git is 644", step.line


def foreign_words(repository: Repository, job: Job) -> Iterator[tuple[str, int]]:
    """Syntax in scripts for `sh`, and in steps with that shell, that dash does not support."""
    if not _DASH.fullmatch(job.runs_on) or job.contained:
        return
    for step in job.steps:
        if (step.shell or job.shell) == "sh" and (what := shell.of_bash(step.run)):
            yield f"the shell of this step is sh, which has no {what}", step.line
        for words in repository.commands(step) if step.run else ():
            for path, direct in shell.scripts_called(words):
                text = repository.script(posixpath.normpath(posixpath.join(step.directory, path)))
                of_sh = (
                    bool(_OF_SH.match(text or ""))
                    if direct
                    else posixpath.basename(words[0]) in ("sh", "dash")
                )
                if text is not None and of_sh and (what := shell.of_bash(text)):
                    yield f"{path} is run by sh, which has no {what}", step.line
                if direct and re.match(r"#![^\n]*\r", text or "") and not repository.script(".gitattributes"):
                    yield (
                        f"the #! line of {path} ends with a carriage return: there is no such program",
                        step.line,
                    )


def refused(job: Job) -> Iterator[tuple[str, int]]:
    """What GitHub refuses in a job: missing parts, broken expressions, machines and actions that are gone."""
    if not job.uses and not job.runs_on:
        yield "it has no runs-on", 0
    if not job.uses and not job.steps:
        yield "it has no steps", 0
    if _RETIRED.fullmatch(job.runs_on):
        yield f"GitHub has no machine {job.runs_on} any more", 0
    ids = [step.id.lower() for step in job.steps]
    for at, step in enumerate(job.steps):
        if step.id and step.id.lower() in ids[:at]:
            yield f"GitHub refuses a second step with the id {step.id}", step.line
        texts = [step.run, step.uses, *step.env.values(), *step.given.values()]
        if any("${{" in EXPRESSION.sub("", text) for text in texts):
            yield "GitHub refuses an expression ${{ without its end }}", step.line
        if not step.run and not step.uses:
            yield "a step has neither run nor uses", step.line
        if _REFUSED.fullmatch(step.uses) and GITHUBS_MACHINES.fullmatch(job.runs_on):
            yield f"GitHub fails a step with {step.uses}", step.line


#: Machines that GitHub has taken away, and versions of its actions that it no longer serves.
_RETIRED = re.compile(r"ubuntu-(?:16|18|20)\.04|windows-201[69]|macos-1[0-3](?:[.-][\w.-]+)?")
_REFUSED = re.compile(
    r"actions/(?:(?:upload|download)-artifact@v[123]|cache(?:/(?:save|restore))?@v[12])(?:\.\d+)*"
)
