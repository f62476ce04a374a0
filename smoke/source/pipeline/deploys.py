"""Which jobs deploy, and whether they deploy this platform: by name, by what they run and what they name."""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smoke.source.checkout import Finding
from smoke.source.scripts import shell

from . import applied
from .handover import handed, pipelines
from .mentions import values_of
from .repository import Placed, Repository
from .workflows import Job, Workflow


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What the plan says: the workflow and its migration job, and how a deployment is recognised.

    `jobs` are patterns of the names of deploy jobs in that workflow, `commands` run a deployment in any,
    `actions` are patterns of actions and workflows that do, `clusters` is one of the clusters that are meant.
    The workflows `others` belong to other products, as long as they name none of these clusters. `services`
    are what is deployed, empty where anything may be.
    """

    workflow: str
    migration: str
    jobs: Sequence[str]
    commands: Sequence[str]
    actions: Sequence[str]
    clusters: str = "*"
    others: Sequence[str] = ()
    services: Sequence[str] = ()

    @classmethod
    def of(cls, facts: Mapping[str, Any], services: Iterable[str] = ()) -> "Pipeline":
        """Read the plan's facts."""
        return cls(
            facts["workflow"], facts["migration_job"], facts["deploy_jobs"], facts["deploy_commands"],
            facts["deploy_actions"], facts.get("clusters", "*"), facts.get("other_products", ()),
            tuple(services),
        )  # fmt: skip


def deploy_jobs(repository: Repository, plan: Pipeline) -> Iterator[tuple[Workflow, Job]]:
    """Yield the deploy jobs of all workflows: those that the plan names, and any other that deploys."""
    for workflow in repository.workflows.values():
        for job in workflow.jobs.values():
            of_another = workflow.path in plan.others and not _is_meant(repository, plan, workflow, job)
            if not of_another and deploys(repository, plan, workflow, job):
                yield workflow, job


def _is_meant(repository: Repository, plan: Pipeline, workflow: Workflow, job: Job) -> bool:
    """Whether a job names one of the clusters that are meant."""
    values = {*values_of(repository, workflow, job), *workflow.env.values()}
    return any(fnmatch.fnmatchcase(each.rpartition("/")[2], plan.clusters) for each in values if each)


#: What deploys to ECS, where this platform runs, or makes what is there.
_OF_ECS = re.compile(
    r"\baws (?:ecs|deploy)\b|ecspresso|copilot|\b(?:terraform|tofu|terragrunt)\b|\becs\b|boto3"
)


def of_whom(repository: Repository, plan: Pipeline, workflow: Workflow, job: Job) -> str:
    """Why it is open whether a job that deploys is of this platform: it names nothing of it, and no ECS.

    Empty where it does, and where the plan does not say what there is.
    """
    stem = plan.clusters.partition("*")[0].strip("-")
    if not plan.services or not stem or job.uses or any(_is_action(plan, each.uses) for each in job.steps):
        return ""
    texts = [job.name, workflow.name, *values_of(repository, workflow, job)]
    for placed in repository.everything(workflow, job):
        texts += [placed.step.run, placed.step.directory, placed.step.uses]
        texts += [" ".join(words) for words in repository.commands(placed.step)]
        texts += [text for _, text in repository.others(placed.step)]
    whole = "\n".join(texts)
    ours = [stem, *(name for name, value in workflow.env.items() if stem in value)]
    if _OF_ECS.search(whole) or any(re.search(rf"\b{re.escape(each)}\b", whole) for each in ours):
        return ""
    words = {word.lower() for word in re.split(r"[^A-Za-z0-9]+", whole)}
    if words & {*plan.services}:
        return ""
    return f"whether {job.name} deploys this platform: it names nothing of it (see other_products)"


#: What a revision of a task definition is given as, behind its family.
_REVISION = re.compile(r".+:(?:\d+|\$.*)")


_BACK = re.compile(r"roll[-_ ]?back|\bback\b", re.IGNORECASE)


def goes_back(repository: Repository, workflow: Workflow, job: Job) -> bool:
    """Whether a job that an operator starts, and calls so, runs a revision that was there before."""
    if {*workflow.triggers} != {"workflow_dispatch"} or not _BACK.search(f"{workflow.name} {job.name}"):
        return False
    words = [
        each for placed in repository.everything(workflow, job) for each in repository.commands(placed.step)
    ]
    updates = [each for each in words if shell.runs(each, "aws ecs update-service")]
    made = any(shell.runs(each, "aws ecs register-task-definition") for each in words)
    given = [shell.option(each, "--task-definition") for each in updates]
    return bool(given) and not made and all(map(_REVISION.fullmatch, given))


def unseen(repository: Repository, plan: Pipeline) -> list[Finding]:
    """Why no deployment is in the workflows that are read, where none is: another system makes them."""
    main = repository.workflows.get(plan.workflow)
    if main is None:
        others = "".join(f"; {path} is, which is not read" for path in pipelines(repository))
        what = f"the workflow that the plan names is not in the checkout{others}"
        return [Finding(plan.workflow, 0, what)] if plan.workflow not in repository.unread else []
    if any(workflow is main for workflow, _ in deploy_jobs(repository, plan)):
        return []
    return list(handed(repository, main))


def deploys(repository: Repository, plan: Pipeline, workflow: Workflow, job: Job) -> bool:
    """Whether a job deploys: by its name, by what it runs, or by a job of the workflow that it calls."""
    if workflow.path == plan.workflow and any(fnmatch.fnmatchcase(job.name, each) for each in plan.jobs):
        return True
    inner = repository.called(job)
    if inner is not None and inner.path == plan.workflow != workflow.path:
        return any(deploys(repository, plan, inner, each) for each in inner.jobs.values())
    return any(deploys_here(repository, plan, workflow, job))


def deploys_here(
    repository: Repository, plan: Pipeline, workflow: Workflow, job: Job
) -> Iterator[Placed | None]:
    """Yield what deploys in a job: the steps; None for a workflow elsewhere that the job calls."""
    if _is_action(plan, job.uses):
        yield None
    for placed in repository.everything(workflow, job):
        if (
            (_is_action(plan, placed.step.uses) and not _runs_a_task(placed.step.given))
            or runs_any(repository, placed, plan.commands, plan.clusters)
            or any(_speaks(text, plan.commands) for _, text in repository.others(placed.step))
        ):
            yield placed


def _speaks(text: str, commands: Sequence[str]) -> bool:
    """Whether a script in another language runs one of the commands: as words, or by boto3's method."""
    for command in commands:
        *_, last = command.split()
        method = rf"|\.{last.replace('-', '_')}\(" if command.startswith("aws ") and "-" in last else ""
        words = r"\W+".join(map(re.escape, command.split()))
        if re.search(rf"\b{words}\b{method}", text):
            return True
    return False


def _is_action(plan: Pipeline, uses: str) -> bool:
    return not uses.startswith("./") and any(fnmatch.fnmatchcase(uses, each) for each in plan.actions)


def _runs_a_task(given: Mapping[str, str]) -> bool:
    """Whether an action that may deploy is told to run a task to its end, and of no service."""
    return given.get("run-task") == "true" and not given.get("service")


def runs_any(repository: Repository, placed: Placed, commands: Sequence[str], clusters: str = "*") -> bool:
    """Whether a step runs one of some commands, in one of the clusters."""
    found = (each for each in applied.commands(repository, placed) if runs_one(each, commands))
    return any(not _is_foreign(shell.option(each, "--cluster"), clusters) for each in found)


def _is_foreign(cluster: str, clusters: str) -> bool:
    """Whether a cluster that a command names, as a name or an ARN, is none of those meant."""
    name = cluster.rpartition("/")[2]
    return bool(name) and re.search(r"[$`{]", name) is None and not fnmatch.fnmatchcase(name, clusters)


def runs_one(words: Sequence[str], commands: Sequence[str]) -> bool:
    """Whether a command, given as its words, is one of some."""
    said = [word.rstrip("/") or word for word in words]  # `pytest smoke/` is `pytest smoke`
    return any(shell.runs(said, command) for command in commands)
