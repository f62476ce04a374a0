"""The whole suite, end to end: one problem that fails many checks is one cause at the top of the report."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.stack.tools import request

ROOT = Path(__file__).parents[1]


def _run(profile: Path, tmp_path: Path, *paths: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Run checks of the suite and return the report."""
    inherited = {name: value for name, value in os.environ.items() if not re.match("AWS_|PYTEST_", name)}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *paths, "--env", str(profile), "-q", "-p", "no:cacheprovider"),
            *("--readiness-dir", str(tmp_path / "reports"), "--readiness-ledger", f"file:{tmp_path}/ledger"),
        ],
        cwd=ROOT,
        env={**inherited, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [*(tmp_path / "reports").rglob("readiness.json")]
    assert found, done.stdout + done.stderr
    model: dict[str, Any] = json.loads(found[0].read_text())
    assert done.returncode == model["exit_code"], done.stdout + done.stderr
    return model


def test_staging_without_access_has_at_most_four_causes(tmp_path: Path) -> None:
    text = (ROOT / "environments" / "staging.toml").read_text()
    profile = tmp_path / "staging.toml"
    profile.write_text(re.sub(r"(?<=//)[\w.-]+(?=[:\"])", "nowhere.invalid", text))
    model = _run(profile, tmp_path, "smoke", environ={})
    assert model["verdict"] == "NO_VERDICT"
    causes = model["blockers"]
    assert 1 <= len(causes) <= 4, [cause["summary"] for cause in causes]
    open_ones = [check for check in model["checks"] if check["outcome"] not in ("passed", "deferred")]
    assert len(open_ones) > 300
    assert {cause["class"] for cause in causes} <= {"SETUP_ERROR", None}
    deferred = {row["goal"] for row in model["deferred"]}
    assert {goal["id"]: goal["status"] for goal in model["goals"]} == {
        goal["id"]: "DEFERRED" if goal["id"] in deferred else "PENDING" for goal in model["goals"]
    }


def test_a_token_that_is_accepted_too_long_is_one_cause(stack: Any, tmp_path: Path) -> None:
    url = f"{stack.control_url}/faults/freeside-accepts-expired"
    assert request("PUT", url, {})[0] == 200
    model = _run(
        Path(stack.profile_path), tmp_path, "smoke/health", "smoke/jwks", "smoke/auth", "smoke/reputation",
        environ=stack.environ,
    )  # fmt: skip
    assert model["verdict"] == "BROKEN"
    first, *others = model["blockers"]
    assert (first["severity"], first["class"]) == ("P0", "PLATFORM_BUG")
    assert first["check"] == "auth/forged-token-is-refused[freeside.invoke]", "the plainest"
    assert "expired: freeside accepted a token" in first["summary"]
    failed = [check["id"] for check in model["checks"] if check["outcome"] == "failed"]
    assert len({name.partition("[")[0] for name in failed}) > 3, "several families of checks see it"
    ours = [cause for cause in (first, *others) if cause["class"] == "PLATFORM_BUG"]
    assert len(ours) == 1, [cause["summary"] for cause in ours]
    assert sorted(failed) == sorted([first["check"], *first["also"]])
    assert len(first["also"]) >= 6


@pytest.mark.parametrize(
    ("fault", "phases"),
    [
        ("freeside-invoke-missing", ("auth", "invoke", "budget")),
        ("freeside-stream-missing", ("auth", "invoke", "stream", "budget")),
        ("dixie-query-missing", ("auth", "reputation")),
    ],
)
def test_a_route_that_is_missing_is_one_cause(
    stack: Any, tmp_path: Path, fault: str, phases: tuple[str, ...]
) -> None:
    assert request("PUT", f"{stack.control_url}/faults/{fault}", {})[0] == 200
    model = _run(
        Path(stack.profile_path), tmp_path, *(f"smoke/{phase}" for phase in phases), environ=stack.environ
    )
    assert model["verdict"] == "BROKEN"
    assert [cause["check"] for cause in model["blockers"] if cause["class"] == "PLATFORM_BUG"] == [
        model["blockers"][0]["check"]
    ]
    assert "is missing" in model["blockers"][0]["summary"]
    assert model["blockers"][0]["behind"], "what needs the route is not run"
