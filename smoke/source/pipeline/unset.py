"""Variables that nothing sets, as far as the texts that a job may run show it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from smoke.source.checkout import Finding

from .repository import Repository, matches
from .workflows import CHECKOUT, EXPRESSION, OTHERS, Job, Workflow

GITHUBS_MACHINES = re.compile(r"(?:ubuntu|windows|macos)-[\w.-]+")
_DEFAULTED = re.compile(r"\$\{([A-Z][A-Z0-9_]+):?-")
#: A variable as it is: where an expression compares it, or has a default, it may be empty.
_ENV = re.compile(r"\s*env\.([A-Z]\w+)\s*")
#: Variables that actions set for later steps.
_OF_ACTIONS = re.compile(
    r"(?:AWS|GITHUB|RUNNER|ACTIONS|DOCKER|TF|NODE|JAVA|GO|PYTHON|Python|RUBY|DOTNET)\w*"
    r"|pythonLocation|LD_LIBRARY_PATH|PKG_CONFIG_PATH"
)
#: Actions of these owners that set variables of any name.
_OF_ANY_NAME = re.compile(
    r"(?:actions/github-script|aws-actions/aws-secretsmanager-get-secrets|hashicorp/vault-action)@"
)
#: What a shell may read variables of any name from.
_READS_ANY = re.compile(
    r"\b(?:export|declare|typeset|readonly)(?:\s+-\w+)*\s+\"?\$|\beval\b|(?:\bsource|(?:^|[;&|\s])\.)\s+\S*env\b",
    re.MULTILINE,
)
#: Variables that a shell, or one of GitHub's machines, sets.
_OF_MACHINES = re.compile(
    r"(?:BASH|OPT|FUNC|HIST|LC|XDG|ANDROID|CHROME|EDGE|GECKO|SELENIUM|PIPX|VCPKG|POWERSHELL|HOMEBREW|NVM|GHCUP"
    r"|AZURE|BOOTSTRAP|LEIN|GRADLE|SWIFT|CONDA|AGENT|STATS|ENABLE|PERFLOG|LOAD|SGX|GCM|NPM|DEBIAN)\w*"
    r"|PATH|HOME|PWD|OLDPWD|USER|LOGNAME|SHELL|LANG|LANGUAGE|TERM|TMPDIR|TEMP|TMP|HOSTNAME|UID|EUID|PPID|GROUPS"
    r"|RANDOM|SRANDOM|SECONDS|LINENO|EPOCH\w+|IFS|REPLY|PIPESTATUS|SHLVL|SHELLOPTS|OSTYPE|HOSTTYPE|MACHTYPE"
    r"|DIRSTACK|COLUMNS|LINES|MAPFILE|COPROC|CI|ANT_HOME|DEPLOYMENT_BASEPATH|INVOCATION_ID|JOURNAL_STREAM"
    r"|ImageOS|ImageVersion|\w+_proxy|ACCEPT_EULA|USE_BAZEL_FALLBACK_VERSION|SYSTEMD_EXEC_PID|MEMORY_PRESSURE_\w+"
)
#: How a shell sets a variable that is its own.
_SETS = (
    r"(?<![\w$])(?:{0}\b\s*\+?=|(?:read|mapfile|readarray|getopts|local|declare|typeset|export|readonly|printf"
    r"|select|for|let)\b[^\n]*\b{0}\b)|\(\([^\n]*\b{0}\b|\{{{0}:?="
)
#: A line that sets variables of any name for later steps.
_SETS_ANY = re.compile(
    r"^(?!.*\b(?:echo|printf)\s+(?:-\w+\s+)*[\"']?[A-Za-z_]\w*(?:=|<<)).*>\s*\W*GITHUB_ENV\b", re.MULTILINE
)


def in_expressions(repository: Repository, workflow: Workflow, job: Job) -> Iterator[Finding]:
    """A variable in an expression of a step that no `env` and no earlier step sets."""
    found: list[Finding] = []
    for step in job.steps:
        known = {*workflow.env, *job.env, *step.env}
        texts = [step.run, *step.env.values(), *step.given.values()]
        reads = (_ENV.fullmatch(each) for text in texts for each in EXPRESSION.findall(text))
        for read in filter(None, reads):
            if (name := read[1]) not in known and not _OF_ACTIONS.fullmatch(name):
                what = f"{job.name}: env.{name} is empty: no `env` and no earlier step sets it"
                found.append(workflow.finding(step.line, what))
        if _is_unknown(step.uses) or "GITHUB_ENV" in step.run:
            break
    if found and not any("GITHUB_ENV" in text or "exportVariable" in text for text in repository.programs()):
        yield from found


def without_value(repository: Repository, workflow: Workflow, job: Job) -> frozenset[str]:
    """The variables for which the scripts of a job have a default, and that have no other value."""
    if not GITHUBS_MACHINES.fullmatch(job.runs_on) or job.contained:
        return frozenset()
    texts = tuple(step.run for step in job.steps), tuple(repository.programs())
    if any(matches(_READS_ANY, each) for each in texts):
        return frozenset()
    names = dict.fromkeys(name for each in texts for name in matches(_DEFAULTED, each))
    return frozenset(never_named(repository, workflow, job, names))


def never_named(repository: Repository, workflow: Workflow, job: Job, names: Iterable[str]) -> list[str]:
    """Those of the names that no text which the job may run sets, or names without reading it."""
    if not names or any(_is_unknown(step.uses) for step in job.steps):
        return []
    around = workflow.around(job, repository.script(workflow.path) or "")
    texts = (around,), tuple(repository.programs())
    if any(matches(_SETS_ANY, each) for each in texts):
        return []
    given = (name for name in names if not (_OF_MACHINES.fullmatch(name) or _OF_ACTIONS.fullmatch(name)))
    sets = {name: rf"(?<![\w${{]){name}\b" if name.isupper() else _SETS.format(name) for name in given}
    return [name for name, way in sets.items() if not any(matches(re.compile(way), each) for each in texts)]


def _is_unknown(uses: str) -> bool:
    """Whether a step uses an action that may set variables of any name."""
    known = uses.startswith("./") or OTHERS.match(uses) or CHECKOUT.match(uses)
    return bool(uses) and (not known or bool(_OF_ANY_NAME.match(uses)))


#: What may hand variables of any name to a command, besides texts that read them.
_HANDS_ANY = re.compile(r"\ballexport\b|\bset -\w*a|(?<!\w)\.env\b|--env-file\b|direnv|dotenv")


def not_exported(repository: Repository, workflow: Workflow, job: Job, name: str, *, local: bool) -> bool:
    """Whether a command of a job certainly lacks this variable, which no known export has given to it.

    `local`: its script has set the variable, for itself.
    """
    if any(_is_unknown(step.uses) for step in job.steps):
        return False
    around = workflow.around(job, repository.script(workflow.path) or "")
    texts = (around, *repository.programs())
    hands = rf"\b(?:export|declare|typeset|readonly)\b[^\n]*\b{name}\b|\b{name}=.*GITHUB_ENV"
    sets = re.compile(hands if local else rf"{_SETS.format(name)}|{hands}")
    return not any(matches(each, texts) for each in (_SETS_ANY, _READS_ANY, _HANDS_ANY, sets))
