"""The migration gate: every way past it is found, and a sound workflow passes."""

import time
from typing import Any

import pytest
import yaml
from pytest_readiness import SetupError

from smoke.source.checkout import Examined, Finding, Malformed
from smoke.source.pipeline import MigrationGate, Pipeline, deploy_jobs, examine
from smoke.source.workflows import Repository, read

W = ".github/workflows/w.yml"
PLAN = Pipeline(
    W,
    "migrate",
    ["deploy*"],
    ["aws ecs update-service", "helm upgrade", "terraform apply"],
    ["*/amazon-ecs-deploy-*"],
)

MIGRATE = {"run": "scripts/migrate.sh"}
SCRIPT = """\
set -euo pipefail
aws ecs run-task
code=$(aws ecs describe-tasks --query exitCode)
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
        ("always() && needs.build.result == 'success' && github.ref == 'x'", "failure"),
        ("always() && !contains(needs.*.result, 'failure')", "cancelled"),
    ],
)
def test_conditions_that_let_a_deployment_past(condition: str, ended: str) -> None:
    (leak,) = gate(workflow(deploy=deploy(_if=condition))).bypass.findings
    assert f"deploy can run although migrate ended in {ended}" in leak.what
    assert leak.line > 0


@pytest.mark.parametrize("needs", [None, [], "build", ["build"]])
def test_a_deploy_job_that_does_not_need_the_migrations(needs: Any) -> None:
    (leak,) = gate(workflow(deploy=deploy(needs=needs))).bypass.findings
    assert "does not need migrate" in leak.what


def test_a_job_without_the_name_that_updates_a_service_is_a_deploy_job() -> None:
    data = workflow(hotfix={"steps": [{"run": "aws  ecs update-service --force-new-deployment"}]})
    assert [job.name for _, job in deploy_jobs(repository(data), PLAN)] == ["deploy", "hotfix"]


def test_a_job_in_between_that_always_runs_breaks_the_chain() -> None:
    between = {"needs": "migrate", "if": "always()", "steps": [{"run": "x"}]}

    def findings(**entries: Any) -> list[Finding]:
        data = workflow(between=between, deploy=deploy(needs="between", **entries))
        return gate(data).bypass.findings

    assert findings() == findings(_if="needs.between.result == 'success'") == []
    assert findings(_if="!failure() && !cancelled()")


@pytest.mark.parametrize("status", ["", "always() && "])
def test_a_chain_holds_through_a_job_that_demands_the_migration(status: str) -> None:
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
    ("job", "said"),
    [
        (migrate(**{"continue-on-error": True}), "counts as a success when it fails"),
        (migrate(steps=[{**MIGRATE, "continue-on-error": True}]), "may fail: continue-on-error"),
        (migrate(steps=[{**MIGRATE, "if": "github.ref == 'x'"}]), "can be skipped"),
        (migrate(steps=[{**MIGRATE, "if": "failure()"}]), "no step of migrate migrates"),
        (migrate(steps=[{"run": "scripts/migrate.sh || true"}]), "`|| true` goes on"),
        (migrate(steps=[{"run": "set +e\nscripts/migrate.sh\necho"}]), "no set -e in force"),
        (migrate(steps=[{"run": "scripts/migrate.sh || echo failed"}]), "`|| echo failed` goes on"),
        (
            migrate(steps=[{**MIGRATE, "run": "scripts/migrate.sh\necho", "shell": "bash {0}"}]),
            "no set -e in force",
        ),
        (
            migrate(steps=[{"run": "aws ecs run-task --task migration\naws ecs wait tasks-stopped"}]),
            "no exit code of it ends the job",
        ),
        (migrate(steps=[{"run": "echo done"}]), "no step of migrate migrates"),
    ],
)
def test_a_migration_job_that_can_succeed_without_a_migration(job: dict[str, Any], said: str) -> None:
    found = gate(workflow(migrate=job))
    assert any(said in finding.what for finding in found.void.findings), found.void


KEPT = {**MIGRATE, "id": "m", "continue-on-error": True}
CODE = {"id": "m", "run": 'set +e\nscripts/migrate.sh\necho "code=$?" >> "$GITHUB_OUTPUT"'}
FLAG = {"run": 'scripts/migrate.sh || echo "FAILED=1" >> $GITHUB_ENV'}
FAIL = {"run": "./notify.sh || true\nexit 1"}


@pytest.mark.parametrize(
    ("steps", "sound"),
    [
        ([KEPT, {**FAIL, "if": "steps.m.outcome == 'failure'"}], True),
        ([KEPT, {**FAIL, "if": "steps.m.outcome != 'success'"}], True),
        ([KEPT, {**FAIL, "if": "steps.m.conclusion == 'failure'"}], False),  # continued: a success
        ([KEPT, {**FAIL, "if": "failure()"}], False),
        ([KEPT, {"run": '[ "${{ steps.m.outcome }}" = success ]'}], True),
        ([CODE, {**FAIL, "if": "steps.m.outputs.code != '0'"}], True),
        ([CODE, {**FAIL, "if": "${{ steps.m.outputs.code != 0 }}"}], True),
        ([CODE, {**FAIL, "if": "steps.m.outputs.code == '2'"}], False),
        ([CODE, {"run": "exit ${{ steps.m.outputs.code }}"}], True),
        ([CODE, {"run": 'exit "$CODE"', "env": {"CODE": "${{ steps.m.outputs.code }}"}}], True),
        ([CODE, {"run": 'echo "${{ steps.m.outputs.code }}"'}], False),
        ([FLAG, {"run": 'test -z "$FAILED"'}], True),
        ([FLAG, {**FAIL, "if": "env.FAILED == '1'"}], True),
        ([FLAG, {"run": 'echo "$FAILED"'}], False),
    ],
)
def test_what_steps_leave_for_later_ones_is_followed(steps: list[dict[str, Any]], sound: bool) -> None:
    found = gate(workflow(migrate=migrate(steps=steps))).void
    assert (bool(found.findings), found.not_examined) == (not sound, [])


MAKEFILE = "DO = npm run db:migrate\n\n.PHONY: migrate ship\nmigrate: build\n\t@$(DO)\nbuild:\n\tnpm ci\n"
PACKAGE = '{"scripts": {"migrate": "prisma migrate deploy", "ship": "aws ecs update-service"}}'


@pytest.mark.parametrize(
    ("run", "path", "text", "lost"),
    [
        ("make migrate", "Makefile", MAKEFILE, ""),
        ("make -C db migrate", "db/Makefile", MAKEFILE, ""),
        ("make migrate", "Makefile", MAKEFILE.replace("@$", "-@$"), "this line is ignored"),
        ("make migrate", "Makefile", MAKEFILE.replace("\t@$(DO)", "\t$(DO); echo done"), "no set -e"),
        ("make migrate", "Makefile", MAKEFILE.replace("\t@$(DO)", "\t$(DO) \\\n\t  || true"), "|| true"),
        ("make migrate", "Makefile", MAKEFILE.replace("db:migrate", "upgrade"), ""),
        ("make -i migrate", "Makefile", MAKEFILE, "this line is ignored"),
        ("make migrate", "Makefile", ".IGNORE:\n" + MAKEFILE, "this line is ignored"),
        ("npm run migrate", "package.json", PACKAGE, ""),
        ("npm --prefix api run migrate", "api/package.json", PACKAGE, ""),
        ("pnpm migrate", "package.json", PACKAGE, ""),
        ("npm run migrate", "package.json", PACKAGE.replace("deploy", "deploy || true"), "|| true"),
        ("yarn migrate", "package.json", PACKAGE.replace("deploy", "deploy; echo"), "no set -e"),
        ("npm run migrate", "package.json", "{", ""),
        (
            "just migrate prod",
            "justfile",
            "migrate env: build\n    npm run {{env}}:migrate\nbuild:\n    make\n",
            "",
        ),
        ("just migrate", "justfile", "migrate:\n    -npm run db:migrate\n", "this line is ignored"),
        (
            "just migrate",
            "justfile",
            "migrate:\n    #!/bin/bash\n    npm run db:migrate\n    echo\n",
            "no set -e",
        ),
    ],
)
def test_recipes_are_followed(run: str, path: str, text: str, lost: str) -> None:
    found = gate(workflow(migrate=migrate(steps=[{"run": run}])), **{path: text})
    said = [each.what for each in found.void.findings]
    assert (len(said), found.void.not_examined) == (bool(lost), [])
    assert all(lost in each for each in said)


@pytest.mark.parametrize(("directory", "lost"), [("services/api", True), ("services/other", False)])
def test_a_script_is_looked_for_where_the_step_runs(directory: str, lost: bool) -> None:
    job = migrate(steps=[{"run": "./db-migrate.sh", "working-directory": directory}])
    found = gate(workflow(migrate=job), **{"services/api/db-migrate.sh": "npm run migrate\nexit 0\n"})
    assert [each.path for each in found.void.findings] == ["services/api/db-migrate.sh"] * lost
    changing = migrate(steps=[{"run": f"cd {directory} && ./db-migrate.sh"}])
    assert (
        gate(workflow(migrate=changing), **{"services/api/db-migrate.sh": "npm run migrate\nexit 0\n"})
        == found
    )


@pytest.mark.parametrize(("command", "lost"), [("npm run migrate", 0), ("npm run migrate || true", 1)])
def test_what_a_composite_action_is_given_is_what_it_runs(command: str, lost: int) -> None:
    action: Any = {
        "runs": {"using": "composite", "steps": [{"shell": "bash", "run": "${{ inputs.command }}"}]}
    }
    job = migrate(steps=[{"uses": "./.github/actions/task", "with": {"command": command}}])
    found = gate(workflow(migrate=job), **{".github/actions/task/action.yml": action}).void
    assert (len(found.findings), found.not_examined) == (lost, [])


@pytest.mark.parametrize(
    ("run", "path", "text"),
    [
        ("make ship", "Makefile", MAKEFILE + "ship:\n\taws ecs update-service --service api\n"),
        ("npm run ship", "package.json", PACKAGE),
        ("python scripts/ship.py", "scripts/ship.py", 'run(["aws", "ecs",\n "update-service"])\nboto3\n'),
        ("python3 scripts/ship.py", "scripts/ship.py", 'boto3.client("ecs").update_service(service="api")\n'),
        ("node scripts/ship.mjs", "scripts/ship.mjs", "execSync('aws ecs update-service --service api')\n"),
    ],
)
def test_a_deployment_is_found_wherever_it_is_written(run: str, path: str, text: str) -> None:
    (leak,) = gate(workflow(hot={"steps": [{"run": run}]}), **{path: text}).bypass.findings
    assert "hot deploys and does not need migrate" in leak.what


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("github.event.workflow_run.conclusion == 'success'", ""),
        ("${{ github.event.workflow_run.conclusion == 'success' && github.ref == 'x' }}", ""),
        (None, "whether that succeeded or not"),
        ("github.event.workflow_run.conclusion != 'failure'", "whether that succeeded or not"),
        ("github.event.workflow_run.branch == 'x'", "whether that succeeded or not"),
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


@pytest.mark.parametrize(
    ("job", "construct"),
    [
        ({"uses": "./.github/workflows/migrate.yml"}, "migrate calls the workflow"),
        (migrate(steps=[{**MIGRATE, "if": "fromJSON(vars.go)"}]), "fromJSON(vars.go)"),
        (
            migrate(steps=[{**MIGRATE, "continue-on-error": "${{ matrix.may }}"}]),
            "continue-on-error: ${{ matrix.may }}",
        ),
        (migrate(**{"continue-on-error": "${{ matrix.may }}"}), "continue-on-error: ${{ matrix.may }}"),
        (migrate(steps=[{"run": "npm run migrate", "shell": "pwsh"}]), "shell: pwsh"),
        (migrate(steps=[{"run": "npm run migrate", "shell": "fish -c {0}"}]), "shell: fish -c {0}"),
        (
            migrate(**{"runs-on": "windows-latest", "steps": [{"run": "npm run migrate"}]}),
            "shell: windows-latest",
        ),
        (migrate(steps=[{"uses": "acme/migrate@v1"}]), "uses: acme/migrate@v1"),
        (
            migrate(
                steps=[
                    {"uses": "aws-actions/amazon-ecs-deploy-task-definition@v2", "with": {"run-task": True}}
                ]
            ),
            "uses: aws-actions/amazon-ecs-deploy-task-definition@v2",
        ),
        (migrate(steps=[{"run": "curl -fX POST https://api/migrate"}]), "what becomes of curl -fX POST"),
        (
            migrate(steps=[{"run": "aws ssm send-command --parameters commands=db-migrate"}]),
            "what becomes of aws",
        ),
        (
            migrate(
                steps=[
                    {**MIGRATE, "id": "m", "continue-on-error": True},
                    {"if": "steps.other.outputs.bad == 'yes'", "run": "exit 1"},
                ]
            ),
            "steps.other.outputs.bad == 'yes'",
        ),
    ],
)
def test_a_migration_job_that_cannot_be_examined(job: dict[str, Any], construct: str) -> None:
    found = gate(workflow(migrate=job)).void
    assert found.findings == []
    assert construct in found.not_examined[0].what


@pytest.mark.parametrize(
    "steps",
    [
        [{**MIGRATE, "continue-on-error": False}],
        [{**MIGRATE, "if": "always()"}],
        [{**MIGRATE, "shell": "bash"}],
        [{**MIGRATE, "shell": "bash -euo pipefail {0}"}],
        [MIGRATE, {"name": "tell", "if": "failure()", "run": "notify", "continue-on-error": True}],
        [{"run": "scripts/migrate.sh || exit 1"}, {"run": "scripts/migrate.sh || { echo no; exit 1; }"}],
        [{"run": "scripts/migrate.sh | tee log", "shell": "bash"}],
        [{"run": "scripts/migrate.sh\nexit 0"}],
        # one step starts the task, a later one reads its exit code
        [
            {"run": "aws ecs run-task --task-definition m > task.json"},
            {"run": 'code=$(aws ecs describe-tasks --query exitCode)\n[ "$code" = 0 ]'},
        ],
        [{"run": "# scripts/other || true\nscripts/migrate.sh"}],
    ],
)
def test_a_migration_job_that_is_sound(steps: list[dict[str, Any]]) -> None:
    assert gate(workflow(migrate=migrate(steps=steps))).void == Examined()


@pytest.mark.parametrize(
    ("script", "line", "said"),
    [
        (SCRIPT.replace("set -euo pipefail\n", "npm run migrate\n"), 1, "no set -e in force"),
        (SCRIPT + "migrate || true\n", 5, "`|| true` goes on"),
        (SCRIPT.replace("exitCode", "status"), 2, "no exit code of it ends the job"),
    ],
)
def test_the_scripts_of_a_step_are_read(script: str, line: int, said: str) -> None:
    (finding,) = gate(workflow(), script).void.findings
    assert said in finding.what
    assert not line or (finding.path, finding.line) == ("scripts/migrate.sh", line)


def test_a_workflow_without_the_migration_job_is_open() -> None:
    data = workflow(deploy={"steps": [{"run": "x"}]})
    del data["jobs"]["migrate"]
    found = gate(data)
    assert found.bypass.findings
    assert found.void.findings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "w.yml:1: not valid YAML"),
        ("name: x", "w.yml: there are no jobs"),
        ("jobs:\n  a:\n    needs: b\n", "w.yml:2: a needs b, which is not a job"),
        ("jobs:\n  a:\n    needs: b\n  b:\n    needs: a\n", "need each other in a circle"),
    ],
)
def test_what_is_no_workflow_is_named(text: str, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(text, "w.yml")
    assert said in str(caught.value)


def test_lines_are_those_of_the_file() -> None:
    found = read(
        "on: push\njobs:\n  a:\n    steps:\n      - run: x\n      - name: y\n        run: z\n", "w.yml"
    )
    assert (found.jobs["a"].line, [step.line for step in found.jobs["a"].steps]) == (3, [5, 6])


def test_the_line_of_a_script_in_a_workflow_is_that_of_the_file() -> None:
    script = "run: |\n          set -e\n          npm run migrate || true\n"
    text = f"on: push\njobs:\n  migrate:\n    steps:\n      - name: x\n        {script}"
    found = examine(Repository.read([W], {W: text}.get), PLAN).void.findings
    assert [(each.path, each.line) for each in found] == [(W, 8)]


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
        "scripts/ship.sh api",
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


def composite(run: str) -> dict[str, Any]:
    return {"runs": {"using": "composite", "steps": [{"shell": "bash", "run": run}]}}


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


def test_a_called_workflow_may_have_the_gate_inside() -> None:
    inside = workflow()
    inside["on"] = {"workflow_call": None}
    caller = {"on": "push", "jobs": {"release": {"uses": "./.github/workflows/w.yml"}}}
    assert gate(inside, caller=caller).bypass == Examined()
    inside["jobs"]["deploy"]["needs"] = "build"
    assert gate(inside, caller=caller).bypass.findings


def test_migrations_in_a_called_workflow_and_a_composite_action_are_examined() -> None:
    action: dict[str, Any] = {
        "runs": {"using": "composite", "steps": [{"shell": "bash", "run": "npm run migrate | tee x"}]}
    }
    inner = {"on": {"workflow_call": None}, "jobs": {"up": {"steps": [{"uses": "./.github/actions/up"}]}}}
    others: dict[str, Any] = {".github/actions/up/action.yml": action, "inner": inner}
    data = workflow(migrate={"needs": "build", "uses": "./.github/workflows/inner.yml"})
    assert gate(data, **others).void == Examined()
    action["runs"]["steps"][0]["run"] += " || true"
    (lost,) = gate(data, **others).void.findings
    assert lost.path == ".github/actions/up/action.yml"


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"run": "npm run migrate"}, {"run": "helm upgrade x"}], ""),
        ([{"run": "helm upgrade x"}, {"run": "npm run migrate"}], "deploys before migrate has migrated"),
        (
            [{"run": "npm run migrate"}, {"if": "always()", "run": "helm upgrade x"}],
            "although a step before it failed",
        ),
    ],
)
def test_a_job_that_migrates_and_deploys_does_so_in_this_order(
    steps: list[dict[str, Any]], said: str
) -> None:
    found = gate(workflow(migrate=migrate(steps=steps))).bypass.findings
    assert [said in each.what for each in found] == ([True] if said else [])


def test_the_plans_workflow_that_is_not_there_is_not_examined() -> None:
    found = examine(Repository.read([], lambda path: None), PLAN)
    with pytest.raises(SetupError, match="the workflow that the plan names is not in the checkout"):
        found.bypass.require()


def test_a_workflow_that_is_no_yaml_stops_only_itself() -> None:
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


def test_a_script_called_for_two_migrations_fails_for_each_by_itself() -> None:
    script = SCRIPT.replace(
        "aws ecs run-task", 'family="$PREFIX-${1:?a name}"\naws ecs run-task --task "$family"'
    )
    steps = [{"run": f"scripts/migrate.sh {each}"} for each in ("freeside", "dixie")]
    assert gate(workflow(migrate=migrate(steps=steps)), script).void == Examined()
    steps[0]["run"] += " || true"
    (lost,) = gate(workflow(migrate=migrate(steps=steps)), script).void.findings
    assert "`|| true` goes on" in lost.what


@pytest.mark.parametrize("action", [None, "runs: [", "runs: {using: node20, main: x.js}"])
def test_a_local_action_that_cannot_be_followed_is_not_examined(action: str | None) -> None:
    others: dict[str, Any] = {} if action is None else {".github/actions/db/action.yml": action}
    found = gate(workflow(migrate=migrate(steps=[{"uses": "./.github/actions/db"}])), **others)
    assert found.void.findings == []
    assert [each.what for each in found.void.not_examined] == ["uses: ./.github/actions/db"]
    assert len(found.bypass.not_examined) == (action == "runs: [")
