"""Checks the pipeline after the gate: it must carry out deployments, and the smoke suite must decide.

It must not deliver another service's image or environment, and the smoke job must have its keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from smoke.source.checkout import Examined, Finding
from smoke.source.infrastructure.refusals import REGION
from smoke.source.rules import ENVIRONMENTS
from smoke.source.scripts import shell

from . import bakes
from .builds import unpushed
from .concurrency import cancelled
from .deploys import (
    FILLED,
    REGIONS,
    Pipeline,
    deploy_jobs,
    elsewhere,
    names_any,
    of_whom,
    runs_any,
    runs_one,
    values_of,
)
from .effects import astray, words_of
from .expansion import Expansion
from .jobs import unnoticed
from .repository import WORKFLOWS, Placed, Repository
from .unset import without_value
from .validity import may_run
from .workflows import Job, Workflow

_UPDATE, _REGISTER = "aws ecs update-service", "aws ecs register-task-definition"
_MUTE = "aws cloudwatch disable-alarm-actions"
#: Things that may enable actions again: a command, a library call, an external action or workflow.
_UNMUTES = re.compile(
    r"enable[-_]?alarm[-_]?actions|put[-_]?metric[-_]?alarm|^uses .*(?:mute|alarm)", re.IGNORECASE
)
#: An action that only registers a definition if it gets no service, and commands that deploy a definition.
_REGISTERS = re.compile(r"aws-actions/amazon-ecs-deploy-task-definition@")
_PUTS_IN = re.compile(
    r"(?:update|create)[-_]?service|create[-_]?(?:deployment|task[-_]?set)|put[-_]?targets|"
    r"\b(?:terraform|tofu|terragrunt|pulumi|cdk|copilot|ecspresso|(?<!amazon-)ecs-deploy|ecs-cli|"
    r"cloudformation|codepipeline|gh workflow run|helm|kubectl|sam)\b|"
    r"^uses (?!aws-actions/|actions/)\S",
    re.IGNORECASE,
)
_APPLIES = re.compile(r"\b(?:terraform|tofu|terragrunt)\s(?:.*\s)?apply\b")
#: The suite's exit code 2 is DEGRADED, which a team may let pass.
_DEGRADED = "whether exit code 2 stands for a failure"
_BUILDS, _PUSHES = ("docker build", "docker buildx build"), ("docker push", "docker image push")
#: Commands that wait for a deployment and succeed if it succeeded.
_WAITS = ("aws ecs wait services-stable", "aws deploy wait deployment-successful")


def uncarried(repository: Repository, plan: Pipeline, cluster: str) -> tuple[int, Examined]:
    """Return how many deploy jobs there are, and how they can succeed without a deployment.

    `cluster` is the name of this environment's cluster.
    """
    count, result = 0, Examined()
    commands = [*plan.commands, *_WAITS, *_PUSHES]
    for workflow, job in deploy_jobs(repository, plan):
        if job.name == plan.migration:
            continue
        count += 1
        if job.uses and repository.called(job) is None:
            what = f"{job.name} calls the workflow {job.uses}, which is not in the checkout"
            result.not_examined.append(workflow.finding(job.line, what))
        before = [workflow.jobs[name] for name in workflow.ancestors(job.name) if name != plan.migration]
        for each in (*before, job):
            lost = unnoticed(
                repository, workflow, each, lambda words: runs_one(words, commands) or bakes.pushes(words)
            )
            result.include(lost)
        expansion = Expansion(repository, workflow)
        for each in (*before, job):
            result.include(expansion.said(each))
        result.findings.extend(unpushed(repository, workflow, [*before, job], expansion))
        for each in (*before, job) if workflow.path == plan.workflow else ():
            result.findings.extend(_of_another_branch(repository, workflow, each))
        for what in (*_wrong(repository, workflow, job), *astray(repository, workflow, job, cluster)):
            result.findings.append(workflow.finding(job.line, f"{job.name} {what}"))
    deploying: dict[str, list[str]] = {}
    for workflow, job in deploy_jobs(repository, plan):
        deploying.setdefault(workflow.path, []).append(job.name)
    result.findings.extend(cancelled(repository, deploying))
    result.findings.extend(_muted(repository, plan, f"{cluster.rpartition('-')[0]}-"))
    return count, Examined(*(list(dict.fromkeys(each)) for each in (result.findings, result.not_examined)))


def _muted(repository: Repository, plan: Pipeline, environment: str) -> Iterator[Finding]:
    """An environment's alarms that a deploying workflow disables and nothing enables again.

    Terraform restores an alarm if the same workflow applies it.
    """
    said = {path: [*_said(repository, of)] for path, of in repository.workflows.items()}
    deploying = {of.path: of for of, _ in deploy_jobs(repository, plan)}
    if any(_UNMUTES.search(each) for texts in said.values() for each in texts):
        return
    for of in deploying.values():
        for job in of.jobs.values() if not any(map(_APPLIES.search, said[of.path])) else ():
            for words in words_of(repository, of, job):
                name = shell.option(words, "--alarm-names")
                if shell.runs(words, _MUTE) and ("$" in name or name.startswith(environment)):
                    what = f"{job.name} disables the actions of {name} and never enables them again"
                    yield of.finding(job.line, what)


def _said(repository: Repository, workflow: Workflow) -> Iterator[str]:
    """Everything that a workflow runs: steps, commands, scripts in other languages, actions, workflows."""
    yield from _said_by(repository, workflow, workflow.jobs.values())


def _said_by(repository: Repository, workflow: Workflow, jobs: Iterable[Job]) -> Iterator[str]:
    for job in jobs:
        yield f"uses {job.uses}"
        for placed in repository.everything(workflow, job):
            yield from (f"uses {placed.step.uses}", placed.step.run)
            yield from (" ".join(words) for words in repository.commands(placed.step))
            yield from (text for _, text in repository.others(placed.step))


def _wrong(repository: Repository, workflow: Workflow, job: Job) -> Iterator[str]:
    """Mistakes in the commands of a deploy job."""
    words = list(words_of(repository, workflow, job))
    updates = [each for each in words if shell.runs(each, _UPDATE)]
    later = [other for other in workflow.jobs.values() if job.name in workflow.ancestors(other.name)]
    behind = [each for other in later for each in words_of(repository, workflow, other)]
    unset = without_value(repository, workflow, job)
    if updates and all(_stops(each, unset) for each in [*updates, *behind] if shell.runs(each, _UPDATE)):
        yield "stops its service: it sets the desired count to 0, and no later step raises it"
    registers = any(shell.runs(each, _REGISTER) for each in words)
    others = [shell.option(each, "--task-definition", "--cli-input-json") for each in updates]
    if registers and updates and not any(others):
        yield "registers a task definition but does not deploy it: the service keeps its current one"
    yield from _shelved(repository, workflow, [job, *later], registers=registers and not updates)


def _shelved(
    repository: Repository, workflow: Workflow, jobs: Sequence[Job], *, registers: bool
) -> Iterator[str]:
    """Task definitions that a job registers, by a command or an action, but no job puts into a service."""
    acts = [placed.step for job in jobs for placed in repository.everything(workflow, job)
            if _REGISTERS.match(placed.step.uses)]  # fmt: skip
    if any({"service", "run-task"} & {*step.given} for step in acts):
        return
    if (registers or acts) and not any(map(_PUTS_IN.search, _said_by(repository, workflow, jobs))):
        yield "registers a task definition and puts it into no service"


def _of_another_branch(repository: Repository, workflow: Workflow, job: Job) -> Iterator[Finding]:
    """A job that builds from a branch other than the one that starts its workflow."""
    out = ""
    for placed in repository.everything(workflow, job):
        step = placed.step
        if step.uses.partition("@")[0] == "actions/checkout" and not {"repository", "path"} & {*step.given}:
            out = step.given.get("ref", "").removeprefix("refs/heads/")
        builds, own = step.uses.startswith("docker/build-push-action"), True
        for words in repository.commands(step):
            builds |= runs_one(words, _BUILDS)
            own &= words[0] not in ("cd", "pushd") and words[:2] != ["git", "clone"]
            if (
                words[:2] in (["git", "checkout"], ["git", "switch"])
                and len(words) == 3
                and own
                and not builds
            ):
                out = words[2]
        named = re.fullmatch(r"[A-Za-z][\w./-]*", out) and not re.fullmatch(
            r"[0-9a-f]{7,40}|v?\d.*|refs/.*", out
        )
        if builds and named and workflow.branches and out not in (*workflow.branches, *repository.paths):
            on = " and ".join(workflow.branches)
            what = f"{job.name} builds the branch {out}, but a push to {on} deploys it"
            yield workflow.finding(job.line, what)


def _stops(update: Sequence[str], unset: Collection[str]) -> bool:
    """Whether a service gets no tasks, also by the default of a variable that is `unset`."""
    count = shell.option(update, "--desired-count")
    default = re.fullmatch(r"\$\{(\w+):?-0\}", count)
    return count == "0" or (default is not None and default[1] in unset)


def undecided(
    repository: Repository, plan: Pipeline, commands: Sequence[str], environment: str
) -> tuple[int, Examined]:
    """Return how many jobs run the smoke suite, and why one of them decides nothing.

    `environment` is this one's name. A job of another environment, or one that an operator starts, needs no
    smoke job after it.
    """
    count, result = 0, Examined()
    deploying = list(deploy_jobs(repository, plan))
    idle: dict[str, list[list[Finding]]] = {}
    for workflow, job in repository.jobs():
        placed = [
            each for each in repository.everything(workflow, job) if _smokes(repository, each, commands)
        ]
        if not placed:
            continue
        count += 1
        smokes = _counting(repository, placed, commands)
        lost = unnoticed(repository, workflow, job, smokes)
        result.findings.extend(lost.findings)
        result.not_examined.extend(each for each in lost.not_examined if each.what != _DEGRADED)
        own = [
            each
            for of, each in deploying
            if of.path == workflow.path and _is_own(of, each, environment)
            if not of_whom(repository, plan, of, each)
        ]
        result.findings.extend(_order(workflow, job, own))
        idle.setdefault(workflow.path, []).append([*_idle(repository, placed, smokes)])
    every = [each for found in idle.values() for each in found]
    for path, found in idle.items():
        # a workflow that deploys nothing may do this in addition
        if all(found) and (all(every) or any(of.path == path for of, _ in deploying)):
            result.findings.extend(chain(*found))
    return count, result


def _counting(
    repository: Repository, placed: Sequence[Placed], commands: Sequence[str]
) -> Callable[[Sequence[str]], bool]:
    """Finds the commands that run the suite; a recipe's commands replace the `make` that runs it."""
    words = [each for one in placed for each in repository.commands(one.step) if runs_one(each, commands)]
    inside = any(each[0] not in _RUNNERS for each in words)
    return lambda each: runs_one(each, commands) and not (inside and each[0] in _RUNNERS)


_RUNNERS = ("make", "just", "task", "npm", "pnpm", "yarn")


def _smokes(repository: Repository, placed: Placed, commands: Sequence[str]) -> bool:
    return any(runs_one(words, commands) for words in repository.commands(placed.step))


def _is_own(workflow: Workflow, job: Job, environment: str) -> bool:
    """Whether a job deploys to this environment by itself, on some event that starts the workflow."""
    named = {
        each.lower() for each in re.findall(rf"(?:\b|_)({ENVIRONMENTS})(?:\b|_)", job.name, re.IGNORECASE)
    }
    return named <= {environment} and any(
        may_run(workflow, job, event, asked=False) for event in workflow.events
    )


def _order(workflow: Workflow, job: Job, deploying: Sequence[Job]) -> Iterator[Finding]:
    """A smoke job must run after every deployment, wherever one happens."""
    before = workflow.ancestors(job.name)
    first = [each for each in deploying if job.name not in workflow.ancestors(each.name) and each is not job]
    missing = [each.name for each in first if each.name not in before]
    if missing:
        what = f"{job.name} does not wait for {' and '.join(missing)}: it tests the previous deployment"
        yield workflow.finding(job.line, what)
    for event in workflow.events:
        deploys = any(may_run(workflow, each, event, asked=False) for each in first)
        if deploys and not may_run(workflow, job, event):
            said = event.get("github.ref") or event.get("github.event_name") or "any event"
            yield workflow.finding(job.line, f"{job.name} does not run on {said}, but {first[0].name} does")
            return


#: Options with which pytest runs no test.
_LISTS = {"--collect-only", "--co", "--setup-plan", "--fixtures", "--markers", "--help", "--version"}
_LISTING = "lists the checks and runs none"
_LOCAL = "runs with --env local: it tests an embedded platform"


def _idle(
    repository: Repository, placed: Sequence[Placed], smokes: Callable[[Sequence[str]], bool]
) -> Iterator[Finding]:
    """Runs of an embedded platform or of nothing, unless another one tests the deployment."""
    runs = [(one, words) for one in placed for words in repository.commands(one.step) if smokes(words)]
    found = [
        Finding(one.path, one.step.line, f"{one.step.label} {_LISTING if _LISTS & {*words} else _LOCAL}")
        for one, words in runs
        if _LISTS & {*words} or shell.option(words, "--env") == "local"
    ]
    yield from dict.fromkeys(found) if len(found) == len(runs) else ()


def smoke_keys(
    repository: Repository, commands: Sequence[str], keys: Sequence[str]
) -> tuple[Examined, list[str]]:
    """Examine that each job that runs one of `commands` has the variables `keys`; also return those jobs."""
    found, jobs = Examined(), list[str]()
    for workflow, job in repository.jobs():
        steps = list(repository.everything(workflow, job))
        for at, placed in enumerate(steps):
            if not runs_any(repository, placed, commands):
                continue
            jobs.append(f"{job.name} ({workflow.path})")
            for key in keys:
                _examine_key(key, workflow, job, steps[: at + 1], found)
    if not jobs:
        what = f"no job of any workflow runs {' or '.join(commands)}"
        found.not_examined.append(Finding(WORKFLOWS, 0, what))
    return found, jobs


def _examine_key(key: str, workflow: Workflow, job: Job, steps: Sequence[Placed], found: Examined) -> None:
    last = steps[-1]
    line = last.step.line if last.path == workflow.path else job.line
    value = {**last.env, **last.step.env}.get(key)
    if value is None:
        given = re.search(rf"\b{re.escape(key)}=(?![\"']{{2}}|\s|$)", last.step.run)
        earlier = any(key in each.step.run and "GITHUB_ENV" in each.step.run for each in steps[:-1])
        if not given and not earlier:
            what = f"{job.name} runs the smoke suite without {key}: the checks that need it do not run"
            found.findings.append(workflow.finding(line, what))
    elif not value.strip():
        found.findings.append(workflow.finding(line, f"{job.name} gives the smoke suite an empty {key}"))


#: A name that GitHub or a step keeps for the image of one service, such as `vars.FINN_TAG`.
_KEPT = re.compile(
    r"(?:vars|inputs|env|secrets)\.(?P<name>\w+?)_(?:IMAGE_)?(?:TAG|SHA|IMAGE|VERSION)", re.IGNORECASE
)
_WORDS = re.compile(rf"\b({ENVIRONMENTS}|dr|disaster|failover|standby)\b", re.IGNORECASE)
PRODUCTION = ("prod", "production", "live")


def misdelivered(
    repository: Repository, plan: Pipeline, groups: Mapping[str, Sequence[str]], region: str = ""
) -> tuple[int, Examined]:
    """Return how many deploy jobs were read, and values in them that belong to other services.

    `groups` are the names of services that share an image. A job that names services of several groups, or
    none, may use values of all; a value that names no service proves nothing.
    """
    result, count = Examined(), 0
    jobs = list(deploy_jobs(repository, plan))
    main = repository.workflows.get(plan.workflow)
    migrating = main.jobs.get(plan.migration) if main is not None else None
    if main is not None and migrating is not None and all(job is not migrating for _, job in jobs):
        jobs.append((main, migrating))
    for workflow, job in jobs:
        values = set(values_of(repository, workflow, job))
        own = [group for group, names in groups.items() if names_any(values, names)]
        count += job is not migrating
        around = values | set(workflow.env.values())
        carried = [*elsewhere(values, plan.prefix)] or [*elsewhere(around, plan.prefix)]
        carried = [f"{each}, which is another environment's" for each in carried]
        wrong = carried if workflow.path == plan.workflow else []
        wrong += _abroad(repository, workflow, job, region)
        if _is_production(job.environment, plan.prefix) and any(
            each.startswith(plan.prefix) for each in around
        ):
            wrong.append(f"the secrets and variables of GitHub's environment {job.environment}")
        wrong = [] if _WORDS.search(job.name) else wrong  # one that says for which environment it is
        if len(own) == 1:
            wrong += list(_foreign(_texts(repository, workflow, job), own[0], groups))
        for texts, of in _legs(job, groups):
            wrong += list(_foreign(texts, of, groups))
        for what in wrong:
            result.findings.append(workflow.finding(job.line, f"{job.name} carries {what}"))
    return count, result


def _legs(job: Job, groups: Mapping[str, Sequence[str]]) -> Iterator[tuple[set[str], str]]:
    """The values of each matrix leg of a job that names services of one image, and that image."""
    included = job.matrix.get("include") if isinstance(job.matrix, dict) else None
    for leg in included if isinstance(included, list) else ():
        texts = {str(value) for value in leg.values()} if isinstance(leg, dict) else set[str]()
        plain = {each for each in texts if "${{" not in each}
        own = [group for group, names in groups.items() if names_any(plain, names)]
        if len(own) == 1:
            yield texts, own[0]


def _is_production(environment: str, prefix: str) -> bool:
    """Whether the GitHub environment has a name of production, but this one is not production."""
    return environment.lower() in PRODUCTION and prefix.rpartition("-")[2] not in PRODUCTION


def _abroad(repository: Repository, workflow: Workflow, job: Job, region: str) -> list[str]:
    """The AWS regions of a job, if none of them is the profile's."""
    held: list[Mapping[str, str]] = [workflow.env, job.env]
    signed: list[str] = []
    for placed in repository.everything(workflow, job):
        held += [placed.env, placed.step.env, placed.step.given]
        signed += [
            placed.step.env[name] for name in REGIONS if name in placed.step.env
        ]  # it takes precedence
    named = {
        shell.option(words, "--region")
        for words in words_of(repository, workflow, job)
        if "update-service" in words
    }
    if region and {"", region}.isdisjoint(named) and named and not any("$" in each for each in named):
        return [f"the region {each}, the profile has {region}" for each in sorted(named)]
    own = _set_by_scripts(repository, workflow, job) if region and named <= {""} else set[str]()
    if own and region not in own:
        return [f"the region {each}, the profile has {region}" for each in sorted(own)]
    signed += [each["aws-region"] for each in held if _SIGNS & {*each} and "aws-region" in each]
    if signed and region and not any("$" in each for each in signed) and region not in signed:
        return [f"the region {each}, the profile has {region}" for each in sorted({*signed})]
    found = {value for each in held for name in REGIONS if (value := each.get(name)) is not None}
    if not region or any("$" in each for each in found - FILLED) or region in found:
        return []
    return [f"the region {each}, the profile has {region}" for each in sorted(found - FILLED)]


def _set_by_scripts(repository: Repository, workflow: Workflow, job: Job) -> set[str]:
    """The regions that the scripts which update the service set for themselves, outside of any branch."""
    paths = {each.path for each in Expansion(repository, workflow).commands(job)} - {workflow.path}
    texts = [text for path in paths if "update-service" in (text := repository.script(path) or "")]
    return {found["region"] for text in texts for found in _SETS_REGION.finditer(text)}


_SETS_REGION = re.compile(
    rf"^(?:export )?(?:\w+=\S+ )*AWS_(?:DEFAULT_)?REGION=[\"']?(?P<region>{REGION})[\"']?(?: \w+=\S+)*$",
    re.MULTILINE,
)
#: Names under which AWS's tools and its action get the region, and expressions for these.
_SIGNS = {"role-to-assume", "aws-access-key-id"}


def _texts(repository: Repository, workflow: Workflow, job: Job) -> set[str]:
    """The job's text as written, because its commands no longer contain GitHub's expressions."""
    texts = [
        *job.given.values(),
        *(value for name, value in job.env.items() if not name.startswith("TF_VAR_")),
    ]
    for placed in repository.everything(workflow, job):
        if any(words[:1] in (["terraform"], ["tofu"]) for words in repository.commands(placed.step)):
            continue  # it is given every service's image
        texts += [placed.step.run, *placed.step.env.values(), *placed.step.given.values()]
    return {*texts}


def _foreign(values: set[str], own: str, groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for value in sorted(values):
        for kept in _KEPT.finditer(value):
            words = {*kept["name"].lower().split("_")}
            named = {group for group, names in groups.items() if words & {*names}}
            if named and own not in named:
                yield f"{kept[0]}, the image of another service than it deploys"
