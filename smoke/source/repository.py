"""What a workflow runs, wherever in the checkout that is written: inline, in scripts, actions, workflows."""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from . import shell
from .checkout import Checkout, Malformed
from .commands import Script
from .workflow import Job, Rejected, Step, Workflow, action_steps, read

WORKFLOWS = ".github/workflows/"
_DEEPEST = 6


@dataclass(frozen=True, slots=True)
class Placed:
    """A step, and the file in which it stands."""

    path: str
    step: Step


@dataclass(frozen=True, slots=True)
class Repository:
    """The workflows of a checkout by path.

    `unread` are files that could not be read, with the reason; of those, GitHub itself refuses `refused`.
    """

    workflows: Mapping[str, Workflow]
    unread: dict[str, str]
    script: Script
    refused: dict[str, str] = field(default_factory=dict)
    _commands: dict[str, list[list[str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, checkout: Checkout) -> "Repository":
        """Read the workflows of a checkout; other files are read when something calls them."""
        paths = [file.path for file in checkout.tracked() if _is_workflow(file.path)]
        return cls.read(paths, checkout.script)

    @classmethod
    def read(cls, paths: Iterable[str], script: Script) -> "Repository":
        """Read the workflows among `paths`; `script` gives the text of a file."""
        workflows, unread, refused = {}, dict[str, str](), dict[str, str]()
        for path in filter(_is_workflow, paths):
            try:
                workflows[path] = read(script(path) or "", path)
            except Malformed as problem:
                unread[path] = str(problem)
                if isinstance(problem, Rejected):
                    refused[path] = str(problem)
        return cls(workflows, unread, script, refused)

    def called(self, uses: str) -> Workflow | None:
        """The local workflow that a job calls; None for one elsewhere or one that is not there."""
        return self.workflows.get(uses.removeprefix("./")) if uses.startswith("./") else None

    def steps(self, path: str, steps: tuple[Step, ...], depth: int = 0) -> Iterator[Placed]:
        """Yield steps with those of local composite actions in place of what calls them."""
        for step in steps:
            inner = self.action(step.uses) if step.uses.startswith("./") and depth < _DEEPEST else None
            if inner is None:
                yield Placed(path, step)
            else:
                yield from self.steps(inner[0], inner[1], depth + 1)

    def action(self, uses: str) -> tuple[str, tuple[Step, ...]] | None:
        """Where a local composite action stands, and its steps; None when there is none at that path."""
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
        yield from self.steps(workflow.path, job.steps)
        inner = self.called(job.uses) if depth < _DEEPEST else None
        for each in inner.jobs.values() if inner else ():
            yield from self.everything(inner, each, depth + 1)  # type: ignore[arg-type]

    def commands(self, text: str, seen: frozenset[str] = frozenset()) -> list[list[str]]:
        """The commands of a script and of the scripts of the checkout that it calls, each as its words."""
        if text not in self._commands:
            found = []
            for command in shell.commands(shell.parse(text)):
                words = shell.words(command)
                found.append(words)
                for path, _ in shell.scripts_called(words):
                    called = self.script(path)
                    if called is not None and path not in seen:
                        found += self.commands(called, seen | {path})
            self._commands[text] = found
        return self._commands[text]

    def first_script(self, text: str) -> str:
        """The first script of the checkout that a script calls; empty when it calls none."""
        for command in shell.commands(shell.parse(text)):
            for path, _ in shell.scripts_called(shell.words(command)):
                if self.script(path) is not None:
                    return path
        return ""


def _is_workflow(path: str) -> bool:
    return posixpath.dirname(path) + "/" == WORKFLOWS and path.endswith((".yml", ".yaml"))
