"""What workflows and actions get from their callers: inputs, secrets, permissions."""

from typing import Any

import pytest

from smoke.source.pipeline.repository import Repository
from smoke.source.pipeline.validity import invalid
from tests.smoke.source.workflow_files import repository

CALLED = """
on:
  workflow_call:
    inputs:
      tag: { required: true }
      region: { default: x }
    secrets:
      ROLE: { required: true }
jobs:
  deploy: { runs-on: x, steps: [{ run: 'true' }] }
"""
CALL = "on: push\njobs:\n  deploy:\n    uses: ./.github/workflows/called.yml\n"


@pytest.mark.parametrize(
    ("given", "called", "what"),
    [
        ("    secrets: inherit\n    with: { tag: a }\n", CALLED, ""),
        ("    secrets: { ROLE: r }\n    with: { tag: a, region: y }\n", CALLED, ""),
        ("    secrets: inherit\n", CALLED, "is not given its input tag, which it requires"),
        ("    with: { tag: a }\n", CALLED, "is not given its secret ROLE, which it requires"),
        ("    secrets: inherit\n    with: { tag: a, size: 2 }\n", CALLED, "has no input size"),
        ("    secrets: { ROLE: r, KEY: k }\n    with: { tag: a }\n", CALLED, "has no secret KEY"),
        ("    secrets: inherit\n    with: { tag: a }\n    runs-on: x\n", CALLED, "a machine of its own"),
        ("", CALLED.replace("workflow_call", "workflow_dispatch"), "cannot be called"),
    ],
)
def test_a_workflow_is_called_with_what_it_asks_for(given: str, called: str, what: str) -> None:
    files = {".github/workflows/deploy.yml": CALL + given, ".github/workflows/called.yml": called}
    findings = [each.what for each in invalid(Repository.read(files, files.get))[1].findings]
    assert [what in each for each in findings] == [True] * bool(what), findings


AWS = "aws-actions/configure-aws-credentials@v4"
ACTION = "inputs:\n  tag: {}\nruns:\n  using: composite\n  steps:\n    - run: echo ${{ inputs.tag }}\n"


@pytest.mark.parametrize(
    ("action", "what"),
    [
        (ACTION + "      shell: bash\n", ""),
        (ACTION, "runs a script and names no shell"),
        (ACTION.replace("inputs.tag", "inputs.sha") + "      shell: bash\n", "inputs.sha is empty"),
    ],
)
def test_an_action_has_a_shell_and_the_inputs_that_it_reads(action: str, what: str) -> None:
    steps = "    runs-on: x\n    steps:\n      - uses: actions/checkout@v4\n      - uses: ./deploy\n"
    files = {".github/workflows/w.yml": f"on: push\njobs:\n  deploy:\n{steps}", "deploy/action.yml": action}
    findings = [each.what for each in invalid(Repository.read(files, files.get))[1].findings]
    assert [what in each for each in findings] == [True] * bool(what), findings


@pytest.mark.parametrize(
    ("secrets", "called", "empty"),
    [
        (None, {}, True),
        ("inherit", {}, False),
        ({"role": "x"}, {}, False),
        ({"OTHER": "x"}, {}, True),
        (None, {"environment": "staging"}, False),
        (None, {"optional": True}, False),
        (None, {"if": "vars.DEPLOYS"}, True),
    ],
)
def test_a_called_workflow_has_the_secrets_that_it_is_given(
    secrets: Any, called: dict[str, Any], empty: bool
) -> None:
    declared = {"secrets": {"ROLE": {"required": False}}} if called.pop("optional", False) else None
    step = {
        "run": "make deploy",
        "env": {"ROLE": "${{ secrets.ROLE }}", "TOKEN": "${{ secrets.GITHUB_TOKEN }}"},
    }
    inner = {
        "on": {"workflow_call": declared},
        "jobs": {"deploy": {"runs-on": "ubuntu-24.04", "steps": [step], **called}},
    }
    call = {"uses": "./.github/workflows/inner.yml", **({"secrets": secrets} if secrets else {})}
    _, examined = invalid(repository({"on": "push", "jobs": {"call": call}}, inner=inner))
    assert any("secrets.ROLE is empty" in each.what for each in examined.findings) is empty


def test_the_variables_of_a_caller_are_not_those_of_the_workflow_that_it_calls() -> None:
    inner = {
        "on": {"workflow_call": None},
        "jobs": {"deploy": {"runs-on": "ubuntu-24.04", "steps": [{"run": 'set -u\necho "$STAGE"'}]}},
    }
    call = {"uses": "./.github/workflows/inner.yml"}
    data = {"on": "push", "env": {"STAGE": "staging"}, "jobs": {"call": call}}
    _, examined = invalid(repository(data, inner=inner))
    assert [each.what for each in examined.findings] == ["deploy ends here: $STAGE is not set"]


@pytest.mark.parametrize(
    ("step", "empty"),
    [
        ({"run": "notify", "env": {"HOOK": "${{ secrets.HOOK }}"}}, False),
        ({"uses": AWS, "with": {"role-to-assume": "${{ secrets.HOOK }}"}}, True),
        ({"uses": AWS, "with": {"role-to-assume": "${{ secrets.HOOK }}"}, "if": "vars.DEPLOYS"}, False),
    ],
)
def test_a_secret_that_another_call_passes_may_be_optional(step: dict[str, Any], empty: bool) -> None:
    inner = {
        "on": {"workflow_call": None},
        "permissions": {"id-token": "write"},
        "jobs": {"deploy": {"runs-on": "ubuntu-24.04", "steps": [step]}},
    }
    call = {"uses": "./.github/workflows/inner.yml", "permissions": "write-all"}
    jobs = {"one": call, "other": {**call, "secrets": "inherit"}}
    _, examined = invalid(repository({"on": "push", "jobs": jobs}, inner=inner))
    said = [each.what for each in examined.findings]
    assert [each.startswith("one: secrets.HOOK is empty") for each in said] == [True] * empty, said


WRITE = {"id-token": "write", "contents": "read"}


@pytest.mark.parametrize(
    ("caller", "call", "inner", "refused"),
    [
        (None, None, WRITE, True),
        ({"contents": "read"}, None, WRITE, True),
        (WRITE, {"contents": "read"}, WRITE, True),
        (WRITE, {"contents": "read"}, None, True),
        (WRITE, None, WRITE, False),
        (None, WRITE, None, False),
        (None, "write-all", WRITE, False),
        ({"contents": "read"}, None, {"contents": "read"}, False),
    ],
)
def test_a_call_grants_the_permissions_that_are_needed(
    caller: Any, call: Any, inner: Any, refused: bool
) -> None:
    def with_(given: Any) -> dict[str, Any]:
        return {} if given is None else {"permissions": given}

    step = {"uses": AWS, "with": {"role-to-assume": "arn:aws:iam::1:role/deploy"}}
    called = {
        "on": {"workflow_call": None},
        "jobs": {"deploy": {"runs-on": "ubuntu-24.04", "steps": [step], **with_(inner)}},
    }
    jobs = {"call": {"uses": "./.github/workflows/inner.yml", **with_(call)}}
    _, examined = invalid(repository({"on": "push", "jobs": jobs, **with_(caller)}, inner=called))
    said = [each.what for each in examined.findings]
    assert any("which the call lacks" in each for each in said) is refused, said
    own = any("assumes an AWS role without the permission" in each for each in said)
    assert own is (inner == {"contents": "read"}), said
