"""Workflows for the tests: a build job, a migration job, a deploy job, and variations."""

from dataclasses import replace
from typing import Any

import yaml

from smoke.source.pipeline.deploys import Pipeline
from smoke.source.pipeline.gate import MigrationGate, examine
from smoke.source.pipeline.repository import Repository
from smoke.source.scripts.state import State
from smoke.source.scripts.ways import Ways

W = ".github/workflows/w.yml"
PLAN = Pipeline(
    W,
    "migrate",
    ["deploy*"],
    ["aws ecs update-service", "helm upgrade", "terraform apply"],
    ["*/amazon-ecs-deploy-*"],
    prefix="shop-staging",
)
OURS = replace(PLAN, clusters="shop-*", services=("api", "worker"))

MIGRATE = {"run": "scripts/migrate.sh"}
SCRIPT = """\
set -euo pipefail
aws ecs run-task
aws ecs wait tasks-stopped; code=$(aws ecs describe-tasks --query exitCode)
if [ $code != 0 ]; then exit 1; fi
"""


def workflow(inputs: dict[str, Any] | None = None, **jobs: dict[str, Any]) -> dict[str, Any]:
    base: dict[str, Any] = {
        "build": {"steps": [{"run": "make"}]},
        "migrate": {"needs": "build", "steps": [MIGRATE]},
        "deploy": {"needs": ["build", "migrate"], "steps": [{"run": "aws ecs update-service"}]},
    }
    return {"on": {"push": None, "workflow_dispatch": {"inputs": inputs or {}}}, "jobs": base | jobs}


def repository(data: dict[str, Any], script: str | None = SCRIPT, **others: Any) -> Repository:
    """A repository with a workflow, the script that migrates, and more: workflows by name, texts by path."""
    files = {W: yaml.safe_dump(data, sort_keys=False), "scripts/migrate.sh": script}
    for name, other in others.items():
        path = name if {*"/."} & {*name} or name.endswith("file") else f".github/workflows/{name}.yml"
        files[path] = other if isinstance(other, str) else yaml.safe_dump(other, sort_keys=False)
    return Repository.read(list(files), files.get)


def gate(data: dict[str, Any], script: str | None = SCRIPT, **others: Any) -> MigrationGate:
    return examine(repository(data, script, **others), PLAN)


def deploy(**entries: Any) -> dict[str, Any]:
    return {
        "needs": ["build", "migrate"],
        "steps": [{"run": "x"}],
        **{key.replace("_", ""): value for key, value in entries.items()},
    }


def migrate(**entries: Any) -> dict[str, Any]:
    return {"needs": "build", "steps": [MIGRATE], **{key.strip("_"): value for key, value in entries.items()}}


def judged(text: str, *, errexit: bool = True, files: dict[str, str] | None = None) -> tuple[str, str]:
    """Return "sound", "lost" or "open" for a script, and how a failure is lost or what is open."""
    ways = Ways((files or {}).get, "w.yml")
    lost = [state for state in ways.through(text, {State(errexit=errexit)}) if state.ok and state.failed]
    assert ways.migrations, "nothing migrates"
    sure = [state.how for state in lost if not state.guess]
    if sure:
        return "lost", min(sure, key=lambda how: ("(null)" in how, how))
    unread = [state.guess for state in lost] + [each.command for each in ways.unread]
    return ("open", unread[0]) if unread else ("sound", "")
