"""The migration gate between jobs: every way past it is found, and a sound workflow passes."""

import time
from dataclasses import replace
from typing import Any

import pytest
from pytest_readiness import SetupError

from smoke.source.checkout import Examined, Finding
from smoke.source.pipeline.gate import examine, undeployed
from smoke.source.pipeline.repository import Repository
from tests.smoke.source.workflow_files import (
    OURS,
    PLAN,
    SCRIPT,
    W,
    deploy,
    gate,
    migrate,
    repository,
    workflow,
)


def test_a_plain_chain_is_sound() -> None:
    found = gate(
        workflow(
            second={
                "needs": "deploy",
                "steps": [{"uses": "aws-actions/amazon-ecs-deploy-task-definition@v2"}],
            }
        )
    )
    assert (found.bypass, found.void, found.notes) == (Examined(), Examined(), [])
    assert found.deploys == ["deploy", "second"]


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        ([], True),
        ([{"service": "finn"}], True),
        ([{"service": "api", "region": "eu-west-1"}], True),
        ([{"service": "api"}], False),
    ],
)
def test_a_matrix_deploys_what_it_does_not_leave_out(left_out: list[dict[str, str]], named: bool) -> None:
    matrix = {"service": ["api", "finn", "worker"], "region": ["us-east-1"], "exclude": left_out}
    job = deploy(strategy={"matrix": matrix}, steps=[{"run": "deploy.sh ${{ matrix.service }}"}])
    found, jobs = undeployed(repository(workflow(deploy=job)), PLAN, {"api": (), "worker": ()})
    assert (bool(jobs["api"]), bool(jobs["worker"])) == (named, True)
    assert [each.what for each in found.findings] == ["no job deploys api"] * (not named)


@pytest.mark.parametrize(
    ("cluster", "ours"),
    [
        ("--cluster sandbox", False),
        ("--cluster=arn:aws:ecs:us-east-1:123456789012:cluster/sandbox", False),
        ("--cluster arrakis-production-cluster", True),
        ("--cluster $CLUSTER", True),
        ("--cluster ${{ vars.CLUSTER }}", True),
        ("", True),
    ],
)
def test_a_deployment_into_the_cluster_of_another_product_needs_no_gate(cluster: str, ours: bool) -> None:
    run = f"aws ecs update-service {cluster} --service demo --task-definition demo"
    night = {"on": {"schedule": [{"cron": "0 22 * * *"}]}, "jobs": {"down": {"steps": [{"run": run}]}}}
    found = examine(repository(workflow(), night=night), replace(PLAN, clusters="arrakis-*"))
    assert [each.what for each in found.bypass.findings] == [
        "down deploys and does not need migrate: .github/workflows/night.yml has no such job"
    ] * ours


@pytest.mark.parametrize(
    "condition",
    [
        "github.ref == 'refs/heads/staging'",
        "needs.migrate.result == 'success'",
        "${{ always() && needs.migrate.result == 'success' }}",
        "!cancelled() && !failure() && needs.migrate.result == 'success'",
        """always() && !contains(needs.*.result, 'failure')
        && !contains(needs.*.result, 'cancelled') && !contains(needs.*.result, 'skipped')""",
        "false",
    ],
)
def test_conditions_that_hold_the_gate(condition: str) -> None:
    assert gate(workflow(deploy=deploy(_if=condition))).bypass == Examined()


@pytest.mark.parametrize(
    ("condition", "ended"),
    [
        ("always()", "failure"),
        ("!cancelled()", "failure"),
        ("failure() || success()", "failure"),
        ("${{ always() }} && ${{ needs.migrate.result == 'success' }}", "failure"),
        ("always() && needs.migrate.result != 'failure'", "cancelled"),
        ("always() && needs.build.result == 'success' && github.ref == 'refs/heads/x'", "failure"),
        ("always() && !contains(needs.*.result, 'failure')", "cancelled"),
    ],
)
def test_conditions_that_let_a_deployment_past(condition: str, ended: str) -> None:
    (leak,) = gate(workflow(deploy=deploy(_if=condition))).bypass.findings
    assert f"deploy can run even if migrate ended in {ended}" in leak.what
    assert leak.line > 0


@pytest.mark.parametrize("needs", [None, [], "build", ["build"]])
def test_a_deploy_job_that_does_not_need_the_migrations(needs: Any) -> None:
    (leak,) = gate(workflow(deploy=deploy(needs=needs))).bypass.findings
    assert "does not need migrate" in leak.what


def test_a_job_in_between_that_always_runs_breaks_the_chain() -> None:
    between = {"needs": "migrate", "if": "always()", "steps": [{"run": "x"}]}

    def findings(**entries: Any) -> list[Finding]:
        data = workflow(between=between, deploy=deploy(needs="between", **entries))
        return gate(data).bypass.findings

    assert findings() == findings(_if="needs.between.result == 'success'") == []
    assert findings(_if="!failure() && !cancelled()")


@pytest.mark.parametrize("status", ["", "always() && "])
def test_an_intermediate_job_that_requires_the_migration_keeps_the_gate(status: str) -> None:
    middle = {"needs": "migrate", "if": "!cancelled() && needs.migrate.result == 'success'", "steps": []}
    data = workflow(
        middle=middle, deploy=deploy(needs="middle", _if=f"{status}needs.middle.result == 'success'")
    )
    assert gate(data).bypass == Examined()


@pytest.mark.parametrize(
    ("condition", "construct"),
    [
        ("always() && needs.migrate.outputs.done == 'true'", "needs.migrate.outputs.done == 'true'"),
        ("!cancelled() && (fromJSON(vars.go) || success())", "fromJSON(vars.go)"),
    ],
)
def test_what_decides_and_is_not_understood_is_not_examined(condition: str, construct: str) -> None:
    found = gate(workflow(deploy=deploy(_if=condition))).bypass
    assert (found.findings, [each.what for each in found.not_examined]) == ([], [f"deploy: if: {construct}"])
    with pytest.raises(SetupError, match=r"not examined: .github/workflows/w.yml:\d+: "):
        found.require()


@pytest.mark.parametrize(
    ("condition", "findings"),
    [
        ("fromJSON(vars.go)", 0),
        ("always() && needs.migrate.result == 'success' && fromJSON(vars.go)", 0),
        ("always() || fromJSON(vars.go)", 1),
    ],
)
def test_what_is_not_understood_does_not_matter_where_the_rest_decides(condition: str, findings: int) -> None:
    found = gate(workflow(deploy=deploy(_if=condition))).bypass
    assert (len(found.findings), found.not_examined) == (findings, [])


SKIPPED = """!cancelled() && needs.build.result == 'success'
&& (needs.migrate.result == 'success' || needs.migrate.result == 'skipped')"""


@pytest.mark.parametrize(
    ("default", "condition", "leaks", "notes"),
    [
        (False, "${{ !inputs.skip }}", 0, 1),
        (None, "${{ !inputs.skip }}", 0, 1),
        (True, "${{ !inputs.skip }}", 1, 0),
        (False, "inputs.skip != true", 0, 1),
        # the event holds text, and the text 'false' is true
        (False, "${{ !github.event.inputs.skip }}", 1, 0),
        (False, "github.event.inputs.skip != 'true'", 0, 1),
        (False, "github.event_name == 'push'", 1, 0),
    ],
)
def test_a_skip_is_open_only_when_an_operator_asks_for_it(
    default: Any, condition: str, leaks: int, notes: int
) -> None:
    data = workflow(
        {"skip": {"type": "boolean", "default": default}},
        migrate=migrate(if_=condition),
        deploy=deploy(_if=SKIPPED),
    )
    found = gate(data)
    assert (len(found.bypass.findings), len(found.notes)) == (leaks, notes)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("github.event.workflow_run.conclusion == 'success'", ""),
        ("${{ github.event.workflow_run.conclusion == 'success' && github.ref == 'refs/heads/x' }}", ""),
        (None, "even if that failed"),
        ("github.event.workflow_run.conclusion != 'failure'", "even if that failed"),
        ("github.event.workflow_run.branch == 'x'", "even if that failed"),
    ],
)
def test_a_workflow_that_follows_the_migrations_demands_their_success(
    condition: str | None, said: str
) -> None:
    job = {"steps": [{"run": "aws ecs update-service"}], **({"if": condition} if condition else {})}
    after = {
        "on": {"workflow_run": {"workflows": ["Migrate"], "types": ["completed"]}},
        "jobs": {"roll": job},
    }
    base = {"name": "Migrate", **workflow()}
    found = gate(base, after=after).bypass
    assert (len(found.findings), found.not_examined) == (bool(said), [])
    assert all(said in each.what for each in found.findings)


def test_a_workflow_without_the_migration_job_is_open() -> None:
    data = workflow(deploy={"steps": [{"run": "x"}]})
    del data["jobs"]["migrate"]
    found = gate(data)
    assert found.bypass.findings
    assert found.void.findings


@pytest.mark.parametrize(
    ("condition", "findings", "open_"),
    [
        ("", 0, 0),
        ("success()", 0, 0),
        ("|\n      success()", 0, 0),
        (">-\n      ${{ success() }}", 0, 0),
        ("|\n      ${{ success() }}", 1, 0),
        (">\n      ${{ needs.migrate.result == 'success' }}", 1, 0),
        ("${{ always() && needs['migrate'].result == 'success' }}", 0, 0),
        ("always() && needs.migrate.result == 'success' && needs.build.result != 'failure'", 0, 0),
        ("always() && contains(fromJSON('[\"success\"]'), needs.migrate.result)", 0, 0),
        ('always() && contains(fromJSON(\'["success", "failure"]\'), needs.migrate.result)', 1, 0),
        ("failure()", 1, 0),
        ('"!cancelled()"', 1, 0),
        ("always() && needs.migrate.outputs.x == 'y'", 0, 1),
    ],
)
def test_an_if_as_it_is_written(condition: str, findings: int, open_: int) -> None:
    text = (
        "on: push\njobs:\n  build:\n    steps: [{run: make}]\n"
        "  migrate:\n    needs: build\n    steps: [{run: npm run migrate}]\n"
        f"  deploy:\n    needs: [build, migrate]\n    if: {condition}\n    steps: [{{run: x}}]\n"
    )
    bypass = examine(Repository.read([W], {W: text}.get), PLAN).bypass
    assert (len(bypass.findings), len(bypass.not_examined)) == (findings, open_)


def test_a_called_workflow_may_have_the_gate_inside() -> None:
    inside = workflow()
    inside["on"] = {"workflow_call": None}
    caller = {"on": "push", "jobs": {"release": {"uses": "./.github/workflows/w.yml"}}}
    assert gate(inside, caller=caller).bypass == Examined()
    inside["jobs"]["deploy"]["needs"] = "build"
    assert gate(inside, caller=caller).bypass.findings


def test_the_plans_workflow_that_does_not_exist_is_not_examined() -> None:
    found = examine(Repository.read([], lambda path: None), PLAN)
    with pytest.raises(SetupError, match="the workflow that the plan names is not in the checkout"):
        found.bypass.require()


def test_a_workflow_that_is_not_yaml_stops_only_itself() -> None:
    found = gate(workflow(), broken="a: [")
    assert "not valid YAML" in found.bypass.not_examined[0].what
    assert (found.bypass.findings, found.void, found.deploys) == ([], Examined(), ["deploy"])


def test_thirty_jobs_take_less_than_a_second() -> None:
    jobs: dict[str, Any] = {
        f"always{n}": {
            "needs": ["migrate", *(f"always{m}" for m in range(n))],
            "if": "always()",
            "steps": [{"run": "x"}],
        }
        for n in range(30)
    }
    jobs |= {
        f"deploy{n}": {
            "needs": list(jobs),
            "if": "!cancelled() && needs.always3.result == 'success'",
            "steps": [{"run": "x"}],
        }
        for n in range(30)
    }
    data = repository(workflow(**jobs))
    began = time.process_time()
    assert len(examine(data, PLAN).bypass.findings) == 30
    assert time.process_time() - began < 1.0


ELSEWHERE = "acme/flows/.github/workflows/%s.yml@v1"


@pytest.mark.parametrize(
    ("job", "open_"),
    [
        ({"uses": ELSEWHERE % "deploy"}, True),
        ({"uses": ELSEWHERE % "ecs", "needs": "build"}, True),
        ({"uses": ELSEWHERE % "deploy", "needs": "migrate"}, False),
        ({"uses": ELSEWHERE % "lint"}, False),
    ],
)
def test_a_workflow_of_another_repository_is_not_examined(job: dict[str, Any], open_: bool) -> None:
    found = gate(workflow(other=job)).bypass
    assert (found.findings, [job["uses"] in each.what for each in found.not_examined]) == ([], [True] * open_)


def test_a_deploy_job_that_calls_a_workflow_of_another_repository_is_not_examined() -> None:
    found = gate(workflow(deploy={"needs": "build", "uses": ELSEWHERE % "x"})).bypass
    assert (found.findings, len(found.not_examined)) == ([], 1)


@pytest.mark.parametrize(
    ("given", "default", "leaks"),
    [
        ({}, None, 0),
        ({}, True, 1),
        ({"skip": True}, None, 1),
        ({"skip": False}, True, 0),
        ({"skip": "${{ inputs.skip }}"}, None, 1),
    ],
)
def test_the_inputs_of_a_call_decide_in_the_workflow_that_is_called(
    given: dict[str, Any], default: Any, leaks: int
) -> None:
    inside = workflow(migrate=migrate(if_="${{ !inputs.skip }}"), deploy=deploy(_if=SKIPPED))
    inside["on"] = {"workflow_call": {"inputs": {"skip": {"type": "boolean", "default": default}}}}
    call = {"uses": "./.github/workflows/w.yml", "with": given}
    found = gate(inside, caller={"on": "push", "jobs": {"release": call}}).bypass
    assert (len(found.findings), found.not_examined) == (leaks, [])


def test_a_workflow_that_follows_one_by_its_name_alone() -> None:
    after = {
        "on": {"workflow_run": {"workflows": "Migrate"}},
        "jobs": {"roll": {"steps": [{"run": "aws ecs update-service"}]}},
    }
    (leak,) = gate({"name": "Migrate", **workflow()}, after=after).bypass.findings
    assert "even if that failed" in leak.what


@pytest.mark.parametrize(
    ("run", "more", "said"),
    [
        ("helm upgrade --install blog ./chart", {}, "open"),
        ("make -C blog release && helm upgrade blog ./chart", {}, "open"),
        ("helm upgrade --install api ./chart", {}, "found"),
        ("helm upgrade blog ./chart --namespace shop-staging", {}, "found"),
        ("helm upgrade x ./chart --namespace $PREFIX", {"env": {"PREFIX": "shop-staging"}}, "found"),
        ("helm upgrade --install blog ./chart", {"env": {"PREFIX": "shop-staging"}}, "open"),
        ("helm upgrade --install blog ./chart", {"name": "Deploy the api"}, "found"),
        ("aws ecs update-service --service shop-staging-admin", {}, "open"),
        ("aws ecs update-service --service shop-staging-api", {}, "found"),
        ("aws ecs update-service --service $1", {}, "found"),
        ("sam deploy --stack-name shop-staging-thumbnails", {}, "open"),
        ("terraform apply", {}, "found"),
    ],
)
def test_another_products_deployment_is_not_blamed(run: str, more: dict[str, Any], said: str) -> None:
    other = {"on": "push", "jobs": {"go": {"steps": [{"run": run}]}}} | more
    plan = replace(OURS, commands=[*OURS.commands, "sam deploy"])
    bypass = examine(repository(workflow(), other=other), plan).bypass
    assert ("found" if bypass.findings else "open" if bypass.not_examined else "") == said


@pytest.mark.parametrize(
    ("run", "more", "blamed"),
    [
        ('aws ecs update-service --service "$S" --task-definition "$S:${{ inputs.revision }}"', {}, False),
        ("aws ecs update-service --service api --task-definition api:$1", {}, False),
        ('aws ecs update-service --service "$S" --task-definition "$previous"', {}, False),
        ('scripts/deploy.sh api "${{ inputs.image_tag }}"', {}, False),
        ('scripts/deploy.sh api "${{ inputs.image_tag }}"', {"name": "Revert a release"}, False),
        ('scripts/deploy.sh api "${{ inputs.image_tag }}"', {"name": "Release"}, True),
        ('scripts/deploy.sh api "${{ github.sha }}"', {}, True),
        ("aws ecs update-service --service api --task-definition api", {}, True),
        ("aws ecs update-service --service api --task-definition api:$1", {"on": "push"}, True),
        ("aws ecs update-service --service api --task-definition api:$1", {"name": "Hotfix"}, True),
        (
            "aws ecs register-task-definition\naws ecs update-service --service api --task-definition api:$1",
            {},
            True,
        ),
    ],
)
def test_an_operator_may_go_back_without_migrating(run: str, more: dict[str, Any], blamed: bool) -> None:
    back = {"name": "Roll back", "on": "workflow_dispatch", "jobs": {"go": {"steps": [{"run": run}]}}} | more
    deploys = "aws ecs register-task-definition\naws ecs update-service --service $1 --task-definition $1"
    found = examine(repository(workflow(), back=back, **{"scripts/deploy.sh": deploys}), OURS)
    assert bool(found.bypass.findings) == blamed
    assert any("goes back" in each for each in found.notes) != blamed


@pytest.mark.parametrize(
    ("command", "blamed"),
    [
        ('["node", "dist/migrate.js"]', False),
        ('["sh", "-c", "sleep 5 && npm run migrate"]', False),
        ('["npx", "flyway"]', False),
        ('["true"]', True),
        ('["sh", "-c", "echo done"]', True),
        ('["npm", "run", "migrate", "--", "--dry-run"]', True),
        ('["npm", "run", "migrate", "--dry-run=false"]', False),
        ('["migrate", "--dry-run", "false"]', False),
        ('["sh", "-c", "migrate --plan-only && migrate"]', False),
    ],
)
def test_a_task_runs_the_migration_and_nothing_in_its_place(command: str, blamed: bool) -> None:
    overrides = f'{{"containerOverrides": [{{"name": "m", "command": {command}}}]}}'
    script = SCRIPT.replace("run-task", f"run-task --overrides '{overrides}'")
    found = examine(repository(workflow(), script), PLAN).void.findings
    assert ["in place of the migration" in each.what for each in found] == [True] * blamed, found


def test_a_job_may_show_a_migration_before_it_migrates() -> None:
    shown = '{"containerOverrides": [{"command": ["migrate", "--dry-run"]}]}'
    before = SCRIPT.replace("run-task", f"run-task --overrides '{shown}'")
    assert not examine(repository(workflow(), before + SCRIPT), PLAN).void.findings


@pytest.mark.parametrize(
    ("find", "replace", "what"),
    [
        ("aws ecs wait tasks-stopped; ", "", "reads the exit code of a task without a wait for its end"),
        ("aws ecs wait tasks-stopped; ", "aws ecs wait tasks-stopped &\n", "without a wait for its end"),
        ("aws ecs wait tasks-stopped; ", "sleep 300; ", ""),
        ("aws ecs wait tasks-stopped; ", 'until [ "$(./state)" = STOPPED ]; do ./rest; done; ', ""),
        ("aws ecs run-task", "gh workflow run migrate.yml\naws ecs run-task", "does not wait for its end"),
        ("aws ecs run-task", "gh workflow run migrate.yml\ngh run watch --exit-status\naws ecs run-task", ""),
        ("aws ecs run-task", "gh workflow run notify.yml\naws ecs run-task", ""),
        ("aws ecs run-task", "gh workflow run deploy-after-migration.yml\naws ecs run-task", ""),
        (
            "aws ecs run-task",
            "gh workflow run migrate.yml\ngh api repos/x/y/actions/runs\naws ecs run-task",
            "",
        ),
        ("aws ecs wait tasks-stopped; ", "wait_for_task x; ", ""),
        ("aws ecs wait tasks-stopped; ", "scripts/await.py x; ", ""),
    ],
)
def test_the_end_of_a_migration_is_waited_for(find: str, replace: str, what: str) -> None:
    found = [
        each.what
        for each in examine(repository(workflow(), SCRIPT.replace(find, replace)), PLAN).void.findings
    ]
    assert [each for each in found if "wait for its end" in each and what in each] if what else found == []


@pytest.mark.parametrize(
    ("test", "env", "blamed"),
    [
        ('[ "${DRY_RUN:-1}" = 1 ]', {}, True),
        ('[ "${DRY_RUN-1}" = 1 ]', {}, True),
        ('[ "${DRY_RUN:-0}" = 1 ]', {}, False),
        ('[ -n "${DRY_RUN:-}" ]', {}, False),
        ('[ -z "${MIGRATE:-}" ]', {}, True),
        ('[ "${DRY_RUN:-1}" = 1 ]', {"DRY_RUN": "0"}, False),
        ('[ "${CI:-1}" = 1 ]', {}, False),
        ('. ./.env; [ "${DRY_RUN:-1}" = 1 ]', {}, False),
        ('eval "$(./settings)"; [ "${DRY_RUN:-1}" = 1 ]', {}, False),
        ('[ "${AWS_DRY_RUN:-1}" = 1 ]', {}, False),
    ],
)
def test_a_variable_that_nothing_sets_has_its_default(test: str, env: dict[str, str], blamed: bool) -> None:
    script = SCRIPT.replace("aws ecs run-task", f"if {test}; then exit 0; fi\naws ecs run-task", 1)
    job = {"needs": "build", "runs-on": "ubuntu-24.04", "steps": [{"run": "scripts/migrate.sh", "env": env}]}
    found = examine(repository(workflow(migrate=job), script), PLAN).void.findings
    assert any("no step of migrate migrates anything" in each.what for each in found) is blamed


@pytest.mark.parametrize(
    ("push", "what"),
    [
        ({"paths": ["apps/**", "*.tf"]}, "no push starts it: paths is apps/**, *.tf"),
        ({"paths": ["scripts/**"]}, ""),
        ({"paths": ["**.sh"]}, ""),
        ({"paths": ["**/migrate.sh"]}, ""),
        ({"paths": ["apps/[ab]/**"]}, ""),
        ({"paths": ["!docs/**"]}, ""),
        ({"paths-ignore": ["docs/**"]}, ""),
        ({"paths": ["vendor/network"]}, ""),
        ({"paths": ["apps/**"], "tags": ["v*"]}, ""),
        ({"branches": ["refs/heads/main"]}, "no push starts it: branches is refs/heads/main"),
        ({"branches": ["main", "refs/heads/main"]}, ""),
        ({"branches": ["refs/heads/main"], "tags": ["v*"]}, ""),
        ({"paths-ignore": ["**"]}, "no push starts it: paths-ignore is **"),
        ({"paths-ignore": ["**"], "tags": ["v*"]}, ""),
        ({"paths-ignore": ["docs/**", "*.md"]}, ""),
        ({"paths": []}, ""),
        ({"paths": None}, ""),
        ({"branches-ignore": ["**"]}, "no push starts it: branches-ignore is **"),
        ({"branches-ignore": ["**"], "tags": ["v*"]}, ""),
        ({"branches-ignore": ["**"], "tags-ignore": ["x"]}, ""),
        ({"branches-ignore": ["main"]}, ""),
    ],
)
def test_a_push_may_start_the_pipeline(push: dict[str, Any], what: str) -> None:
    data = workflow(deploy=deploy(steps=[{"run": "aws ecs update-service --service api"}]))
    data["on"] = {"push": push}
    files = repository(data, **{".gitmodules": '[submodule "n"]\n\tpath = vendor/network\n'})
    said = [each.what for each in undeployed(files, PLAN, {"api": ()})[0].findings]
    assert [what in each for each in said] == [True] * bool(what), said


def test_a_pipeline_that_is_only_started_by_hand_may_ignore_all_branches() -> None:
    data = workflow(deploy=deploy(steps=[{"run": "aws ecs update-service --service api"}]))
    data["on"] = {"push": {"branches-ignore": ["**"]}, "workflow_dispatch": None}
    assert undeployed(repository(data), PLAN, {"api": ()})[0].findings == []


def test_filters_of_a_pipeline_that_is_not_yaml_are_not_examined() -> None:
    files = repository(workflow(), **{W: "on: { push: { paths: [: x"})
    assert undeployed(files, PLAN, {"api": ()})[0].findings == []


def test_a_job_that_runs_only_after_a_failure_deploys_nothing() -> None:
    back = {
        "needs": ["deploy"],
        "if": "failure()",
        "steps": [{"run": "aws ecs update-service --service jobs"}],
    }
    data = workflow(deploy=deploy(steps=[{"run": "aws ecs update-service --service api"}]), back=back)
    said = [each.what for each in undeployed(repository(data), PLAN, {"api": (), "jobs": ()})[0].findings]
    assert said == ["no job deploys jobs"]


@pytest.mark.parametrize("count", ["--count 0", "--count=0"])
def test_a_run_of_no_task_migrates_nothing(count: str) -> None:
    (lost,) = gate(workflow(), SCRIPT.replace("run-task", f"run-task {count}")).void.findings
    assert "no step of migrate migrates anything" in lost.what
