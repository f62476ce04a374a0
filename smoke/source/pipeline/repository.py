"""A repository's workflows as its files say them, and the commands that their steps run: of scripts, too."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import yaml

from smoke.source.checkout import PLAIN, Checkout, Malformed
from smoke.source.scripts import recipes, shell
from smoke.source.scripts.commands import OTHER_LANGUAGES, Script, found_in
from smoke.source.scripts.recipes import NONE, Entries, entries_of, plain, top_of

from .workflows import CHECKOUT, OTHERS, Condition, Job, Step, Workflow, text_of

WORKFLOWS = ".github/workflows/"
_PROGRAM = re.compile(
    r"\.(?:[bz]?sh|py|[cm]?[jt]s|rb|mk)\Z|\.env|(?:\A|/)(?:Make|just|Task|Docker)file|(?:\A|/)[\w-]+\Z"
    r"|action\.ya?ml\Z",
    re.IGNORECASE,
)
DEEPEST = 6


@dataclass(frozen=True, slots=True)
class Placed:
    """A step, its file, and the environment of its job there."""

    path: str
    step: Step
    env: Mapping[str, str] = field(default_factory=dict, compare=False)


@lru_cache(maxsize=512)
def matches(pattern: re.Pattern[str], texts: tuple[str, ...]) -> tuple[Any, ...]:
    """What a pattern finds in texts; the many programs of a checkout are searched once, not for each job."""
    return tuple(found for text in texts for found in pattern.findall(text))


@dataclass(frozen=True, slots=True)
class Repository:
    """The workflows of a checkout by path.

    `unread` are files that could not be read, with the reason; GitHub itself refuses those in `refused`.
    `paths` are all files of the checkout, `inert` those that are not executable in git.
    """

    workflows: Mapping[str, Workflow]
    unread: dict[str, str]
    script: Script
    refused: dict[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    inert: frozenset[str] = frozenset()
    _commands: dict[str, list[list[str]]] = field(default_factory=dict)
    _programs: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, checkout: Checkout) -> Repository:
        """Read the workflows of a checkout; other files are read when something calls them."""
        files = checkout.tracked()
        found = cls.read([file.path for file in files], checkout.script)
        return replace(found, inert=frozenset(file.path for file in files if file.mode == PLAIN))

    @classmethod
    def read(cls, paths: Iterable[str], script: Script) -> Repository:
        """Read the workflows among `paths`; `script` gives the text of a file."""
        workflows, unread, refused = {}, dict[str, str](), dict[str, str]()
        listed = tuple(paths)
        for path in filter(_is_workflow, listed):
            try:
                workflows[path] = read(script(path) or "", path)
            except Malformed as problem:
                unread[path] = str(problem)
                if isinstance(problem, Rejected):
                    refused[path] = str(problem)
        return cls(workflows, unread, script, refused, listed)

    def jobs(self) -> Iterator[tuple[Workflow, Job]]:
        """Yield every job with its workflow."""
        for workflow in self.workflows.values():
            yield from ((workflow, job) for job in workflow.jobs.values())

    def called(self, job: Job) -> Workflow | None:
        """The local workflow that a job calls, with its inputs; None if it is external or missing."""
        path = job.uses.removeprefix("./") if job.uses.startswith("./") else ""
        return self.workflows[path].called_by(job) if path in self.workflows else None

    def steps(self, path: str, steps: tuple[Step, ...], depth: int = 0) -> Iterator[Placed]:
        """Yield steps, with local composite actions expanded."""
        for step in steps:
            inner = self.action(step.uses) if step.uses.startswith("./") and depth < DEEPEST else None
            if inner is None:
                yield Placed(path, step)
            else:
                yield from self.steps(
                    inner[0], tuple(each.with_inputs(step.given) for each in inner[1]), depth + 1
                )

    def action(self, uses: str) -> tuple[str, tuple[Step, ...]] | None:
        """The path of a local composite action, and its steps, or None."""
        for name in ("action.yml", "action.yaml"):
            path = posixpath.normpath(f"{uses}/{name}")
            text = self.script(path)
            if text is not None:
                try:
                    steps = action_steps(text, path)
                except Malformed as problem:
                    self.unread[path] = str(problem)
                    return None
                return None if steps is None else (path, steps)
        return None

    def everything(self, workflow: Workflow, job: Job, depth: int = 0) -> Iterator[Placed]:
        """Yield the steps of a job, and of the jobs of the local workflow that it calls."""
        for placed in self.steps(workflow.path, job.steps):
            yield replace(placed, env=workflow.env | job.env)
        inner = self.called(job) if depth < DEEPEST else None
        for each in inner.jobs.values() if inner else ():
            yield from self.everything(inner, each, depth + 1)  # type: ignore[arg-type]

    def commands(self, step: Step) -> list[list[str]]:
        """The commands of a step and of everything it calls in the checkout, each as words."""
        return self._commands_of(step.run, step.directory, frozenset())

    def _commands_of(self, text: str, directory: str, seen: frozenset[str]) -> list[list[str]]:
        key = f"{directory}\n{text}"
        if key not in self._commands:
            found, visited = list[list[str]](), [directory]
            for words in shell.run_by(text):
                found.append(words)
                if words[:1] == ["cd"] and len(words) == 2:
                    visited.append(posixpath.join(visited[-1], words[1]))
                for called, place in self._called_by(words, visited):
                    if called not in seen:
                        found += self._commands_of(called, place or directory, seen | {called})
            self._commands[key] = found
        return self._commands[key]

    def _called_by(self, words: list[str], directories: list[str]) -> Iterator[tuple[str, str]]:
        """The shell scripts and the lines of recipes that a command runs, each with its directory."""

        def find(path: str) -> tuple[str, str] | None:
            return found_in(directories, path, self.script)

        for path, _ in shell.scripts_called(words):
            if not path.endswith(OTHER_LANGUAGES) and (file := find(path)) is not None:
                yield file[1], ""
        for line in recipes.lines(words, find):
            yield line.text, line.directory

    def recipes(self, step: Step) -> Iterator[str]:
        """The lines of the rules and tasks that a step runs with `make` and the like, each once."""
        texts, seen = [step.run], set[str]()
        for _ in range(DEEPEST):
            found = [
                line.text
                for text in texts
                for words in shell.run_by(text)
                for line in recipes.lines(words, lambda path: found_in([step.directory], path, self.script))
            ]
            texts = [each for each in dict.fromkeys(found) if each not in seen]
            seen |= {*texts}
            yield from texts

    def others(self, step: Step) -> Iterator[tuple[str, str]]:
        """The scripts of the checkout in another language that a step runs: path and text."""
        for words in self.commands(step):
            for path, _ in shell.scripts_called(words):
                if path.endswith(OTHER_LANGUAGES) and (file := found_in([step.directory], path, self.script)):
                    yield file

    def programs(self) -> list[str]:
        """The texts of what may set a variable of a script: other scripts, recipes, lists of variables."""
        if not self._programs:
            self._programs.extend(self.script(path) or "" for path in self.paths if _PROGRAM.search(path))
        return self._programs

    def first_script(self, text: str) -> str:
        """The first script of the checkout that a script calls; empty if it calls none."""
        for command in shell.commands(shell.parse(text)):
            for path, _ in shell.scripts_called(shell.words(command)):
                if self.script(path) is not None:
                    return path
        return ""


def may_be_fetched(step: Step) -> bool:
    """Whether a step may bring files that the checkout does not have."""
    plain = CHECKOUT.match(step.uses) and not {"repository", "ref", "path"} & {*step.given}
    return bool(step.uses) and not step.uses.startswith("./") and not OTHERS.match(step.uses) and not plain


#: Commands that write no files into the checkout.
_WRITES_NOTHING = (
    "aws ecr", "cd", "docker build", "docker login", "docker push", "docker tag", "exit", "export", "npm ci",
    "npm test", "set", "sleep", "test", "true",
)  # fmt: skip
#: A redirection to other files than GitHub's own.
_REDIRECTS = re.compile(r">(?!>?\s*(?:\"?\$\{?GITHUB_|/dev/|&))")


def update_of(step: Step) -> list[str]:
    """Return the command that stands for AWS's action where it deploys a service; empty for another step."""
    cluster, service = step.given.get("cluster") or "default", step.given.get("service")
    deploys = step.uses.startswith("aws-actions/amazon-ecs-deploy-task-definition@")
    return (
        ["aws", "ecs", "update-service", "--cluster", cluster, "--service", service]
        if deploys and service
        else []
    )


def may_write(step: Step) -> bool:
    """Whether a step may bring or write files of any name."""
    written = [words for words in shell.run_by(step.run) if words and words[0] not in shell.SILENT]
    return (
        may_be_fetched(step)
        or step.uses.startswith("./")
        or bool({"submodules", "script"} & {*step.given})
        or _REDIRECTS.search(step.run) is not None
        or not all(any(shell.runs(words, each) for each in _WRITES_NOTHING) for words in written)
    )


def _is_workflow(path: str) -> bool:
    return posixpath.dirname(path) + "/" == WORKFLOWS and path.endswith((".yml", ".yaml"))


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
    """What GitHub refuses: opposite filters, an unquoted `if` that begins with `!`, minutes in words."""
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
            line, minutes = entries_of(each).get("timeout-minutes", NONE)
            written = str(minutes.value) if minutes is not None and minutes.tag.endswith(":str") else ""
            if re.search("[A-Za-df-z]", written) and "${{" not in written:  # `1e2` is a number
                return f"line {line}: timeout-minutes of {name} is {written}, which is not a number"
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
        return {name: text_of(value) for name, value in found.items()}
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
