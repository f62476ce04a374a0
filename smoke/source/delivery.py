"""What a deploy job delivers: an image and an environment that are another service's, or another one's."""

import re
from collections.abc import Iterator, Mapping, Sequence

from .checkout import Examined
from .ownership import ENVIRONMENTS
from .pipeline import Pipeline, deploy_jobs, names_any, values_of
from .workflows import Job, Repository, Workflow

#: A name that GitHub or a step keeps for the image of one service, such as `vars.FINN_TAG`.
_KEPT = re.compile(
    r"(?:vars|inputs|env|secrets)\.(?P<name>\w+?)_(?:IMAGE_)?(?:TAG|SHA|IMAGE|VERSION)", re.IGNORECASE
)
_WORDS = re.compile(rf"\b({ENVIRONMENTS})\b", re.IGNORECASE)


def misdelivered(
    repository: Repository, plan: Pipeline, groups: Mapping[str, Sequence[str]], prefix: str
) -> tuple[int, Examined]:
    """Return how many deploy jobs were read, and what they carry that is not of what they deploy.

    `groups` are the names of services by what they share an image of. A job that names the services of
    several groups, or none, may carry anything of theirs; a value that says nothing of these says nothing.
    """
    result, count = Examined(), 0
    for workflow, job in deploy_jobs(repository, plan):
        values = set(values_of(repository, workflow, job))
        own = [group for group, names in groups.items() if names_any(values, names)]
        count += 1
        wrong = list(_elsewhere(values, prefix)) if workflow.path == plan.workflow else []
        wrong = [] if _WORDS.search(job.name) else wrong  # one that says for which environment it is
        if len(own) == 1:
            wrong += list(_foreign(_texts(repository, workflow, job), own[0], groups))
        for what in wrong:
            result.findings.append(workflow.finding(job.line, f"{job.name} carries {what}"))
    return count, result


def _texts(repository: Repository, workflow: Workflow, job: Job) -> set[str]:
    """What the job says as it is written: the words of its commands no longer show GitHub's expressions."""
    texts = [*job.env.values(), *job.given.values()]
    for placed in repository.everything(workflow, job):
        texts += [placed.step.run, *placed.step.env.values(), *placed.step.given.values()]
    return {*texts}


def _foreign(values: set[str], own: str, groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for value in sorted(values):
        for kept in _KEPT.finditer(value):
            words = {*kept["name"].lower().split("_")}
            named = {group for group, names in groups.items() if words & {*names}}
            if named and own not in named:
                yield f"{kept[0]}, the image of another service than it deploys"


def _elsewhere(values: set[str], prefix: str) -> Iterator[str]:
    """The values that begin with another environment's prefix, where none has this one's."""
    stem, _, own = prefix.rpartition("-")
    if not stem or not re.fullmatch(ENVIRONMENTS, own) or any(each.startswith(prefix) for each in values):
        return
    other = re.compile(rf"(?:.*[/:])?{re.escape(stem)}-(?!{re.escape(own)}\b)({ENVIRONMENTS})\b.*")
    yield from (f"{each}, which is another environment's" for each in sorted(values) if other.fullmatch(each))
