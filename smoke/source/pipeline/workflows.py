"""GitHub workflows: their jobs and steps with their lines."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from smoke.source.checkout import Finding, Malformed
from smoke.source.scripts.recipes import NONE, Entries, entries_of, plain, top_of

from .conditions import Condition

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
#: Actions that put nothing into the directory in which steps run, unless their names say so.
OTHERS = re.compile(r"(?:actions|aws-actions|docker|hashicorp)/(?!.*(?:checkout|artifact|cache))")
CHECKOUT = re.compile(r"actions/checkout@")
_INPUT = re.compile(r"\$\{\{\s*inputs\.([\w-]+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a job. `run_line` is the line before the first one of its script; `env` and `given` are text.

    `given` are the step's values under `with`, `directory` its working directory, "." for the checkout's top.
    """

    line: int
    run_line: int
    id: str
    label: str
    condition: Condition
    run: str
    uses: str
    shell: str
    directory: str
    continue_on_error: Any
    env: dict[str, str]
    given: dict[str, str]

    def with_inputs(self, given: Mapping[str, str]) -> Step:
        """The step with the values of its action's or workflow's inputs."""

        def value(found: re.Match[str]) -> str:
            return given.get(found[1], found[0])

        def filled(texts: dict[str, str]) -> dict[str, str]:
            return {name: _INPUT.sub(value, text) for name, text in texts.items()}

        return replace(self, run=_INPUT.sub(value, self.run), env=filled(self.env), given=filled(self.given))


@dataclass(frozen=True, slots=True)
class Job:
    """A job. `needs` are the jobs that it waits for, `matrix` its values, `shell` the default of its steps.

    `secrets` are those that it passes to the workflow that it calls, `{"*": "inherit"}` for all;
    `environment` is the GitHub environment with its secrets and variables. A `contained` job runs its steps
    in a container; those of a matrix may run one after the other, `in_turn`.
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
    permissions: dict[str, str] | None = None
    environment: str = ""
    contained: bool = False
    in_turn: bool = False


@dataclass(frozen=True, slots=True)
class Workflow:
    """`inputs` maps each input of a manual run to its default, `triggers` are the events that start it.

    `follows` are the names of the workflows that it waits for (`workflow_run`). `defaults` are those of a
    call's inputs, `asked` the inputs with which a job calls it, None if none does. An input that only a run
    knows is `...`. `branches` are those on which a push starts it, empty if there is a pattern; `permissions`
    are its token's, None for GitHub's default.
    """

    path: str
    name: str
    jobs: dict[str, Job]
    inputs: dict[str, Any]
    triggers: tuple[str, ...]
    follows: tuple[str, ...]
    env: dict[str, str]
    defaults: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] | None = None
    branches: tuple[str, ...] = ()
    permissions: dict[str, str] | None = None

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The inputs of the runs to judge: a push and a manual run, or the call."""
        return [{}, self.inputs] if self.asked is None else [self.asked]

    def called_by(self, job: Job) -> Workflow:
        """The workflow as a job calls it, with the values of its inputs."""
        asked = self.defaults | {name: _typed(text) for name, text in job.given.items()}
        texts = {name: _text(value) for name, value in asked.items() if value is not ...}
        jobs = {
            name: replace(each, steps=tuple(step.with_inputs(texts) for step in each.steps))
            for name, each in self.jobs.items()
        }
        return replace(self, jobs=jobs, asked=asked)

    def finding(self, line: int, what: str) -> Finding:
        """Return a finding in this file."""
        return Finding(self.path, line, what)

    def ancestors(self, name: str) -> list[str]:
        """Return the jobs that a job needs, directly or indirectly, each after the jobs that it needs."""
        order: list[str] = []

        def visit(job: str) -> None:
            for needed in self.jobs[job].needs:
                if needed in self.jobs and needed not in order:
                    visit(needed)
                    order.append(needed)

        visit(name)
        return order


class Rejected(Malformed):
    """A workflow that GitHub does not accept."""


def read(text: str, path: str) -> Workflow:
    """Read a workflow. Malformed names `path` and the line."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise Malformed(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise Malformed(f"{path}: not valid YAML: {error}") from error
    top = entries_of(root)
    jobs = {
        name: _job(path, name, line, node, _defaults(top)) for name, (line, node) in top.below("jobs").items()
    }
    if not jobs:
        raise Rejected(f"{path}: there are no jobs")
    named = {name.lower(): name for name in jobs}  # GitHub compares names of jobs case-insensitively
    jobs = {
        name: replace(job, needs=tuple(named.get(each.lower(), each) for each in job.needs))
        for name, job in jobs.items()
    }
    for job in jobs.values():
        for needed in job.needs:
            if needed not in jobs:
                raise Rejected(f"{path}:{job.line}: {job.name} needs {needed}, which is not a job")
    if any(job.name in _needed(jobs, job.name) for job in jobs.values()):
        raise Rejected(f"{path}: the jobs need each other in a circle")
    if refused := _unfit(top):
        raise Rejected(f"{path}: {refused}")
    triggers = top.plain("on")
    names = triggers if isinstance(triggers, (list, dict)) else [triggers]
    name = str(top.plain("name") or path)
    awaited = top.plain("on", "workflow_run", "workflows")
    follows = tuple(awaited) if isinstance(awaited, list) else (awaited,) if awaited else ()
    inputs, defaults = _inputs(top, "workflow_dispatch"), _inputs(top, "workflow_call")
    return Workflow(
        path,
        name,
        jobs,
        inputs,
        tuple(map(str, names)),
        tuple(map(str, follows)),
        _texts(top, "env"),
        defaults,
        branches=_branches(top),
        permissions=_permissions(top),
    )


def _unfit(top: Entries) -> str:
    """What GitHub does not accept: a filter beside its opposite, an unquoted `if` that begins with `!`."""
    for event, (_, node) in top.below("on").items():
        for name in ("branches", "paths", "tags"):
            if {name, f"{name}-ignore"} <= entries_of(node).keys():
                return f"{event} has both {name} and {name}-ignore"
    for name, (_, node) in top.below("jobs").items():
        steps = entries_of(node).node("steps")
        for each in (node, *(steps.value if isinstance(steps, yaml.SequenceNode) else ())):
            line, condition = entries_of(each).get("if", NONE)
            if isinstance(condition, yaml.ScalarNode) and re.match(r"!(?!!)\S", str(condition.tag)):
                return f"line {line}: the `if` of {name} begins with `!`: YAML takes that for a tag"
    return ""


def action_steps(text: str, path: str) -> tuple[Step, ...] | None:
    """Read the steps of a composite action; None for another kind of action. Malformed names `path`."""
    try:
        top = top_of(text)
    except yaml.YAMLError as error:
        raise Malformed(f"{path}: not valid YAML: {error}") from error
    runs = top.below("runs")
    composite = runs.plain("using") == "composite"
    return tuple(_steps(runs.node("steps"))) if composite else None


def _job(path: str, name: str, line: int, node: yaml.Node | None, defaults: dict[str, str]) -> Job:
    entries = entries_of(node)
    defaults = defaults | _defaults(entries)
    needs = entries.plain("needs")
    needed = needs if isinstance(needs, list) else [needs] if needs else []
    if not all(isinstance(each, str) for each in needed):
        raise Rejected(f"{path}:{line}: what {name} needs is neither a job's name nor a list of names")
    return Job(
        name=name,
        line=line,
        needs=tuple(needed),
        condition=_condition(entries),
        continue_on_error=entries.plain("continue-on-error"),
        uses=str(entries.plain("uses") or ""),
        steps=tuple(_steps(entries.node("steps"), defaults.get("working-directory", ""))),
        matrix=entries.plain("strategy", "matrix"),
        env=_texts(entries, "env"),
        given=_texts(entries, "with"),
        secrets=_texts(entries, "secrets"),
        shell=defaults.get("shell", ""),
        runs_on=str(entries.plain("runs-on") or ""),
        outputs=_texts(entries, "outputs"),
        permissions=_permissions(entries),
        environment=_environment(entries),
        contained="container" in entries,
        in_turn=entries.plain("strategy", "max-parallel") is not None,
    )


def _environment(entries: Entries) -> str:
    """The name of the GitHub environment that gives a job secrets and variables."""
    named = entries.plain("environment")
    return str((named.get("name") if isinstance(named, dict) else named) or "")


def _steps(node: yaml.Node | None, directory: str = "") -> Iterator[Step]:
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        entries = entries_of(item)
        found = {key: str(plain(value) or "") for key, (_, value) in entries.items()}
        script = entries.node("run")
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
            directory=posixpath.normpath(found.get("working-directory") or directory or "."),
            continue_on_error=entries.plain("continue-on-error"),
            env=_texts(entries, "env"),
            given=_texts(entries, "with"),
        )


def _texts(entries: Entries, key: str) -> dict[str, str]:
    """A mapping of texts; {"*": text} for one text in its place, such as `secrets: inherit`."""
    found = entries.plain(key)
    if isinstance(found, dict):
        return {name: _text(value) for name, value in found.items()}
    return {"*": str(found)} if found else {}


def _permissions(entries: Entries) -> dict[str, str] | None:
    """The permissions of the token; None if the workflow does not set them."""
    return _texts(entries, "permissions") if "permissions" in entries else None


def _branches(top: Entries) -> tuple[str, ...]:
    """The branches that a push starts the workflow on; none where a pattern or a tag may name others."""
    push = top.below("on", "push")
    named = push.plain("branches")
    names = tuple(map(str, named)) if isinstance(named, list) else (str(named),) if named else ()
    return () if "tags" in push or any(set(each) & set("*?[!+") for each in names) else names


def _defaults(entries: Entries) -> dict[str, str]:
    """What `defaults.run` says: the shell, the directory."""
    return _texts(entries.below("defaults"), "run")


def _condition(entries: Entries) -> Condition:
    value = entries.plain("if")
    written = "" if value is None else str(value)
    return Condition.of(written.lower() if isinstance(value, bool) else written)


def _text(value: Any) -> str:
    """A value as GitHub writes it into a text."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _typed(text: str) -> Any:
    """The values that a job passes to a workflow that it calls; `...` for computed ones."""
    return ... if "${{" in text else text == "true" if text in ("true", "false") else text


def _inputs(top: Entries, event: str) -> dict[str, Any]:
    """Read `on.EVENT.inputs`. (`on` is a key like any other here: values are not yet typed.)"""
    inputs = top.below("on", event, "inputs")
    return {name: entries_of(node).plain("default") for name, (_, node) in inputs.items()}


def _needed(jobs: dict[str, Job], name: str) -> set[str]:
    found: set[str] = set()
    waiting = [*jobs[name].needs]
    while waiting:
        needed = waiting.pop()
        if needed not in found:
            found.add(needed)
            waiting += jobs[needed].needs
    return found
