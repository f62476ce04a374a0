"""A repository's workflows, and the commands that their steps run: of actions, recipes and scripts, too."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from smoke.source.checkout import PLAIN, Checkout, Malformed
from smoke.source.scripts import recipes, shell
from smoke.source.scripts.commands import OTHER_LANGUAGES, Script, found_in

from .workflows import Job, Rejected, Step, Workflow, action_steps, read

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
        """The path of a local composite action, and its steps; None if there is none."""
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

    def recipes(self, step: Step) -> Iterator[list[str]]:
        """The commands of the rules and tasks that a step runs with `make` and the like, as words."""
        for words in shell.run_by(step.run):
            for line in recipes.lines(words, lambda path: found_in([step.directory], path, self.script)):
                yield from shell.run_by(line.text)

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


def _is_workflow(path: str) -> bool:
    return posixpath.dirname(path) + "/" == WORKFLOWS and path.endswith((".yml", ".yaml"))
