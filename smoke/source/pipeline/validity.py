"""What GitHub refuses in a workflow or reads as empty, and jobs that never run or are always cancelled."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from smoke.source.checkout import Examined, Finding
from smoke.source.scripts import shell
from smoke.source.scripts.recipes import Entries, entries_of, top_of

from .concurrency import deadlocked
from .expansion import never_set
from .jobs import FETCHES, foreign_words, inert_scripts, missing_scripts, refused
from .repository import Repository, may_be_fetched, may_write
from .unset import GITHUBS_MACHINES
from .workflows import EXPRESSION, OTHERS, OUTCOMES, Condition, Job, Situation, Step, Workflow

_NEEDS = re.compile(r"\bneeds\.([\w-]+)(?:\.outputs\.([\w-]+))?")
_NO_PART = re.compile(r"(?<![\w.])needs\.([\w-]+)\.(?!(?i:outputs|result)\b)([\w-]+)")
_STEPS = re.compile(r"\bsteps\.([\w-]+)(?:\.outputs\.([\w-]+))?")
_QUOTED = re.compile(r"'(?:[^']|'')*'")
#: A line that writes one output and names it.
_SETS = re.compile(r"\s*(?:echo|printf)\s+(?:-\w+\s+)?[\"']?[A-Za-z_][\w-]*(?:=|<<)")
#: A line that prints something, and not into the file of the outputs.
_PLAIN = re.compile(r"\s*(?:echo|printf)\s(?!.*(?:GITHUB_OUTPUT\b|::set-output|[|;&`]|\$\())")


def invalid(repository: Repository) -> tuple[int, Examined]:
    """Return how many jobs there are, and what GitHub refuses in them or reads as empty."""
    count, result = 0, Examined([Finding("", 0, problem) for problem in repository.refused.values()])
    result.not_examined.extend(
        Finding("", 0, problem)
        for path, problem in repository.unread.items()
        if path not in repository.refused
    )
    for workflow in repository.workflows.values():
        if workflow.triggers in ((), ("None",)):
            result.findings.append(workflow.finding(0, "nothing starts this workflow: it has no `on`"))
        if workflow.triggers == ("workflow_run",) and not repository.unread:
            named = {each.name for each in repository.workflows.values()}
            if not named & {*workflow.follows}:
                after = " or ".join(workflow.follows)
                what = f"nothing starts this workflow: no workflow is called {after}"
                result.findings.append(workflow.finding(0, what))
        for job in workflow.jobs.values():
            count += 1
            wrong = [*refused(job), *_empty(repository, workflow, job), *_without_checkout(repository, job)]
            wrong += [*_not_there(repository, job), *_unrendered(repository, job)]
            wrong += _without_token(workflow, job)
            wrong += [*_misplaced(workflow, job), *missing_scripts(repository, job)]
            wrong += [*foreign_words(repository, job), *inert_scripts(repository, job)]
            wrong += [*misgiven(repository, job), *of_actions(repository, job)]
            wrong += [*_withheld(repository, job), *_ungranted(repository, workflow, job)]
            result.findings.extend(
                workflow.finding(line or job.line, f"{job.name}: {what}") for what, line in wrong
            )
            if never_runs(workflow, job) and not workflow.recovers(job):
                result.findings.append(
                    workflow.finding(job.line, f"{job.name} never runs: its `if` is false")
                )
            result.findings.extend(
                workflow.finding(job.line, f"{job.name} runs only if the input {name} is set")
                for name in _inverted(workflow, job)
            )
        result.findings.extend((*never_set(repository, workflow), *deadlocked(repository, workflow)))
    return count, result


def never_runs(workflow: Workflow, job: Job) -> bool:
    """Whether a job never runs, on any event of its workflow, even if all earlier jobs succeeded."""
    return not any(may_run(workflow, job, event) for event in workflow.events)


def may_run(workflow: Workflow, job: Job, event: Mapping[str, str | None], *, asked: bool = True) -> bool:
    """Whether a job may run on an event if all earlier jobs succeeded.

    `asked`: with any input of a manual run; else only with the defaults.
    """
    inputs = [{}, workflow.inputs, *(_asked(workflow) if asked else [])]
    situations = [Situation(inputs=each, unread=OUTCOMES, known=event) for each in inputs]
    return any(job.condition.ways(each)[0] for each in situations)


_SKIPS = re.compile(r"(?:(?i:skip)[_-]?|(?i:no|without)[_-]|(?:no|without)(?=[A-Z]))(\w{4,})")


def _inverted(workflow: Workflow, job: Job) -> Iterator[str]:
    """Inputs such as `skip_tests` without which the job `tests` never runs."""

    def runs(name: str, value: bool) -> bool:
        inputs = {**dict.fromkeys(workflow.inputs, ...), name: value}
        situations = [Situation(inputs=inputs, unread=OUTCOMES, known=event) for event in workflow.events]
        return any(job.condition.ways(each)[0] for each in situations)

    for name in workflow.inputs:
        left_out = _SKIPS.fullmatch(name)
        named = left_out is not None and left_out[1][:5].lower() in job.name.lower()
        if named and "skip" not in job.name and runs(name, True) and not runs(name, False):
            yield name


#: Maximum number of boolean inputs of a manual run that are tried in both states.
_SWITCHES = 5


def _asked(workflow: Workflow) -> Iterator[dict[str, Any] | None]:
    """The possible inputs of a manual run: its booleans on and off, anything for the others."""
    switches = [name for name, default in workflow.inputs.items() if isinstance(default, bool)]
    if len(switches) > _SWITCHES or not workflow.inputs:
        yield None
        return
    for positions in itertools.product((True, False), repeat=len(switches)):
        yield {**dict.fromkeys(workflow.inputs, ...), **dict(zip(switches, positions, strict=True))}


def _not_there(repository: Repository, job: Job) -> Iterator[tuple[str, int]]:
    """A local action that the checkout does not have, unless an earlier step may have fetched it."""
    for step in job.steps:
        if may_be_fetched(step):
            return
        names = ("action.yml", "action.yaml", "Dockerfile")
        paths = (posixpath.normpath(f"{step.uses}/{name}") for name in names)
        if step.uses.startswith("./") and all(repository.script(each) is None for each in paths):
            yield f"{step.uses} is not an action in the checkout", step.line


_RENDERS = re.compile(r"aws-actions/amazon-ecs-(?:render|deploy)-task-definition@")


def _unrendered(repository: Repository, job: Job) -> Iterator[tuple[str, int]]:
    """A task definition that the checkout lacks, or without the container, and that nothing here writes."""
    for at, step in enumerate(job.steps if GITHUBS_MACHINES.fullmatch(job.runs_on) else ()):
        path, name = (step.given.get(each, "") for each in ("task-definition", "container-name"))
        if (
            not _RENDERS.match(step.uses)
            or not re.fullmatch(r"[\w./-]+\.json", path)
            or any(map(may_write, job.steps[:at]))
        ):
            continue
        written = repository.script(posixpath.normpath(path))
        if written is None:
            yield f"{path} is not in the checkout, and no earlier step writes it", step.line
            continue
        named = re.findall(r'"name"\s*:\s*"([^"]*)"', written)
        if re.fullmatch(r"[\w-]+", name) and name not in named:
            yield f"{path} has no container {name}", step.line


_CREDENTIALS = re.compile(r"aws-actions/configure-aws-credentials@")
#: Inputs that give the action other credentials.
_OTHER_CREDENTIALS = {"aws-access-key-id", "web-identity-token-file", "role-chaining"}


def _without_token(workflow: Workflow, job: Job) -> Iterator[tuple[str, int]]:
    """A step that assumes an AWS role with GitHub's OIDC token in a job without the permission for one."""
    granted = workflow.permissions if job.permissions is None else job.permissions
    callers = granted is None and "workflow_call" in workflow.triggers
    step = None if callers or _may_sign(granted) else _signing(workflow, job)
    if step is not None:
        yield "it assumes an AWS role without the permission `id-token: write`", step.line


def _ungranted(repository: Repository, workflow: Workflow, job: Job) -> Iterator[tuple[str, int]]:
    """A call without the permission for a token that a job of the called workflow asks for, or uses."""
    called = repository.called(job)
    granted = workflow.permissions if job.permissions is None else job.permissions
    if called is None or "workflow_call" in workflow.triggers or _may_sign(granted):
        return
    for each in called.jobs.values():
        asked = called.permissions if each.permissions is None else each.permissions
        if _may_sign(asked) or (asked is None and _signing(called, each) is not None):
            yield (
                f"{each.name} of {called.path} needs the permission `id-token: write`, which the call lacks",
                0,
            )


def _may_sign(granted: Mapping[str, str] | None) -> bool:
    return granted is not None and (granted.get("*") == "write-all" or granted.get("id-token") == "write")


def _signing(workflow: Workflow, job: Job) -> Step | None:
    """The step of a job on GitHub's machines that assumes an AWS role with a token."""
    for at, step in enumerate(job.steps if GITHUBS_MACHINES.fullmatch(job.runs_on) else ()):
        if (
            _CREDENTIALS.match(step.uses)
            and step.given.get("role-to-assume")
            and not _OTHER_CREDENTIALS & {*step.given}
            and not any(_CREDENTIALS.match(each.uses) or "AWS_ACCESS" in each.run for each in job.steps[:at])
            and not any("AWS_ACCESS_KEY_ID" in env for env in (workflow.env, job.env, step.env))
        ):
            return step
    return None


#: Contexts that are not available by place: GitHub refuses a workflow that uses one.
_NOT_IN_IF = ("env", "job", "matrix", "runner", "secrets", "steps", "strategy")
_NOT_IN_STEPS_IF = ("secrets",)
_NOT_IN_WITH = ("env", "job", "runner", "secrets", "steps")
_NOT_IN_ENV = ("env", "job", "runner", "steps")
_NOT_AROUND_JOBS = (*_NOT_IN_ENV, "matrix", "needs", "strategy")


def _unnamed(texts: Iterable[str], contexts: Sequence[str], where: str) -> Iterator[str]:
    """The contexts of expressions that are not available where they are used."""
    named = re.compile(rf"(?<![\w.*-])({'|'.join(contexts)})\s*[.\[]", re.IGNORECASE)
    for each in texts:
        if found := named.search(_QUOTED.sub("''", each)):
            yield f"GitHub refuses {where} that names {found[1]}: {each.strip()}"


def _misplaced(workflow: Workflow, job: Job) -> Iterator[tuple[str, int]]:
    """Contexts that GitHub does not provide at that place."""
    yield from ((what, 0) for what in _unnamed(_expressions([], job.condition), _NOT_IN_IF, "a job's `if`"))
    yield from (
        (what, 0) for what in _unnamed(_expressions(job.env.values(), None), _NOT_IN_ENV, "a job's `env`")
    )
    given = _expressions(job.given.values() if job.uses else (), None)
    yield from ((what, 0) for what in _unnamed(given, _NOT_IN_WITH, "a job's `with`"))
    yield from (
        (what, 0) for what in _unnamed(_expressions([job.runs_on], None), _NOT_IN_WITH, "a `runs-on`")
    )
    around = _expressions(workflow.env.values(), None)
    yield from ((what, 0) for what in _unnamed(around, _NOT_AROUND_JOBS, "an `env` around jobs"))
    for step in job.steps:
        conditions = _expressions([], step.condition)
        yield from ((what, step.line) for what in _unnamed(conditions, _NOT_IN_STEPS_IF, "a step's `if`"))


def _empty(repository: Repository, workflow: Workflow, job: Job) -> Iterator[tuple[str, int]]:
    """Values that are empty because nothing sets them: of a job that is not needed, of a missing output.

    GitHub compares all these names case-insensitively.
    """
    before = {name.lower(): workflow.jobs[name] for name in job.needs}
    for texts, line, ids in _written(job):
        for text in (_QUOTED.sub("''", each) for each in texts):
            yield from ((what, line) for what in _unset(workflow, job, text))
            for name, output in _NEEDS.findall(text):
                needed = before.get(name.lower())
                if needed is None:
                    yield f"needs.{name} is empty: the job does not list that one under needs", line
                elif output and not needed.uses and output.lower() not in map(str.lower, needed.outputs):
                    yield f"needs.{name}.outputs.{output} is empty: {name} has no such output", line
            for name, output in _STEPS.findall(text):
                if name.lower() not in ids:
                    yield f"steps.{name} is empty: no step before it has that id", line
                elif output and not _may_set(ids[name.lower()], output):
                    yield f"steps.{name}.outputs.{output} is empty: that step sets no such output", line
                elif event := _skipped(repository, workflow, job, ids[name.lower()], line, output):
                    yield f"steps.{name}.outputs.{output} is empty on {event}: that step is skipped", line


def _skipped(repository: Repository, workflow: Workflow, job: Job, step: Step, line: int, output: str) -> str:
    """The event on which a step is skipped while the step at this line runs, and fails without its output."""
    reader = next((each for each in job.steps if each.line == line and each is not step), None)
    read = re.compile(rf"\$\{{\{{\s*steps\.{re.escape(step.id)}\.outputs\.{re.escape(output)}\s*\}}\}}", re.I)
    if reader is None or not shell.demands(read.sub("OUTPUT", reader.run), "OUTPUT", repository.script):
        return ""
    for event in workflow.events:
        situations = [Situation(inputs=each, unread=OUTCOMES, known=event) for each in workflow.runs]
        runs = [any(each.condition.ways(one)[0] for one in situations) for each in (reader, step)]
        if may_run(workflow, job, event) and runs == [True, False]:
            return event.get("github.event_name") or "every event"
    return ""


def _unset(workflow: Workflow, job: Job, text: str) -> Iterator[str]:
    """The names in an expression that a needed job, a matrix, or its workflow's inputs, do not have."""
    for name, part in _NO_PART.findall(text):
        yield f"needs.{name}.{part} is empty: a job has only outputs and a result"
    if "||" in text:  # an alternative if it is empty
        return
    keys = _keys(job.matrix)
    inputs = {each.lower() for each in (*workflow.inputs, *workflow.defaults)}
    for name in _MATRIX.findall(text):
        if keys is not None and name.lower() not in map(str.lower, map(str, keys)):
            yield f"matrix.{name} is empty: the matrix has no such key"
    for name in _INPUTS.findall(text) if _ASKS & {*workflow.triggers} else ():
        if name.lower() not in inputs:
            yield f"inputs.{name} is empty: the workflow has no such input"
    field = _OF_AN_EVENT.fullmatch(text.strip())
    if field and not {"workflow_call", *_TELL[field[1] or field[2]]} & {*workflow.triggers}:
        yield f"{text.strip()} is empty: no event under `on` has it"


#: Events with inputs.
_ASKS = {"workflow_dispatch", "workflow_call"}
_MATRIX, _INPUTS = re.compile(r"(?<![\w.])matrix\.([\w-]+)"), re.compile(r"(?<![\w.])inputs\.([\w-]+)")


#: What an expression reads of an event, and the events that have it.
_OF_AN_EVENT = re.compile(
    r"github\.(?:(head_ref|base_ref)|event\.(pull_request|release|client_payload|workflow_run)\.[\w.]+)"
)
_OF_A_PULL = ("pull_request", "pull_request_target")
_TELL = {
    "head_ref": _OF_A_PULL,
    "base_ref": _OF_A_PULL,
    "pull_request": (*_OF_A_PULL, "pull_request_review", "pull_request_review_comment"),
    "release": ("release",),
    "client_payload": ("repository_dispatch",),
    "workflow_run": ("workflow_run",),
}


def _keys(matrix: Any) -> set[str] | None:
    """The names in a job's matrix; None if only a run knows them."""
    if matrix is None:
        return set()
    included = matrix.get("include", []) if isinstance(matrix, dict) else ""
    if not isinstance(matrix, dict) or not isinstance(included, list):
        return None
    if not all(isinstance(each, dict) for each in included):
        return None
    return {*matrix, *(name for each in included for name in each)} - {"include", "exclude"}


#: All outputs of actions that hand an image on.
_OUTPUTS = {"aws-actions/amazon-ecs-render-task-definition": {"task-definition"},
            "docker/build-push-action": {"imageid", "digest", "metadata"}}  # fmt: skip


def _may_set(step: Step, output: str) -> bool:
    """Whether a step may set an output: not if it names each output that it sets, and this one is missing."""
    lines = [line for line in step.run.splitlines() if re.search(r"GITHUB_OUTPUT\b", line)]
    if not step.uses and step.run.strip() and all(map(_PLAIN.match, step.run.strip().splitlines())):
        return False
    if step.uses or not lines or not all(map(_SETS.match, lines)):
        named = output.lower()  # GitHub does not distinguish upper and lower case
        return named in _OUTPUTS.get(step.uses.partition("@")[0], {named})
    return re.search(rf"(?<![\w-]){re.escape(output)}(?![\w-])", step.run, re.IGNORECASE) is not None


def _written(job: Job) -> Iterator[tuple[list[str], int, dict[str, Step]]]:
    """Yield the expressions of a job, its steps and its outputs, each with the earlier steps.

    These are by their ids, in lower case.
    """
    ids: dict[str, Step] = {}
    yield _expressions([*job.env.values(), *job.given.values()], job.condition), 0, ids
    for step in job.steps:
        # an action may have its default where an event gives it nothing, as checkout's ref has
        given = [each for each in step.given.values() if not _OF_AN_EVENT.search(each)]
        yield _expressions([step.run, *step.env.values(), *given], step.condition), step.line, ids
        ids = ids | {step.id.lower(): step}
    yield _expressions(job.outputs.values(), None), 0, ids


def _expressions(texts: Iterable[str], condition: Condition | None) -> list[str]:
    found = [expression for text in texts for expression in EXPRESSION.findall(text)]
    left = [condition] if condition is not None else []
    while left:
        each = left.pop()
        left += each.parts
        found.append(each.text)
    return found


def _without_checkout(repository: Repository, job: Job) -> Iterator[tuple[str, int]]:
    """A step that runs a script of the checkout before a step has checked it out."""
    if "self-hosted" in job.runs_on:
        return
    for step in job.steps:
        local = step.uses if step.uses.startswith("./") else repository.first_script(step.run)
        if local:
            yield f"{local} is not there: no earlier step checked out the repository", step.line
            return
        if (step.uses and not OTHERS.match(step.uses)) or FETCHES.search(step.run):
            return


Wrong = tuple[str, int]


def misgiven(repository: Repository, job: Job) -> Iterator[Wrong]:
    """What GitHub refuses in a call: missing or unknown inputs and secrets of the called workflow."""
    path = posixpath.normpath(job.uses) if job.uses.startswith("./") else ""
    if job.uses and (job.steps or job.runs_on):
        yield "it calls a workflow and has steps or a machine of its own", 0
    if path not in repository.workflows:
        return
    if "workflow_call" not in repository.workflows[path].triggers:
        yield f"{path} cannot be called: it has no workflow_call under `on`", 0
        return
    top = top_of(repository.script(path) or "")
    call = top.below("on", "workflow_call")
    parts = [("input", _declared(call, "inputs"), job.given)]
    if job.secrets.get("*") != "inherit":
        parts.append(("secret", _declared(call, "secrets"), job.secrets))
    for kind, declared, given in parts:
        for name, required in declared.items():
            if required and name not in given:
                yield f"{path} is not given its {kind} {name}, which it requires", 0
        for name in given.keys() - declared.keys() - {"*"}:
            yield f"{path} has no {kind} {name}", 0


def _withheld(repository: Repository, job: Job) -> Iterator[Wrong]:
    """Secrets that a called workflow reads, does not declare as optional, and is not given.

    Where another job passes all secrets, one may be optional without that, but not the role of AWS's action.
    """
    path = posixpath.normpath(job.uses) if job.uses.startswith("./") else ""
    called = repository.workflows.get(path)
    if called is None or job.secrets.get("*") == "inherit":
        return
    optional = _declared(top_of(repository.script(path) or "").below("on", "workflow_call"), "secrets")
    given = {"GITHUB_TOKEN", *map(str.upper, (*job.secrets, *optional))}
    own = [each for each in called.jobs.values() if not each.environment]  # which may have secrets itself
    texts = [text for each in own for texts, _, _ in _written(each) for text in texts if "||" not in text]
    if any(one.uses == job.uses and one.secrets.get("*") for _, one in repository.jobs()):
        steps = [step for each in own if each.condition == _PLAINLY for step in each.steps]
        roles = [step.given.get("role-to-assume", "") for step in steps if step.condition == _PLAINLY]
        texts = _expressions(roles, None)
    for name in dict.fromkeys(name for text in texts for name in _SECRETS.findall(text)):
        if name.upper() not in given:
            yield f"secrets.{name} is empty in {path}: the call does not pass it", 0


_SECRETS, _PLAINLY = re.compile(r"(?<![\w.])secrets\.(\w+)"), Condition.of("")


def _declared(call: Entries, kind: str) -> dict[str, bool]:
    """The inputs or secrets of a workflow by name, and whether it requires them."""
    found = call.below(kind)
    return {name: entries_of(node).plain("required") in (True, "true") for name, (_, node) in found.items()}


def of_actions(repository: Repository, job: Job) -> Iterator[Wrong]:
    """Missing parts of a composite action in the checkout: a step's shell, an input that it reads."""
    for step in job.steps:
        action = repository.action(step.uses) if step.uses.startswith("./") else None
        if action is None:
            continue
        path, steps = action
        top = top_of(repository.script(path) or "")
        declared = {*top.below("inputs")}
        for each in steps:
            if each.run and not each.shell:
                yield f"a step of {path} runs a script and names no shell", step.line
            for text in (each.run, *each.env.values(), *each.given.values()):
                for written in EXPRESSION.findall(text):
                    for name in _INPUTS.findall(written):
                        if name not in declared:
                            yield f"inputs.{name} is empty: {path} has no such input", step.line
