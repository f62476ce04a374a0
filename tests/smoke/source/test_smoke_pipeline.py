"""The migration gate: every way past it is found, and a sound workflow passes."""

from typing import Any

import pytest
import yaml
from pytest_readiness import SetupError

from smoke.source.checkout import Examined, Finding, Malformed
from smoke.source.pipeline import MigrationGate, deploy_jobs, examine
from smoke.source.workflow import read

MIGRATE = {"run": "scripts/migrate.sh"}
SCRIPT = "set -euo pipefail\naws ecs run-task\ncode=exitCode\nif [ $code != 0 ]; then exit 1; fi\n"


def workflow(inputs: dict[str, Any] | None = None, **jobs: dict[str, Any]) -> dict[str, Any]:
    base: dict[str, Any] = {
        "build": {"steps": [{"run": "make"}]},
        "migrate": {"needs": "build", "steps": [MIGRATE]},
        "deploy": {"needs": ["build", "migrate"], "steps": [{"run": "aws ecs update-service"}]},
    }
    return {"on": {"push": None, "workflow_dispatch": {"inputs": inputs or {}}}, "jobs": base | jobs}


def gate(data: dict[str, Any], script: str | None = SCRIPT) -> MigrationGate:
    return examine(
        read(yaml.safe_dump(data, sort_keys=False), "w.yml"), "migrate", ["deploy*"], lambda _: script
    )


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
    assert (found.bypass, found.void, found.notes) == (Examined(), Examined(), ())
    assert found.deploys == ("deploy", "second")


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
    assert deploy_jobs(read(yaml.safe_dump(data), "w.yml"), ["deploy*"]) == ["deploy", "hotfix"]


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
    assert (found.findings, [each.what for each in found.not_examined]) == ([], [construct])
    with pytest.raises(SetupError, match=r"not examined: w.yml:\d+: "):
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
        (migrate(steps=[{**MIGRATE, "continue-on-error": True}]), "may fail unnoticed"),
        (migrate(steps=[{**MIGRATE, "continue-on-error": "${{ github.ref != 'x' }}"}]), "may fail unnoticed"),
        (migrate(steps=[{**MIGRATE, "if": "github.ref == 'x'"}]), "can be skipped"),
        (migrate(steps=[{**MIGRATE, "if": "failure()"}]), "can be skipped"),
        (migrate(steps=[{"run": "scripts/migrate.sh || true"}]), "goes on after a failure"),
        (migrate(steps=[{"run": "set +e\nscripts/migrate.sh"}]), "goes on after failures"),
        (migrate(steps=[{"run": "scripts/migrate.sh || echo failed"}]), "goes on after a failure"),
        (migrate(steps=[{"run": "scripts/migrate.sh\nexit 0"}]), "ends with success"),
        (migrate(steps=[{**MIGRATE, "shell": "bash {0}"}]), "goes on after failures"),
        (
            migrate(steps=[{"run": "aws ecs run-task --task migration\naws ecs wait tasks-stopped"}]),
            "never reads its exit code",
        ),
        (migrate(steps=[{"run": "echo done"}]), "no step of migrate migrates"),
    ],
)
def test_a_migration_job_that_can_succeed_without_a_migration(job: dict[str, Any], said: str) -> None:
    found = gate(workflow(migrate=job))
    assert any(said in finding.what for finding in found.void.findings), found.void


@pytest.mark.parametrize(
    ("job", "construct"),
    [
        ({"uses": "./.github/workflows/migrate.yml"}, "migrate calls the workflow"),
        (migrate(steps=[{**MIGRATE, "if": "fromJSON(vars.go)"}]), "fromJSON(vars.go)"),
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
        [{"run": "# scripts/other || true\nscripts/migrate.sh"}],
    ],
)
def test_a_migration_job_that_is_sound(steps: list[dict[str, Any]]) -> None:
    assert gate(workflow(migrate=migrate(steps=steps))).void == Examined()


@pytest.mark.parametrize(
    ("script", "line", "said"),
    [
        (SCRIPT.replace("set -euo pipefail\n", ""), 1, "there is no set -e"),
        (SCRIPT + "migrate || true\n", 5, "goes on after a failure"),
        (SCRIPT.replace("exitCode", "status"), 0, "never reads its exit code"),
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
