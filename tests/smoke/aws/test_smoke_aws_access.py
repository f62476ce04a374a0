"""Without access to AWS a run soon ends NO_VERDICT, with the reason and the fix."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_readiness.report import report_of

from stack.launch import Stack
from tests.stack.tools import request

ROOT = Path(__file__).parents[3]
NO_VERDICT = 6
SOON_S = 90.0
#: Environment in which no credentials can be found.
NOBODY = {
    "AWS_ACCESS_KEY_ID": None,
    "AWS_SECRET_ACCESS_KEY": None,
    "AWS_PROFILE": None,
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9",
}


def run(stack: Stack, tmp_path: Path, profile: str, changed: dict[str, Any], *select: str) -> dict[str, Any]:
    """The model of a run that must end NO_VERDICT in time."""
    path = tmp_path / "profile.toml"
    path.write_text(profile)
    environ = {**os.environ, **stack.environ, **{k: v for k, v in changed.items() if v is not None}}
    environ = {name: value for name, value in environ.items() if changed.get(name, "") is not None}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *select, "-q", "-p", "no:cacheprovider", "--env", str(path),
         "--readiness-dir", str(tmp_path / "reports"), "--readiness-ledger", f"file:{tmp_path}/l.jsonl"],
        cwd=ROOT, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == NO_VERDICT, ended.stdout + ended.stderr
    assert time.monotonic() - began < SOON_S
    model: dict[str, Any] = json.loads(report_of(tmp_path / "reports").read_text("utf-8"))
    assert not [check["id"] for check in model["checks"] if check["outcome"] == "passed"]
    return model


@pytest.mark.parametrize(
    ("edit", "changed", "reported"),
    [
        (("", ""), NOBODY, "no usable AWS credentials on this runner"),
        (
            ('region = "us-east-1"', 'region = "eu-west-1"'),
            {},
            "no cluster arrakis-staging-cluster in eu-west-1",
        ),
        (('prefix = "arrakis-staging"', 'prefix = "arrakis"'), {}, "no cluster arrakis-cluster in us-east-1"),
        (('region = "us-east-1"', 'region = "moon"'), {}, "moon"),
        (("", ""), {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "no answer from AWS"),
    ],
    ids=["no-credentials", "wrong-region", "wrong-prefix", "no-such-region", "no-answer"],
)
def test_without_access_the_rest_is_not_run(
    stack: Stack, tmp_path: Path, edit: tuple[str, str], changed: dict[str, Any], reported: str
) -> None:
    text = stack.profile_path.read_text("utf-8").replace(*edit)
    model = run(stack, tmp_path, text, changed, "smoke/services/test_ecs.py", "smoke/alarms/test_alarms.py")
    first, *others = model["checks"]
    assert (first["id"], first["outcome"], first["class"]) == ("services/aws", "failed", "SETUP_ERROR")
    assert reported in first["summary"]
    outcomes = {check["id"]: check["outcome"] for check in others}
    assert outcomes.pop("alarms/fire-drill") == "skipped"  # a drill, which this run does not include
    assert set(outcomes.values()) == {"not-run"}


@pytest.mark.parametrize(
    ("service", "code", "reported"),
    [
        ("monitoring", "AccessDenied", "may not cloudwatch:DescribeAlarms"),
        ("monitoring", "Throttling", "cloudwatch:DescribeAlarms in us-east-1"),
        ("*", "ExpiredToken", "does not accept this runner's credentials"),
    ],
)
def test_each_alarm_check_reports_it_and_none_passes(
    stack: Stack, tmp_path: Path, service: str, code: str, reported: str
) -> None:
    door = f"{stack.profile['aws']['endpoint_url']}/_stack/faults/api-refuses"
    assert request("PUT", door, {"service": service, "code": code})[0] == 200
    text = stack.profile_path.read_text("utf-8")
    model = run(stack, tmp_path, text, {}, "smoke/alarms/test_alarms.py::test_quiet")
    wanted = "EXTERNAL_OUTAGE" if code == "Throttling" else "SETUP_ERROR"
    assert {check["class"] for check in model["checks"]} == {wanted}
    assert all(reported in check["summary"] for check in model["checks"])
