"""Concurrency groups, by which GitHub cancels runs and jobs: in the middle of a deployment, or for ever."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from smoke.source.checkout import Finding
from smoke.source.scripts.recipes import NONE, entries_of, plain, top_of

from .repository import Repository
from .workflows import EXPRESSION, Condition, Job, Workflow


@dataclass(frozen=True, slots=True)
class _Group:
    """A concurrency group as written, in lower case; `job` is empty for the whole workflow's.

    `queues` is whether the group has other settings than these, which may let several wait.
    """

    job: str
    name: str
    cancels: bool
    queues: bool
    line: int

    @property
    def is_plain(self) -> bool:
        """Whether the name is the same in every run."""
        return "${{" not in self.name


def cancelled(repository: Repository, deploying: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    """Yield what cancels a deployment of the workflows and jobs in `deploying`.

    That is another workflow, or a job beside it. A newer deployment may take the place of an older one.
    """
    held = {
        group.name: path
        for path, jobs in deploying.items()
        for group in _groups(repository, path)
        if group.is_plain and (not group.job or group.job in jobs)
    }
    for workflow in repository.workflows.values():
        for group in _groups(repository, workflow.path) if workflow.path not in deploying else ():
            if group.cancels and group.name in held and not _is_called(repository, workflow):
                what = f"it cancels {held[group.name]} in the middle of a deployment"
                yield workflow.finding(group.line, f"{what}: both are in the group {group.name}")
    for path, jobs in deploying.items():
        yield from _crowded(repository, repository.workflows[path], jobs)


def _crowded(repository: Repository, workflow: Workflow, jobs: Collection[str]) -> Iterator[Finding]:
    """Deploy jobs that start together in one group: GitHub cancels them, except for one that may wait."""
    together: dict[tuple[_Group, tuple[str, ...], Condition], list[Job]] = {}
    for each in _groups(repository, workflow.path):
        if each.job in jobs and each.is_plain and not each.queues:
            job = workflow.jobs[each.job]
            key = (replace(each, job="", line=0), tuple(sorted(job.needs)), job.condition)
            together.setdefault(key, []).append(job)
    for (group, _, _), found in together.items():
        if (count := sum(map(_legs, found))) > (1 if group.cancels else 2):
            what = (
                f"{count} deployments start together in the group {group.name}: GitHub cancels some of them"
            )
            yield workflow.finding(found[0].line, what)


def _legs(job: Job) -> int:
    """The number of jobs that a matrix makes at once, 1 if the file does not say."""
    values = job.matrix if isinstance(job.matrix, dict) else {}
    (only,) = values.values() if len(values) == 1 else (None,)
    return len(only) if isinstance(only, list) and not job.in_turn else 1


def deadlocked(repository: Repository, workflow: Workflow) -> Iterator[Finding]:
    """Yield the jobs that GitHub cancels because they wait for a group that their own run holds."""
    own = _groups(repository, workflow.path)
    held = {
        each.name
        for each in own
        if not each.job and all(map(_OF_RUN.fullmatch, EXPRESSION.findall(each.name)))
    }
    for job in workflow.jobs.values():
        called = posixpath.normpath(job.uses) if job.uses.startswith("./") else ""
        inner = [each for each in _groups(repository, called) if not each.job] if called else []
        wanted = [each for each in own if each.job == job.name]
        for name in dict.fromkeys(each.name for each in (*wanted, *inner) if each.name in held):
            what = f"GitHub cancels {job.name}: it waits for the group {name}, which its own workflow holds"
            yield workflow.finding(job.line, what)


#: An expression with the same value in all workflows of a run.
_OF_RUN = re.compile(r"(?:github\.[\w.-]+|\|\||'[^']*'|\s)+")


def _is_called(repository: Repository, workflow: Workflow) -> bool:
    return any(job.uses == f"./{workflow.path}" for _, job in repository.jobs())


def _groups(repository: Repository, path: str) -> list[_Group]:
    """The concurrency groups of a workflow and of its jobs; none of one that could not be read."""
    top = top_of(repository.script(path) or "" if path in repository.workflows else "")
    found = []
    for job, entries in (
        ("", top), *((name, entries_of(node)) for name, (_, node) in top.below("jobs").items())
    ):  # fmt: skip
        line, node = entries.get("concurrency", NONE)
        said = plain(node)
        held = said if isinstance(said, dict) else {"group": said}
        if isinstance(group := held.get("group"), str):
            cancels = held.get("cancel-in-progress") in (True, "true")  # an expression may be false
            more = bool(held.keys() - {"group", "cancel-in-progress"})
            found.append(_Group(job, group.lower(), cancels, more, line))
    return found
