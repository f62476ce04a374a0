"""The commands of a workflow's jobs with the values of their variables; and variables that nothing sets.

Commands include those of actions, recipes and scripts. In them, a GitHub expression that only a run knows
reads `«github.sha»`, and any other unknown value stays as written, `$name`. A variable that is set in
a branch or a loop is unknown. The builds and pushes of bake and of compose are commands of their own.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tree_sitter import Node

from smoke.source.checkout import Examined, Finding
from smoke.source.scripts import recipes, shell
from smoke.source.scripts.commands import OTHER_LANGUAGES, found_in

from . import bakes
from .repository import DEEPEST, Placed, Repository, update_of
from .unset import GITHUBS_MACHINES, in_expressions, never_named, not_exported
from .workflows import EXPRESSION, Job, Workflow

_PARAMETER = re.compile(r"\$\{(\w+)(?::?[?=-].*|:0?:(\d+))?\}", re.DOTALL)
_BRANCHES = frozenset(
    {"if_statement", "for_statement", "while_statement", "case_statement", "c_style_for_statement"}
)
#: What GitHub sets for every step.
_SET = {"GITHUB_SHA": "«github.sha»", "GITHUB_RUN_NUMBER": "«github.run_number»",
        "GITHUB_RUN_ID": "«github.run_id»", "GITHUB_REF_NAME": "«github.ref_name»"}  # fmt: skip
MOST = 3000  # a job with more commands probably calls itself


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

    The script is in `path`, after the line `before`. `positions` are its arguments, if they are known,
    `found` the commands that it ran, `unset` the variables at which it ends, `given` what it hands to GitHub.
    Its programs get the variables in `exported`; `absent` says whether they certainly lack another one, and
    `said` is what is wrong with a bake file or a compose file, or not read. A `strict` one ends at any
    variable that is not set (`set -u`); None: what follows may not run, or anything may be set.
    """

    path: str
    before: int
    directory: str
    variables: dict[str, str]
    positions: Sequence[str] | None
    found: list[Command]
    unset: list[Command]
    exported: set[str]
    absent: Callable[..., bool]
    said: Examined
    given: dict[str, str] = field(default_factory=dict)
    functions: dict[str, Node] = field(default_factory=dict)
    depth: int = 0
    entered: str | None = None
    strict: bool | None = False

    @property
    def where(self) -> str:
        """The directory in which the next command runs; empty if unknown."""
        return self.directory if self.entered is None else self.entered


class Expansion:
    """Expands the commands of the jobs of one workflow; each job is read once."""

    def __init__(self, repository: Repository, workflow: Workflow) -> None:
        self._repository, self._workflow = repository, workflow
        self._read: dict[str, tuple[list[Command], dict[str, str]]] = {}
        self._unset: dict[str, list[Command]] = {}
        self._said: dict[str, Examined] = {}

    def commands(self, job: Job) -> list[Command]:
        """The commands of a job, in their order."""
        return self._job(job)[0]

    def unset(self, job: Job) -> list[Command]:
        """The variables at which a script of a job ends because nothing has set them so far."""
        self._job(job)
        return self._unset[job.name]

    def said(self, job: Job) -> Examined:
        """What is wrong with the bake files and compose files that a job builds from, or not read in them."""
        self._job(job)
        return self._said[job.name]

    def text(self, job: Job, placed: Placed, text: str) -> str:
        """A text of a step with its expressions expanded."""
        return self._filled(text, {**placed.env, **placed.step.env}, self._job(job)[1])

    def _job(self, job: Job) -> tuple[list[Command], dict[str, str]]:
        if job.name not in self._read:
            found, outputs = list[Command](), dict[str, str]()
            self._read[job.name] = found, outputs
            self._unset[job.name], said = [], self._said.setdefault(job.name, Examined())
            absent = partial(not_exported, self._repository, self._workflow, job)
            later: dict[str, str] = {}
            for placed in self._repository.everything(self._workflow, job):
                env = {**placed.env, **later, **placed.step.env}
                env = {name: self._filled(text, env, outputs) for name, text in env.items()}
                step = placed.step
                run = _Shell(placed.path, step.run_line, step.directory, {**_SET, **env}, None, found,
                             self._unset[job.name], {*_SET, *env}, absent, said,
                             strict=None if step.continue_on_error else False)  # fmt: skip
                self._script(run, self._filled(step.run, env, outputs))
                acted = tuple(self._filled(each, env, outputs) for each in update_of(step))
                found += [Command(acted, placed.path, step.line)] if acted else []
                if baked := tuple(self._filled(each, env, outputs) for each in bakes.action(step)):
                    where = step.given.get("workdir", ".")
                    found += self._instead(run, Command(baked, placed.path, step.line, where), env)
                later |= {name[4:]: text for name, text in run.given.items() if name.startswith("env.")}
                prefix = f"steps.{step.id}.outputs."
                outputs |= {prefix + name[4:]: text for name, text in run.given.items()
                            if name.startswith("out.")}  # fmt: skip
        return self._read[job.name]

    def _filled(self, text: str, env: Mapping[str, str], outputs: Mapping[str, str]) -> str:
        """A text with its expressions replaced; values that only a run knows are between `«` and `»`."""

        def value(found: re.Match[str]) -> str:
            written = found[1].strip()
            context, _, rest = written.partition(".")
            if context == "env" and rest in env and "${{" not in env[rest]:
                return env[rest]
            if written in outputs:
                return outputs[written]
            for job in self._workflow.jobs.values():
                for name, output in job.outputs.items():
                    if written.lower() == f"needs.{job.name}.outputs.{name}".lower():
                        return self._filled(output, self._workflow.env | job.env, self._job(job)[1])
            plain = re.sub(r"[^\w.]", "·", written)
            return f"«{plain}»"

        return EXPRESSION.sub(value, text)

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
        if node.type in _READS and sure:
            _note_unset(run, node)
        run.exported |= _exported(node)
        if node.type == "declaration_command" and any(map(_is_any_name, node.named_children)):
            run.strict = None
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
        if value is not None and value.type in ("command_substitution", *_READS):
            self._walk(run, value, sure=sure)
        variable = shell.text_of(name)
        plain = value is not None and value.type != "array" and "+=" not in shell.text_of(node)
        text = _word(run, value) if plain and value is not None else "" if value is None else f"${variable}"
        run.variables[variable] = text if sure or run.variables.get(variable) == text else f"${variable}"

    def _command(self, run: _Shell, node: Node, *, sure: bool) -> None:
        words = tuple(_word(run, each) for each in shell.arguments(node))
        if not words:
            return
        given = {name: run.variables[name] for name in run.exported if name in run.variables}
        given |= {name: _word(run, value) if value is not None else "" for name, value in _in_front(node)}
        command = Command(words, run.path, run.before + shell.line_of(node), run.where)
        run.found += self._instead(run, command, given)
        if words[0] in ("cd", "pushd", "popd"):
            known = words[0] == "cd" and len(words) == 2 and "$" not in words[1] and sure and run.where
            run.entered = posixpath.normpath(posixpath.join(run.where, words[1])) if known else ""
        if words[0] == "echo" and len(words) > 1 and (into := shell.github_file(node)):
            name, equals, text = words[1].partition("=")
            if equals:
                run.given[f"{into}.{name}"] = text if sure else f"${name}"
        _note_strict(run, words, sure=sure)
        if words[0] in ("read", "mapfile", "readarray", "getopts"):
            _forget(run, *(each for each in words[1:] if not each.startswith("-")))
        if words[0] == "shift" or words[:2] == ("set", "--"):
            kept = run.positions if sure and words == ("shift",) else None
            run.positions = kept[1:] if kept is not None else None
        if run.depth >= DEEPEST or len(run.found) >= MOST:
            return
        if words[0] in run.functions:
            others = {name: each for name, each in run.functions.items() if name != words[0]}
            strict = None if _within(node, ("list",)) else run.strict
            inner = replace(run, positions=words[1:], functions=others, depth=run.depth + 1, strict=strict)
            self._walk(inner, run.functions[words[0]], sure=sure)
            return
        same = words[0] in ("source", ".")
        variables = run.variables if same else dict(run.variables)
        strict = run.strict if same else _begins_strict(run, node, sure=sure)
        for path, before, text, rest in self._called(run, list(words), run.before + shell.line_of(node) - 1):
            inner = replace(run, path=path, before=before, variables=variables, positions=rest, functions={},
                            exported=run.exported if same else {*run.exported},
                            depth=run.depth + 1, strict=strict)  # fmt: skip
            self._script(inner, text)

    def _instead(self, run: _Shell, command: Command, variables: Mapping[str, str]) -> list[Command]:
        """The builds and pushes for which a command of bake or compose stands, or the command as it is."""

        def script(path: str) -> str | None:
            return self._repository.script(posixpath.normpath(posixpath.join(command.directory, path)))

        absent = lambda name: run.absent(name, local=name in run.variables)  # noqa: E731
        try:
            if not command.directory:
                return [command]
            standing = bakes.stands_for(command.words, bakes.Given(variables, absent, script))
            return [command] if standing is None else [replace(command, words=each) for each in standing]
        except bakes.DockerRefusal as wrong:
            run.said.findings.append(command.finding(str(wrong)))
        except bakes.Unread as unread:
            if str(unread) and "push" in " ".join(command.words):
                run.said.not_examined.append(command.finding(f"{' '.join(command.words[:3])}: {unread}"))
        return [command]

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
        return value if found[2] is None or value.startswith("$") else _beginning(value, found[2])
    if node.type == "command_substitution":
        return _printed(run, node)
    if node.type in ("string", "concatenation"):
        raw, at, parts = node.text or b"", node.start_byte, list[str]()
        for child in node.named_children:
            parts.append(raw[at - node.start_byte : child.start_byte - node.start_byte].decode())
            parts.append(_word(run, child))
            at = child.end_byte
        parts.append(raw[at - node.start_byte :].decode())
        text = "".join(parts)
        return text[1:-1].replace('\\"', '"') if node.type == "string" else text
    return shell.unquoted(node)


def _printed(run: _Shell, node: Node) -> str:
    """What `$( )` prints if that is a commit or the beginning of a word; else the text as written."""
    word, most = shell.printed(node) or (node, "")
    text = "«github.sha»" if word is None else _word(run, word) if word is not node else "$"
    return shell.text_of(node) if "$" in text else _beginning(text, most)


def _beginning(text: str, most: str) -> str:
    return text if not most else f"{text}[:{most}]" if "»" in text else text[: int(most)]


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


_READS = ("simple_expansion", "expansion")
_DEMANDED = re.compile(r"\$\{?([A-Za-z_]\w+)(:?\?[^}]*)?\}?", re.DOTALL)
#: Around a variable: what may not run, or whose failure may be lost.
_UNSURE = ("pipeline", "declaration_command", "negated_command", "process_substitution")
#: Around a variable: a process of its own, which ends in place of the script.
_APART = ("subshell", "command_substitution")


def _exported(node: Node) -> set[str]:
    """The variables that a declaration hands to the programs that its shell runs."""
    if node.type != "declaration_command" or not re.match(r"export\b|\w+ -\w*x", shell.text_of(node)):
        return set()
    return {shell.text_of(each).partition("=")[0] for each in node.named_children}


def _in_front(node: Node) -> Iterator[tuple[str, Node | None]]:
    """The variables in front of a command, which it alone gets, and their values."""
    for each in node.named_children:
        name = each.child_by_field_name("name") if each.type == "variable_assignment" else None
        if name is not None:
            yield shell.text_of(name), each.child_by_field_name("value")


def _is_any_name(declared: Node) -> bool:
    """Whether an argument of `export` or `declare` may name any variable: `"$name=1"`, `$(cat file)`."""
    return re.match(r"""["']?(?:[-+]?\w+)(?:\W|\Z)""", shell.text_of(declared)) is None


def _within(node: Node, kinds: Sequence[str]) -> bool:
    """Whether a node stands in another one of these kinds, in the same function."""
    above = node.parent
    while above is not None and above.type not in (*kinds, "function_definition"):
        above = above.parent
    return above is not None and above.type in kinds


def _begins_strict(run: _Shell, node: Node, *, sure: bool) -> bool | None:
    """How strict a called script begins: not at all if it may not run, or if the job survives its failure."""
    aside = node.next_sibling is not None and node.next_sibling.type == "&"
    lost = aside or not sure or _within(node, ("list", "command_substitution", *_UNSURE))
    return None if lost or run.strict is None else False


def _note_unset(run: _Shell, node: Node) -> None:
    """Note a variable that ends the script because it has no value: under `set -u`, or by `${NAME:?}`."""
    found, at = _DEMANDED.fullmatch(shell.text_of(node)), node
    demanded = found is not None and run.strict is not None and (run.strict or found[2])
    if found is None or not demanded or found[1] in run.variables:
        return
    apart = False
    while at.parent is not None and at.parent.type != "function_definition":
        listed = at.parent.type == "list" and (apart or at.parent.named_children[0] != at)
        lost = at.type == "command_substitution" and not _is_assigned(at)
        if listed or lost or at.parent.type in ("expansion", *_UNSURE):
            return
        at = at.parent
        apart |= at.type in _APART
    run.unset.append(Command((found[1],), run.path, run.before + shell.line_of(node)))


def _is_assigned(substitution: Node) -> bool:
    """Whether a variable gets the output of a command, so that the command's failure is that of the line."""
    holder = substitution.parent
    if holder is not None and holder.type == "string":
        holder = holder.parent
    return holder is not None and holder.type == "variable_assignment"


def _note_strict(run: _Shell, words: Sequence[str], *, sure: bool) -> None:
    """Note `set -u`, and what ends the script in success or may set any variable."""
    if words[0] == "set" and sure and run.strict is not None:
        for each in words[1:]:
            if re.fullmatch(r"[-+][a-z]*u[a-z]*", each) or each == "nounset":
                run.strict = not (each[0] == "+" or "+o" in words)
    ends = words[0] in ("exit", "return", "exec") and not re.fullmatch(r"[1-9]\d*", "".join(words[1:2]))
    into = words[2:3] if words[:2] == ("printf", "-v") else ()
    if words[0] in ("read", "mapfile", "readarray"):
        into = words[1:]
    if ends or words[0] in ("eval", "source", ".") or any(each.startswith("$") for each in into):
        run.strict = None


def _forget(run: _Shell, *names: str) -> None:
    for name in names:
        run.variables[name] = f"${name}"


def never_set(repository: Repository, workflow: Workflow) -> Iterator[Finding]:
    """Yield the variables of a workflow's jobs that are empty, or at which a script ends.

    A job is read as far as its actions are known, and where its machine is GitHub's.
    """
    expansion = Expansion(repository, workflow)
    for job in workflow.jobs.values():
        if GITHUBS_MACHINES.fullmatch(job.runs_on) and not job.contained:
            yield from in_expressions(repository, workflow, job)
            unset = {each.words[0]: each for each in reversed(expansion.unset(job))}
            for name in never_named(repository, workflow, job, unset):
                yield unset[name].finding(f"{job.name} ends here: ${name} is not set")
