"""A small launch project in its own directory, run by a real pytest in its own process."""

from pathlib import Path

from tests.adapter.scenario import HTML, Suite

PLAN = """
schema_version = 1
title = "Browser <b>launch</b>"
suite = "smoke"
phases = ["auth", "health"]
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
"""
HEALTH = """
SCRIPTS = ["<script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 1'>"]
NAMES = ["<b>bold</b>", *SCRIPTS, "back\\\\slash"]


@pytest.mark.p0
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
    if len(attempts) == 1:
        raise ConnectionResetError("the call was lost")
"""
AUTH = """
import datetime
from types import SimpleNamespace


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
@pytest.mark.goal("G-2")
def test_expired_token_is_refused(evidence):
    evidence.exchange(answer(b'{"content": "<script>window.pwned = 1</script>"}'))
    raise AssertionError("an expired token was accepted: <b>200</b> " + "very " * 80 + "x" * 300)
"""


def run(directory: Path) -> Path:
    """Write the project, run its suite, and return the path of the HTML report."""
    suite = Suite(directory)
    suite.write("readiness.toml", PLAN)
    suite.checks(HEALTH, "smoke/health/test_health.py")
    suite.checks(AUTH, "smoke/auth/test_tokens.py", phase="auth")
    done = suite.run(plugins=HTML)
    assert done.code == 1, done.output()
    return directory / "reports" / "readiness.html"
