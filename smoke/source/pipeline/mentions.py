"""What a job of a workflow names: services, migrations, clusters, wherever it may do so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from smoke.source.scripts import shell

from .repository import Repository
from .workflows import Job, Workflow


def names_any(values: set[str], names: Sequence[str]) -> bool:
    """Whether a value is a service's name or ends in it, such as `$PREFIX-api` and `prod/api`."""
    pattern = re.compile(rf"(?:.*[^A-Za-z0-9])?(?:{'|'.join(map(re.escape, names))})", re.DOTALL)
    return any(pattern.fullmatch(value) for value in values)


def values_of(repository: Repository, workflow: Workflow, job: Job) -> Iterator[str]:
    """Every value that may name a service: words of the commands, the matrix, environments, inputs."""
    jobs, texts = [job], list[str]()
    for each in jobs:
        texts += [*_flat(_of_matrix(each.matrix)), *each.env.values(), *each.given.values()]
        inner = repository.called(each) if len(jobs) <= _MOST else None
        jobs += inner.jobs.values() if inner else ()
    for placed in repository.everything(workflow, job):
        texts += [*placed.step.env.values(), *placed.step.given.values()]
        texts += [word for words in repository.recipes(placed.step) for word in words[1:]]
        script = shell.parse(placed.step.run)
        for command in shell.commands(script):
            texts += shell.words(command)[1:]
        for kind in ("for_statement", "array"):
            texts += [
                shell.unquoted(word) for node in shell.below(script, kind) for word in node.named_children
            ]
    for text in texts:
        yield from re.split(r"[\s,;\"'\[\]]+", text)


#: How many jobs, those of called workflows included, are looked through.
_MOST = 100


def spoken_of(repository: Repository, workflow: Workflow, job: Job, name: str) -> bool:
    """Whether a script in another language that a job runs, or the input of a command, has a name in it."""
    pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![\w-])")
    return any(
        pattern.search(text)
        for placed in repository.everything(workflow, job)
        for text in (*(text for _, text in repository.others(placed.step)), *_inputs(placed.step.run))
    )


def _inputs(script: str) -> Iterator[str]:
    """What a script hands to the input of its commands."""
    for kind in ("heredoc_body", "herestring_redirect") if "<<" in script else ():
        yield from (shell.text_of(node) for node in shell.below(shell.parse(script), kind))


def _of_matrix(matrix: Any) -> Any:
    """A matrix without the values that it leaves out; an entry of several names leaves out a combination."""
    if not isinstance(matrix, dict):
        return matrix
    alone = [each for each in matrix.get("exclude") or () if isinstance(each, dict) and len(each) == 1]
    left_out = [item for each in alone for item in each.items()]
    return {
        name: [each for each in values if (name, each) not in left_out]
        if isinstance(values, list)
        else values
        for name, values in matrix.items()
        if name != "exclude"
    }


def _flat(data: Any) -> Iterator[str]:
    if isinstance(data, (dict, list)):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _flat(value)
    elif data is not None:
        yield str(data)
