"""What the workflows leave to another system: deployments that they only start, pipelines of other tools."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smoke.source.checkout import Finding
from smoke.source.scripts import shell

from .repository import Repository
from .workflows import Job, Workflow

#: Commands that have another system deploy.
_COMMANDS = (
    "argocd app sync", "argocd app set", "flux reconcile", "spin pipeline execute", "gh workflow run",
    "aws codepipeline start-pipeline-execution", "aws codebuild start-build",
    "aws ssm start-automation-execution", "aws stepfunctions start-execution",
)  # fmt: skip
_ACTIONS = re.compile(r"repository-dispatch|workflow-dispatch|argocd|codebuild-run-build|trigger.*pipeline")
#: What a request must ask for to start a workflow of GitHub's, or a pipeline of GitLab's.
_REQUEST = re.compile(r"\b(?:curl|http|gh api)\b[^\n]*(?:\\\n[^\n]*)*/(?:dispatches|trigger/pipeline)\b")
#: Where other tools than GitHub's have their pipelines.
PIPELINES = (
    ".gitlab-ci.yml", "Jenkinsfile", "buildspec.yml", "buildspec.yaml", ".circleci/config.yml",
    "bitbucket-pipelines.yml", "azure-pipelines.yml", ".buildkite/pipeline.yml", ".drone.yml",
)  # fmt: skip


def pipelines(repository: Repository) -> list[str]:
    """The pipelines of other tools in the checkout."""
    return [path for path in PIPELINES if repository.script(path) is not None]


def handed(repository: Repository, workflow: Workflow) -> Iterator[Finding]:
    """The jobs of a workflow that start a deployment elsewhere, each with how."""
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
