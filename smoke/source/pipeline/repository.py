"""A repository's workflows, and the commands of their steps, including actions, recipes and scripts.

In these, a GitHub expression that only a run knows reads `«github.sha»`, and any other unknown value stays as
written, `$name`. A variable that is set in a branch or a loop is unknown.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tree_sitter import Node

from smoke.source.checkout import PLAIN, Checkout, Finding, Malformed
from smoke.source.scripts import recipes, shell
from smoke.source.scripts.commands import OTHER_LANGUAGES, Script, found_in

from .workflows import Job, Rejected, Step, Workflow, action_steps, read

WORKFLOWS = ".github/workflows/"
_DEEPEST = 6


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
            inner = self.action(step.uses) if step.uses.startswith("./") and depth < _DEEPEST else None
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
        inner = self.called(job) if depth < _DEEPEST else None
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

    def first_script(self, text: str) -> str:
        """The first script of the checkout that a script calls; empty if it calls none."""
        for command in shell.commands(shell.parse(text)):
            for path, _ in shell.scripts_called(shell.words(command)):
                if self.script(path) is not None:
                    return path
        return ""


def _is_workflow(path: str) -> bool:
    return posixpath.dirname(path) + "/" == WORKFLOWS and path.endswith((".yml", ".yaml"))


_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_PARAMETER = re.compile(r"\$\{(\w+)(?::?[?=-].*|:0?:(\d+))?\}", re.DOTALL)
_BRANCHES = frozenset(
    {"if_statement", "for_statement", "while_statement", "case_statement", "c_style_for_statement"}
)
#: What GitHub sets for every step.
_SET = {"GITHUB_SHA": "«github.sha»", "GITHUB_RUN_NUMBER": "«github.run_number»",
        "GITHUB_RUN_ID": "«github.run_id»", "GITHUB_REF_NAME": "«github.ref_name»"}  # fmt: skip
#: A job with this many commands probably calls itself; further ones are not followed.
MOST = 3000


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its words, its place, and its directory (empty if unknown)."""

    words: tuple[str, ...]
    path: str
    line: int
    directory: str = ""

    def finding(self, what: str) -> Finding:
        """Return a finding on the command."""
        return Finding(self.path, self.line, what)


@dataclass(slots=True)
class _Shell:
    """A shell in the middle of a script.

    The script is in `path`, after the line `before`. `positions` are its arguments, if known, `found` the
    commands that it ran, `given` the values that it passes to GitHub.
    """

    path: str
    before: int
    directory: str
    variables: dict[str, str]
    positions: Sequence[str] | None
    found: list[Command]
    given: dict[str, str] = field(default_factory=dict)
    functions: dict[str, Node] = field(default_factory=dict)
    depth: int = 0
    entered: str | None = None

    @property
    def where(self) -> str:
        """The directory in which the next command runs; empty if unknown."""
        return self.directory if self.entered is None else self.entered


class Expansion:
    """Expands the commands of the jobs of one workflow; each job is read once."""

    def __init__(self, repository: Repository, workflow: Workflow) -> None:
        self._repository, self._workflow = repository, workflow
        self._read: dict[str, tuple[list[Command], dict[str, str]]] = {}

    def commands(self, job: Job) -> list[Command]:
        """The commands of a job, in their order."""
        return self._job(job)[0]

    def text(self, job: Job, placed: Placed, text: str) -> str:
        """A text of a step with its expressions expanded."""
        return self._filled(text, {**placed.env, **placed.step.env}, self._job(job)[1])

    def _job(self, job: Job) -> tuple[list[Command], dict[str, str]]:
        if job.name not in self._read:
            found: list[Command] = []
            outputs: dict[str, str] = {}
            self._read[job.name] = found, outputs
            later: dict[str, str] = {}
            for placed in self._repository.everything(self._workflow, job):
                env = {**placed.env, **later, **placed.step.env}
                env = {name: self._filled(text, env, outputs) for name, text in env.items()}
                step = placed.step
                run = _Shell(placed.path, step.run_line, step.directory, {**_SET, **env}, None, found)
                self._script(run, self._filled(step.run, env, outputs))
                later |= {name[4:]: text for name, text in run.given.items() if name.startswith("env.")}
                prefix = f"steps.{step.id}.outputs."
                outputs |= {prefix + name[4:]: text for name, text in run.given.items()
                            if name.startswith("out.")}  # fmt: skip
        return self._read[job.name]

    def _filled(self, text: str, env: Mapping[str, str], outputs: Mapping[str, str]) -> str:
        """A text with its expressions replaced; values that only a run knows are between `«` and `»`."""

        def value(found: re.Match[str]) -> str:
            written = found[1]
            context, _, rest = written.partition(".")
            if context == "env" and rest in env and "${{" not in env[rest]:
                return env[rest]
            if written in outputs:
                return outputs[written]
            for job in self._workflow.jobs.values():
                for name, told in job.outputs.items():
                    if written.lower() == f"needs.{job.name}.outputs.{name}".lower():
                        return self._filled(told, self._workflow.env | job.env, self._job(job)[1])
            plain = re.sub(r"[^\w.]", "·", written)
            return f"«{plain}»"

        return _EXPRESSION.sub(value, text)

    def _script(self, run: _Shell, text: str) -> None:
        for child in shell.parse(text).named_children:
            self._walk(run, child, sure=True)

    def _walk(self, run: _Shell, node: Node, *, sure: bool) -> None:
        if node.type == "function_definition":
            name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
            if name is not None and body is not None:
                run.functions[shell.text_of(name)] = body
            return
        if node.type == "variable_assignment":
            self._assign(run, node, sure=sure)
            return
        before = run.entered
        variable = node.child_by_field_name("variable") if node.type == "for_statement" else None
        if variable is not None:
            _forget(run, shell.text_of(variable))
        for child in node.named_children:
            self._walk(run, child, sure=sure and node.type not in _BRANCHES)
        if node.type == "subshell":
            run.entered = before
        if node.type == "command":
            self._command(run, node, sure=sure)

    def _assign(self, run: _Shell, node: Node, *, sure: bool) -> None:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        for child in value.named_children if value is not None else ():
            self._walk(run, child, sure=sure)
        if name is None or (node.parent is not None and node.parent.type == "command"):
            return  # before a command, for that command only
        if value is not None and value.type == "command_substitution":
            self._walk(run, value, sure=sure)
        variable = shell.text_of(name)
        plain = value is not None and value.type != "array" and "+=" not in shell.text_of(node)
        text = _word(run, value) if plain and value is not None else "" if value is None else f"${variable}"
        run.variables[variable] = text if sure or run.variables.get(variable) == text else f"${variable}"

    def _command(self, run: _Shell, node: Node, *, sure: bool) -> None:
        words = tuple(_word(run, each) for each in shell.arguments(node))
        if not words:
            return
        run.found.append(Command(words, run.path, run.before + shell.line_of(node), run.where))
        if words[0] in ("cd", "pushd", "popd"):
            known = words[0] == "cd" and len(words) == 2 and "$" not in words[1] and sure and run.where
            run.entered = posixpath.normpath(posixpath.join(run.where, words[1])) if known else ""
        if words[0] == "echo" and len(words) > 1 and (into := _file(node)):
            name, equals, text = words[1].partition("=")
            if equals:
                run.given[f"{into}.{name}"] = text if sure else f"${name}"
        if words[0] in ("read", "mapfile", "readarray", "getopts"):
            _forget(run, *(each for each in words[1:] if not each.startswith("-")))
        if words[0] == "shift" or words[:2] == ("set", "--"):
            kept = run.positions if sure and words == ("shift",) else None
            run.positions = kept[1:] if kept is not None else None
        if run.depth >= _DEEPEST or len(run.found) >= MOST:
            return
        if words[0] in run.functions:
            others = {name: each for name, each in run.functions.items() if name != words[0]}
            inner = replace(run, positions=words[1:], functions=others, depth=run.depth + 1)
            self._walk(inner, run.functions[words[0]], sure=sure)
            return
        variables = run.variables if words[0] in ("source", ".") else dict(run.variables)
        for path, before, text, rest in self._called(run, list(words), run.before + shell.line_of(node) - 1):
            inner = replace(run, path=path, before=before, variables=variables, positions=rest, functions={},
                            depth=run.depth + 1)  # fmt: skip
            self._script(inner, text)

    def _called(
        self, run: _Shell, words: list[str], before: int
    ) -> Iterator[tuple[str, int, str, Sequence[str] | None]]:
        """The scripts and the lines of recipes that a command runs, their places, and their arguments."""

        def find(path: str) -> tuple[str, str] | None:
            return found_in([run.directory], path, self._repository.script)

        if (inline := shell.inline_script(words)) is not None:
            yield run.path, before, inline[0], None
        for path, _ in shell.scripts_called(words):
            file = find(path)
            if file is not None and not path.endswith(OTHER_LANGUAGES):
                at = next(number for number, word in enumerate(words) if path in word)
                yield file[0], 0, file[1], words[at + 1 :]
        for line in recipes.lines(words, find):
            yield line.path, line.line - 1, line.text, None


def _file(node: Node) -> str:
    """`out` or `env` if a command writes to GitHub's file for outputs or for the environment."""
    above = node.parent
    target = shell.text_of(above) if above is not None and above.type == "redirected_statement" else ""
    return "out" if "GITHUB_OUTPUT" in target else "env" if "GITHUB_ENV" in target else ""


def _word(run: _Shell, node: Node) -> str:
    """The text of a word with the values of its variables."""
    if node.type == "raw_string":
        return shell.text_of(node)[1:-1]
    if node.type == "simple_expansion":
        return _value(run, shell.text_of(node)[1:], shell.text_of(node))
    if node.type == "expansion":
        found = _PARAMETER.fullmatch(shell.text_of(node))
        if found is None:
            return shell.text_of(node)
        value = _value(run, found[1], shell.text_of(node))
        if found[2] is None or value.startswith("$"):
            return value
        return f"{value}[:{found[2]}]" if "»" in value else value[: int(found[2])]
    if node.type in ("string", "concatenation"):
        whole, at, parts = node.text or b"", node.start_byte, list[str]()
        for child in node.named_children:
            parts.append(whole[at - node.start_byte : child.start_byte - node.start_byte].decode())
            parts.append(_word(run, child))
            at = child.end_byte
        parts.append(whole[at - node.start_byte :].decode())
        text = "".join(parts)
        return text[1:-1].replace('\\"', '"') if node.type == "string" else text
    return shell.unquoted(node)


def _value(run: _Shell, name: str, written: str) -> str:
    """The value of a variable or an argument, or its default; else the text as written."""
    if name.isdigit() and name != "0" and run.positions is not None:
        value = run.positions[int(name) - 1] if int(name) <= len(run.positions) else ""
    else:
        value = run.variables.get(name, written)
    if value:
        return value
    default = re.fullmatch(r"\$\{\w+:?-([\w.-]*)\}", written)
    return default[1] if default else written


def _forget(run: _Shell, *names: str) -> None:
    for name in names:
        run.variables[name] = f"${name}"
