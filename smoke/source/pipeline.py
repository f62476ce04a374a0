"""Whether a deployment can happen on a database that was not migrated: the jobs of a workflow played through.

For a deploy job every outcome of the jobs before it is tried. It must not be able to run unless the migration
job succeeded, on a push and on a manual run that leaves its inputs alone. And the migration job must not call
itself successful when a migration failed.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .checkout import Finding
from .courses import SUCCESS, Inputs, Outcomes, courses, input_value
from .expressions import UNKNOWN, evaluate, parse, truth
from .workflow import Job, Step, Workflow

#: Returns the text of a shell script of the checkout, None when there is no such file.
Script = Callable[[str], str | None]

_DEPLOYS = re.compile(r"ecs\s+update-service|deploy-service|amazon-ecs-deploy-task-definition")
_MIGRATES = re.compile(r"migrat|ecs\s+run-task", re.IGNORECASE)
_RUNS_TASK = re.compile(r"ecs\s+run-task")
_SCRIPT = re.compile(r"(?:^|[\s;&|(])(?:\./)?((?:[\w.-]+/)*[\w.-]+\.sh)\b")
_ENDS_AT_FAILURE = re.compile(r"set\s+-\w*e|-o\s+errexit|^#!.*\s-\w*e")
_SWALLOWS = (
    (re.compile(r"\|\|\s*(?:true|:|exit\s+0|echo)(?![\w-])"), "goes on after a failure"),
    (re.compile(r"^\s*set\s+\+\w*e"), "goes on after failures from here on"),
    (re.compile(r"(?:^|;)\s*exit\s+0\s*$"), "ends with success whatever happened"),
)


@dataclass(frozen=True, slots=True)
class Gate:
    """What was found.

    `leaks`: how a deployment gets past the gate. `void`: how the migration job succeeds without a migration.
    `notes`: what an operator may choose. `courses`: how many were played.
    """

    deploys: tuple[str, ...]
    leaks: tuple[Finding, ...]
    void: tuple[Finding, ...]
    notes: tuple[str, ...]
    courses: int


def deploy_jobs(workflow: Workflow, patterns: Sequence[str]) -> list[str]:
    """Return the deploy jobs: those that the plan names by pattern, and any other that updates a service."""
    return [
        job.name
        for job in workflow.jobs.values()
        if any(fnmatch.fnmatchcase(job.name, pattern) for pattern in patterns)
        or any(_DEPLOYS.search(f"{step.run}\n{step.uses}") for step in job.steps)
    ]


def examine(workflow: Workflow, migration: str, patterns: Sequence[str], script: Script) -> Gate:
    """Examine the gate that the job `migration` is to the deploy jobs."""
    if migration not in workflow.jobs:
        nothing = workflow.finding(0, f"there is no job {migration}: nothing migrates before a deployment")
        return Gate((), (nothing,), (nothing,), (), 0)
    deploys = deploy_jobs(workflow, patterns)
    leaks: list[Finding] = []
    notes: list[str] = []
    played = 0
    if not deploys:
        leaks.append(workflow.finding(0, f"no job deploys: none is called {' or '.join(patterns)}"))
    for name in deploys:
        line = workflow.jobs[name].line
        if migration not in workflow.ancestors(name):
            what = f"{name} does not need {migration}, directly or through another job"
            leaks.append(workflow.finding(line, what))
            continue
        for inputs in ({}, workflow.inputs, UNKNOWN):
            leak, count = _leak(workflow, migration, name, inputs)
            played += count
            if leak is None:
                continue
            what = f"{name} can run although {migration} ended as {leak[migration]}: {_told(leak, migration)}"
            if inputs is UNKNOWN:
                notes.append(f"{what}, when an input of a manual run says so")
            else:
                leaks.append(workflow.finding(line, what))
            break
    void = sorted(set(_void(workflow, workflow.jobs[migration], script)))
    return Gate(tuple(deploys), tuple(sorted(set(leaks))), tuple(void), tuple(notes), played)


def _leak(workflow: Workflow, migration: str, target: str, inputs: Inputs) -> tuple[Outcomes | None, int]:
    """Return a course in which the target can run without a successful migration, and how many were tried."""
    possible: Outcomes | None = None
    count = 0
    for outcomes, starts in courses(workflow, target, inputs):
        count += 1
        if outcomes[migration] == SUCCESS or starts is False:
            continue
        if starts is True:
            return outcomes, count
        possible = possible or outcomes
    return possible, count


def _told(outcomes: Outcomes, migration: str) -> str:
    others = [f"{name} {outcome}" for name, outcome in outcomes.items() if name != migration]
    return ", ".join(others) or "nothing else comes before"


def _void(workflow: Workflow, job: Job, script: Script) -> Iterator[Finding]:
    """Yield what lets the migration job end as a success without successful migrations."""
    if job.continue_on_error not in (None, False):
        yield workflow.finding(job.line, f"{job.name} counts as a success when it fails: continue-on-error")
    if job.uses:
        yield workflow.finding(job.line, f"{job.name} is another workflow, which is not examined: {job.uses}")
        return
    texts = {id(step): [(workflow.path, step.line, step.run), *_scripts(step, script)] for step in job.steps}
    everything = "\n".join(text for found in texts.values() for _, _, text in found)
    migrating = [
        step
        for step in job.steps
        if _MIGRATES.search("\n".join([step.label, *(text for _, _, text in texts[id(step)])]))
        and (step.run or step.uses)
    ]
    if not migrating:
        yield workflow.finding(job.line, f"no step of {job.name} migrates anything")
    if _RUNS_TASK.search(everything) and "exitCode" not in everything:
        yield workflow.finding(job.line, f"{job.name} starts a task and never reads its exit code")
    for step in migrating:
        yield from _void_step(workflow, step)
        for path, line, text in texts[id(step)]:
            yield from _swallowed(path, line, text, is_script=path != workflow.path)


def _void_step(workflow: Workflow, step: Step) -> Iterator[Finding]:
    if step.continue_on_error not in (None, False):
        yield workflow.finding(step.line, f"the step {step.label!r} may fail unnoticed: continue-on-error")
    if "{0}" in step.shell and not _ENDS_AT_FAILURE.search(f"set {step.shell.partition(' ')[2]}"):
        yield workflow.finding(
            step.line, f"the step {step.label!r} goes on after failures: shell {step.shell}"
        )
    if step.condition:
        node = parse(step.condition)
        for inputs in ({}, workflow.inputs):
            value = evaluate(
                node,
                lambda name, given=inputs: input_value(name, given),  # type: ignore[misc]
                lambda function: function in {"always", "success"},
            )
            if truth(value) is not True:
                yield workflow.finding(
                    step.line, f"the step {step.label!r} can be skipped: if {step.condition}"
                )
                return


def _scripts(step: Step, script: Script) -> Iterator[tuple[str, int, str]]:
    for path in dict.fromkeys(_SCRIPT.findall(step.run)):
        text = script(path)
        if text is not None:
            yield path, 0, text


def _swallowed(path: str, start: int, text: str, *, is_script: bool) -> Iterator[Finding]:
    if is_script and not any(_ENDS_AT_FAILURE.search(line) for line in text.splitlines()):
        yield Finding(path, 1, "the script goes on after failures: there is no set -e")
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        for pattern, what in _SWALLOWS:
            if pattern.search(line):
                # A step's own script begins somewhere below its first line: the step is what is named.
                yield Finding(path, number if is_script else start, f"{what}: {line.strip()}")
