"""The hooks that a suite or a composition root implements."""

import pytest

from tests.adapter.scenario import WORKERS, Suite
from tests.adapter.test_plugin_exit_codes import PASSING

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
def test_environment_hook_fills_the_profile_in(suite: Suite) -> None:
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
    run = suite.run()
    assert run.code == 0, run.output()
    values = [entry["value"] for entry in run.check("health/url")["evidence"]]
    assert values == ["http://127.0.0.1:12", 21, "yes", "Environment('local')"]
    assert suite.wrote("calls") == "local http://127.0.0.1:9\n", "once, and not on workers"
    assert (suite.root / "stopped").exists()


@WORKERS
@pytest.mark.parametrize("file", ["smoke/conftest.py", "smoke/more/conftest.py"])
def test_environment_hook_that_is_loaded_too_late_is_refused(suite: Suite, file: str) -> None:
    suite.write(file, OVERLAY)
    suite.checks(PASSING, name="smoke/more/test_checks.py")
    run = suite.run(".")
    assert run.code == 4, run.output()
    assert f"{file}: hook pytest_readiness_environment: loaded too late" in run.output()
    assert "smoke/conftest.py, or the conftest.py beside the plan" in run.output()
    assert ("next: move it to smoke/conftest.py" in run.output()) == ("more" in file)
    assert "ask for the suite: pytest smoke\n" in run.output()
    assert suite.run("--collect-only", ".").code == 0


def test_a_late_environment_hook_of_another_project_is_no_error(suite: Suite) -> None:
    suite.write("examples/smoke/conftest.py", OVERLAY)
    suite.write("examples/smoke/test_example.py", "def test_example(): pass\n")
    suite.checks(PASSING)
    run = suite.run(".")
    assert run.code == 0, run.output()


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


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise OSError(2, 'not found', 'docker')", "FileNotFoundError: [Errno 2] not found: 'docker'"),
        ("assert name == 'staging', 'no pooler\\nhere'", "AssertionError: no pooler here"),
        ("raise SystemExit('no pooler here')", "SystemExit: no pooler here"),
        ("import pytest; pytest.skip('no pooler here')", "Skipped: no pooler here"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("return [1]", "TypeError: it returned list, not a mapping of sections"),
    ],
)
def test_an_environment_hook_that_breaks_is_named(suite: Suite, body: str, says: str) -> None:
    suite.write("conftest.py", f"def pytest_readiness_environment(name):\n    {body}\n")
    suite.checks(PASSING)
    run = suite.run()
    assert run.code == 4, run.output()
    assert run.model["reasons"][0].startswith(f"usage error: hook pytest_readiness_environment: {says}")
    assert ("(conftest.py:2)" in run.err) is ("returned" not in says), run.err
    assert "Traceback" not in run.out + run.err


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import pytest; pytest.exit('no pooler', returncode=0)", "Exit: no pooler"),
    ],
)
def test_an_environment_hook_may_end_the_run(suite: Suite, body: str, why: str) -> None:
    suite.write("conftest.py", f"def pytest_readiness_environment(name):\n    {body}\n")
    suite.checks(PASSING)
    run = suite.run()
    assert (run.code, run.model["reasons"]) == (6, [f"the run was interrupted: {why}"]), run.output()


@WORKERS
def test_build_that_changes_during_the_run(suite: Suite) -> None:
    suite.write("smoke/conftest.py", IDENTITY.replace("ANSWER", "return {'api': f'build-{asked}', 'b': ''}"))
    suite.checks(PASSING)
    run = suite.expect("NO_VERDICT")
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
        ("return 5", "pytest_readiness_build_identity returned int, not a mapping of service to build"),
        ("import threading; threading.Event().wait()", "no answer within 5 s"),
    ],
    ids=["error", "gone", "pytest.fail", "number", "silence"],
)
def test_unknown_build_is_noted(suite: Suite, answer: str, note: str) -> None:
    suite.write("smoke/conftest.py", IDENTITY.replace("ANSWER", answer))
    suite.checks(PASSING)
    run = suite.expect("READY")
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


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 'OOPS'", "it returned 'OOPS', not PLATFORM_BUG, CHECK_ERROR, SETUP_ERROR, EXTERNAL_OUTAGE"),
        ("return ''", "it returned ''"),
        ("raise KeyError('provider')", "KeyError: 'provider' (smoke/conftest.py:2)"),
        ("import pytest; pytest.skip('later')", "Skipped: later"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_classify_hook_that_breaks_is_the_suites_fault(suite: Suite, body: str, says: str) -> None:
    suite.write("smoke/conftest.py", f"def pytest_readiness_classify(exception):\n    {body}\n")
    suite.checks("""
    @pytest.mark.p0
    def test_up(): assert False, "it is down"

    @pytest.mark.p0
    def test_after(evidence): passing(evidence)
    """)
    run = suite.expect("NO_VERDICT")
    assert run.outcomes() == {"health/up": "failed", "health/after": "passed"}
    found = run.check("health/up")
    assert found["class"] == "CHECK_ERROR"
    assert found["summary"].startswith(f"hook pytest_readiness_classify: {says}"), found["summary"]
    assert "asked about it is down" in found["summary"]


def test_a_classify_hook_that_breaks_excuses_no_violation(suite: Suite) -> None:
    suite.write("smoke/conftest.py", "def pytest_readiness_classify(exception): raise KeyError('provider')")
    suite.checks("@pytest.mark.p0\ndef test_up(): raise SafetyViolation('forged token accepted')")
    run = suite.run()
    assert (run.code, run.check("health/up")["class"]) == (1, "PLATFORM_BUG"), run.output()
