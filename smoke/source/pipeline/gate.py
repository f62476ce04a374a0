"""The pipeline, by the jobs of all workflows: can a deployment happen on a database that was not migrated?

A deploy job must need the migration job and must not be able to run unless that one succeeded, on a push and
on a manual run that leaves its inputs alone. And the migration job must not end in success if a migration
failed. Decisive parts that are not understood are "not examined".

Also checks that each service of the plan has a deploy job.
"""

import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from smoke.source.checkout import Examined, Finding
from smoke.source.scripts import shell
from smoke.source.scripts.commands import migrates
from smoke.source.scripts.recipes import plain, top_of

from .deploys import (
    Pipeline,
    deploy_jobs,
    deploys,
    deploys_here,
    names_any,
    of_whom,
    spoken_of,
    unseen,
    values_of,
)
from .expansion import Expansion
from .jobs import examine_job, unreached
from .repository import Placed, Repository
from .rollback import goes_back
from .validity import may_run
from .workflows import CANCELLED, FAILURE, OUTCOMES, SKIPPED, SUCCESS, Job, Situation, Workflow

_BY_WEIGHT = (FAILURE, CANCELLED, SKIPPED)


@dataclass(frozen=True, slots=True)
class MigrationGate:
    """The result of the examination.

    `bypass`: how a deployment gets past the gate. `void`: how the migration job succeeds without a migration.
    `notes`: choices of an operator.
    """

    bypass: Examined = field(default_factory=Examined)
    void: Examined = field(default_factory=Examined)
    deploys: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def examine(repository: Repository, plan: Pipeline) -> MigrationGate:
    """Examine the migration job as the gate before the deploy jobs of all workflows."""
    found = MigrationGate()
    main = repository.workflows.get(plan.workflow)
    elsewhere = unseen(repository, plan)
    found.bypass.not_examined.extend(elsewhere)
    found.void.not_examined.extend(elsewhere)
    called = _called(repository)
    deploying = list(deploy_jobs(repository, plan))
    for workflow, job in deploying:
        if set(workflow.triggers) == {"workflow_call"} and workflow.path in called:
            continue  # the jobs that call it deploy
        found.deploys.append(job.name if workflow is main else f"{job.name} ({workflow.path})")
        _examine_deploy(repository, plan, workflow, job, found)
    _note_unseen(repository, plan, deploying, found)
    if main is not None and not deploying and not elsewhere:
        what = f"no job deploys: none is called {' or '.join(plan.jobs)}, and no job runs a deploy command"
        found.bypass.findings.append(main.finding(0, what))
    for workflow in repository.workflows.values():
        if plan.migration in workflow.jobs:
            inside = examine_job(repository, workflow, workflow.jobs[plan.migration])
            found.void.include(inside)
            found.void.findings.extend(_replaced(repository, workflow, workflow.jobs[plan.migration]))
            found.void.findings.extend(_unwaited(repository, workflow, workflow.jobs[plan.migration]))
            _examine_order(repository, plan, workflow, found)
        elif workflow is main and not elsewhere:
            nothing = workflow.finding(
                0, f"there is no job {plan.migration}, so nothing migrates before a deployment"
            )
            found.void.findings.append(nothing)
    found.bypass.not_examined.extend(Finding("", 0, problem) for problem in repository.unread.values())
    return found


#: Words of a command that may migrate, and programs that never migrate.
_SPEAKS = re.compile(r"migrat|schema|flyway|liquibase|prisma|drizzle|alembic|db:|psql", re.IGNORECASE)
_ONLY_SHOWS = re.compile(r"[^;&|\n]* --(?:dry-?run|pretend|plan-only)(?!\S|[ ](?:false|no|0)\b)[^;&|\n]*\Z")
_IDLE = frozenset({"true", ":", "echo", "printf", "sleep", "exit", "date", "ls", "cat"})


def _replaced(repository: Repository, workflow: Workflow, job: Job) -> Iterator[Finding]:
    """Tasks that run something other than the migration; a plan may be shown before another task migrates."""
    shown, migrating = list[Finding](), False
    for placed in repository.everything(workflow, job):
        for words in repository.commands(placed.step):
            written = shell.option(words, "--overrides")
            if written.startswith("file://"):
                written = repository.script(written.removeprefix("file://")) or ""
            started = shell.runs(words, "aws ecs run-task")
            for command in (list(_commands_of(written)) or [[]]) if started else ():
                said = " ".join(command[2:] if command[1:2] == ["-c"] else command)
                first = {each.rpartition("/")[2] for each in said.split()[:1]}
                what = f"{job.name} has its task run `{' '.join(command)}` in place of the migration"
                if first & _IDLE and not _SPEAKS.search(said):
                    yield Finding(placed.path, placed.step.line, what)
                elif _ONLY_SHOWS.match(said):
                    shown.append(Finding(placed.path, placed.step.line, what))
                else:
                    migrating = True
    yield from () if migrating else shown


#: What may wait for a task to end, and a wait that goes on in the background.
_WAITS = re.compile(r"\b(?:sleep|while|until|watch|timeout)\b|\b(?:a?wait|poll)|--wait")
_ASIDE = re.compile(r"\baws ecs wait tasks-stopped\b(?:[^\n&|;]|\\\n)*&[ \t]*$", re.MULTILINE)


_HANDS_ON = re.compile(r"gh (?:workflow run|api \S*/dispatches)\b(?=.*migrat)(?!.*deploy)", re.IGNORECASE)
_WATCHES = re.compile(r"\bgh run\b|\bactions/runs\b")


def _unwaited(repository: Repository, workflow: Workflow, job: Job) -> Iterator[Finding]:
    """A migration without a wait for its end: its exit code is not there yet, or another workflow has it."""
    commands = Expansion(repository, workflow).commands(job)
    started = {each.path for each in commands if shell.runs(each.words, "aws ecs run-task")}
    scripts = {each.path for each in commands} - {workflow.path}
    waits = any(_WAITS.search(_ASIDE.sub("", repository.script(path) or "")) for path in scripts)
    for each in commands:
        watched = any(_WATCHES.search(" ".join(one.words)) for one in commands)
        if _HANDS_ON.match(" ".join(each.words)) and not watched:
            yield each.finding(f"{job.name} starts another workflow and does not wait for its end")
        reads = shell.runs(each.words, "aws ecs describe-tasks") and "exitCode" in " ".join(each.words)
        apart = each.path in started and each.path != workflow.path  # all of a script, not one step of many
        if reads and apart and not waits:
            yield each.finding(f"{job.name} reads the exit code of a task without a wait for its end")


def _commands_of(overrides: str) -> Iterator[list[str]]:
    """The commands that the overrides of a task give to its containers."""
    try:
        data = json.loads(overrides)
        for each in data.get("containerOverrides", ()):
            yield [str(word) for word in each.get("command") or ()]
    except (ValueError, AttributeError, TypeError):
        return  # a template, or another form, which is not read here


#: Words in the name of a job that deploys, or of the workflow that it calls.
_OF_DEPLOYING = re.compile(r"deploy|roll-?out|promot|\bship|\becs\b", re.IGNORECASE)


def _note_unseen(
    repository: Repository, plan: Pipeline, deploying: list[tuple[Workflow, Job]], found: MigrationGate
) -> None:
    """Note the jobs without the gate that call another repository's workflow, which may deploy."""
    seen = {(workflow.path, job.name) for workflow, job in deploying}
    for workflow, job in repository.jobs():
        name = f"{job.name} {posixpath.basename(job.uses)}"
        if not job.uses or (workflow.path, job.name) in seen or not _OF_DEPLOYING.search(name):
            continue
        before = {job.name, *workflow.ancestors(job.name)}
        if repository.called(job) is None and plan.migration not in before:
            what = f"whether {job.name} deploys: the workflow {job.uses} is not in the checkout"
            found.bypass.not_examined.append(workflow.finding(job.line, what))


def _called(repository: Repository) -> set[str]:
    return {inner.path for _, job in repository.jobs() if (inner := repository.called(job)) is not None}


def _examine_deploy(
    repository: Repository, plan: Pipeline, workflow: Workflow, job: Job, found: MigrationGate
) -> None:
    bypass, name, migration = found.bypass, job.name, plan.migration
    if name == migration:
        return
    if migration not in workflow.ancestors(name):
        if open_ := of_whom(repository, plan, workflow, job):
            bypass.not_examined.append(workflow.finding(job.line, open_))
            return
        if goes_back(repository, workflow, job):
            found.notes.append(
                f"{name} ({workflow.path}) goes back to an earlier revision, without migrating"
            )
            return
    if migration not in workflow.ancestors(name):
        _examine_elsewhere(repository, plan, workflow, job, found)
        return
    for inputs in (*workflow.runs, *([None] if workflow.asked is None else [])):
        sure = Gate(workflow, migration, inputs, frozenset()).past(name)
        past = sure or Gate(workflow, migration, inputs, OUTCOMES).past(name)
        if not past:
            continue
        what = f"{name} can run even if {migration} ended in {' or '.join(past)}"
        if inputs is None:
            found.notes.append(f"{what}, when an input of a manual run asks for it")
        elif sure:
            bypass.findings.append(workflow.finding(job.line, what))
        else:
            names = [name, *workflow.ancestors(name)]
            unread = (workflow.jobs[each].condition.not_understood() for each in names)
            bypass.not_examined.append(
                workflow.finding(job.line, f"{name}: if: {next(filter(None, unread), '')}")
            )
        return


def _examine_elsewhere(
    repository: Repository, plan: Pipeline, workflow: Workflow, job: Job, found: MigrationGate
) -> None:
    """A deploy job without an earlier migration job in its own workflow: the gate may be in another one."""
    bypass, name, migration = found.bypass, job.name, plan.migration
    inner = repository.called(job)
    if inner is not None and migration in inner.jobs:
        for each in inner.jobs.values():  # the called workflow has the gate inside
            if each.name != migration and deploys(repository, plan, inner, each):
                _examine_deploy(repository, plan, inner, each, found)
        return
    if job.uses and inner is None:
        what = f"{name} calls the workflow {job.uses}, which is not in the checkout"
        bypass.not_examined.append(workflow.finding(job.line, what))
        return
    main = repository.workflows.get(plan.workflow)
    if main is not None and main.name in workflow.follows and migration in main.jobs:
        if not _demands_success(workflow, name):
            what = f"{name} deploys after {main.path}, even if that failed"
            bypass.findings.append(workflow.finding(job.line, what))
        return
    gate = (
        ", directly or through another job"
        if migration in workflow.jobs
        else f": {workflow.path} has no such job"
    )
    bypass.findings.append(workflow.finding(job.line, f"{name} deploys and does not need {migration}{gate}"))


def _demands_success(workflow: Workflow, name: str) -> bool:
    """Whether a job, or one that it needs, runs only if the workflow that starts this one succeeded."""
    ended = [{"github.event.workflow_run.conclusion": each} for each in (FAILURE, CANCELLED, SKIPPED)]
    for each in (name, *workflow.ancestors(name)):
        condition = workflow.jobs[each].condition
        if any(condition.ways(Situation(known=known))[0] for known in ended):
            continue
        return each == name or not Gate(workflow, each, {}, OUTCOMES).past(name)
    return False


@dataclass(slots=True)
class Gate:
    """The dependency of later jobs on one job, for the inputs of one run (None: any)."""

    workflow: Workflow
    target: str
    inputs: Mapping[str, Any] | None
    unread: frozenset[str]
    _known: dict[str, frozenset[str]] = field(default_factory=dict)

    def past(self, name: str) -> list[str]:
        """The outcomes of the target, other than success, with which a later job can run."""
        past = self.may_run(name) - {SUCCESS}
        if SKIPPED in past and self._never_skipped_before(name):
            past -= {SKIPPED}
        return [outcome for outcome in _BY_WEIGHT if outcome in past]

    def may_run(self, name: str) -> frozenset[str]:
        """The outcomes of the target with which a job may run; each job is read once."""
        if name not in self._known:
            job, before = self.workflow.jobs[name], self.workflow.ancestors(name)
            self._known[name] = OUTCOMES  # a job that does not wait for the target
            if self.target in before:
                behind = {each: self.may_run(each) for each in job.needs}
                situation = Situation(self.target, behind, before, self.inputs, self.unread)
                self._known[name] = job.condition.ways(situation)[0]
        return self._known[name]

    def _never_skipped_before(self, name: str) -> bool:
        """Whether the target ran if `name` runs: all jobs before it succeeded, and its `if` holds."""
        before = self.workflow.ancestors(self.target)
        condition = self.workflow.jobs[self.target].condition
        if condition.ways(Situation(inputs=self.inputs, unread=OUTCOMES))[1]:
            return False
        return all(
            Gate(self.workflow, each, self.inputs, OUTCOMES).may_run(name) <= {SUCCESS} for each in before
        )


def _examine_order(repository: Repository, plan: Pipeline, workflow: Workflow, found: MigrationGate) -> None:
    """A job that migrates and deploys must do so in this order, in separate steps."""
    job = workflow.jobs[plan.migration]
    deploying = [placed for placed in deploys_here(repository, plan, workflow, job) if placed is not None]
    for at, placed in enumerate(repository.steps(workflow.path, job.steps)):
        if placed not in deploying:
            continue
        if _migrates(repository, placed):
            what = f"the step {placed.step.label!r} migrates and deploys, in an unknown order"
            found.bypass.not_examined.append(Finding(placed.path, placed.step.line, what))
            continue
        later = list(repository.steps(workflow.path, job.steps))[at + 1 :]
        situation = Situation("step", {}, ("step",), {}, OUTCOMES)
        if any(_migrates(repository, each) for each in later):
            what = f"the step {placed.step.label!r} deploys before {plan.migration} has migrated"
            found.bypass.findings.append(Finding(placed.path, placed.step.line, what))
        elif not placed.step.condition.ways(situation)[0] <= {SUCCESS}:
            what = f"the step {placed.step.label!r} deploys even if an earlier step failed"
            found.bypass.findings.append(Finding(placed.path, placed.step.line, what))


def _migrates(repository: Repository, placed: Placed) -> bool:
    return any(migrates(words) for words in repository.commands(placed.step) if words)


def undeployed(
    repository: Repository, plan: Pipeline, services: Mapping[str, Sequence[str]]
) -> tuple[Examined, dict[str, list[str]]]:
    """Examine that a job deploys each service (name -> other names of it); also return the jobs by service.

    A job deploys the services that its commands, its matrix, its environment or its inputs name. A deploy job
    that names none of them may deploy any: then a service without a job of its own is not examined. One that
    runs only after a failure is a way back, not a deployment.
    """
    found, jobs, others = Examined(), dict[str, list[str]]((name, []) for name in services), list[str]()
    for workflow, job in deploy_jobs(repository, plan):
        if workflow.recovers(job):
            continue
        named = set(values_of(repository, workflow, job))
        own = [name for name, aliases in services.items() if names_any(named, [name, *aliases])]
        for name in own:
            jobs[name].append(job.name)
        if not own:
            others.append(f"{job.name} ({workflow.path}:{job.line})")
    found.findings.extend(_never_pushed(repository, plan.workflow))
    elsewhere = unseen(repository, plan)
    for name in (each for each in services if not jobs[each]):
        if elsewhere or plan.workflow in repository.unread:
            why = [each.what for each in elsewhere] or ["the workflow that the plan names is not valid"]
            what = f"whether a job deploys {name}: {why[0]}"
            found.not_examined.append(Finding(plan.workflow, 0, what))
        elif others:
            what = f"whether {', '.join(others)} deploys {name}: no service is named there"
            found.not_examined.append(Finding(plan.workflow, 0, what))
        else:
            found.findings.append(Finding(plan.workflow, 0, f"no job deploys {name}"))
    return found, jobs


def left_behind(
    repository: Repository, plan: Pipeline, groups: Mapping[str, Sequence[str]]
) -> Iterator[Finding]:
    """A service that a push leaves on its old build while it deploys another service of the same image.

    Not one that another workflow deploys by itself.
    """
    pushed = defaultdict[str, list[bool]](list)
    places: dict[str, Finding] = {}
    for workflow, job in deploy_jobs(repository, plan):
        started = [each for each in workflow.events if each.get("github.event_name") == "push"]
        other = workflow.path != plan.workflow and "workflow_run" in workflow.triggers
        own = set(values_of(repository, workflow, job)) if started or other else ()
        for name in (each for names in groups.values() for each in names if names_any({*own}, [each])):
            runs = other or any(may_run(workflow, job, event, asked=False) for event in started)
            pushed[name].append(runs)
            what = f"a push does not run {job.name}, but deploys another service of its image"
            places[name] = workflow.finding(job.line, what)
    for names in groups.values():
        known = {each: any(pushed[each]) for each in names if pushed[each]}
        yield from (places[each] for each, runs in known.items() if not runs and any(known.values()))


def _never_pushed(repository: Repository, path: str) -> Iterator[Finding]:
    """Filters that let no push start a workflow: no file of the checkout, or no branch, is called so.

    Filters of paths do not apply to tags. A workflow that also starts otherwise may ignore all branches.
    """
    on = top_of(repository.script(path) or "" if path in repository.workflows else "").below("on")
    push = on.below("push")
    links = re.findall(r"^\s*path\s*=\s*(.*\S)", repository.script(".gitmodules") or "", re.MULTILINE)
    for name, (line, node) in push.items() if not {"tags", "tags-ignore"} & {*push} else ():
        said = plain(node)
        listed = [each for each in (said if isinstance(said, list) else [said]) if isinstance(each, str)]
        patterns = [_PATTERN.sub(lambda sign: _SIGNS[sign[0]], re.escape(each)) for each in listed]
        readable = bool(listed) and not any(set(each) & set("!?+[") for each in listed)
        fit = [any(re.fullmatch(each, file) for each in patterns) for file in (*repository.paths, *links)]
        full = all(each.startswith("refs/heads/") for each in listed)  # GitHub compares the short name
        never = {"paths": not any(fit), "paths-ignore": all(fit), "branches": full,
                 "branches-ignore": "**" in listed and {*on} == {"push"}}  # fmt: skip
        if readable and never.get(name, False):
            yield Finding(path, line, f"no push starts it: {name} is {', '.join(listed)}")


#: GitHub's patterns in those of regular expressions, after `re.escape`.
_SIGNS = {r"\*\*/": "(?:.*/)?", r"\*\*": ".*", r"\*": "[^/]*"}
_PATTERN = re.compile("|".join(map(re.escape, _SIGNS)))


def unmigrated(repository: Repository, plan: Pipeline, migrations: Sequence[str]) -> Examined:
    """Examine that the migration job runs each of these migrations.

    A job that names none of them may run any; one that names another leaves this one out.
    """
    found = Examined()
    for workflow in repository.workflows.values():
        job = workflow.jobs.get(plan.migration)
        if job is None:
            continue
        values = set(values_of(repository, workflow, job))
        named = [each for each in migrations if names_any(values, [each])]
        named += [
            each for each in migrations if each not in named and spoken_of(repository, workflow, job, each)
        ]
        for each in named:
            place = unreached(repository, workflow, job, partial(_is_named, each))
            if place is not None:
                found.findings.append(replace(place, what=f"{job.name} names {each} and never runs it"))
        for each in (each for each in migrations if named and each not in named):
            beside = [other for other in workflow.jobs.values() if other is not job
                      and names_any({*values_of(repository, workflow, other)}, [each])]  # fmt: skip
            what = f"{job.name} runs {' and '.join(named)} but not {each}"
            if beside:
                what = f"whether deployments wait for {beside[0].name}, which names {each}"
            (found.not_examined if beside else found.findings).append(workflow.finding(job.line, what))
        if not named:
            what = f"which migrations {job.name} runs: none of {' and '.join(migrations)} is named there"
            found.not_examined.append(workflow.finding(job.line, what))
    if not any(plan.migration in workflow.jobs for workflow in repository.workflows.values()):
        found.not_examined.extend(unseen(repository, plan))
    return found


def _is_named(migration: str, word: str) -> bool:
    return names_any({word}, [migration])


def overrides(repository: Repository, plan: Pipeline) -> bool:
    """Whether the migration job sets the command of its tasks when it runs them."""
    return any(
        word.partition("=")[0] == "--overrides"
        for workflow in repository.workflows.values()
        if (job := workflow.jobs.get(plan.migration)) is not None
        for placed in repository.everything(workflow, job)
        for words in repository.commands(placed.step)
        for word in words
    )
