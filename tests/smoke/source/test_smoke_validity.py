"""Workflows that GitHub refuses or that have empty or dead parts, and valid ones next to them."""

import dataclasses
from typing import Any

import pytest

from smoke.source.pipeline.repository import Repository
from smoke.source.pipeline.validity import invalid
from tests.smoke.source.workflow_files import repository

WORKFLOW = """
name: Deploy
on: [push]
jobs:
  build:
    runs-on: ubuntu-24.04
    outputs:
      tag: ${{ steps.tag.outputs.tag }}
    steps:
      - id: tag
        run: echo "tag=1" >> "$GITHUB_OUTPUT"
  deploy:
    needs: [build]
    if: ${{ !cancelled() && needs.build.result == 'success' }}
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v4
      - run: scripts/deploy.sh "${{ needs.build.outputs.tag }}"
"""
SETS = '- id: tag\n        run: echo "tag=1" >> "$GITHUB_OUTPUT"'
RENDERS = "- id: tag\n        uses: aws-actions/amazon-ecs-render-task-definition@v1"
IF = "    if: ${{ !cancelled() && needs.build.result == 'success' }}"
RUNS_ON = "    runs-on: ubuntu-24.04\n    steps:\n      - uses"


def found(text: str) -> tuple[list[str], list[str]]:
    files = {".github/workflows/deploy.yml": text, "scripts/deploy.sh": "true ${1:?a tag} ${2:-none}\n"}
    _, examined = invalid(Repository.read(files, files.get))
    return [each.what for each in examined.findings], [each.what for each in examined.not_examined]


@pytest.mark.parametrize(
    ("find", "replace", "what"),
    [
        ("", "", ""),
        ("on: [push]\n", "", "it has no `on`"),
        ("on: [push]", "on:\n  workflow_dispatch:", ""),
        ("needs: [build]", "needs: [built]", "deploy needs built, which is not a job"),
        ("needs: [build]", "needs: [deploy]", "need each other in a circle"),
        ("needs: [build]\n", "\n", "needs.build is empty: the job does not list that one under needs"),
        ("needs: [build]", "needs: [Build]", ""),
        ("needs.build.result", "needs.BUILD.result", ""),
        ("needs.build.outputs.tag", "needs.Build.outputs.TAG", ""),
        ("steps.tag.outputs.tag", "steps.Tag.outputs.Tag", ""),
        ("      tag: ${{ steps", "      sha: ${{ steps", "needs.build.outputs.tag is empty: build has no"),
        ("id: tag", "id: version", "steps.tag is empty: no step before it has that id"),
        ("steps.tag.outputs.tag", "steps.tag.outputs['tag']", ""),
        ("    if: ${{ !cancelled() && ", "    if: ${{ cancelled() && ", "deploy never runs"),
        ("needs.build.result == 'success'", "needs.build.result != 'success'", ""),
        ("needs.build.result == 'success'", "github.ref == 'main'", "deploy never runs"),
        ("needs.build.result == 'success'", "github.ref != 'main'", ""),
        ("tag=1", "tag=${{ github.sha }", "GitHub refuses an expression ${{ without its end }}"),
        ("needs.build.result == 'success'", "vars.deploy", ""),
        ("GITHUB_OUTPUT", "GITHUB_OUTPUTS", "steps.tag.outputs.tag is empty: that step sets no such output"),
        (SETS, RENDERS, "steps.tag.outputs.tag is empty: that step"),
        (SETS, RENDERS.replace("ecs-render-task-definition", "ecr-login"), ""),
        ("outputs.tag }}", "outputs.TAG }}", ""),
        ("tag=1", "tag=${{ env.TAG }}", "env.TAG is empty: no `env` and no earlier step sets it"),
        ("tag=1", "tag=${{ env.TAG || github.sha }}", ""),
        ("tag=1", "tag=${{ env.AWS_REGION }}", ""),
        ("tag=1", "tag=${{ env.TAG == '' }}", ""),
        ("tag=1", "tag=${{ env.TAG && '-t' }}", ""),
        ("name: Deploy\n", "name: Deploy\nenv:\n  TAG: 1\n", ""),
        ("tag=1", "tag=${{ github.event.pull_request.head.sha }}", "head.sha is empty: no event under `on`"),
        ("tag=1", "tag=${{ github.head_ref }}", "github.head_ref is empty: no event under `on` has it"),
        ("tag=1", "tag=${{ github.head_ref || github.ref_name }}", ""),
        ("actions/checkout@v4", "actions/checkout@v4\n        with: { ref: '${{ github.head_ref }}' }", ""),
        ("tag=1", "tag=${{ github.event.head_commit.id }}", ""),
        ("needs.build.result == 'success'", "false", "deploy never runs"),
        (IF, "    #", ""),
        (IF, "    if: failure()", ""),
        (IF, "    if: always()", ""),
        (IF, "    if: ${{ !cancelled() && github.ref != 'refs/heads/env.x' && vars.env == 'x' }}", ""),
        (IF, "    if: ${{ !cancelled() && needs.build.outputs.secrets != 'secrets.x' }}", "has no such"),
        (IF, "    if: ${{ env.STAGE == 'staging' }}", "GitHub refuses a job's `if` that names env"),
        (IF, "    if: secrets.ROLE != ''", "GitHub refuses a job's `if` that names secrets"),
        (IF, "    env:\n      ROLE: ${{ secrets.ROLE }}", ""),
        (IF, "    env:\n      URL: https://${{ env.HOST }}", "a job's `env` that names env: env.HOST"),
        ("jobs:", "env:\n  ROLE: ${{ secrets.ROLE }}-${{ github.sha }}\njobs:", ""),
        ("jobs:", "env:\n  TAG: ${{ needs.build.result }}\njobs:", "refuses an `env` around jobs that names"),
        ("      - uses: actions/checkout@v4", "      - uses: actions/checkout@v4\n        if: env.A", ""),
        ("      - uses: actions/checkout@v4",
         "      - uses: actions/checkout@v4\n        if: secrets.A != ''", "step's `if` that names secrets"),
        (RUNS_ON, "    steps:\n      - uses", "deploy: it has no runs-on"),
        ("runs-on: ubuntu-24.04\n    outputs", "runs-on: [self-hosted, linux]\n    outputs", ""),
        ("runs-on: ubuntu-24.04\n    outputs", "runs-on: { group: large }\n    outputs", ""),
        ("runs-on: ubuntu-24.04\n    outputs", "runs-on: ${{ vars.MACHINE }}\n    outputs", ""),
        ("runs-on: ubuntu-24.04\n    outputs", "runs-on: ${{ env.M }}\n    outputs", "on` that names env"),
        ("      - uses: actions/checkout@v4\n", "", "scripts/deploy.sh is not there"),
        ("actions/checkout@v4", "acme/sparse-checkout@v1", ""),
        ("actions/checkout@v4", "actions/download-artifact@v4", ""),
        ("uses: actions/checkout@v4", 'run: git clone "$URL" .', ""),
        ("actions/checkout@v4", "actions/setup-node@v4", "scripts/deploy.sh is not there"),
        ("scripts/deploy.sh", "./scripts/deploy.sh", ""),
        ("      - id: tag\n        run: echo", "      - id: tag\n        shell: bash\n        ran: echo",
         "a step has neither run nor uses"),
    ],
)  # fmt: skip
def test_a_workflow_is_right_or_found(find: str, replace: str, what: str) -> None:
    assert find in WORKFLOW
    findings, unread = found(WORKFLOW.replace(find, replace) if find else WORKFLOW)
    assert any(what in each for each in findings) if what else findings == [], findings
    assert not unread


@pytest.mark.parametrize("text", ["a: [", "a: \x07\n", "a: &x [*x\n", "\tjobs:\n"])
def test_what_is_not_yaml_is_not_examined(text: str) -> None:
    findings, unread = found(text)
    assert findings == []
    assert len(unread) == 1


def test_a_job_of_a_called_workflow_may_have_any_output() -> None:
    before, _, deploy = WORKFLOW.partition("    runs-on: ubuntu-24.04\n    outputs")
    deploy = deploy[deploy.index("  deploy:") :]
    called = f"{before}    uses: acme/shared/.github/workflows/build.yml@v2\n{deploy}"
    assert found(called) == ([], [])


@pytest.mark.parametrize(
    ("run", "found"),
    [
        ('echo "tag=x" >> "$GITHUB_OUTPUT"', False),
        ('echo "tga=x" >> "$GITHUB_OUTPUT"', True),
        ('echo "sha=x" >> $GITHUB_OUTPUT\necho "date=y" >> $GITHUB_OUTPUT', True),
        ('{ echo "sha=x"; echo "$NAME=y"; } >> "$GITHUB_OUTPUT"', False),
        ('echo "$NAME=x" >> "$GITHUB_OUTPUT"', False),
        ('cat outputs.env >> "$GITHUB_OUTPUT"', False),
        ("scripts/tag.sh", False),
        ('echo "sha=x" >> "$GITHUB_OUTPUT"\nscripts/tag.sh >> "$GITHUB_OUTPUT"', False),
        ('echo "tag<<E" >> $GITHUB_OUTPUT\necho x >> $GITHUB_OUTPUT\necho E >> $GITHUB_OUTPUT', False),
    ],
)
def test_an_output_of_a_step_is_one_that_it_sets(run: str, found: bool) -> None:
    steps = [{"id": "t", "run": run}, {"run": "make TAG=${{ steps.t.outputs.tag }}"}]
    files = repository({"on": "push", "jobs": {"one": {"runs-on": "x", "steps": steps}}})
    findings = [each.what for each in invalid(files)[1].findings]
    assert any("steps.t.outputs.tag is empty" in each for each in findings) == found, findings


SH = "#!/bin/sh\nset -eu\n"


@pytest.mark.parametrize(
    ("run", "script", "wrong"),
    [
        ("scripts/a.sh", "#!/usr/bin/env bash\nset -o pipefail\ncat <<<x", ""),
        ("scripts/a.sh", f'{SH}if [ -n "$1" ]; then echo ${{1:-x}}; fi', ""),
        ("bash scripts/a.sh", f"{SH}cat <<<x", ""),
        ("scripts/a.sh", f"{SH}cat <<<x", "scripts/a.sh is run by sh, which has no <<<"),
        ("sh scripts/a.sh", "#!/usr/bin/env bash\n[[ -n $1 ]]", "run by sh, which has no [["),
        ("scripts/a.sh", f"{SH}set -euo pipefail", "which has no pipefail"),
        ("scripts/a.sh", f"{SH}a=(b c)", "which has no arrays"),
        ("scripts/a.sh", f"{SH}echo ${{1:0:7}}", "which has no such expansions"),
        ("scripts/a.sh", "#!/bin/bash\r\ntrue\r\n", "ends with a carriage return"),
        ("scripts/b.sh", SH, "scripts/b.sh is not in the checkout"),
        ("cd x\nscripts/b.sh", SH, ""),
        ("if [ -f scripts/b.sh ]; then scripts/b.sh; fi", SH, ""),
        ("curl -o scripts/b.sh https://example.org/b.sh\nbash scripts/b.sh", SH, ""),
        ("dist/b.sh", SH, ""),
        ("/opt/tools/b.sh", SH, ""),
    ],
)
def test_a_job_can_run_its_scripts(run: str, script: str, wrong: str) -> None:
    steps = [{"uses": "actions/checkout@v4"}, {"run": run}]
    job = {"runs-on": "ubuntu-24.04", "steps": steps}
    contained = wrong if "not in the checkout" in wrong else ""
    for more, said in (({}, wrong), ({"container": "alpine:3"}, contained)):
        data = {"on": "push", "jobs": {"a": {**job, **more}}}
        found = invalid(repository(data, **{"scripts/a.sh": script}))[1].findings
        found = [each for each in found if "/a.sh" in each.what or "/b.sh" in each.what]
        assert [said in each.what for each in found] == [True] * bool(said), found


def test_a_file_that_another_repository_may_bring_is_not_missed() -> None:
    steps = [{"uses": "actions/checkout@v4", "with": {"repository": "a/b"}}, {"run": "scripts/b.sh"}]
    data = {"on": "push", "jobs": {"a": {"runs-on": "ubuntu-24.04", "steps": steps}}}
    assert not [each for each in invalid(repository(data))[1].findings if "b.sh" in each.what]


MATRIX = "    strategy: {{ matrix: {} }}\n    env: {{ X: '${{{{ matrix.a }}}}' }}\n"
MANUAL = "{ workflow_dispatch: { inputs: { a: %s } } }"


@pytest.mark.parametrize(
    ("on", "job", "what"),
    [
        ("push", MATRIX.format("{ a: [1] }"), ""),
        ("push", MATRIX.format("{ include: [{ a: 1 }] }"), ""),
        ("push", MATRIX.format("'${{ fromJSON(x) }}'"), ""),
        ("push", MATRIX.format("{ b: [1] }"), "matrix.a is empty"),
        ("push", "    if: github.event.inputs.b == 'x'\n", ""),
        (MANUAL % "{}", "    if: inputs.a\n", ""),
        (MANUAL % "{}", "    env: { X: '${{ inputs.b }}' }\n", "inputs.b is empty"),
        (MANUAL % "{ default: false }", "    if: inputs.a != true\n", ""),
        (MANUAL % "{ default: false }", "    if: inputs.a == 'false'\n", "never runs: its `if` is false"),
        ("{ push: { branches: [a], paths-ignore: [b] } }", "", ""),
        ("{ push: { branches: [a], branches-ignore: [b] } }", "", "both branches and branches-ignore"),
        ("push", "    timeout-minutes: 15m\n", "timeout-minutes of x is 15m, which is not a number"),
        ("push", "    timeout-minutes: 15\n", ""),
        ("push", "    timeout-minutes: '15'\n", ""),
        ("push", "    timeout-minutes: 2.5\n", ""),
        ("push", "    timeout-minutes: ${{ fromJSON(vars.MINUTES || '15') }}\n", ""),
        ("push", "    if: ${{ !cancelled() }}\n", ""),
        ("push", "    if: !cancelled()\n", "the `if` of x begins with `!`"),
        ("push", "    if: '!cancelled()'\n", ""),
        ("{ workflow_run: { workflows: [w] } }", "", ""),
        ("{ workflow_run: { workflows: [Tests] } }", "", "no workflow is called Tests"),
    ],
)
def test_what_a_job_reads_is_there(on: str, job: str, what: str) -> None:
    text = f"name: w\non: {on}\njobs:\n  x:\n    runs-on: x\n    steps: [{{ run: 'true' }}]\n{job}"
    findings, _ = found(text)
    assert [what in each for each in findings] == [True] * bool(what), findings


@pytest.mark.parametrize(
    ("name", "condition", "inverted"),
    [
        ("run-migrations", "inputs.skip_migrations", True),
        ("migrate", "inputs.skip_migrations == true && github.ref == 'refs/heads/main'", True),
        ("run-migrations", "!inputs.skip_migrations", False),
        ("run-migrations", "inputs.skip_migrations != true", False),
        ("run-migrations", "inputs.skip_migrations || github.event_name == 'push'", False),
        ("migrations-skipped", "inputs.skip_migrations", False),
        ("build", "inputs.skip_migrations", False),
    ],
)
def test_what_an_input_skips_runs_without_it(name: str, condition: str, inverted: bool) -> None:
    asked = "workflow_dispatch: { inputs: { skip_migrations: { default: false } } }"
    on = f"{{ push: {{ branches: [main] }}, {asked} }}"
    job = f"{name}: {{ runs-on: x, if: \"${{{{ {condition} }}}}\", steps: [{{ run: 'true' }}] }}"
    findings, _ = found(f"on: {on}\njobs:\n  {job}\n")
    said = f"{name} runs only if the input skip_migrations is set"
    assert [said in each for each in findings] == [True] * inverted, findings


def test_an_input_may_ask_for_a_job_that_begins_with_no() -> None:
    asked = "on: { workflow_dispatch: { inputs: { notify: { type: boolean, default: false } } } }"
    job = 'notify: { runs-on: x, if: "${{ inputs.notify }}", steps: [{ run: x }] }'
    assert found(f"{asked}\njobs:\n  {job}\n") == ([], [])


STEPS = "on: push\njobs:\n  x:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@v4\n"


@pytest.mark.parametrize(
    ("steps", "what"),
    [
        ("      - run: scripts/a.sh\n      - run: scripts/a.sh\n        working-directory: scripts\n",
         "scripts/a.sh is not in the checkout"),
        ("      - run: cp x scripts/b.sh\n      - run: scripts/b.sh\n", ""),
        ("      - id: t\n        run: echo t=1 >> $GITHUB_ENV\n      - run: echo ${{ steps.t.outputs.t }}\n",
         "steps.t.outputs.t is empty"),
        ("      - id: t\n        run: make tag\n      - run: echo ${{ steps.t.outputs.t }}\n", ""),
    ],
)  # fmt: skip
def test_what_a_step_uses_is_there(steps: str, what: str) -> None:
    files = {".github/workflows/w.yml": STEPS + steps, "scripts/a.sh": "true\n"}
    findings = [each.what for each in invalid(Repository.read(files, files.get))[1].findings]
    assert [what in each for each in findings] == [True] * bool(what), findings


@pytest.mark.parametrize(
    ("run", "inert", "what"),
    [
        ("scripts/a.sh", {}, ""),
        ("scripts/a.sh", {"scripts/a.sh"}, "scripts/a.sh is not a program: its mode in git is 644"),
        ("bash scripts/a.sh", {"scripts/a.sh"}, ""),
        ("python3 scripts/a.sh", {"scripts/a.sh"}, ""),
        ("npx tsx scripts/a.sh", {"scripts/a.sh"}, ""),
        ("chmod +x scripts/*.sh\n          scripts/a.sh", {"scripts/a.sh"}, ""),
    ],
)
def test_a_script_that_is_run_by_its_name_is_a_program(run: str, inert: set[str], what: str) -> None:
    files = {
        ".github/workflows/w.yml": f"{STEPS}      - run: |\n          {run}\n",
        "scripts/a.sh": "#!/bin/bash\ntrue\n",
    }
    read = dataclasses.replace(Repository.read(files, files.get), inert=frozenset(inert))
    findings = [each.what for each in invalid(read)[1].findings]
    assert [what in each for each in findings] == [True] * bool(what), findings


@pytest.mark.parametrize(
    ("earlier", "empty"),
    [
        ({}, True),
        ({"run": "make"}, True),
        ({"uses": "actions/setup-node@v4"}, True),
        ({"env": {"TAG": "1"}, "run": "make"}, True),
        ({"run": 'echo "TAG=1" >> "$GITHUB_ENV"'}, False),
        ({"run": "scripts/variables.sh"}, False),
        ({"uses": "someone/env-action@v1"}, False),
        ({"uses": "hashicorp/vault-action@v3", "with": {"secrets": "ci/x tag | TAG"}}, False),
        ({"uses": "aws-actions/aws-secretsmanager-get-secrets@v2"}, False),
        ({"uses": "actions/github-script@v7", "with": {"script": "core.exportVariable('TAG', 1)"}}, False),
    ],
)
def test_a_variable_that_no_earlier_step_sets_is_empty(earlier: dict[str, Any], empty: bool) -> None:
    steps = [each for each in (earlier, {"run": "make TAG=${{ env.TAG }}"}) if each]
    data = {"on": "push", "jobs": {"build": {"runs-on": "ubuntu-24.04", "steps": steps}}}
    others = {"scripts/variables.sh": 'echo "TAG=1" >> "$GITHUB_ENV"\n'} if "scripts" in str(earlier) else {}
    _, examined = invalid(repository(data, **others))
    assert any("env.TAG is empty" in each.what for each in examined.findings) is empty


@pytest.mark.parametrize(
    ("script", "entries", "ends"),
    [
        ('set -u\necho "$STAGE"', {}, True),
        ('set -euo pipefail\nname="$STAGE-api"', {}, True),
        ('echo "${STAGE:?expected a stage}"', {}, True),
        ('echo "$STAGE"', {}, False),
        ('set -u\nset +u\necho "$STAGE"', {}, False),
        ('set -u\necho "${STAGE:-staging}"', {}, False),
        ('set -u\nSTAGE="${STAGE:-staging}"\necho "$STAGE"', {}, False),
        ('set -u\nif test -f x; then echo "$STAGE"; fi', {}, False),
        ('set -u\ntest -f x && echo "$STAGE"', {}, False),
        ('set -u\nif test -f x; then exit 0; fi\necho "$STAGE"', {}, False),
        ('set -u\nif test -f x; then exit 1; fi\necho "$STAGE"', {}, True),
        ('set -u\n. ./stage.env\necho "$STAGE"', {}, False),
        ('set -o nounset\necho "$STAGE"', {}, True),
        ('set -u\nset +o nounset\necho "$STAGE"', {}, False),
        ('set -u\nexport "OTHER=x"\necho "$STAGE"', {}, True),
        ('set -u\nexport $(grep -v "^#" .env | xargs)\necho "$STAGE"', {}, False),
        ('set -u\nwhile read -r line; do export "$line"; done < .env\necho "$STAGE"', {}, False),
        ('set -u\nshow() { echo "$STAGE"; }\nshow', {}, True),
        ('set -u\nshow() { echo "$STAGE"; }\ntest -f x && show', {}, False),
        ("set -u\nscripts/local.sh", {}, True),
        ("set -u\nscripts/local.sh || echo local", {}, False),
        ("set -u\nif ! scripts/local.sh; then echo local; fi", {}, False),
        ("set -u\nscripts/local.sh &", {}, False),
        ('set -u\necho "$ImageOS $pythonLocation"', {}, False),
        ('set -u\nread -r STAGE < stage\necho "$STAGE"', {}, False),
        ('set -u\nfor STAGE in a b; do echo "$STAGE"; done', {}, False),
        ('set -u\necho "$GITHUB_SHA $HOME $AWS_REGION $RANDOM"', {}, False),
        ("set -u\necho '$STAGE'", {}, False),
        ('set -u\necho "$STAGE"', {"env": {"STAGE": "staging"}}, False),
        ("set -u\nstage=a\nx=$STAGE", {}, True),
        ('set -u\necho "a${STAGE:+:$STAGE}" "${STAGE-none}"', {}, False),
        ('set -eu\nx="$(echo $STAGE)"', {}, True),
        ('set -eu\necho "$(echo $STAGE)"', {}, False),
        ("set -eu\n(echo $STAGE)", {}, True),
        ("set -eu\n(echo $STAGE) || true", {}, False),
        ('set -u\nexport OTHER=1 "MORE=2"\necho $STAGE', {}, True),
        ("set -u\nexport $(xargs < stage.env)\necho $STAGE", {}, False),
        (
            'set -u\nwhile IFS== read -r name value; do export "$name=$value"; done < x\necho $STAGE',
            {},
            False,
        ),
        ('set -u\nread -r "$1" < stage\necho $STAGE', {}, False),
        ('set -u\nprintf -v "$1" staging\necho $STAGE', {}, False),
        ('env >> "$GITHUB_ENV"\nset -u\necho $STAGE', {}, False),
        ('echo "OTHER=1" >> "$GITHUB_ENV"\nset -u\necho $STAGE', {}, True),
        ('set -u\necho "$STAGE"', {"runs-on": "self-hosted"}, False),
        ('set -u\necho "$STAGE"', {"container": {"image": "x", "env": {"A": "b"}}}, False),
    ],
)
def test_a_script_ends_at_a_variable_that_nothing_sets(
    script: str, entries: dict[str, Any], ends: bool
) -> None:
    steps = [{"uses": "actions/checkout@v4"}, {"run": "scripts/deploy.sh"}]
    job = {"runs-on": "ubuntu-24.04", "steps": steps, **entries}
    data = {"on": "push", "jobs": {"deploy": job}}
    scripts = {"scripts/deploy.sh": script, "scripts/local.sh": 'set -u\necho "$STAGE"'}
    _, examined = invalid(repository(data, **scripts))
    assert any("deploy ends here: $STAGE is not set" in each.what for each in examined.findings) is ends


@pytest.mark.parametrize(
    ("machine", "uses", "what"),
    [
        ("ubuntu-20.04", "actions/checkout@v4", "GitHub has no machine ubuntu-20.04 any more"),
        ("macos-13", "actions/checkout@v4", "GitHub has no machine macos-13 any more"),
        ("ubuntu-22.04", "actions/checkout@v4", ""),
        (["self-hosted", "ubuntu-20.04"], "actions/checkout@v4", ""),
        ("ubuntu-24.04", "actions/upload-artifact@v3", "GitHub fails a step with actions/upload-artifact@v3"),
        (
            "ubuntu-24.04",
            "actions/cache/restore@v2.1.7",
            "GitHub fails a step with actions/cache/restore@v2.1.7",
        ),
        ("ubuntu-24.04", "actions/upload-artifact@v4", ""),
        ("ubuntu-24.04", "actions/cache@v3", ""),
        ("self-hosted", "actions/upload-artifact@v3", ""),
    ],
)
def test_machines_and_actions_are_still_there(machine: Any, uses: str, what: str) -> None:
    data = {"on": "push", "jobs": {"build": {"runs-on": machine, "steps": [{"uses": uses}]}}}
    _, examined = invalid(repository(data))
    assert [each.what for each in examined.findings] == ([f"build: {what}"] if what else [])


@pytest.mark.parametrize(
    ("whole", "job", "inner", "waits"),
    [
        ("deploy", "deploy", None, True),
        ("deploy", {"group": "Deploy", "cancel-in-progress": True}, None, True),
        ("deploy", None, "deploy", True),
        ("${{ github.workflow }}-${{ github.ref }}", None, "${{ github.workflow }}-${{ github.ref }}", True),
        ("ci-${{ github.head_ref || github.ref }}", None, "ci-${{ github.head_ref || github.ref }}", True),
        ("${{ inputs.stage }}", None, "${{ inputs.stage }}", False),
        ("deploy", "deploy-${{ matrix.service }}", "deploy-inner", False),
        (None, "deploy", "deploy", False),
        ("deploy", None, "[: not valid", False),
    ],
)
def test_no_job_waits_for_the_group_of_its_own_workflow(
    whole: Any, job: Any, inner: Any, waits: bool
) -> None:
    def with_(group: Any) -> dict[str, Any]:
        return {} if group is None else {"concurrency": group}

    run = {"runs-on": "ubuntu-24.04", "steps": [{"run": "make"}]}
    called = {"on": {"workflow_call": None}, "jobs": {"a": run}, **with_(inner)}
    jobs = {"b": {**run, **with_(job)}, "c": {"uses": "./.github/workflows/inner.yml"}}
    text = inner if inner and "[:" in inner else called
    _, examined = invalid(repository({"on": "push", "jobs": jobs, **with_(whole)}, inner=text))
    assert any("its own workflow holds" in each.what for each in examined.findings) is waits


RENDER = {
    "uses": "aws-actions/amazon-ecs-render-task-definition@v1",
    "with": {"task-definition": "ecs/api.json", "container-name": "api", "image": "x"},
}
DEFINITION = '{"family": "api", "containerDefinitions": [{"name": "%s", "image": "x"}]}'


@pytest.mark.parametrize(
    ("before", "files", "what"),
    [
        ([], {"ecs/api.json": DEFINITION % "api"}, ""),
        ([], {}, "ecs/api.json is not in the checkout, and no earlier step writes it"),
        ([], {"ecs/api.json": DEFINITION % "app"}, "ecs/api.json has no container api"),
        ([{"run": "aws ecs describe-task-definition > ecs/api.json"}], {}, ""),
        ([{"run": "scripts/define.sh"}], {"scripts/define.sh": "jq . x > ecs/api.json"}, ""),
        ([{"uses": "actions/download-artifact@v4"}], {}, ""),
        ([{"uses": "acme/write-task@v1"}], {}, ""),
        ([{"run": "python render.py api"}], {"render.py": "open(name, 'w')"}, ""),
        ([{"run": 'for s in api finn; do jq . $s > "ecs/$s.json"; done'}], {}, ""),
        ([{"uses": "actions/checkout@v4", "with": {"repository": "acme/ecs", "path": "ecs"}}], {}, ""),
        ([{"uses": "actions/checkout@v4", "with": {"submodules": "true"}}], {}, ""),
        ([{"uses": "actions/github-script@v7", "with": {"script": "write()"}}], {}, ""),
        ([{"run": 'docker build .\necho "a=b" >> "$GITHUB_OUTPUT"'}], {}, "ecs/api.json is not in the"),
    ],
)
def test_a_rendered_task_definition_exists(before: list[Any], files: dict[str, str], what: str) -> None:
    steps = [{"uses": "actions/checkout@v4"}, *before, RENDER]
    data = {"on": "push", "jobs": {"deploy": {"runs-on": "ubuntu-24.04", "steps": steps}}}
    _, examined = invalid(repository(data, **files))
    said = [each.what for each in examined.findings if "ecs/api.json" in each.what]
    assert [what in each for each in said] == [True] * bool(what), said


@pytest.mark.parametrize(
    ("condition", "after", "what"),
    [
        ("failure()", "", ""),
        ("failure()", "always()", ""),
        ("failure()", "success()", "deploy never runs: its `if` is false"),
        ("failure() && needs.build.result == 'failure'", "", ""),
        ("false", "always()", "deploy never runs: its `if` is false"),
    ],
)
def test_a_job_may_wait_for_a_failure_unless_another_waits_for_it(
    condition: str, after: str, what: str
) -> None:
    later = f"  last:\n    needs: deploy\n    if: {after}\n    runs-on: x\n    steps: [{{ run: x }}]\n"
    said, _ = found(WORKFLOW.replace(IF, f"    if: {condition}") + (later if after else ""))
    assert said == [what] * bool(what)


TAGGED = """\
on: { push: { branches: [main] }, workflow_dispatch: }
jobs:
  build:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v4
      - id: tag
        if: CONDITION
        run: echo "tag=1" >> "$GITHUB_OUTPUT"
      - if: READER
        run: READ
"""


@pytest.mark.parametrize(
    ("condition", "reader", "read", "event"),
    [
        ("github.event_name == 'workflow_dispatch'", "true", 'docker push "a:OUT"', "push"),
        ("false", "true", "scripts/deploy.sh OUT", "push"),
        ("github.event_name == 'push'", "true", "bash scripts/deploy.sh OUT", "workflow_dispatch"),
        ("github.event_name == 'push'", "github.event_name == 'push'", "scripts/deploy.sh OUT", ""),
        ("github.event_name == 'push'", "true", 'test -n "OUT"', ""),
        ("vars.TAGGED", "true", "scripts/deploy.sh OUT", ""),
        ("true", "true", "scripts/deploy.sh OUT", ""),
        ("false", "true", "scripts/deploy.sh a OUT", ""),
        ("false", "true", "bin/build OUT", ""),
        ("false", "true", "terraform apply OUT", ""),
        ("false", "true", 'if [ -n "OUT" ]; then docker push "a:OUT"; fi', ""),
        ("false", "true", 'test -z "OUT" || docker push "a:OUT"', ""),
    ],
)
def test_an_output_that_a_command_gets_is_of_a_step_that_runs(
    condition: str, reader: str, read: str, event: str
) -> None:
    text = TAGGED.replace("CONDITION", condition).replace("READER", reader)
    text = text.replace("READ", read.replace("OUT", "${{ steps.tag.outputs.tag }}"))
    said, _ = found(text)
    what = f"build: steps.tag.outputs.tag is empty on {event}: that step is skipped"
    assert said == [what] * bool(event)


@pytest.mark.parametrize(
    ("ids", "read", "what"),
    [
        (["tag", "push"], "needs.build.outputs.tag", ""),
        (["tag", ""], "needs.build.result", ""),
        (["", ""], "contains(needs.*.result, 'failure')", ""),
        (["tag", "Tag"], "github.sha", "build: GitHub refuses a second step with the id Tag"),
        (["tag", "push"], "needs.build.output.tag", "deploy: needs.build.output is empty: a job has only"),
    ],
)
def test_steps_have_ids_of_their_own_and_jobs_hand_over_outputs(ids: list[str], read: str, what: str) -> None:
    steps = [{"id": each, "run": "make"} if each else {"run": "make"} for each in ids]
    outputs = {"tag": "${{ github.sha }}"}
    jobs = {
        "build": {"runs-on": "ubuntu-24.04", "outputs": outputs, "steps": steps},
        "deploy": {
            "runs-on": "ubuntu-24.04", "needs": "build", "steps": [{"run": f"make TAG=${{{{ {read} }}}}"}],
        },
    }  # fmt: skip
    _, examined = invalid(repository({"on": "push", "jobs": jobs}))
    assert [what in each.what for each in examined.findings] == [True] * bool(what)
