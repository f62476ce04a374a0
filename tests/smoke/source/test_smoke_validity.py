"""Workflows that GitHub refuses, or in which something is empty or never runs, and their right neighbours."""

import pytest

from smoke.source.pipeline.deploys import Pipeline
from smoke.source.pipeline.gate import unmigrated
from smoke.source.pipeline.validity import invalid
from smoke.source.pipeline.workflows import Repository
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
IF = "    if: ${{ !cancelled() && needs.build.result == 'success' }}"
RUNS_ON = "    runs-on: ubuntu-24.04\n    steps:\n      - uses"


def found(text: str) -> tuple[list[str], list[str]]:
    files = {".github/workflows/deploy.yml": text, "scripts/deploy.sh": "true\n"}
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
        ("      tag: ${{ steps", "      sha: ${{ steps", "needs.build.outputs.tag is empty: build has no"),
        ("id: tag", "id: version", "steps.tag is empty: no step before it has that id"),
        ("steps.tag.outputs.tag", "steps.tag.outputs['tag']", ""),
        ("    if: ${{ !cancelled() && ", "    if: ${{ cancelled() && ", "deploy never runs"),
        ("needs.build.result == 'success'", "needs.build.result != 'success'", "deploy never runs"),
        ("needs.build.result == 'success'", "vars.deploy", ""),
        ("needs.build.result == 'success'", "false", "deploy never runs"),
        (IF, "    #", ""),
        (IF, "    if: failure()", "deploy never runs"),
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
    ("steps", "what"),
    [
        ("      - run: migrate.sh a-migration\n      - run: migrate.sh p-b-migration\n", ""),
        ("      - run: for each in a-migration b-migration; do migrate.sh $each; done\n", ""),
        ("      - run: migrate.sh\n        env: { TASKS: 'a-migration b-migration' }\n", ""),
        ("      - run: migrate.sh a-migration\n", "migrate runs a-migration but not b-migration"),
        ("      - run: npx prisma migrate deploy\n", "? which migrations migrate runs"),
    ],
)
def test_the_migration_job_leaves_no_migration_out(steps: str, what: str) -> None:
    text = f"on: push\njobs:\n  migrate:\n    runs-on: x\n    steps:\n{steps}"
    files = {".github/workflows/deploy.yml": text}
    plan = Pipeline(".github/workflows/deploy.yml", "migrate", [], [], [])
    examined = unmigrated(Repository.read(files, files.get), plan, ["a-migration", "b-migration"])
    said = [each.what for each in examined.findings] + [f"? {each.what}" for each in examined.not_examined]
    assert len(said) == bool(what)
    assert all(each.startswith(what) for each in said)


RULE = "migrate-%:\n\tscripts/migrate.sh $*-migration\n"


@pytest.mark.parametrize(
    ("targets", "makefile", "what"),
    [
        ("migrate-a migrate-b", RULE, []),
        ("all", "all: migrate-a migrate-b\n" + RULE, []),
        ("migrate-a", RULE, ["migrate runs a-migration but not b-migration"]),
    ],
)
def test_the_rules_of_a_makefile_say_which_migrations_run(
    targets: str, makefile: str, what: list[str]
) -> None:
    text = f"on: push\njobs:\n  migrate:\n    runs-on: x\n    steps:\n      - run: make {targets}\n"
    files = {".github/workflows/deploy.yml": text, "Makefile": makefile}
    plan = Pipeline(".github/workflows/deploy.yml", "migrate", [], [], [])
    examined = unmigrated(Repository.read(files, files.get), plan, ["a-migration", "b-migration"])
    assert [each.what for each in examined.findings] == what
    assert not examined.not_examined


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
