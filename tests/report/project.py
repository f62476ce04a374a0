"""A small launch project in a directory of its own, run by a real pytest in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

FILES = {
    "pytest.ini": "[pytest]\n",
    "readiness.toml": """
schema_version = 1
title = "Browser <b>launch</b>"
suite = "smoke"
phases = ["health", "auth"]
[[goal]]
id = "G-1"
title = "Parallel dev"
[[goal]]
id = "G-2"
title = "Auth <script>window.pwned = 1</script>"
[[goal]]
id = "G-7"
title = "3x green"
streak = true
[[deferral]]
item = "NATS `event` streaming"
severity = "Low"
rationale = "<img src=x onerror='window.pwned = 1'>"
[[inventory]]
service = "API"
key = "api"
url = "https://staging.example.com/a/rather/long/address/that/must/not/widen/the/page"
cpu = 512
memory = 1024
image = "api:$SHA"
[[operational]]
item = "First deploy"
rule = "live-run"
[[rollback]]
title = "Full Rollback"
kind = "full"
steps = ["`git revert <commit-hash>`"]
""",
    "environments/schema.toml": '[section.api.url]\ntype = "url"\nrequired = true\n',
    "environments/local.toml": """
name = "local"
live = false
protected = false
[api]
url = "http://127.0.0.1:9"
""",
    "smoke/health/test_health.py": """
import pytest

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("health"), pytest.mark.p0]

SCRIPTS = ["<script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 1'>"]
NAMES = ["<b>bold</b>", *SCRIPTS, "back\\\\slash"]


@pytest.mark.parametrize("name", NAMES)
def test_named(name, evidence):
    evidence.note(f"seen {name}")
    evidence.figure("inventory/api/cpu", 512)
    evidence.figure("charges", 22100, "µUSD", expected=22100)


attempts = []


@pytest.mark.p1
def test_shaky(evidence):
    attempts.append(1)
    evidence.evaluated("I-1", len(attempts))
    assert len(attempts) > 1
""",
    "smoke/auth/test_tokens.py": """
import datetime
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.goal("G-2"), pytest.mark.phase("auth")]


def answer(body):
    url = "http://127.0.0.1:9/v1/invoke"
    request = SimpleNamespace(method="POST", url=url, headers={}, content=b'{"q": "<i>"}')
    return SimpleNamespace(
        request=request,
        status_code=200,
        elapsed=datetime.timedelta(milliseconds=42),
        headers={"content-type": "application/json"},
        content=body,
    )


@pytest.mark.p0
def test_expired_token_is_refused(evidence):
    evidence.exchange(answer(b'{"content": "<script>window.pwned = 1</script>"}'))
    raise AssertionError("an expired token was accepted: <b>200</b> " + "very " * 80 + "x" * 300)
""",
}


def run(directory: Path) -> Path:
    """Write the project, run its suite, and return the path of the HTML report."""
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "CI"))
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "smoke"]
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return directory / "reports" / "readiness.html"
