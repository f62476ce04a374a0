"""Whether the migration job can end in success although a migration failed, by its steps in order."""

import re
from collections.abc import Iterable
from dataclasses import replace

from .checkout import Examined, Finding
from .commands import MIGRATION
from .conditions import OUTCOMES, Condition, Situation
from .repository import Placed, Repository
from .state import Failure, State, TooMany
from .ways import Ways
from .workflow import Job, Step, Workflow

#: GitHub's shell where a step names none, and what `bash` stands for when it does.
_DEFAULT_SHELL = "bash -e {0}"
_NAMED_SHELLS = {"": _DEFAULT_SHELL, "bash": "bash -eo pipefail {0}", "sh": "sh -e {0}"}


def examine_job(repository: Repository, workflow: Workflow, job: Job) -> Examined:
    """What lets the job end in success without successful migrations, and what cannot be examined."""
    found = Examined()
    _read_continue(job.continue_on_error, workflow.finding(job.line, job.name), found)
    if not job.uses:
        migrates, inner = _steps(repository, workflow, job)
        if not migrates and not inner.not_examined:
            inner.findings.append(workflow.finding(job.line, f"no step of {job.name} migrates anything"))
        return _merged([found, inner])
    called = repository.called(job.uses)
    if called is None:
        what = f"{job.name} calls the workflow {job.uses}, which is not in the checkout"
        found.not_examined.append(workflow.finding(job.line, what))
        return found
    inside = [(each, _steps(repository, called, each)) for each in called.jobs.values()]
    migrating = [(each, inner) for each, (migrates, inner) in inside if migrates or inner.not_examined]
    if not migrating:
        found.findings.append(workflow.finding(job.line, f"no job of {job.uses} migrates anything"))
    for each, _ in migrating:
        _read_continue(each.continue_on_error, called.finding(each.line, each.name), found)
        _read_skipped(called, each.condition, called.finding(each.line, each.name), found)
    return _merged([found, *(inner for _, inner in migrating)])


def _read_continue(value: object, place: Finding, found: Examined) -> None:
    """Judge `continue-on-error` of a job."""
    if value in (None, False) or re.fullmatch(r"\$\{\{\s*false\s*\}\}", str(value)):
        return
    if value is True or re.fullmatch(r"\$\{\{\s*true\s*\}\}", str(value)):
        found.findings.append(
            replace(place, what=f"{place.what} counts as a success when it fails: continue-on-error")
        )
    else:
        found.not_examined.append(replace(place, what=f"continue-on-error: {value}"))


def _read_skipped(workflow: Workflow, condition: Condition, place: Finding, found: Examined) -> None:
    """Judge whether what migrates may be skipped although everything before it succeeded."""
    if _may_be(condition, workflow, index=1, unread=frozenset()):
        found.findings.append(replace(place, what=f"{place.what} can be skipped by its condition"))
    elif _may_be(condition, workflow, index=1, unread=OUTCOMES):
        found.not_examined.append(replace(place, what=condition.not_understood()))


def _may_be(condition: Condition, workflow: Workflow, *, index: int, unread: frozenset[str]) -> bool:
    """Whether a condition may be true (`index` 0) or false (1) when all before succeeded."""
    situations = [Situation(inputs=inputs, unread=unread) for inputs in ({}, workflow.inputs)]
    return any(condition.ways(each)[index] for each in situations)


def _steps(repository: Repository, workflow: Workflow, job: Job) -> tuple[int, Examined]:
    """How often the job's steps migrate, and what is found in them."""
    found = Examined()
    ways = Ways(repository.script, workflow.path)
    states = {State()}
    for placed in repository.steps(workflow.path, job.steps):
        step, before = placed.step, ways.migrations
        if not _may_be(step.condition, workflow, index=0, unread=OUTCOMES):
            continue
        try:
            after = _behind(ways, placed, job, states, found)
        except TooMany:
            what = f"the step {step.label!r} has more ways through it than are followed"
            found.not_examined.append(Finding(placed.path, step.line, what))
            continue
        if ways.migrations > before:
            _read_skipped(
                workflow, step.condition, Finding(placed.path, step.line, f"the step {step.label!r}"), found
            )
        elif _may_be(step.condition, workflow, index=1, unread=OUTCOMES):
            guess = step.condition.not_understood()
            after = {each.guessed(guess) for each in after | states}
        states = after
    if not ways.migrations:  # what cannot be followed may be what migrates
        local = [
            each for each in repository.steps(workflow.path, job.steps) if each.step.uses.startswith("./")
        ]
        for each in local:
            found.not_examined.append(Finding(each.path, each.step.line, f"uses: {each.step.uses}"))
    found.not_examined.extend(
        Finding(each.path, each.line, each.command) for each in ways.unread if ways.migrations
    )
    _read_lost(states, found)
    return ways.migrations, found


def _behind(ways: Ways, placed: Placed, job: Job, states: set[State], found: Examined) -> set[State]:
    """The states in which the job goes on behind a step."""
    step = placed.step
    if step.uses:
        if MIGRATION.search(f"{step.uses}\n{step.label}\n{' '.join(step.given.values())}"):
            found.not_examined.append(Finding(placed.path, step.line, f"uses: {step.uses}"))
        return states
    options = _options(step, job)
    if options is None:
        if MIGRATION.search(f"{step.run}\n{step.label}"):
            what = f"shell: {step.shell or job.shell or job.runs_on}"
            found.not_examined.append(Finding(placed.path, step.line, what))
        return states
    ways.path, ways.line, ways.functions = placed.path, step.run_line, {}
    errexit, pipefail = options
    start = {
        State(failed=each.failed, how=each.how, guess=each.guess, errexit=errexit, pipefail=pipefail)
        for each in states
    }
    return {one for each in ways.through(step.run, start) for one in _ended(step, each)}


def _ended(step: Step, state: State) -> Iterable[State]:
    """The state with which the job goes on: none where the step fails, unless that may be ignored."""
    done = State(failed=state.failed, how=state.how, guess=state.guess)
    if state.ok:
        return [done]
    if step.continue_on_error in (None, False):
        return []
    if step.continue_on_error is True:
        return [replace(done, how=f"the step {step.label!r} may fail: continue-on-error")]
    return [done.guessed(f"continue-on-error: {step.continue_on_error}")]


def _options(step: Step, job: Job) -> tuple[bool, bool] | None:
    """Whether errexit and pipefail hold in the shell of a step; None for a shell that is not read."""
    named = step.shell or job.shell
    if not named and "windows" in job.runs_on.lower():
        return None
    words = _NAMED_SHELLS.get(named, named).split()
    if not words or words[0].rpartition("/")[2] not in ("bash", "sh", "dash"):
        return None
    if len(words) > 1 and "{0}" not in words:
        return None
    short = "".join(word for word in words[1:] if re.fullmatch(r"-[a-zA-Z]+", word))
    return "e" in short or "errexit" in words, "pipefail" in words


def _read_lost(states: set[State], found: Examined) -> None:
    """Name each failure with which the job can end in success, once: by the plainest of its ways."""
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
            "no exit code of it ends the job" if failure.task else "nothing ends the script"
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
