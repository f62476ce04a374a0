"""Finds the jobs that deploy this platform, by their commands and names, and deployments by other systems."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smoke.source.checkout import Finding
from smoke.source.rules import ENVIRONMENTS
from smoke.source.scripts import shell
from smoke.source.terraform.files import SUFFIXES

from .expansion import Expansion
from .repository import Placed, Repository
from .workflows import Job, Workflow


def names_any(values: set[str], names: Sequence[str]) -> bool:
    """Whether a value is a service's name or ends in it, such as `$PREFIX-api` and `prod/api`."""
    pattern = re.compile(rf"(?:.*[^A-Za-z0-9])?(?:{'|'.join(map(re.escape, names))})", re.DOTALL)
    return any(pattern.fullmatch(value) for value in values)


def values_of(repository: Repository, workflow: Workflow, job: Job) -> Iterator[str]:
    """Every value that may name a service: words of the commands, the matrix, environments, inputs."""
    jobs, texts = [job], list[str]()
    for each in jobs:
        texts += [*_flat(_of_matrix(each.matrix)), *each.env.values(), *each.given.values()]
        inner = repository.called(each) if len(jobs) <= _MOST else None
        jobs += inner.jobs.values() if inner else ()
    for placed in repository.everything(workflow, job):
        texts += [*placed.step.env.values(), *placed.step.given.values()]
        lines = [*repository.recipes(placed.step)]
        texts += [word for line in lines for words in shell.run_by(line) for word in words[1:]]
        texts += [word for command in shell.commands(shell.parse(placed.step.run))
                  for word in shell.words(command)[1:]]  # fmt: skip
        for script in map(shell.parse, (placed.step.run, *lines)):
            for kind in ("for_statement", "array"):
                texts += [
                    shell.unquoted(word) for node in shell.below(script, kind) for word in node.named_children
                ]
    for text in texts:
        yield from re.split(r"[\s,;\"'\[\]]+", text)


#: Maximum number of jobs searched, including those of called workflows.
_MOST = 100


def spoken_of(repository: Repository, workflow: Workflow, job: Job, name: str) -> bool:
    """Whether a job's script in another language, or the input of a command, contains a name."""
    pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![\w-])")
    return any(
        pattern.search(text)
        for placed in repository.everything(workflow, job)
        for text in (*(text for _, text in repository.others(placed.step)), *_inputs(placed.step.run))
    )


def _inputs(script: str) -> Iterator[str]:
    """The here-documents and here-strings of a script."""
    for kind in ("heredoc_body", "herestring_redirect") if "<<" in script else ():
        yield from (shell.text_of(node) for node in shell.below(shell.parse(script), kind))


def _of_matrix(matrix: Any) -> Any:
    """A matrix without its excluded values; an entry with several names excludes a combination only."""
    if not isinstance(matrix, dict):
        return matrix
    alone = [each for each in matrix.get("exclude") or () if isinstance(each, dict) and len(each) == 1]
    left_out = [item for each in alone for item in each.items()]
    return {
        name: [each for each in values if (name, each) not in left_out]
        if isinstance(values, list)
        else values
        for name, values in matrix.items()
        if name != "exclude"
    }


def _flat(data: Any) -> Iterator[str]:
    if isinstance(data, (dict, list)):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _flat(value)
    elif data is not None:
        yield str(data)


_APPLY = ("terraform apply", "tofu apply")
#: Targets that contain no service, and depend on none.
_TARGETS = re.compile(
    r"(?:^|\.)aws_(?:acm|db|ecr|ecs_cluster|ecs_task_definition|iam|kms|lb|rds|s3|secretsmanager|security_group"
    r"|sns|sqs|ssm|subnet|vpc|cloudwatch_log_group)\w*\."
)
#: What is not a comment is kept: texts may contain `//` and `#`.
_COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*")|/\*.*?\*/|(?:#|//)[^\n]*', re.DOTALL)
_BLOCK = re.compile(r"^(?=\w[^=\n]*\{)", re.MULTILINE)
_SERVICE = re.compile(r'\bresource\s+"aws_ecs_service"|"aws_ecs_service"\s*:')
_TASK = re.compile(r"\baws_ecs_task_definition\.([\w-]+)")
_GIVEN_IMAGE = re.compile(r"\bimage\"?\s*[=:].*\b(?:var|local|data)\.")
#: Blocks that may contain a service.
_OTHERWISE = re.compile(r"\baws_(?:ecs_task_set|cloudformation)|\b(?:helm|kubernetes)_")
_BY_MODULE = re.compile(r"\becs\b|fargate")
#: A service keeps the revision that a pipeline has given it.
_KEEPS = re.compile(r"\bignore_changes\s*=\s*(?:all\b|\[[^\]]*\btask_definition\b)")
_SOURCE = re.compile(r"\bsource\"?\s*[=:]\s*\"([^\"]*)\"")


def _relevant_commands(repository: Repository, placed: Placed) -> Iterator[list[str]]:
    """Yield the commands of a step, except for those that apply Terraform without a service in it."""
    folder = placed.step.directory
    for words in repository.commands(placed.step):
        if words[:1] == ["cd"]:
            folder = posixpath.join(folder, words[1]) if len(words) == 2 else ""
        if not any(shell.runs(words, each) for each in _APPLY):
            yield words
            continue
        targets = [*shell.option_values(words, "-target", "--target")]
        if "-refresh-only" in words or (targets and all(map(_TARGETS.search, targets))):
            continue
        where = posixpath.join(folder, shell.option(words, "-chdir"))
        if "$" in where or _makes_services(repository, posixpath.normpath(where), set()):
            yield words


def _makes_services(repository: Repository, folder: str, seen: set[str]) -> bool:
    """Whether the Terraform of a folder may make a service; a folder without Terraform may hold anything."""
    seen.add(folder)
    inside = [path for path in repository.paths if (posixpath.dirname(path) or ".") == folder]
    texts = [repository.script(path) for path in inside if path.endswith(SUFFIXES)]
    if not texts or None in texts:
        return True
    joined = _COMMENT.sub(lambda found: found[1] or "", "\n".join(text or "" for text in texts))
    blocks, local = _BLOCK.split(joined), set[str]()
    if _OTHERWISE.search(joined) or any(_moves(each, blocks) for each in blocks):
        return True
    for block in blocks:
        for source in _SOURCE.findall(block):
            if source.startswith(("./", "../")):
                local.add(posixpath.normpath(posixpath.join(folder, source)))
            elif _BY_MODULE.search(f"{block.partition('{')[0]} {source}"):
                return True
    return any(_makes_services(repository, each, seen) for each in sorted(local - seen))


def _moves(block: str, blocks: Sequence[str]) -> bool:
    """Whether a block is a service that takes each new revision of Terraform's.

    Beside services that keep the pipeline's revisions, one with a fixed image does not: a pooler.
    """
    if not _SERVICE.search(block) or _KEEPS.search(block):
        return False
    if not any(_SERVICE.search(each) and _KEEPS.search(each) for each in blocks):
        return True
    named = {f'"{each}"' for each in _TASK.findall(block)}
    tasks = [each for each in blocks if named & {*each.partition("{")[0].split()}]
    return any(map(_GIVEN_IMAGE.search, tasks))


#: Commands that have another system deploy.
_COMMANDS = (
    "argocd app sync", "argocd app set", "flux reconcile", "spin pipeline execute", "gh workflow run",
    "aws codepipeline start-pipeline-execution", "aws codebuild start-build",
    "aws ssm start-automation-execution", "aws stepfunctions start-execution",
)  # fmt: skip
_ACTIONS = re.compile(r"repository-dispatch|workflow-dispatch|argocd|codebuild-run-build|trigger.*pipeline")
#: Paths of requests that start a GitHub workflow or a GitLab pipeline.
_REQUEST = re.compile(r"\b(?:curl|http|gh api)\b[^\n]*(?:\\\n[^\n]*)*/(?:dispatches|trigger/pipeline)\b")
#: Files in which other tools define their pipelines.
PIPELINES = (
    ".gitlab-ci.yml", "Jenkinsfile", "buildspec.yml", "buildspec.yaml", ".circleci/config.yml",
    "bitbucket-pipelines.yml", "azure-pipelines.yml", ".buildkite/pipeline.yml", ".drone.yml",
)  # fmt: skip


def pipelines(repository: Repository) -> list[str]:
    """The pipelines of other tools in the checkout."""
    return [path for path in PIPELINES if repository.script(path) is not None]


def handed(repository: Repository, workflow: Workflow) -> Iterator[Finding]:
    """The jobs of a workflow that start a deployment elsewhere, each with how it does so."""
    for job in workflow.jobs.values():
        how = next(_how(repository, workflow, job), "")
        if how:
            yield workflow.finding(job.line, f"{job.name} leaves the deployment to another system: {how}")


def _how(repository: Repository, workflow: Workflow, job: Job) -> Iterator[str]:
    elsewhere = ""
    for placed in repository.everything(workflow, job):
        step = placed.step
        if step.uses.partition("@")[0] == "actions/checkout":
            elsewhere = step.given.get("repository", elsewhere)
        if _ACTIONS.search(step.uses):
            yield step.uses
        if _REQUEST.search(step.run):
            yield "a request that starts a pipeline"
        for words in repository.commands(step):
            started = next((command for command in _COMMANDS if shell.runs(words, command)), "")
            if started:
                yield started
            elif elsewhere and shell.runs(words, "git push"):
                yield f"git push to {elsewhere}"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The plan's facts: the workflow and its migration job, and how a deployment is recognised.

    `jobs` are name patterns of deploy jobs in that workflow, `commands` deploy in any workflow, `actions` are
    patterns of actions and workflows that deploy, `clusters` matches the platform's clusters. The workflows
    `others` belong to other products, unless they name one of these clusters. `services` are the deployed
    services and `prefix` is this environment's, empty if unknown.
    """

    workflow: str
    migration: str
    jobs: Sequence[str]
    commands: Sequence[str]
    actions: Sequence[str]
    clusters: str = "*"
    others: Sequence[str] = ()
    services: Sequence[str] = ()
    prefix: str = ""

    @classmethod
    def of(cls, facts: Mapping[str, Any], services: Iterable[str] = (), prefix: str = "") -> Pipeline:
        """Read the plan's facts."""
        return cls(
            facts["workflow"], facts["migration_job"], facts["deploy_jobs"], facts["deploy_commands"],
            facts["deploy_actions"], facts.get("clusters", "*"), facts.get("other_products", ()),
            tuple(services), prefix,
        )  # fmt: skip


def deploy_jobs(repository: Repository, plan: Pipeline) -> Iterator[tuple[Workflow, Job]]:
    """Yield the deploy jobs of all workflows: those that the plan names, and any other that deploys.

    Jobs of other workflows may deploy another product or environment, or only restart or scale services.
    """
    for workflow, job in repository.jobs():
        of_another = workflow.path in plan.others and not _is_meant(repository, plan, workflow, job)
        if of_another or not deploys(repository, plan, workflow, job):
            continue
        if workflow.path == plan.workflow or not (
            _is_elsewhere(repository, plan, workflow, job) or _is_upkeep(repository, plan, workflow)
        ):
            yield workflow, job


def elsewhere(values: Collection[str], prefix: str) -> Iterator[str]:
    """The values that begin with another environment's prefix, if none has this one's."""
    stem, _, own = prefix.rpartition("-")
    if not stem or not re.fullmatch(ENVIRONMENTS, own) or any(each.startswith(prefix) for each in values):
        return
    other = re.compile(rf"(?:.*[/:])?{re.escape(stem)}-(?!{re.escape(own)}\b)({ENVIRONMENTS})\b.*")
    yield from (each for each in sorted(values) if other.fullmatch(each))


def _is_elsewhere(repository: Repository, plan: Pipeline, workflow: Workflow, job: Job) -> bool:
    """Whether a job deploys to another environment: its values or its GitHub environment name only that."""
    values = {*values_of(repository, workflow, job), *workflow.env.values()}
    own, named = plan.prefix.rpartition("-")[2], job.environment.lower()
    same = named == own or any(re.fullmatch(each, own) and re.fullmatch(each, named) for each in _SAME)
    other = re.fullmatch(ENVIRONMENTS, named) and not same
    ours = any(plan.prefix in each for each in values)
    main, there = repository.workflows.get(plan.workflow), _regions(repository, workflow, job)
    home = {each for one in main.jobs.values() for each in _regions(repository, main, one)} if main else set()
    if home and there and home.isdisjoint(there):
        return True
    return any(elsewhere(values, plan.prefix)) or bool(plan.prefix and other and not ours)


def _regions(repository: Repository, workflow: Workflow, job: Job) -> set[str]:
    """The AWS regions that a job names; none if it may use others."""
    held: list[Mapping[str, str]] = [workflow.env, job.env]
    found = set[str]()
    for placed in repository.everything(workflow, job):
        held += [placed.env, placed.step.env, placed.step.given]
        found |= {each for words in repository.commands(placed.step)
                  for each in shell.option_values(words, "--region")}  # fmt: skip
    found |= {each[name] for each in held for name in REGIONS if name in each}
    found -= FILLED
    return set() if any("$" in each for each in found) else found


#: Where a job names its region, and how it refers to one of these.
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION", "aws-region")
FILLED = {text for name in REGIONS for text in (f"${{{{ env.{name} }}}}", f"${name}", f"${{{name}}}")}
#: Names of one kind of environment.
_SAME = ("prd|prod|production|live", "stg|stag|stage|staging", "dev|development")


def _is_upkeep(repository: Repository, plan: Pipeline, workflow: Workflow) -> bool:
    """Whether an operator or a timer starts a workflow that makes no image and no revision, and sets none."""
    if not {*workflow.triggers} <= {"workflow_dispatch", "schedule"}:
        return False
    steps = [each for job in workflow.jobs.values() for each in repository.everything(workflow, job)]
    words = [each for placed in steps for each in _relevant_commands(repository, placed)]
    if any(job.uses for job in workflow.jobs.values()) or any(
        _MAKES.search(text)
        for placed in steps
        for text in (placed.step.uses, placed.step.run, *(text for _, text in repository.others(placed.step)))
    ):
        return False
    return all(
        _KEEPING & {word.partition("=")[0] for word in each}
        and not shell.option(each, "--task-definition", "--cli-input-json")
        for each in words
        if runs_one(each, plan.commands)
    )


#: What makes an image or a revision, and options of an update that needs neither.
_MAKES = re.compile(
    r"register[-_]task[-_]def|docker\b|(?<![a-z])(?:re)?build|(?<![a-z])(?:push|bake)(?![a-z])|deploy-task-def"
    r"|boto3|client-ecs",
    re.IGNORECASE,
)
_KEEPING = {"--force-new-deployment", "--desired-count"}


def _is_meant(repository: Repository, plan: Pipeline, workflow: Workflow, job: Job) -> bool:
    """Whether a job names one of the platform's clusters."""
    values = {*values_of(repository, workflow, job), *workflow.env.values()}
    return any(fnmatch.fnmatchcase(each.rpartition("/")[2], plan.clusters) for each in values if each)


#: Commands that deploy to ECS, or create things there.
_OF_ECS = re.compile(
    r"\baws (?:ecs|deploy)\b|ecspresso|copilot|\b(?:terraform|tofu|terragrunt)\b|\becs\b|boto3"
)


def of_whom(repository: Repository, plan: Pipeline, workflow: Workflow, job: Job) -> str:
    """Why a deploy job may not be this platform's: it names none of its services, and no tool for ECS.

    Empty if it does, or if the plan does not list services.
    """
    stem = plan.clusters.partition("*")[0].strip("-")
    if not plan.services or not stem or job.uses or any(_is_action(plan, each.uses) for each in job.steps):
        return ""
    texts = [job.name, workflow.name, *values_of(repository, workflow, job)]
    for placed in repository.everything(workflow, job):
        texts += [placed.step.run, placed.step.directory, placed.step.uses]
        texts += [" ".join(words) for words in repository.commands(placed.step)]
        texts += [text for _, text in repository.others(placed.step)]
    joined = "\n".join(texts)
    updates = [
        each.words for each in Expansion(repository, workflow).commands(job) if runs_one(each.words, _UPDATES)
    ]
    served = {shell.option(each, "--service") for each in updates}
    if served and all(map(_LITERAL.fullmatch, served)) and not names_any(served, plan.services):
        return f"whether {job.name} deploys this platform: {', '.join(sorted(served))} is not in the plan"
    ours = [stem, *(name for name, value in workflow.env.items() if stem in value)]
    ours = [] if "sam deploy" in joined else ours  # functions of Lambda
    if _OF_ECS.search(joined) or any(re.search(rf"\b{re.escape(each)}\b", joined) for each in ours):
        return ""
    words = {word.lower() for word in re.split(r"[^A-Za-z0-9]+", joined)}
    if words & {*plan.services}:
        return ""
    return f"whether {job.name} deploys this platform: it names nothing of it (see other_products)"


_UPDATES, _LITERAL = ("aws ecs update-service",), re.compile(r"[\w-]+")


def unseen(repository: Repository, plan: Pipeline) -> list[Finding]:
    """Why the workflows contain no deployment: another system deploys. Empty if they do."""
    main = repository.workflows.get(plan.workflow)
    if main is None:
        others = "".join(f"; {path} is, which is not read" for path in pipelines(repository))
        what = f"the workflow that the plan names is not in the checkout{others}"
        return [Finding(plan.workflow, 0, what)] if plan.workflow not in repository.unread else []
    if any(workflow is main for workflow, _ in deploy_jobs(repository, plan)):
        return []
    return list(handed(repository, main))


def deploys(repository: Repository, plan: Pipeline, workflow: Workflow, job: Job) -> bool:
    """Whether a job deploys: by its name, by its commands, or by a job of the workflow that it calls."""
    if workflow.path == plan.workflow and any(fnmatch.fnmatchcase(job.name, each) for each in plan.jobs):
        return True
    inner = repository.called(job)
    if inner is not None and inner.path == plan.workflow != workflow.path:
        return any(deploys(repository, plan, inner, each) for each in inner.jobs.values())
    return any(deploys_here(repository, plan, workflow, job))


def deploys_here(
    repository: Repository, plan: Pipeline, workflow: Workflow, job: Job
) -> Iterator[Placed | None]:
    """Yield a job's deploying steps; None for an external workflow that the job calls."""
    if _is_action(plan, job.uses):
        yield None
    for placed in repository.everything(workflow, job):
        if (
            (_is_action(plan, placed.step.uses) and not _runs_a_task(placed.step.given))
            or runs_any(repository, placed, plan.commands, plan.clusters)
            or any(_speaks(text, plan.commands) for _, text in repository.others(placed.step))
        ):
            yield placed


def _speaks(text: str, commands: Sequence[str]) -> bool:
    """Whether a script in another language runs one of the commands: as words, or with boto3's method."""
    for command in commands:
        *_, last = command.split()
        method = rf"|\.{last.replace('-', '_')}\(" if command.startswith("aws ") and "-" in last else ""
        words = r"\W+".join(map(re.escape, command.split()))
        if re.search(rf"\b{words}\b{method}", text):
            return True
    return False


def _is_action(plan: Pipeline, uses: str) -> bool:
    return not uses.startswith("./") and any(fnmatch.fnmatchcase(uses, each) for each in plan.actions)


def _runs_a_task(given: Mapping[str, str]) -> bool:
    """Whether an action that may deploy only runs a task to its end, and updates no service."""
    return given.get("run-task") == "true" and not given.get("service")


def runs_any(repository: Repository, placed: Placed, commands: Sequence[str], clusters: str = "*") -> bool:
    """Whether a step runs one of these commands, in one of the clusters."""
    found = (each for each in _relevant_commands(repository, placed) if runs_one(each, commands))
    return any(not _is_foreign(shell.option(each, "--cluster"), clusters) for each in found)


def _is_foreign(cluster: str, clusters: str) -> bool:
    """Whether a command names another cluster than those meant, as a name or an ARN."""
    name = cluster.rpartition("/")[2]
    return bool(name) and re.search(r"[$`{]", name) is None and not fnmatch.fnmatchcase(name, clusters)


def runs_one(words: Sequence[str], commands: Sequence[str]) -> bool:
    """Whether a command, given as its words, is one of these commands."""
    said = [word.rstrip("/") or word for word in words]  # `pytest smoke/` is `pytest smoke`
    return any(shell.runs(said, command) for command in commands)
