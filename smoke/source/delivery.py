"""What the pipeline delivers: each service of the plan has a deploy job, and the smoke job has its keys."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import shell
from .checkout import Examined, Finding
from .pipeline import Pipeline, deploy_jobs
from .repository import WORKFLOWS, Placed, Repository
from .workflow import Job, Workflow


def undeployed(
    repository: Repository, plan: Pipeline, services: Mapping[str, Sequence[str]]
) -> tuple[Examined, dict[str, list[str]]]:
    """Examine that a job deploys each service (name -> other names of it); return the jobs by service, too.

    A job deploys the services that its commands, its matrix, its environment or its inputs name. A deploy job
    that names none of them may deploy any: then a service without a job of its own is not examined.
    """
    found, jobs, others = Examined(), dict[str, list[str]]((name, []) for name in services), list[str]()
    for workflow, job in deploy_jobs(repository, plan):
        named = set(_values(repository, workflow, job))
        own = [name for name, aliases in services.items() if _names(named, [name, *aliases])]
        for name in own:
            jobs[name].append(job.name)
        if not own:
            others.append(f"{job.name} ({workflow.path}:{job.line})")
    for name in (each for each in services if not jobs[each]):
        if plan.workflow not in repository.workflows:
            what = f"whether a job deploys {name}: the workflow that the plan names is not in the checkout"
            found.not_examined.append(Finding(plan.workflow, 0, what))
        elif others:
            what = f"whether {', '.join(others)} deploys {name}: no service is named there"
            found.not_examined.append(Finding(plan.workflow, 0, what))
        else:
            found.findings.append(Finding(plan.workflow, 0, f"no job deploys {name}"))
    return found, jobs


def _names(values: set[str], names: Sequence[str]) -> bool:
    """Whether a value is a service's name or ends in it, such as `$PREFIX-api` and `prod/api`."""
    pattern = re.compile(rf"(?:.*[^A-Za-z0-9])?(?:{'|'.join(map(re.escape, names))})", re.DOTALL)
    return any(pattern.fullmatch(value) for value in values)


def _values(repository: Repository, workflow: Workflow, job: Job) -> Iterator[str]:
    """Every value that may name a service: words of the commands, the matrix, environments, inputs."""
    texts = [*_flat(job.matrix), *job.env.values(), *job.given.values()]
    for placed in repository.everything(workflow, job):
        texts += [*placed.step.env.values(), *placed.step.given.values()]
        script = shell.parse(placed.step.run)
        for command in shell.commands(script):
            texts += shell.words(command)[1:]
        for kind in ("for_statement", "array"):
            texts += [
                shell.unquoted(word) for node in shell.below(script, kind) for word in node.named_children
            ]
    for text in texts:
        yield from re.split(r"[\s,;\"'\[\]]+", text)


def _flat(data: Any) -> Iterator[str]:
    if isinstance(data, (dict, list)):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _flat(value)
    elif data is not None:
        yield str(data)


def smoke_keys(
    repository: Repository, commands: Sequence[str], keys: Sequence[str]
) -> tuple[Examined, list[str]]:
    """Examine that each job that runs one of `commands` has the variables `keys`; return those jobs, too."""
    found, jobs = Examined(), list[str]()
    for workflow in repository.workflows.values():
        for job in workflow.jobs.values():
            steps = list(repository.everything(workflow, job))
            for at, placed in enumerate(steps):
                if not _runs_any(repository, placed, commands):
                    continue
                jobs.append(f"{job.name} ({workflow.path})")
                for key in keys:
                    _examine_key(key, workflow, job, steps[: at + 1], found)
    if not jobs:
        what = f"no job of any workflow runs {' or '.join(commands)}"
        found.not_examined.append(Finding(WORKFLOWS, 0, what))
    return found, jobs


def _runs_any(repository: Repository, placed: Placed, commands: Sequence[str]) -> bool:
    words = repository.commands(placed.step.run) if placed.step.run else []
    return any(shell.runs(each, command) for each in words for command in commands)


def _examine_key(key: str, workflow: Workflow, job: Job, steps: Sequence[Placed], found: Examined) -> None:
    last = steps[-1]
    line = last.step.line if last.path == workflow.path else job.line
    value = next((env[key] for env in (last.step.env, job.env, workflow.env) if key in env), None)
    if value is None:
        given = re.search(rf"\b{re.escape(key)}=(?![\"']{{2}}|\s|$)", last.step.run)
        earlier = any(key in each.step.run and "GITHUB_ENV" in each.step.run for each in steps[:-1])
        if not given and not earlier:
            what = f"{job.name} runs the smoke suite without {key}: what needs it does not run"
            found.findings.append(workflow.finding(line, what))
    elif not value.strip():
        found.findings.append(workflow.finding(line, f"{job.name} gives the smoke suite an empty {key}"))
