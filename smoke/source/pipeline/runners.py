"""Scripts that a job cannot run: those that are not there, and those that its shell does not understand."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from smoke.source.scripts import shell

from .repository import Repository
from .workflows import Job, Step

#: Actions that put nothing into the directory in which steps run, unless their names say so.
OTHERS = re.compile(r"(?:actions|aws-actions|docker|hashicorp)/(?!.*(?:checkout|artifact|cache))")
CHECKOUT = re.compile(r"actions/checkout@")
FETCHES = re.compile(r"\bgit\s+(?:clone|init|fetch)|\bgh\s+repo\s+clone|\bcurl\b|\btar\b")
_SCRIPT = re.compile(r"(?:[\w.-]+/)+[\w.-]+\.(?:sh|bash|py)")
#: Machines of GitHub's whose `sh` is dash.
_DASH = re.compile(r"ubuntu-(?:latest|2[024]\.04)(?:-arm)?")
_OF_SH = re.compile(r"#!\s*(?:/usr)?/bin/(?:env\s+)?sh\b")
#: What dash does not parse or know, by the type of its node; of commands, by their first words.
_NODES = {"herestring_redirect": "<<<", "array": "arrays", "process_substitution": "<(…)"}
_COMMANDS = frozenset({"mapfile", "readarray", "shopt", "pushd", "popd", "declare", "let"})
_EXPANSIONS = re.compile(r"\$\{\w+(?:\[|//?|\^|,|:\d)")


def may_be_fetched(step: Step) -> bool:
    """Whether a step may bring files that the checkout does not have."""
    plain = CHECKOUT.match(step.uses) and not {"repository", "ref", "path"} & {*step.given}
    return bool(step.uses) and not step.uses.startswith("./") and not OTHERS.match(step.uses) and not plain


def missing_scripts(repository: Repository, job: Job) -> Iterator[tuple[str, int]]:
    """Scripts that steps run from a directory of the checkout, which does not have them."""
    top = {path.partition("/")[0] for path in repository.paths if "/" in path}
    before = ""
    for step in job.steps:
        if may_be_fetched(step) or "${{" in step.directory:
            return
        for command in shell.commands(shell.parse(step.run)):
            for path, _ in shell.scripts_called(shell.words(command)):
                whole = posixpath.normpath(posixpath.join(step.directory, path))
                once = (
                    step.run.count(posixpath.basename(path)) == 1 and posixpath.basename(path) not in before
                )
                if (
                    _SCRIPT.fullmatch(path)
                    and whole.partition("/")[0] in top
                    and whole not in repository.paths
                    and once
                    and not re.search(r"\b(?:cd|pushd)\b", step.run)
                ):
                    yield f"{path} is not in the checkout", step.line
        if FETCHES.search(step.run):
            return
        before += _without_calls(repository, step)


def _without_calls(repository: Repository, step: Step) -> str:
    """A step's script without the names of scripts of the checkout: what it says else may make a file."""
    text = step.run
    for command in shell.commands(shell.parse(step.run)):
        for path, _ in shell.scripts_called(shell.words(command)):
            if posixpath.normpath(posixpath.join(step.directory, path)) in repository.paths:
                text = text.replace(path, "")
    return text


def inert_scripts(repository: Repository, job: Job) -> Iterator[tuple[str, int]]:
    """Scripts that a step runs by their names, and that git does not have as programs."""
    for step in job.steps:
        if any(
            each in f"{job.runs_on} {job.shell} {step.shell}" for each in ("windows", "pwsh", "powershell")
        ):
            return
        if may_be_fetched(step) or "${{" in step.directory or re.search(r"\bchmod\b|\bcd\b", step.run):
            return
        for command in shell.commands(shell.parse(step.run)):
            for path, direct in shell.scripts_called(shell.words(command)):
                whole = posixpath.normpath(posixpath.join(step.directory, path))
                if direct and whole in repository.inert and repository.script(whole) is not None:
                    yield f"{path} is not a program: its mode in git is 644", step.line


def foreign_words(repository: Repository, job: Job) -> Iterator[tuple[str, int]]:
    """What dash does not know in a script that says it is one of `sh`, and in steps with that shell."""
    if not _DASH.fullmatch(job.runs_on) or job.contained:
        return
    for step in job.steps:
        if (step.shell or job.shell) == "sh" and (what := _of_bash(step.run)):
            yield f"the shell of this step is sh, which has no {what}", step.line
        for words in repository.commands(step) if step.run else ():
            for path, direct in shell.scripts_called(words):
                text = repository.script(posixpath.normpath(posixpath.join(step.directory, path)))
                of_sh = (
                    bool(_OF_SH.match(text or ""))
                    if direct
                    else posixpath.basename(words[0]) in ("sh", "dash")
                )
                if text is not None and of_sh and (what := _of_bash(text)):
                    yield f"{path} is run by sh, which has no {what}", step.line
                if direct and re.match(r"#![^\n]*\r", text or "") and not repository.script(".gitattributes"):
                    yield (
                        f"the #! line of {path} ends with a carriage return: there is no such program",
                        step.line,
                    )


def _of_bash(text: str) -> str:
    """The first thing in a script that Bash has and dash has not."""
    tree = shell.parse(text)
    for kind, what in _NODES.items():
        if next(shell.below(tree, kind), None) is not None:
            return what
    for command in shell.commands(tree):
        words = shell.words(command)
        if words[:1] and words[0] in _COMMANDS:
            return words[0]
        if words[:1] == ["set"] and "pipefail" in words:
            return "pipefail"
    if any(shell.text_of(node).startswith("[[") for node in shell.below(tree, "test_command")):
        return "[["
    if any(_EXPANSIONS.match(shell.text_of(node)) for node in shell.below(tree, "expansion")):
        return "such expansions"
    return ""
