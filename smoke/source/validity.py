"""What GitHub refuses in a workflow, what it takes for empty there, and jobs that never run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .checkout import Examined, Finding
from .conditions import OUTCOMES, Condition, Situation
from .repository import Repository
from .workflow import Job, Workflow

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_NEEDS = re.compile(r"\bneeds\.([\w-]+)(?:\.outputs\.([\w-]+))?")
_STEPS = re.compile(r"\bsteps\.([\w-]+)")
#: Actions that put nothing into the directory in which steps run, unless their names say so.
_OTHERS = re.compile(r"(?:actions|aws-actions|docker|hashicorp)/(?!.*(?:checkout|artifact|cache))")
_FETCHES = re.compile(r"\bgit\s+(?:clone|init|fetch)|\bgh\s+repo\s+clone|\bcurl\b|\btar\b")


def invalid(repository: Repository) -> tuple[int, Examined]:
    """Return how many jobs there are, and what of them GitHub refuses or takes for empty."""
    count, result = 0, Examined([Finding("", 0, problem) for problem in repository.refused.values()])
    result.not_examined.extend(
        Finding("", 0, problem)
        for path, problem in repository.unread.items()
        if path not in repository.refused
    )
    for workflow in repository.workflows.values():
        if workflow.triggers in ((), ("None",)):
            result.findings.append(workflow.finding(0, "nothing starts this workflow: it has no `on`"))
        for job in workflow.jobs.values():
            count += 1
            wrong = [*_refused(job), *_empty(workflow, job), *_without_checkout(repository, workflow, job)]
            result.findings.extend(
                workflow.finding(line or job.line, f"{job.name}: {what}") for what, line in wrong
            )
            if never_runs(workflow, job):
                result.findings.append(
                    workflow.finding(job.line, f"{job.name} never runs: its `if` is false")
                )
    return count, result


def never_runs(workflow: Workflow, job: Job) -> bool:
    """Whether a job does not run although all before it succeeded, whatever a manual run asks for."""
    situations = [Situation(inputs=inputs, unread=OUTCOMES) for inputs in ({}, workflow.inputs, None)]
    return not any(job.condition.ways(each)[0] for each in situations)


def _refused(job: Job) -> Iterator[tuple[str, int]]:
    if not job.uses and not job.runs_on:
        yield "it has no runs-on", 0
    if not job.uses and not job.steps:
        yield "it has no steps", 0
    for step in job.steps:
        if not step.run and not step.uses:
            yield "a step has neither run nor uses", step.line


def _empty(workflow: Workflow, job: Job) -> Iterator[tuple[str, int]]:
    """What is empty since nothing sets it: the result of a job that is not needed, the output of no step."""
    for texts, line, ids in _written(job):
        for text in texts:
            for name, output in _NEEDS.findall(text):
                needed = workflow.jobs.get(name)
                if name not in job.needs:
                    yield f"needs.{name} is empty: it does not need that job", line
                elif output and needed is not None and not needed.uses and output not in needed.outputs:
                    yield f"needs.{name}.outputs.{output} is empty: {name} has no such output", line
            for name in _STEPS.findall(text):
                if name not in ids:
                    yield f"steps.{name} is empty: no step before it has that id", line


def _written(job: Job) -> Iterator[tuple[list[str], int, set[str]]]:
    """Yield the expressions of a job, of each step and of the outputs, with the ids of the steps before."""
    ids: set[str] = set()
    yield _expressions([*job.env.values(), *job.given.values()], job.condition), 0, ids
    for step in job.steps:
        texts = [step.run, *step.env.values(), *step.given.values()]
        yield _expressions(texts, step.condition), step.line, ids
        ids = ids | {step.id}
    yield _expressions(job.outputs.values(), None), 0, ids


def _expressions(texts: Iterable[str], condition: Condition | None) -> list[str]:
    found = [expression for text in texts for expression in _EXPRESSION.findall(text)]
    left = [condition] if condition is not None else []
    while left:
        each = left.pop()
        left += each.parts
        found.append(each.text)
    return found


def _without_checkout(repository: Repository, workflow: Workflow, job: Job) -> Iterator[tuple[str, int]]:
    """A step that runs a script of the checkout before anything can have put it there."""
    if "self-hosted" in job.runs_on:
        return
    for step in job.steps:
        local = step.uses if step.uses.startswith("./") else repository.first_script(step.run)
        if local:
            yield f"{local} is not there: no step before has checked the repository out", step.line
            return
        if (step.uses and not _OTHERS.match(step.uses)) or _FETCHES.search(step.run):
            return
