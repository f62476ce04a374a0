"""The migration job: every way to succeed without a migration is found; a sound job passes."""

from typing import Any

import pytest

from smoke.source.checkout import Examined
from smoke.source.pipeline.gate import examine
from smoke.source.pipeline.repository import Repository
from tests.smoke.source.workflow_files import MIGRATE, PLAN, SCRIPT, W, gate, migrate, workflow


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (migrate(**{"continue-on-error": True}), "counts as a success when it fails"),
        (migrate(steps=[{**MIGRATE, "continue-on-error": True}]), "may fail: continue-on-error"),
        (migrate(steps=[{**MIGRATE, "if": "github.ref == 'refs/heads/x'"}]), "can be skipped"),
        (migrate(steps=[{**MIGRATE, "if": "failure()"}]), "no step of migrate migrates"),
        (migrate(steps=[{"run": "scripts/migrate.sh || true"}]), "`|| true` continues"),
        (migrate(steps=[{"run": "set +e\nscripts/migrate.sh\necho"}]), "because set -e is not set"),
        (migrate(steps=[{"run": "scripts/migrate.sh || echo failed"}]), "`|| echo failed` continues"),
        (
            migrate(steps=[{**MIGRATE, "run": "scripts/migrate.sh\necho", "shell": "bash {0}"}]),
            "because set -e is not set",
        ),
        (
            migrate(steps=[{"run": "aws ecs run-task --task migration\naws ecs wait tasks-stopped"}]),
            "the job continues after any exit code",
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


@pytest.mark.parametrize(("command", "lost"), [("npm run migrate", 0), ("npm run migrate || true", 1)])
def test_what_a_composite_action_is_given_is_what_it_runs(command: str, lost: int) -> None:
    action: Any = {
        "runs": {"using": "composite", "steps": [{"shell": "bash", "run": "${{ inputs.command }}"}]}
    }
    job = migrate(steps=[{"uses": "./.github/actions/task", "with": {"command": command}}])
    found = gate(workflow(migrate=job), **{".github/actions/task/action.yml": action}).void
    assert (len(found.findings), found.not_examined) == (lost, [])


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
            migrate(steps=[{"run": "aws ecs run-task --cluster c", "shell": "powershell"}]),
            "shell: powershell",
        ),
        (
            migrate(
                **{
                    "runs-on": "${{ matrix.os }}",
                    "strategy": {"matrix": {"os": ["windows-latest", "ubuntu-latest"]}},
                    "steps": [{"run": "npm run migrate"}],
                }
            ),
            "shell: ${{ matrix.os }}",
        ),
        (
            migrate(steps=[{"run": "python - <<'PY'\nimport os\nos.system('npm run migrate')\nPY"}]),
            "a script that is not written in shell",
        ),
        (migrate(steps=[{"run": "npx turbo run db:migrate"}]), "what turbo run db:migrate runs"),
        (
            migrate(
                steps=[
                    {"uses": "aws-actions/amazon-ecs-deploy-task-definition@v2", "with": {"run-task": True}}
                ]
            ),
            "uses: aws-actions/amazon-ecs-deploy-task-definition@v2",
        ),
        (migrate(steps=[{"run": "curl -fX POST https://api/migrate"}]), "what follows from curl -fX POST"),
        (
            migrate(steps=[{"run": "aws ssm send-command --parameters commands=db-migrate"}]),
            "what follows from aws",
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
        (SCRIPT.replace("set -euo pipefail\n", "npm run migrate\n"), 1, "because set -e is not set"),
        (SCRIPT + "migrate || true\n", 5, "`|| true` continues"),
        (SCRIPT.replace("exitCode", "status"), 2, "the job continues after any exit code"),
    ],
)
def test_the_scripts_of_a_step_are_read(script: str, line: int, said: str) -> None:
    (finding,) = gate(workflow(), script).void.findings
    assert said in finding.what
    assert not line or (finding.path, finding.line) == ("scripts/migrate.sh", line)


def test_the_line_of_a_script_in_a_workflow_is_that_of_the_file() -> None:
    script = "run: |\n          set -e\n          npm run migrate || true\n"
    text = f"on: push\njobs:\n  migrate:\n    steps:\n      - name: x\n        {script}"
    found = examine(Repository.read([W], {W: text}.get), PLAN).void.findings
    assert [(each.path, each.line) for each in found] == [(W, 8)]


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
            "even if an earlier step failed",
        ),
    ],
)
def test_a_job_that_migrates_and_deploys_does_so_in_this_order(
    steps: list[dict[str, Any]], said: str
) -> None:
    found = gate(workflow(migrate=migrate(steps=steps))).bypass.findings
    assert [said in each.what for each in found] == ([True] if said else [])


def test_a_script_called_for_two_migrations_fails_for_each_by_itself() -> None:
    script = SCRIPT.replace(
        "aws ecs run-task", 'family="$PREFIX-${1:?a name}"\naws ecs run-task --task "$family"'
    )
    steps = [{"run": f"scripts/migrate.sh {each}"} for each in ("freeside", "dixie")]
    assert gate(workflow(migrate=migrate(steps=steps)), script).void == Examined()
    steps[0]["run"] += " || true"
    (lost,) = gate(workflow(migrate=migrate(steps=steps)), script).void.findings
    assert "`|| true` continues" in lost.what


@pytest.mark.parametrize("action", [None, "runs: [", "runs: {using: node20, main: x.js}"])
def test_a_local_action_that_cannot_be_followed_is_not_examined(action: str | None) -> None:
    others: dict[str, Any] = {} if action is None else {".github/actions/db/action.yml": action}
    found = gate(workflow(migrate=migrate(steps=[{"uses": "./.github/actions/db"}])), **others)
    assert found.void.findings == []
    assert [each.what for each in found.void.not_examined] == ["uses: ./.github/actions/db"]
    assert len(found.bypass.not_examined) == (action == "runs: [")


@pytest.mark.parametrize(
    ("value", "default", "lost", "open_"),
    [
        ("${{ inputs.soft }}", False, 0, 0),
        ("${{ inputs.soft }}", True, 0, 1),
        ("${{ false }}", False, 0, 0),
        ("${{ true }}", False, 1, 0),
        ("${{ github.ref != 'refs/heads/main' }}", False, 0, 1),
        ("${{ matrix.soft }}", False, 0, 1),
    ],
)
def test_continue_on_error_is_read_as_a_condition(value: str, default: bool, lost: int, open_: int) -> None:
    inputs = {"soft": {"type": "boolean", "default": default}}
    for job in (
        migrate(**{"continue-on-error": value}),
        migrate(steps=[{**MIGRATE, "continue-on-error": value}]),
    ):
        found = gate(workflow(inputs, migrate=job)).void
        assert (len(found.findings), len(found.not_examined)) == (lost, open_)


@pytest.mark.parametrize(
    "changed",
    [
        {"timeout-minutes": 5},
        {"strategy": {"fail-fast": False, "matrix": {"service": ["api", "finn"]}}},
        {"defaults": {"run": {"shell": "bash"}}, "steps": [{"run": "npm run migrate | tee log"}]},
        {"steps": [{"run": "(set -o pipefail; npm run migrate | tee log)"}]},
        {"steps": [{"run": "trap 'code=$?; docker rm db; exit $code' EXIT\nnpm run migrate"}]},
        {"steps": [{"run": "cat > net.json <<EOF\n{}\nEOF\ndocker compose run --rm migrate"}]},
    ],
)
def test_a_migration_job_of_another_shape_is_sound(changed: dict[str, Any]) -> None:
    assert gate(workflow(migrate=migrate(**changed))).void == Examined()


@pytest.mark.parametrize("given", ["npm run migrate", "npm run migrate || true"])
def test_what_a_called_workflow_is_given_is_what_it_runs(given: str) -> None:
    inner = {
        "on": {"workflow_call": {"inputs": {"command": {"type": "string"}}}},
        "jobs": {"up": {"steps": [{"run": "${{ inputs.command }}"}]}},
    }
    job = {"needs": "build", "uses": "./.github/workflows/inner.yml", "with": {"command": given}}
    found = gate(workflow(migrate=job), inner=inner).void
    assert (len(found.findings), found.not_examined) == ("||" in given, [])
