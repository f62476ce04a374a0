"""A GitHub workflow file or composite action: its jobs and steps with their lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from .checkout import Finding, Malformed
from .conditions import Condition


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a job. `run_line` is the line before the first one of its script; `env` and `given` are text.

    `given` is what the step says under `with`.
    """

    line: int
    run_line: int
    id: str
    label: str
    condition: Condition
    run: str
    uses: str
    shell: str
    continue_on_error: Any
    env: dict[str, str]
    given: dict[str, str]


@dataclass(frozen=True, slots=True)
class Job:
    """A job. `needs` are the jobs that it waits for, `matrix` its values, `shell` the default of its steps.

    `secrets` are those that it hands to the workflow that it calls, `{"*": "inherit"}` for all.
    """

    name: str
    line: int
    needs: tuple[str, ...]
    condition: Condition
    continue_on_error: Any
    uses: str
    steps: tuple[Step, ...]
    matrix: Any
    env: dict[str, str]
    given: dict[str, str]
    secrets: dict[str, str]
    shell: str
    runs_on: str
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class Workflow:
    """`inputs` maps each input of a manual run to its default, `triggers` are the events that start it."""

    path: str
    jobs: dict[str, Job]
    inputs: dict[str, Any]
    triggers: tuple[str, ...]
    env: dict[str, str]

    def finding(self, line: int, what: str) -> Finding:
        """Return a finding in this file."""
        return Finding(self.path, line, what)

    def ancestors(self, name: str) -> list[str]:
        """Return the jobs that a job needs, directly or through others, each after what it needs itself."""
        order: list[str] = []

        def visit(job: str) -> None:
            for needed in self.jobs[job].needs:
                if needed in self.jobs and needed not in order:
                    visit(needed)
                    order.append(needed)

        visit(name)
        return order


class Rejected(Malformed):
    """A workflow that GitHub does not take, whoever reads it."""


def read(text: str, path: str) -> Workflow:
    """Read a workflow. Malformed names `path` and the line."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise Malformed(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:  # a character that YAML has not
        raise Malformed(f"{path}: not valid YAML: {error}") from error
    top = _entries(root)
    shell = _shell(top)
    jobs = {
        name: _job(name, line, node, shell)
        for name, (line, node) in _entries(top.get("jobs", _NONE)[1]).items()
    }
    if not jobs:
        raise Rejected(f"{path}: there are no jobs")
    for job in jobs.values():
        for needed in job.needs:
            if needed not in jobs:
                raise Rejected(f"{path}:{job.line}: {job.name} needs {needed}, which is not a job")
    if any(job.name in _needed(jobs, job.name) for job in jobs.values()):
        raise Rejected(f"{path}: the jobs need each other in a circle")
    triggers = _plain(top.get("on", _NONE)[1])
    names = triggers if isinstance(triggers, (list, dict)) else [triggers]
    return Workflow(path, jobs, _inputs(top), tuple(map(str, names)), _texts(top, "env"))


def action_steps(text: str, path: str) -> tuple[Step, ...] | None:
    """Read the steps of a composite action; None for another kind of action. Malformed names `path`."""
    try:
        top = _entries(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise Malformed(f"{path}: not valid YAML: {error}") from error
    runs = _entries(top.get("runs", _NONE)[1])
    composite = _plain(runs.get("using", _NONE)[1]) == "composite"
    return tuple(_steps(runs.get("steps", _NONE)[1])) if composite else None


def _job(name: str, line: int, node: yaml.Node | None, shell: str) -> Job:
    entries = _entries(node)
    needs = _plain(entries.get("needs", _NONE)[1])
    return Job(
        name=name,
        line=line,
        needs=tuple(needs) if isinstance(needs, list) else (needs,) if needs else (),
        condition=_condition(entries),
        continue_on_error=_plain(entries.get("continue-on-error", _NONE)[1]),
        uses=str(_plain(entries.get("uses", _NONE)[1]) or ""),
        steps=tuple(_steps(entries.get("steps", _NONE)[1])),
        matrix=_plain(_entries(entries.get("strategy", _NONE)[1]).get("matrix", _NONE)[1]),
        env=_texts(entries, "env"),
        given=_texts(entries, "with"),
        secrets=_texts(entries, "secrets"),
        shell=_shell(entries) or shell,
        runs_on=str(_plain(entries.get("runs-on", _NONE)[1]) or ""),
        outputs=_texts(entries, "outputs"),
    )


def _steps(node: yaml.Node | None) -> Iterator[Step]:
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        entries = _entries(item)
        found = {key: str(_plain(value) or "") for key, (_, value) in entries.items()}
        script = entries.get("run", _NONE)[1]
        block = isinstance(script, yaml.ScalarNode) and script.style in ("|", ">")
        yield Step(
            line=item.start_mark.line + 1,
            run_line=script.start_mark.line + block if script else 0,
            id=found.get("id", ""),
            label=found.get("name")
            or found.get("id")
            or found.get("uses")
            or found.get("run", "").split("\n")[0],
            condition=_condition(entries),
            run=found.get("run", ""),
            uses=found.get("uses", ""),
            shell=found.get("shell", ""),
            continue_on_error=_plain(entries.get("continue-on-error", _NONE)[1]),
            env=_texts(entries, "env"),
            given=_texts(entries, "with"),
        )


def _texts(entries: dict[str, tuple[int, yaml.Node | None]], key: str) -> dict[str, str]:
    """A mapping of texts; {"*": text} for one text in its place, such as `secrets: inherit`."""
    found = _plain(entries.get(key, _NONE)[1])
    if isinstance(found, dict):
        return {name: "" if value is None else str(value) for name, value in found.items()}
    return {"*": str(found)} if found else {}


def _shell(entries: dict[str, tuple[int, yaml.Node | None]]) -> str:
    """What `defaults.run.shell` says."""
    run = _entries(_entries(entries.get("defaults", _NONE)[1]).get("run", _NONE)[1])
    return str(_plain(run.get("shell", _NONE)[1]) or "")


def _condition(entries: dict[str, tuple[int, yaml.Node | None]]) -> Condition:
    value = _plain(entries.get("if", _NONE)[1])
    written = "" if value is None else str(value)
    return Condition.of(written.lower() if isinstance(value, bool) else written)


def _inputs(top: dict[str, tuple[int, yaml.Node | None]]) -> dict[str, Any]:
    """Read `on.workflow_dispatch.inputs`. (`on` is a key like any other here: values are not yet typed.)"""
    dispatch = _entries(_entries(top.get("on", _NONE)[1]).get("workflow_dispatch", _NONE)[1])
    inputs = _entries(dispatch.get("inputs", _NONE)[1])
    return {name: _plain(_entries(node).get("default", _NONE)[1]) for name, (_, node) in inputs.items()}


_NONE: tuple[int, yaml.Node | None] = (0, None)


def _entries(node: yaml.Node | None) -> dict[str, tuple[int, yaml.Node | None]]:
    """The entries of a mapping by key as written, with the line of each; empty for anything else."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): (key.start_mark.line + 1, value) for key, value in node.value}


def _plain(node: yaml.Node | None) -> Any:
    if node is None:
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain(value) for key, value in node.value}
    if node.tag == "tag:yaml.org,2002:bool":
        return str(node.value).lower() in {"true", "yes", "on"}
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


def _needed(jobs: dict[str, Job], name: str) -> set[str]:
    found: set[str] = set()
    waiting = [*jobs[name].needs]
    while waiting:
        needed = waiting.pop()
        if needed not in found:
            found.add(needed)
            waiting += jobs[needed].needs
    return found
