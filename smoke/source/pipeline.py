"""Whether a deployment can happen on a database that was not migrated, by the jobs of a workflow.

A deploy job must need the migration job and must not be able to run unless that one succeeded, on a push and
on a manual run that leaves its inputs alone. And the migration job must not end in success when a migration
failed. A condition that is not understood, where it decides, is "not examined": neither good nor bad.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .checkout import Examined, Finding
from .conditions import CANCELLED, OUTCOMES, SKIPPED, SUCCESS, Situation
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
class MigrationGate:
    """What was found.

    `bypass`: how a deployment gets past the gate. `void`: how the migration job succeeds without a migration.
    `notes`: what an operator may choose.
    """

    bypass: Examined
    void: Examined
    deploys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def deploy_jobs(workflow: Workflow, patterns: Sequence[str]) -> list[str]:
    """Return the deploy jobs: those that the plan names by pattern, and any other that updates a service."""
    return [
        job.name
        for job in workflow.jobs.values()
        if any(fnmatch.fnmatchcase(job.name, pattern) for pattern in patterns)
        or any(_DEPLOYS.search(f"{step.run}\n{step.uses}") for step in job.steps)
    ]


def examine(workflow: Workflow, migration: str, patterns: Sequence[str], script: Script) -> MigrationGate:
    """Examine the gate that the job `migration` is to the deploy jobs."""
    if migration not in workflow.jobs:
        nothing = workflow.finding(0, f"there is no job {migration}: nothing migrates before a deployment")
        return MigrationGate(Examined([nothing]), Examined([nothing]))
    deploys = deploy_jobs(workflow, patterns)
    bypass = Examined()
    notes: list[str] = []
    if not deploys:
        bypass.findings.append(workflow.finding(0, f"no job deploys: none is called {' or '.join(patterns)}"))
    for name in deploys:
        job = workflow.jobs[name]
        if migration not in workflow.ancestors(name):
            what = f"{name} does not need {migration}, directly or through another job"
            bypass.findings.append(workflow.finding(job.line, what))
            continue
        for inputs in ({}, workflow.inputs, None):
            gate = _Gate(workflow, migration, inputs)
            past = gate.past(name)
            if not past:
                continue
            what = f"{name} can run although {migration} ended in {' or '.join(past)}"
            unread = gate.not_understood(name)
            if unread:
                bypass.not_examined.append(workflow.finding(job.line, unread))
            elif inputs is None:
                notes.append(f"{what}, when an input of a manual run asks for it")
            else:
                bypass.findings.append(workflow.finding(job.line, what))
            break
    void = _migration_job(workflow, workflow.jobs[migration], script)
    return MigrationGate(bypass, void, tuple(deploys), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Gate:
    """The way from the migration job to the jobs behind it, for the inputs of one run (None: any)."""

    workflow: Workflow
    migration: str
    inputs: Mapping[str, Any] | None
    not_understood_as: bool | None = None

    def past(self, name: str) -> list[str]:
        """The outcomes other than success of the migration job with which a job that needs it can run."""
        possible = [outcome for outcome in self._allowed(name, self.migration) if outcome != SUCCESS]
        for other in self.workflow.jobs[name].needs:
            ran = not {SKIPPED, CANCELLED}.intersection(self._allowed(name, other))
            if ran and self.migration in self.workflow.ancestors(other):
                behind = self.past(other)
                possible = [outcome for outcome in possible if outcome in behind]
        if SKIPPED in possible and self._runs_for_sure(name):
            possible.remove(SKIPPED)
        return possible

    def not_understood(self, name: str) -> str:
        """What has to be understood to say whether a job gets past; empty when it does in any case."""
        decided = [replace(self, not_understood_as=value).past(name) for value in (True, False)]
        if all(decided):
            return ""
        names = [name, *self.workflow.ancestors(name)]
        unread = [self.workflow.jobs[each].condition.not_understood() for each in names]
        return next(filter(None, unread), "")

    def _allowed(self, name: str, other: str) -> list[str]:
        """The outcomes of another job with which a job may run."""
        return [each for each in OUTCOMES if self._holds(name, {other: each}) is not False]

    def _runs_for_sure(self, name: str) -> bool:
        """Whether the migration job is never skipped where the job `name` runs."""
        before = self.workflow.ancestors(self.migration)
        succeeded = all(self._allowed(name, each) == [SUCCESS] for each in before)
        return succeeded and self._holds(self.migration, dict.fromkeys(before, SUCCESS)) is True

    def _holds(self, name: str, ended: Mapping[str, str]) -> bool | None:
        job, before = self.workflow.jobs[name], self.workflow.ancestors(name)
        return job.condition.holds(Situation(job.needs, before, ended, self.inputs, self.not_understood_as))


def _migration_job(workflow: Workflow, job: Job, script: Script) -> Examined:
    """What lets the job end in success without successful migrations, and what cannot be examined."""
    void: list[Finding] = []
    if job.continue_on_error not in (None, False):
        void.append(
            workflow.finding(job.line, f"{job.name} counts as a success when it fails: continue-on-error")
        )
    if job.uses:
        return Examined(void, [workflow.finding(job.line, f"{job.name} calls the workflow {job.uses}")])
    texts = {id(step): [(workflow.path, step.line, step.run), *_scripts(step, script)] for step in job.steps}
    everything = "\n".join(text for found in texts.values() for _, _, text in found)
    migrating = [
        step
        for step in job.steps
        if _MIGRATES.search("\n".join([step.label, *(text for _, _, text in texts[id(step)])]))
        and (step.run or step.uses)
    ]
    if not migrating:
        void.append(workflow.finding(job.line, f"no step of {job.name} migrates anything"))
    if _RUNS_TASK.search(everything) and "exitCode" not in everything:
        void.append(workflow.finding(job.line, f"{job.name} starts a task and never reads its exit code"))
    for step in migrating:
        void += _void_step(workflow, step)
        for path, line, text in texts[id(step)]:
            void += _swallowed(path, line, text, is_script=path != workflow.path)
    unread = [
        workflow.finding(step.line, step.condition.not_understood())
        for step in migrating
        if _can_be_skipped(workflow, step, None) and not _can_be_skipped(workflow, step, True)
    ]
    return Examined(void, unread)


def _void_step(workflow: Workflow, step: Step) -> Iterator[Finding]:
    if step.continue_on_error not in (None, False):
        yield workflow.finding(step.line, f"the step {step.label!r} may fail unnoticed: continue-on-error")
    if "{0}" in step.shell and not _ENDS_AT_FAILURE.search(f"set {step.shell.partition(' ')[2]}"):
        what = f"the step {step.label!r} goes on after failures: shell {step.shell}"
        yield workflow.finding(step.line, what)
    if _can_be_skipped(workflow, step, True):
        yield workflow.finding(step.line, f"the step {step.label!r} can be skipped by its condition")


def _can_be_skipped(workflow: Workflow, step: Step, not_understood: bool | None) -> bool:
    """Whether a step may not run although everything before it succeeded, by a run's default inputs."""
    situations = [Situation(inputs=inputs, not_understood=not_understood) for inputs in ({}, workflow.inputs)]
    return any(step.condition.holds(situation) is not True for situation in situations)


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
