"""Deployments by another system are not examined; those of another product are ignored."""

from dataclasses import replace
from typing import Any

import pytest

from smoke.source.pipeline.deploys import deploy_jobs, unseen
from smoke.source.pipeline.gate import examine, undeployed, unmigrated
from smoke.source.pipeline.rollout import uncarried
from tests.smoke.source.workflow_files import PLAN, W, repository, workflow

CHECKOUT = {"uses": "actions/checkout@v4", "with": {"repository": "example/gitops"}}


def pipeline(*steps: dict[str, Any]) -> dict[str, Any]:
    jobs = {"build": {"steps": [{"run": "make"}]}, "release": {"needs": "build", "steps": [*steps]}}
    return {"on": "push", "jobs": jobs}


@pytest.mark.parametrize(
    ("steps", "how"),
    [
        ([{"run": "aws codepipeline start-pipeline-execution --name p"}], "start-pipeline-execution"),
        ([{"run": "argocd login x\nargocd app sync p --prune"}], "argocd app sync"),
        ([{"run": "gh workflow run deploy.yml --repo example/deploy"}], "gh workflow run"),
        ([CHECKOUT, {"run": "git commit -am x && git push"}], "git push to example/gitops"),
        ([{"uses": "peter-evans/repository-dispatch@v3"}], "repository-dispatch"),
        ([{"uses": "aws-actions/aws-codebuild-run-build@v1"}], "codebuild-run-build"),
        ([{"run": "curl -fsS -X POST \\\n  https://gitlab.example/trigger/pipeline"}], "a request"),
    ],
)
def test_a_deployment_that_another_system_makes_is_not_examined(
    steps: list[dict[str, Any]], how: str
) -> None:
    files, services = repository(pipeline(*steps)), {"api": ["freeside"]}
    gate = examine(files, PLAN)
    parts = (gate.bypass, gate.void, undeployed(files, PLAN, services)[0], unmigrated(files, PLAN, ["m"]))
    for part in parts:
        assert not part.findings
        assert "release leaves the deployment to another system" in part.not_examined[0].what
        assert how in part.not_examined[0].what


@pytest.mark.parametrize(
    "steps",
    [
        [{"run": "make"}],
        [{"uses": "actions/checkout@v4"}, {"run": "git tag x && git push --tags"}],  # of its own
        [{"run": "argocd version"}],
        [{"run": "echo aws codepipeline start-pipeline-execution"}],
    ],
)
def test_a_pipeline_in_which_nothing_deploys_is_found(steps: list[dict[str, Any]]) -> None:
    gate = examine(repository(pipeline(*steps)), PLAN)
    assert "no job deploys" in gate.bypass.findings[0].what
    assert "nothing migrates" in gate.void.findings[0].what


def test_the_pipeline_of_another_tool_is_named() -> None:
    files = repository(workflow(), **{".gitlab-ci.yml": "deploy: {}\n"})
    (missing,) = unseen(files, replace(PLAN, workflow=".github/workflows/other.yml"))
    assert missing.what.endswith("not in the checkout; .gitlab-ci.yml is, which is not read")
    assert unseen(files, PLAN) == []


def test_what_a_workflow_of_another_repository_deploys_is_not_examined() -> None:
    calls = {"needs": ["build", "migrate"], "uses": "example/pipelines/.github/workflows/deploy.yml@v3"}
    files = repository(workflow(deploy=calls))
    count, found = uncarried(files, PLAN, "p-cluster")
    assert (count, found.findings) == (1, [])
    assert "example/pipelines" in found.not_examined[0].what
    assert not examine(files, PLAN).bypass.findings  # it waits for the migrations


OTHER = ".github/workflows/ledger.yml"


@pytest.mark.parametrize(
    ("run", "ours"),
    [
        ("terraform -chdir=products/ledger apply", False),
        ("helm upgrade ledger charts/ledger", False),
        ("aws ecs update-service --cluster ledger-prod --service ledger", False),
        ("aws ecs update-service --cluster arrakis-staging-cluster --service api", True),
        ("scripts/migrate.sh && aws ecs update-service --cluster $CLUSTER", True),
    ],
)
def test_another_products_workflow_deploys_only_that_product(run: str, ours: bool) -> None:
    ledger = {"on": "push", "env": {"CLUSTER": "x"}, "jobs": {"deploy": {"steps": [{"run": run}]}}}
    if "$" in run:
        ledger["env"] = {"CLUSTER": "arrakis-staging-cluster"}
    files = repository(workflow(), ledger=ledger)
    plan = replace(PLAN, clusters="arrakis-*", others=[OTHER])
    assert [of.path for of, _ in deploy_jobs(files, plan)] == [W, *([OTHER] if ours else [])]
    assert bool(examine(files, plan).bypass.findings) == ours


NETWORK = 'module "vpc" {\n  source = "terraform-aws-modules/vpc/aws"\n}\n'
SERVICE = 'resource "aws_ecs_service" "api" {}\n'
KEPT = SERVICE.replace(
    "{}", "{\n  lifecycle {\n    ignore_changes = [desired_count, task_definition]\n  }\n}"
)


NEW = """\
resource "aws_ecs_service" "pooler" {
  task_definition = aws_ecs_task_definition.pooler.arn
}

resource "aws_ecs_task_definition" "pooler" {
  container_definitions = jsonencode([{ image = "pooler:${var.tag}" }])
}
"""
FIXED = NEW.replace("${var.tag}", "1.21")
FOR_TASKS = """\
data "aws_iam_policy_document" "x" {
  principals {
    identifiers = ["ecs-tasks.amazonaws.com"]
  }
}
"""
BLUE_GREEN = 'resource "aws_codedeploy_app" "x" {\n  compute_platform = "ECS"\n}\n'


@pytest.mark.parametrize(
    ("step", "files", "deploys"),
    [
        ({"run": "terraform -chdir=net apply"}, {"net/main.tf": NETWORK}, False),
        ({"run": "cd net && tofu apply -auto-approve"}, {"net/main.tofu": NETWORK}, False),
        ({"run": "terraform apply", "working-directory": "net"}, {"net/main.tf": NETWORK}, False),
        ({"run": "terraform -chdir=net apply"}, {"net/main.tf": NETWORK, "net/api.tf": SERVICE}, True),
        (
            {"run": "terraform -chdir=live apply"},
            {"live/main.tf": 'module "x" {\n  source = "../app"\n}\n', "app/main.tf": SERVICE},
            True,
        ),
        (
            {"run": "terraform -chdir=live apply"},
            {"live/main.tf": 'module "x" {\n  source = "terraform-aws-modules/ecs/aws"\n}\n'},
            True,
        ),
        ({"run": "terraform -chdir=net apply"}, {"net/main.tf": KEPT, "net/pooler.tf": SERVICE}, False),
        ({"run": "terraform -chdir=net apply"}, {"net/main.tf": KEPT.replace("task_def", "x")}, True),
        (
            {"run": "terraform -chdir=net apply"},
            {"net/main.tf": KEPT + 'module "x" {\n  source = "terraform-aws-modules/ecs/aws"\n}\n'},
            True,
        ),
        ({"run": "terraform -chdir=net apply"}, {"net/main.tf": KEPT, "net/pooler.tf": NEW}, True),
        ({"run": "terraform -chdir=net apply"}, {"net/main.tf": KEPT, "net/pooler.tf": FIXED}, False),
        ({"run": "terraform -chdir=net apply"}, {"net/main.tf": NEW + "# ignore_changes = all\n"}, True),
        ({"run": "terraform -chdir=net apply"}, {"net/main.tf": KEPT.replace("[", "[  # [x]\n")}, False),
        ({"run": "terraform -chdir=net apply"}, {"net/main.tf": FOR_TASKS}, False),
        ({"run": "terraform -chdir=net apply"}, {"net/main.tf": KEPT + BLUE_GREEN}, False),
        (
            {"run": "terraform -chdir=live apply"},
            {"live/main.tf": 'module "x" {\n  source = "../ecs"\n}\n', "ecs/main.tf": KEPT},
            False,
        ),
        ({"run": "terraform -chdir=net apply -refresh-only"}, {"net/main.tf": SERVICE}, False),
        ({"run": "terraform -chdir=net apply -target=aws_ecr_repository.x"}, {"net/main.tf": SERVICE}, False),
        (
            {"run": "terraform -chdir=net apply -target module.x.aws_ecs_task_definition.migration"},
            {"net/main.tf": SERVICE},
            False,
        ),
        ({"run": "terraform -chdir=net apply -target=module.x"}, {"net/main.tf": SERVICE}, True),
        (
            {"run": "terraform -chdir=net apply -target=aws_iam_role.x -target=aws_ecs_service.x"},
            {"net/main.tf": SERVICE},
            True,
        ),
        ({"run": "terraform -chdir=$DIR apply"}, {"net/main.tf": NETWORK}, True),
        ({"run": "terraform apply"}, {"net/main.tf": NETWORK}, True),  # of a folder that is not there
    ],
)
def test_applying_what_services_stand_on_deploys_none(
    step: dict[str, Any], files: dict[str, str], deploys: bool
) -> None:
    infra = {"on": "push", "jobs": {"apply": {"steps": [step]}}}
    read = repository(workflow(), infra=infra, **files)
    assert any(job.name == "apply" for _, job in deploy_jobs(read, PLAN)) == deploys


@pytest.mark.parametrize(
    ("given", "deploys"),
    [
        ({"run-task": True, "cluster": "c"}, False),
        ({"run-task": True, "service": "api", "cluster": "c"}, True),
        ({"service": "api"}, True),
    ],
)
def test_an_action_that_runs_one_task_to_its_end_deploys_nothing(
    given: dict[str, Any], deploys: bool
) -> None:
    action = {"uses": "aws-actions/amazon-ecs-deploy-task-definition@v2", "with": given}
    files = repository({"on": "push", "jobs": {"one": {"steps": [action]}}})
    assert bool(list(deploy_jobs(files, PLAN))) == deploys


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ('for each in ("api-migration", f"{prefix}-web-migration"): run(each)\n', []),
        ('run("api-migration")\n', ["web-migration"]),
    ],
)
def test_a_script_in_another_language_names_the_migrations(text: str, missing: list[str]) -> None:
    data = workflow(migrate={"needs": "build", "steps": [{"run": "python3 scripts/run.py"}]})
    found = unmigrated(repository(data, **{"scripts/run.py": text}), PLAN, ["api-migration", "web-migration"])
    assert [each.what.split()[-1] for each in found.findings] == missing
    assert not found.not_examined


def test_the_matrix_of_a_called_workflow_names_the_migrations() -> None:
    inner = {
        "on": {"workflow_call": None},
        "jobs": {"run": {"strategy": {"matrix": {"of": ["a-migration"]}}, "steps": [{"run": "x"}]}},
    }
    data = workflow(migrate={"needs": "build", "uses": "./.github/workflows/inner.yml"})
    assert not unmigrated(repository(data, inner=inner), PLAN, ["a-migration"]).not_examined


def test_a_migration_that_another_job_runs_is_not_examined() -> None:
    own, other = ({"steps": [{"run": f"scripts/migrate.sh {name}-migration"}]} for name in ("api", "web"))
    data = {"on": "push", "jobs": {"migrate": own, "migrate-web": other}}
    found = unmigrated(repository(data), PLAN, ["api-migration", "web-migration"])
    (unread,) = found.not_examined
    assert not found.findings
    assert unread.what == "whether deployments wait for migrate-web, which names web-migration"
