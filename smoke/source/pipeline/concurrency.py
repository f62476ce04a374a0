"""Workflows that cancel another one in the middle of a deployment, as both are in one concurrency group."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import yaml

from smoke.source.checkout import Finding
from smoke.source.scripts.recipes import NONE, entries_of, plain

from .repository import Repository
from .workflows import Workflow


def cancelled(repository: Repository, deploying: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    """Yield the workflows that cancel one of those at `deploying`; these themselves are left alone.

    A newer deployment may take the place of an older one.
    """
    held = {
        group: path for path, jobs in deploying.items() for group, _, _ in _groups(repository, path, jobs)
    }
    for workflow in repository.workflows.values():
        for group, cancels, line in (
            _groups(repository, workflow.path) if workflow.path not in deploying else ()
        ):
            if cancels and group in held and not _is_called(repository, workflow):
                what = (
                    f"it cancels {held[group]} in the middle of a deployment: both are in the group {group}"
                )
                yield workflow.finding(line, what)


def _is_called(repository: Repository, workflow: Workflow) -> bool:
    jobs = [job for each in repository.workflows.values() for job in each.jobs.values()]
    return any(job.uses == f"./{workflow.path}" for job in jobs)


def _groups(
    repository: Repository, path: str, jobs: Collection[str] | None = None
) -> Iterator[tuple[str, bool, int]]:
    """The groups of a workflow and of its jobs by their names, and whether they cancel what runs in them."""
    top = entries_of(yaml.compose(repository.script(path) or "", Loader=yaml.SafeLoader))
    for entries in (
        top,
        *(
            entries_of(job)
            for name, (_, job) in entries_of(top.get("jobs", NONE)[1]).items()
            if jobs is None or name in jobs
        ),
    ):
        line, node = entries.get("concurrency", NONE)
        said = plain(node)
        group = said.get("group") if isinstance(said, dict) else said
        if isinstance(group, str) and "${{" not in group:
            cancels = isinstance(said, dict) and said.get("cancel-in-progress") in (True, "true")
            yield group.lower(), cancels, line
