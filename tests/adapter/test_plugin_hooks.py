"""The hooks that a suite or a composition root implements."""

import pytest

from tests.adapter.scenario import Suite
from tests.adapter.test_plugin_exit_codes import PASSING, WORKERS

OVERLAY = """
import os, pathlib

def pytest_readiness_environment(name, profile, config):
    root = pathlib.Path(os.environ["SCENARIO_ROOT"])
    with open(root / "calls", "a") as stream:
        stream.write(f"{name} {profile.get('api.url')}\\n")
    config.add_cleanup(lambda: (root / "stopped").touch())
    os.environ["STARTED"] = "yes"
    return {"api": {"url": "http://127.0.0.1:12"}, "auth": {"token": "file:token"}}
"""
IDENTITY = """
import os, pathlib

def pytest_readiness_build_identity(environment):
    root = pathlib.Path(os.environ["SCENARIO_ROOT"])
    assert environment.api.url
    with open(root / "asked", "a") as stream:
        stream.write("x")
    asked = len((root / "asked").read_text())
    ANSWER
"""


@WORKERS
def test_environment_hook_fills_the_profile_in(suite: Suite, workers: tuple[str, ...]) -> None:
    suite.write("conftest.py", OVERLAY)
    suite.write("token", "a-token-from-the-hook\n")
    suite.checks("""
    @pytest.mark.p0
    @pytest.mark.requires("token")
    def test_url(environment, evidence):
        evidence.figure("url", environment.api.url)
        evidence.figure("length", len(environment.secret("auth.token")))
        evidence.figure("started", os.environ["STARTED"])
        evidence.figure("frozen", repr(environment))
    """)
    run = suite.run(*workers)
    assert run.code == 0, run.output()
    values = [entry["value"] for entry in run.check("health/url")["evidence"]]
    assert values == ["http://127.0.0.1:12", 21, "yes", "Environment('local')"]
    assert suite.wrote("calls") == "local http://127.0.0.1:9\n", "once, and not on workers"
    assert (suite.root / "stopped").exists()


def test_environment_hook_is_not_called_for_a_mere_collection(suite: Suite) -> None:
    suite.write("conftest.py", OVERLAY)
    suite.checks(PASSING)
    assert suite.run("--collect-only").code == 0
    assert suite.run("--help").code == 0
    assert not suite.wrote("calls")


def test_environment_hook_is_not_called_when_the_ledger_is_unusable(suite: Suite) -> None:
    suite.write("conftest.py", OVERLAY)
    suite.checks(PASSING)
    assert suite.run("--readiness-ledger", "file:conftest.py").code == 4
    assert not suite.wrote("calls"), "no platform is started for a run that cannot be recorded"


def test_environment_hook_may_name_the_environment(suite: Suite) -> None:
    suite.write("conftest.py", OVERLAY.replace('return {"api"', 'return {"name": "other", "api"'))
    suite.checks(PASSING)
    assert suite.run().model["environment"] == "other"
    assert len(suite.ledger("other")) == 1


def test_environment_hook_may_complete_a_profile(suite: Suite) -> None:
    suite.write("environments/local.toml", 'name = "local"\nlive = false\n')
    suite.checks(PASSING)
    assert suite.run().code == 4
    suite.write("conftest.py", OVERLAY)
    assert suite.run().code == 0


def test_environment_hook_that_answers_nonsense(suite: Suite) -> None:
    suite.write("conftest.py", OVERLAY.replace('"http://127.0.0.1:12"', '"nowhere"'))
    suite.checks(PASSING)
    run = suite.run()
    assert run.code == 4, run.output()
    assert "hook pytest_readiness_environment: api.url" in run.err
    assert (suite.root / "stopped").exists(), "what was started ends all the same"


def test_usage_error_of_the_environment_hook(suite: Suite) -> None:
    suite.write(
        "conftest.py",
        "import pytest\ndef pytest_readiness_environment(name): raise pytest.UsageError('no pooler here')",
    )
    suite.checks(PASSING)
    run = suite.run()
    assert (run.code, run.model["reasons"]) == (4, ["usage error: no pooler here"]), run.output()


@WORKERS
def test_build_that_changes_during_the_run(suite: Suite, workers: tuple[str, ...]) -> None:
    suite.write("smoke/conftest.py", IDENTITY.replace("ANSWER", "return {'api': f'build-{asked}', 'b': ''}"))
    suite.checks(PASSING)
    run = suite.run(*workers)
    assert (run.code, run.verdict) == (6, "NO_VERDICT"), run.output()
    assert "the build of api changed during the run: build-1 -> build-2" in run.model["reasons"][0]
    assert suite.wrote("asked") == "xx"


def test_build_that_stays(suite: Suite) -> None:
    suite.write("smoke/conftest.py", IDENTITY.replace("ANSWER", "return {'api': 'build-1', 'b': None}"))
    suite.checks(PASSING)
    run = suite.run()
    assert (run.code, run.model["build_identity"]) == (0, {"api": "build-1", "b": ""}), run.output()


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        ("raise ConnectionError('refused')", "ConnectionError: refused"),
        (
            "return {'api': '' if asked > 1 else 'build-1', 'b': '2'}",
            "build identity of api unknown at the end of the run: it was build-1 at the start",
        ),
        ("import pytest; pytest.fail('unknown')", "Failed: unknown"),
        ("import threading; threading.Event().wait()", "no answer within 5 s"),
    ],
    ids=["error", "gone", "pytest.fail", "silence"],
)
def test_unknown_build_is_noted(suite: Suite, answer: str, note: str) -> None:
    suite.write("smoke/conftest.py", IDENTITY.replace("ANSWER", answer))
    suite.checks(PASSING)
    run = suite.run()
    assert (run.code, run.verdict) == (0, "READY"), run.output()
    assert any(note in line for line in run.model["notes"]), run.model["notes"]


def test_classify_hook(suite: Suite) -> None:
    suite.write(
        "smoke/conftest.py",
        "def pytest_readiness_classify(exception, check):\n"
        "    assert check['severity'] == 'P0'\n"
        "    if 'UPSTREAM' in str(exception): return 'EXTERNAL_OUTAGE'\n",
    )
    suite.checks("""
    @pytest.mark.p0
    def test_up(evidence):
        raise AssertionError("503 UPSTREAM")
    """)
    run = suite.run()
    assert (run.code, run.check("health/up")["class"]) == (6, "EXTERNAL_OUTAGE"), run.output()


def test_classify_hook_that_answers_nonsense(suite: Suite) -> None:
    suite.write("smoke/conftest.py", "def pytest_readiness_classify(exception): return 'OOPS'")
    suite.checks("@pytest.mark.p0\ndef test_up(): assert False")
    run = suite.run()
    assert run.code == 3, run.output()
    assert "pytest_readiness_classify returned 'OOPS'; allowed: PLATFORM_BUG" in run.out + run.err
