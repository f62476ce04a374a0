"""Behind the gate: deployments that are carried out, and a smoke job that decides."""

from typing import Any

import pytest

from smoke.source.pipeline.gate import overrides
from smoke.source.pipeline.rollout import uncarried, undecided
from smoke.source.pipeline.validity import invalid
from tests.smoke.source.workflow_files import PLAN, repository, workflow

SMOKE = ["make smoke", "pytest smoke"]
UPDATE = "aws ecs update-service --service api"
WAIT = "aws ecs wait services-stable --services api"


def smoke(run: str = "make smoke", **entries: Any) -> dict[str, Any]:
    return {
        "needs": "deploy",
        "steps": [{"run": run}],
        **{key.strip("_"): each for key, each in entries.items()},
    }


def decides(job: dict[str, Any], *, on: Any = None, **jobs: dict[str, Any]) -> list[str]:
    data = workflow(**jobs, smoke=job) | ({"on": on} if on is not None else {})
    count, found = undecided(repository(data), PLAN, SMOKE, "staging")
    assert count == 1
    assert not found.not_examined
    return [each.what for each in found.findings]


@pytest.mark.parametrize(
    "run",
    [
        "make smoke",
        "for i in 1 2 3; do\n  if make smoke; then exit 0; fi\n  sleep 9\ndone\nexit 1",
        "set +e\nmake smoke\nrc=$?\nset -e\ncp -r reports /tmp\nexit $rc",
        'rc=0\nmake smoke || rc=$?\nif [ "$rc" -ne 0 ] && [ "$rc" -ne 2 ]; then exit "$rc"; fi',
        "set -o pipefail\nmake smoke 2>&1 | tee log",
        "pytest smoke --env staging",
        "pytest --version\npytest smoke --collect-only\npytest smoke --env staging",
        "pytest smoke --env local\npytest smoke --env staging",
    ],
)
def test_a_smoke_job_that_fails_with_the_suite_decides(run: str) -> None:
    assert decides(smoke(run)) == []


@pytest.mark.parametrize(("after", "told"), [("make smoke", 0), ("pytest smoke --co", 2)])
def test_a_workflow_that_deploys_nothing_may_run_the_embedded_platform(after: str, told: int) -> None:
    data = workflow(smoke=smoke(after))
    checks = {"on": "pull_request", "jobs": {"smoke": {"steps": [{"run": "pytest smoke --env local"}]}}}
    count, found = undecided(repository(data, checks=checks), PLAN, SMOKE, "staging")
    assert (count, len(found.findings)) == (2, told)


@pytest.mark.parametrize(
    ("job", "what"),
    [
        (smoke("make smoke || true"), "`make smoke` can fail unnoticed"),
        (smoke("make smoke | tee log"), "lost in a pipe"),
        (smoke("make smoke; echo done", defaults={"run": {"shell": "bash {0}"}}), "set -e is not set"),
        (smoke(continue_on_error=True) | {"continue-on-error": True}, "continue-on-error"),
        (
            {"needs": "deploy", "steps": [{"run": "make smoke", "continue-on-error": True}]},
            "continue-on-error",
        ),
        (smoke(needs="build"), "smoke does not wait for deploy: it tests the previous deployment"),
        (smoke("pytest smoke --env local"), "tests an embedded platform"),
        (smoke("pytest smoke --env=local"), "tests an embedded platform"),
        (smoke("uv run pytest smoke --collect-only"), "lists the checks and runs none"),
        (smoke(if_="github.event_name == 'schedule'"), "smoke does not run on push, but deploy does"),
    ],
)
def test_a_smoke_job_that_decides_nothing_is_a_finding(job: dict[str, Any], what: str) -> None:
    (found,) = decides(job)
    assert what in found


PUSH = {"push": {"branches": ["staging"]}, "workflow_dispatch": None}
ROLLBACK = {"if": "inputs.rollback == 'true'", "steps": [{"run": UPDATE}]}


@pytest.mark.parametrize(
    ("job", "jobs", "on", "count"),
    [
        (smoke(if_="github.ref == 'refs/heads/staging'"), {}, PUSH, 0),
        (smoke(if_="github.ref == 'refs/heads/main'"), {}, PUSH, 1),
        (smoke(if_="github.ref_name != 'staging'"), {}, PUSH, 1),
        (smoke(if_="vars.SMOKE == 'on'"), {}, PUSH, 0),
        (smoke(if_="github.ref == 'refs/heads/x-1'"), {}, {"push": {"branches": ["x-*"]}}, 0),
        (smoke(), {"deploy-production": {"needs": "smoke", "steps": [{"run": UPDATE}]}}, None, 0),
        (smoke(), {"deploy-production": {"needs": "migrate", "steps": [{"run": UPDATE}]}}, None, 0),
        (smoke(), {"deploy-rollback": ROLLBACK}, None, 0),
        (smoke(), {"deploy-worker": {"needs": "migrate", "steps": [{"run": UPDATE}]}}, None, 1),
    ],
)
def test_a_smoke_job_follows_the_deployments_of_its_environment(
    job: dict[str, Any], jobs: dict[str, Any], on: Any, count: int
) -> None:
    assert len(decides(job, on=on, **jobs)) == count


def carried(run: str, **others: Any) -> list[str]:
    data = workflow(deploy={"needs": ["build", "migrate"], "steps": [{"run": run}]}, **others)
    return [each.what for each in uncarried(repository(data), PLAN, "shop-staging-cluster")[1].findings]


@pytest.mark.parametrize(
    "run",
    [
        UPDATE,
        f"{UPDATE}\n{WAIT}",
        f"{UPDATE}\nfor i in 1 2 3; do\n  {WAIT} && exit 0\ndone\nexit 1",
        f"{UPDATE}\nif ! {WAIT}; then\n  {UPDATE} --task-definition old\n  exit 1\nfi",
        f"{UPDATE} --desired-count 0\n{UPDATE} --desired-count 2",
        f"arn=$(aws ecs register-task-definition --cli-input-json x)\n{UPDATE} --task-definition $arn",
    ],
)
def test_a_deployment_is_carried_out(run: str) -> None:
    assert carried(run) == []


@pytest.mark.parametrize(
    ("run", "what"),
    [
        (f"{UPDATE} || echo failed", "can fail unnoticed"),
        (f"{UPDATE}\n{WAIT} || true", "can fail unnoticed"),
        (f"{UPDATE} | jq .\n{WAIT}", "lost in a pipe"),
        (f"{UPDATE} --desired-count 0", "stops its service"),
        (f"aws ecs register-task-definition --cli-input-json x\n{UPDATE}", "does not deploy it"),
    ],
)
def test_a_deployment_that_goes_nowhere_is_a_finding(run: str, what: str) -> None:
    (found,) = carried(run)
    assert what in found


@pytest.mark.parametrize("given", ["--overrides=x", "--overrides x", ""])
def test_a_migration_job_may_say_what_its_task_runs(given: str) -> None:
    job = {"needs": "build", "steps": [{"run": f"aws ecs run-task --task-definition m {given}"}]}
    assert overrides(repository(workflow(migrate=job)), PLAN) == bool(given)


@pytest.mark.parametrize(
    ("update", "wait", "what"),
    [
        ("", "", ""),
        ("--cluster shop-staging-cluster", "--cluster=shop-staging-cluster", ""),
        ("--cluster $NAME", '--cluster "${NAME}"', ""),
        ("--cluster $NAME", "--cluster $OTHER", ""),
        ("--cluster $PREFIX-cluster", "--cluster shop-staging-cluster", ""),
        ("--cluster ${{ env.PREFIX }}-cluster", "--cluster ${PREFIX}-cluster", ""),
        ("--cluster other-staging", "--cluster other-staging", ""),
        ("--cluster $NAME", "$OPTIONS", ""),
        ("--cluster $NAME", "", "in the cluster `default`"),
        ("", "--cluster $NAME", "in the cluster `default`"),
        ("--cluster $NAME-a", "--cluster $NAME-b", "in the cluster $NAME-b, but other commands name $NAME-a"),
        (
            "--cluster $PREFIX-cluster",
            "--cluster $PREFIX-old",
            "but other commands name shop-staging-cluster",
        ),
        ("--cluster $PREFIX-old", "--cluster $PREFIX-old", "but this environment has shop-staging-cluster"),
    ],
)
def test_a_deployment_stays_in_its_cluster(update: str, wait: str, what: str) -> None:
    job = {
        "env": {"PREFIX": "shop-staging"},
        "needs": ["build", "migrate"],
        "steps": [{"run": f"{UPDATE} {update}\n{WAIT} {wait}"}],
    }
    _, found = uncarried(repository(workflow(deploy=job)), PLAN, "shop-staging-cluster")
    assert [what in each.what for each in found.findings] == ([True] if what else [])


def test_services_may_live_in_clusters_of_their_own() -> None:
    other = UPDATE.replace("api", "jobs")
    assert carried(f"{UPDATE} --cluster front\n{other} --cluster back\n{other}-2 --cluster $NAME") == []
    assert "in the cluster `default`" in carried(f"{UPDATE} --cluster front\n{WAIT}")[0]


def test_a_service_that_a_later_job_starts_again_is_not_stopped() -> None:
    later = {"needs": "deploy", "steps": [{"run": f"{UPDATE} --desired-count 1"}]}
    assert carried(f"{UPDATE} --desired-count 0", start=later) == []


@pytest.mark.parametrize(
    ("run", "count"),
    [
        ("docker build --tag $REGISTRY/api:$TAG .\ndocker push $REGISTRY/api:$TAG", 0),
        ("docker build --tag $REGISTRY/api:$TAG .", 1),
        ("docker build --tag $REGISTRY/api:$TAG .\ndocker push $REGISTRY/api:$TAG || true", 1),
        ("docker buildx build --push --tag $REGISTRY/api:$TAG .", 0),
        ("docker build -t lint .", 0),
        ("docker build -t $REGISTRY/api:$TAG .\nmake push", 0),
    ],
)
def test_what_is_built_is_pushed(run: str, count: int) -> None:
    assert len(carried(UPDATE, build={"steps": [{"run": run}]})) == count


TAKES = {
    "uses": "aws-actions/configure-aws-credentials@v4",
    "with": {"role-to-assume": "x", "aws-region": "y"},
}


@pytest.mark.parametrize(
    ("permissions", "job", "count"),
    [
        ({"id-token": "write"}, {}, 0),
        ("write-all", {}, 0),
        ({"contents": "read"}, {}, 1),
        ({"contents": "read"}, {"permissions": {"id-token": "write"}}, 0),
        ({"id-token": "write"}, {"permissions": {"contents": "read"}}, 1),
        ({"contents": "read"}, {"runs-on": "self-hosted"}, 0),
        (None, {}, 1),
        (None, {"env": {"AWS_ACCESS_KEY_ID": "${{ secrets.KEY }}"}}, 0),
    ],
)
def test_a_job_that_takes_a_role_may_ask_for_a_token(
    permissions: Any, job: dict[str, Any], count: int
) -> None:
    data = {"on": "push", "jobs": {"a": {"runs-on": "ubuntu-24.04", "steps": [TAKES], **job}}}
    found = invalid(repository(data | ({"permissions": permissions} if permissions else {})))[1]
    assert len([each for each in found.findings if "id-token" in each.what]) == count


@pytest.mark.parametrize(
    ("steps", "count"),
    [
        ([{"uses": "actions/checkout@v4"}, {"uses": "./.github/actions/setup"}], 1),
        ([{"uses": "actions/checkout@v4"}, {"uses": "./there"}], 0),
        ([{"uses": "actions/checkout@v4", "with": {"repository": "a/b"}}, {"uses": "./other"}], 0),
        ([{"uses": "someone/fetches@v1"}, {"uses": "./other"}], 0),
    ],
)
def test_a_local_action_is_in_the_checkout(steps: list[dict[str, Any]], count: int) -> None:
    data = {"on": "push", "jobs": {"a": {"runs-on": "ubuntu-24.04", "steps": steps}}}
    files = {"there/action.yml": "runs:\n  using: composite\n  steps: []\n"}
    found = invalid(repository(data, **files))[1]
    assert len([each for each in found.findings if "not an action" in each.what]) == count


MUTE = "aws cloudwatch disable-alarm-actions --alarm-names"


@pytest.mark.parametrize(
    ("first", "last", "muted"),
    [
        (f"{MUTE} shop-staging-api-cpu", "aws cloudwatch enable-alarm-actions --alarm-names x", False),
        (f"{MUTE} $ALARMS", "aws cloudwatch enable-alarm-actions --alarm-names $ALARMS", False),
        (f"{MUTE} other-product-cpu", "true", False),
        (f"{MUTE} shop-preview-cpu", "true", False),
        (f"{MUTE} $ALARMS", "terraform apply -auto-approve", False),
        (f"trap 'aws cloudwatch enable-alarm-actions --alarm-names x' EXIT\n{MUTE} $ALARMS", "true", False),
        (f"{MUTE} $ALARMS", "true", True),
        (f"{MUTE} shop-staging-api-cpu", "true", True),
    ],
)
def test_alarms_that_are_switched_off_are_switched_on_again(first: str, last: str, muted: bool) -> None:
    job = {"needs": ["build", "migrate"], "steps": [{"run": each} for each in (first, UPDATE, WAIT, last)]}
    data = workflow(deploy=job)
    found = uncarried(repository(data), PLAN, "shop-staging-cluster")[1].findings
    assert ["disables the actions of" in each.what for each in found] == [True] * muted, found


def test_alarms_may_be_switched_off_apart_from_a_deployment_and_on_by_another_program() -> None:
    asked = {"on": "workflow_dispatch", "jobs": {"mute": {"steps": [{"run": f"{MUTE} $ALARM"}]}}}
    job = {"needs": ["build", "migrate"], "steps": [{"run": each} for each in (UPDATE, WAIT)]}
    steps = [{"run": each} for each in (f"{MUTE} $ALARMS", UPDATE, WAIT, "python unmute.py")]
    muting = {**job, "steps": steps}
    unmute = "client.enable_alarm_actions(AlarmNames=names)\n"
    for files in (
        repository(workflow(deploy=job), mute=asked),
        repository(workflow(deploy=muting), **{"unmute.py": unmute}),
        repository(workflow(deploy=muting, after={"uses": "acme/ops/.github/workflows/unmute.yml@v1"})),
    ):
        found = uncarried(files, PLAN, "shop-staging-cluster")[1].findings
        assert not [each for each in found if "disables the actions" in each.what]


BUILD = {"run": "docker build -t r/api:$GITHUB_SHA . && docker push r/api:$GITHUB_SHA"}


@pytest.mark.parametrize(
    ("given", "on", "found"),
    [
        ({"ref": "main"}, {"push": {"branches": ["staging"]}}, True),
        ({"ref": "refs/heads/main"}, {"push": {"branches": ["staging"]}}, True),
        ({"ref": "main"}, {"push": {"branches": ["main"]}}, False),
        ({"ref": "main"}, {"push": {"branches": ["release/*"]}}, False),
        ({"ref": "main"}, {"workflow_dispatch": None}, False),
        ({"ref": "${{ github.sha }}"}, {"push": {"branches": ["staging"]}}, False),
        ({"ref": "v1.4.2"}, {"push": {"branches": ["staging"]}}, False),
        ({"ref": "main", "path": "tools"}, {"push": {"branches": ["staging"]}}, False),  # beside it
        ({"ref": "main", "repository": "example/tools"}, {"push": {"branches": ["staging"]}}, False),
        ({}, {"push": {"branches": ["staging"]}}, False),
    ],
)
def test_what_is_built_is_what_was_pushed(given: dict[str, str], on: dict[str, Any], found: bool) -> None:
    checkout = {"uses": "actions/checkout@v4", "with": given}
    data = workflow(build={"steps": [{"uses": "actions/checkout@v4"}, checkout, BUILD]}) | {"on": on}
    findings = uncarried(repository(data), PLAN, "p-cluster")[1].findings
    assert any("builds the branch main" in each.what for each in findings) == found


def test_a_job_that_only_runs_scripts_of_another_branch_builds_nothing() -> None:
    checkout = {"uses": "actions/checkout@v4", "with": {"ref": "main"}}
    data = workflow(build={"steps": [checkout, {"run": "scripts/notify.sh"}]})
    data["on"] = {"push": {"branches": ["staging"]}}
    assert not uncarried(repository(data), PLAN, "p-cluster")[1].findings


ECS_ACTION = "aws-actions/amazon-ecs-deploy-task-definition@v2"
REGISTER = {"run": "aws ecs register-task-definition --cli-input-json file://task.json"}


@pytest.mark.parametrize(
    ("steps", "shelved"),
    [
        ([REGISTER, {"run": UPDATE}], False),
        ([REGISTER, {"run": "terraform apply -auto-approve"}], False),
        ([REGISTER, {"run": "aws cloudformation deploy --template-file t.yml --stack-name s"}], False),
        ([REGISTER, {"run": "gh workflow run roll-out.yml"}], False),
        ([REGISTER, {"uses": "acme/roll-out@v1"}], False),
        ([{"uses": ECS_ACTION, "with": {"service": "api"}}], False),
        ([REGISTER, {"uses": ECS_ACTION, "with": {"service": "api"}}], False),
        ([{"uses": ECS_ACTION, "with": {"run-task": True}}], False),
        ([{"uses": ECS_ACTION, "with": {"cluster": "c"}}], True),
        ([REGISTER, {"run": WAIT}], True),
    ],
)
def test_what_is_registered_is_put_into_a_service(steps: list[dict[str, Any]], shelved: bool) -> None:
    deploy = {"needs": ["build", "migrate"], "steps": steps}
    _, found = uncarried(repository(workflow(deploy=deploy)), PLAN, "p-cluster")
    said = [each.what for each in found.findings if "into no" in each.what]
    assert said == ["deploy registers a task definition and puts it into no service"] * shelved


@pytest.mark.parametrize(
    ("group", "cancels", "found"),
    [
        ("deploys", True, True),
        ("Deploys", True, True),
        ("deploys", False, False),
        ("tests", True, False),
        ("${{ github.ref }}", True, False),
    ],
)
def test_no_other_workflow_cancels_a_deployment(group: str, cancels: bool, found: bool) -> None:
    tests = {
        "on": "pull_request",
        "concurrency": {"group": group, "cancel-in-progress": cancels},
        "jobs": {"test": {"steps": [{"run": "make test"}]}},
    }
    data = workflow() | {"concurrency": {"group": "deploys", "cancel-in-progress": True}}
    _, examined = uncarried(repository(data, ci=tests), PLAN, "p-cluster")
    said = [each.what for each in examined.findings if "cancels" in each.what]
    assert len(said) == found, said


def test_a_group_of_jobs_that_deploy_nothing_is_shared() -> None:
    lint = {"steps": [{"run": "make lint"}], "concurrency": {"group": "lint", "cancel-in-progress": True}}
    data = workflow(lint=lint)
    _, examined = uncarried(repository(data, ci={"on": "push", "jobs": {"lint": lint}}), PLAN, "p-cluster")
    assert not [each for each in examined.findings if "cancels" in each.what]


@pytest.mark.parametrize(
    ("jobs", "more", "cancelled"),
    [
        (3, {}, True),
        (2, {}, False),
        (2, {"concurrency": {"group": "one", "cancel-in-progress": True}}, True),
        (2, {"concurrency": {"group": "one", "cancel-in-progress": "${{ github.ref != 'x' }}"}}, False),
        (3, {"concurrency": {"group": "one", "cancel-in-progress": "${{ github.ref != 'x' }}"}}, True),
        (3, {"concurrency": {"group": "one", "queue": "max"}}, False),
        (3, {"concurrency": {"group": "${{ github.job }}"}}, False),
        (1, {"strategy": {"matrix": {"service": ["a", "b", "c"]}}}, True),
        (1, {"strategy": {"max-parallel": 1, "matrix": {"service": ["a", "b", "c"]}}}, False),
        (1, {"strategy": {"matrix": {"service": ["a", "b"]}}}, False),
    ],
)
def test_deployments_in_one_group_do_not_cancel_each_other(
    jobs: int, more: dict[str, Any], cancelled: bool
) -> None:
    one = {"needs": ["build", "migrate"], "concurrency": "one", "steps": [{"run": "aws ecs update-service"}]}
    deploys = {f"deploy-{at}": one | more for at in range(jobs)}
    _, examined = uncarried(repository(workflow(**deploys)), PLAN, "p-cluster")
    said = [each.what for each in examined.findings if "start together in the group one" in each.what]
    assert len(said) == cancelled, examined


def test_deployments_one_after_the_other_may_share_a_group() -> None:
    jobs, before = {}, "migrate"
    for name in ("deploy-a", "deploy-b", "deploy-c"):
        steps = [{"run": "aws ecs update-service"}]
        jobs[name] = {"needs": [before, "migrate"], "concurrency": "one", "steps": steps}
        before = name
    _, examined = uncarried(repository(workflow(**jobs)), PLAN, "p-cluster")
    assert not [each for each in examined.findings if "together" in each.what]
