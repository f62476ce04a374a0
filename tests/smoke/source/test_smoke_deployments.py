"""A deploying job is recognised by the commands it runs, wherever they are written."""

from typing import Any

import pytest

from smoke.source.checkout import Examined
from smoke.source.pipeline.deploys import deploy_jobs
from tests.smoke.source.workflow_files import (
    PLAN,
    gate,
    repository,
    workflow,
)


def test_a_job_without_the_name_that_updates_a_service_is_a_deploy_job() -> None:
    data = workflow(hotfix={"steps": [{"run": "aws  ecs update-service --force-new-deployment"}]})
    assert [job.name for _, job in deploy_jobs(repository(data), PLAN)] == ["deploy", "hotfix"]


@pytest.mark.parametrize(
    ("run", "path", "text"),
    [
        ("make ship", "Makefile", "all:\n\ttrue\nship:\n\taws ecs update-service --service api\n"),
        ("npm run ship", "package.json", '{"scripts": {"ship": "aws ecs update-service"}}'),
        ("python scripts/ship.py", "scripts/ship.py", 'run(["aws", "ecs",\n "update-service"])\nboto3\n'),
        ("python3 scripts/ship.py", "scripts/ship.py", 'boto3.client("ecs").update_service(service="api")\n'),
        ("node scripts/ship.mjs", "scripts/ship.mjs", "execSync('aws ecs update-service --service api')\n"),
    ],
)
def test_a_deployment_is_found_wherever_it_is_written(run: str, path: str, text: str) -> None:
    (leak,) = gate(workflow(hot={"steps": [{"run": run}]}), **{path: text}).bypass.findings
    assert "hot deploys and does not need migrate" in leak.what


@pytest.mark.parametrize(
    "run",
    [
        "aws ecs update-service --force-new-deployment",
        "aws --region us-east-1 --output text ecs \\\n  update-service --service x",
        "sudo helm --namespace x upgrade api chart",
        "terraform -chdir=infra apply -auto-approve",
        "if true; then timeout 600 aws ecs update-service; fi",
        "bash -c 'set -e; aws ecs update-service'",
        "docker run --rm hashicorp/terraform apply",
        "docker run --rm hashicorp/terraform:1.9 -chdir=infra apply",
        "docker run --rm -e AWS_REGION amazon/aws-cli:2.17.0 ecs update-service --service api",
        "docker run --rm public.ecr.aws/aws-cli/aws-cli ecs update-service --service api",
        "scripts/ship.sh api",
        "ROLL='aws ecs update-service'\n$ROLL --service api",
        'roll=(aws --region us-east-1 ecs update-service)\n"${roll[@]}" --service api',
        "cd x && $AWS ecs x; /usr/local/bin/aws ecs update-service",
    ],
)
def test_a_deploy_command_is_found_in_any_workflow_and_script(run: str) -> None:
    hotfix = {"on": "push", "jobs": {"now": {"steps": [{"run": run}]}}}
    ship = "#!/bin/sh\nexec scripts/really.sh\n"
    others: dict[str, Any] = {
        "hotfix": hotfix,
        "scripts/ship.sh": ship,
        "scripts/really.sh": "aws ecs update-service\n",
    }
    (leak,) = gate(workflow(), **others).bypass.findings
    assert (leak.path, leak.line) == (".github/workflows/hotfix.yml", 3)
    assert "now deploys and does not need migrate" in leak.what


@pytest.mark.parametrize(
    "run",
    [
        "echo aws ecs update-service",
        "terraform plan -out apply",
        "git commit -m 'helm upgrade api'",
        "aws ecs wait services-stable",
        "# aws ecs update-service",
        "grep -r 'aws ecs update-service' scripts",
    ],
)
def test_what_only_mentions_a_deployment_does_not_deploy(run: str) -> None:
    other = {"on": "push", "jobs": {"lint": {"steps": [{"run": run}]}}}
    assert gate(workflow(), other=other).bypass == Examined()


def test_composite_actions_and_called_workflows_are_followed() -> None:
    action: dict[str, Any] = {
        "runs": {"using": "composite", "steps": [{"shell": "bash", "run": "aws ecs update-service"}]}
    }
    inner = {"on": {"workflow_call": None}, "jobs": {"ship": {"steps": [{"uses": "./.github/actions/ship"}]}}}
    others: dict[str, Any] = {".github/actions/ship/action.yml": action, "inner": inner}
    calls = {"uses": "./.github/workflows/inner.yml"}
    assert gate(workflow(release={**calls, "needs": "migrate"}), **others).bypass == Examined()
    (leak,) = gate(workflow(release=calls), **others).bypass.findings
    assert "release deploys and does not need migrate" in leak.what


UPDATES = {"run": 'aws ecs update-service --cluster "$PREFIX-cluster" --service api --task-definition x'}


@pytest.mark.parametrize(
    ("more", "job", "ours"),
    [
        ({"env": {"PREFIX": "shop-production"}}, {}, False),
        ({}, {"env": {"PREFIX": "shop-preview"}}, False),
        ({}, {"env": {"PREFIX": "shop-staging"}}, True),
        ({"env": {"SOURCE": "shop-staging", "PREFIX": "shop-production"}}, {}, True),
        ({}, {"environment": "production"}, False),
        ({}, {"environment": "staging-api"}, True),
        ({}, {"environment": "stage"}, True),
        ({}, {"environment": "dev"}, False),
        ({}, {"environment": "production", "env": {"PREFIX": "shop-staging"}}, True),
    ],
)
def test_another_workflow_may_deploy_another_environment(
    more: dict[str, Any], job: dict[str, Any], ours: bool
) -> None:
    other = {"on": {"push": {"tags": ["v*"]}}, "jobs": {"ship": {"steps": [UPDATES], **job}}} | more
    found = deploy_jobs(repository(workflow(), other=other), PLAN)
    assert [each.name for _, each in found if each.name == "ship"] == ["ship"] * ours


@pytest.mark.parametrize(
    ("on", "run", "deploys"),
    [
        ("workflow_dispatch", "aws ecs update-service --service api --force-new-deployment", False),
        ("schedule", "aws ecs update-service --service api --desired-count 0", False),
        ("schedule", "aws ecs update-service --service api --desired-count=0", False),
        ("push", "aws ecs update-service --service api --force-new-deployment", True),
        ("schedule", "aws ecs update-service --service api --desired-count 1 --task-definition api", True),
        ("schedule", "docker push $I\naws ecs update-service --service api --force-new-deployment", True),
        ("schedule", "aws ecs update-service --service api", True),
    ],
)
def test_an_operator_may_restart_or_scale_a_service(on: str, run: str, deploys: bool) -> None:
    other = {"on": on, "jobs": {"upkeep": {"steps": [{"run": run}]}}}
    found = deploy_jobs(repository(workflow(), other=other), PLAN)
    assert ("upkeep" in [each.name for _, each in found]) == deploys
    found = deploy_jobs(repository(workflow(), deploy=other), PLAN)  # whatever its name is
    assert ("upkeep" in [each.name for _, each in found]) == deploys


@pytest.mark.parametrize(
    ("run", "builds"),
    [
        ("curl https://api.pushover.net/1/messages.json", False),
        ("scripts/build_images.sh", True),
        ("make rebuild", True),
        ("scripts/push.sh", True),
    ],
)
def test_a_workflow_that_makes_no_image_only_restarts(run: str, builds: bool) -> None:
    steps = [{"run": run}, {"run": "aws ecs update-service --service api --force-new-deployment"}]
    other = {"on": "workflow_dispatch", "jobs": {"restart": {"steps": steps}}}
    found = deploy_jobs(repository(workflow(), other=other), PLAN)
    assert ("restart" in [each.name for _, each in found]) == builds


def in_region(region: str, given: str = "") -> dict[str, Any]:
    return {
        "env": {"AWS_REGION": region},
        "steps": [{"run": f"aws ecs update-service {given} --service api"}],
    }


@pytest.mark.parametrize(
    ("home", "job", "ours"),
    [
        ("us-east-1", in_region("us-west-2"), False),
        ("us-east-1", in_region("${{ vars.X }}", "--region us-west-2"), True),
        ("us-east-1", in_region("us-west-2", '--region "$AWS_REGION"'), False),
        ("us-east-1", in_region("us-west-2", "--region us-east-1"), True),
        ("us-east-1", in_region("us-east-1"), True),
        ("${{ vars.REGION }}", in_region("us-west-2"), True),
    ],
)
def test_another_workflow_may_deploy_a_recovery_region(home: str, job: dict[str, Any], ours: bool) -> None:
    other = {"on": "workflow_dispatch", "jobs": {"recovery": job}}
    found = deploy_jobs(repository(workflow() | {"env": {"AWS_REGION": home}}, other=other), PLAN)
    assert ("recovery" in [each.name for _, each in found]) == ours
