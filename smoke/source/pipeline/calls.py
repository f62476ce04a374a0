"""What a job gives to the workflow of the checkout that it calls, and what actions of the checkout read."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

import yaml

from smoke.source.scripts.recipes import NONE, Entries, entries_of, plain

from .repository import Repository
from .workflows import Job

Wrong = tuple[str, int]
_INPUTS = re.compile(r"(?<![\w.])inputs\.([\w-]+)")
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


def misgiven(repository: Repository, job: Job) -> Iterator[Wrong]:
    """What GitHub refuses of a call: something that is missing, or that the called workflow does not know."""
    path = posixpath.normpath(job.uses) if job.uses.startswith("./") else ""
    if job.uses and (job.steps or job.runs_on):
        yield "it calls a workflow and has steps or a machine of its own", 0
    if path not in repository.workflows:
        return
    if "workflow_call" not in repository.workflows[path].triggers:
        yield f"{path} cannot be called: it has no workflow_call under `on`", 0
        return
    top = entries_of(yaml.compose(repository.script(path) or "", Loader=yaml.SafeLoader))
    call = entries_of(entries_of(top.get("on", NONE)[1]).get("workflow_call", NONE)[1])
    parts = [("input", _declared(call, "inputs"), job.given)]
    if job.secrets.get("*") != "inherit":
        parts.append(("secret", _declared(call, "secrets"), job.secrets))
    for kind, declared, given in parts:
        for name, required in declared.items():
            if required and name not in given:
                yield f"{path} is not given its {kind} {name}, which it requires", 0
        for name in given.keys() - declared.keys() - {"*"}:
            yield f"{path} has no {kind} {name}", 0


def _declared(call: Entries, kind: str) -> dict[str, bool]:
    """The inputs or secrets of a workflow by name, and whether it requires them."""
    found = entries_of(call.get(kind, NONE)[1])
    return {
        name: plain(entries_of(node).get("required", NONE)[1]) in (True, "true")
        for name, (_, node) in found.items()
    }


def of_actions(repository: Repository, job: Job) -> Iterator[Wrong]:
    """What a composite action of the checkout lacks: the shell of a step, an input that it reads."""
    for step in job.steps:
        action = repository.action(step.uses) if step.uses.startswith("./") else None
        if action is None:
            continue
        path, steps = action
        top = entries_of(yaml.compose(repository.script(path) or "", Loader=yaml.SafeLoader))
        declared = {*entries_of(top.get("inputs", NONE)[1])}
        for each in steps:
            if each.run and not each.shell:
                yield f"a step of {path} runs a script and names no shell", step.line
            for text in (each.run, *each.env.values(), *each.given.values()):
                for written in _EXPRESSION.findall(text):
                    for name in _INPUTS.findall(written):
                        if name not in declared:
                            yield f"inputs.{name} is empty: {path} has no such input", step.line
