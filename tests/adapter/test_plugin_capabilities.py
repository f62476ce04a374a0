"""Checks with unmet requirements do not run, and name the requirement."""

import pytest

from tests.adapter.samples import LOCAL
from tests.adapter.scenario import WORKERS, Suite

TOUCH = """
def executed(name):
    with open(pathlib.Path(os.environ["SCENARIO_ROOT"], "executed"), "a") as stream:
        stream.write(name + " ")

@pytest.fixture
def expensive():
    executed("fixture")

"""
HEALTH = """
@pytest.mark.p0
@pytest.mark.establishes("api")
def test_api(evidence):
    passing(evidence)
    executed("health")
    {fate}
"""
LATER = """
pytestmark = [pytest.mark.goal("G-2"), pytest.mark.phase("work"), pytest.mark.requires("api")]

@pytest.mark.p0
def test_call(evidence, expensive):
    passing(evidence)

@pytest.mark.p1
@pytest.mark.establishes("money")
def test_pay(evidence, expensive):
    passing(evidence)

@pytest.mark.p1
@pytest.mark.requires("money")
def test_refund(evidence, expensive):
    passing(evidence)
"""


@WORKERS
def test_what_is_down_stops_what_needs_it(suite: Suite) -> None:
    suite.checks(TOUCH + HEALTH.format(fate="raise ConnectionRefusedError('refused to connect')"))
    suite.checks(TOUCH + LATER, "smoke/test_later.py", phase="work")
    run = suite.run()
    assert run.code == 1, run.output()
    assert run.outcomes() == {
        "health/api": "failed",
        "work/call": "not-run",
        "work/pay": "not-run",
        "work/refund": "not-run",
    }
    assert (
        "api is down (health/api: ConnectionRefusedError: refused to connect"
        in run.check("work/call")["summary"]
    )
    if not suite.workers:
        assert suite.wrote("executed") == "health health ", "no fixture of a check that is not run"


def test_what_is_down_through_what_was_not_run(suite: Suite) -> None:
    suite.checks(TOUCH + HEALTH.format(fate="assert False"))
    suite.checks(TOUCH + LATER.replace('requires("money")', 'requires("money")'), "smoke/test_later.py")
    last = suite.run().check("work/refund")
    assert "api is down" in last["summary"]


@WORKERS
@pytest.mark.parametrize(
    ("fate", "said"),
    [("{}['status']", "KeyError: 'status'"), ("raise SetupError('no key')", "SetupError: no key")],
)
def test_an_error_that_is_not_the_platforms_says_nothing_about_it(suite: Suite, fate: str, said: str) -> None:
    suite.checks("from pytest_readiness import SetupError\n" + TOUCH + HEALTH.format(fate=fate))
    suite.checks(TOUCH + LATER, "smoke/test_later.py", phase="work")
    run = suite.run()
    assert run.verdict == "NO_VERDICT", run.output()
    assert f"it is not known whether api is up (health/api: {said})" in run.check("work/call")["summary"], (
        run.check("work/call")
    )
    assert "is down" not in run.output()


def test_flaky_health_takes_nothing_down(suite: Suite) -> None:
    tried = "pathlib.Path(os.environ['SCENARIO_ROOT'], 'executed').read_text().split()"
    fate = f"if len({tried}) == 1: raise ConnectionResetError"
    suite.checks(TOUCH + HEALTH.format(fate=fate))
    suite.checks(TOUCH + LATER, "smoke/test_later.py", phase="work")
    run = suite.run()
    assert run.outcomes()["health/api"] == "flaky", run.output()
    assert run.outcomes()["work/refund"] == "passed"


def test_crashed_health_takes_down_what_it_establishes(suite: Suite) -> None:
    suite.checks(TOUCH + HEALTH.format(fate="os._exit(3)"))
    suite.checks(TOUCH + LATER, "smoke/test_later.py", phase="work")
    run = suite.run("-n2")
    said = run.check("work/call")["summary"]
    assert "it is not known whether api is up (health/api: not run to its end: worker" in said, run.output()


def test_declared_absent(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    def test_up(evidence):
        passing(evidence)

    @pytest.mark.p1
    @pytest.mark.requires("extra")
    def test_extra(evidence):
        passing(evidence)
    """)
    run = suite.expect("READY")
    check = run.check("health/extra")
    assert (check["outcome"], check["applicable"], check["class"]) == ("skipped", False, None)
    assert "extra.reachable is false" in check["summary"]


def test_absent_p0_leaves_no_verdict_unless_covered(suite: Suite) -> None:
    checks = """
    @pytest.mark.p0
    def test_counted(evidence):
        passing(evidence)

    @pytest.mark.p0
    @pytest.mark.requires("extra"{cover})
    def test_extra(evidence):
        passing(evidence)
    """
    suite.checks(checks.format(cover=""))
    assert suite.run().code == 6
    suite.checks(checks.format(cover=', covered_by="health/counted"'))
    suite.expect("READY")


@WORKERS
def test_declared_but_missing_secret_degrades(suite: Suite) -> None:
    checks = """
    @pytest.mark.{severity}
    @pytest.mark.requires("token")
    def test_token(evidence, environment):
        evidence.figure("length", len(environment.secret("auth.token")))
    """
    suite.checks(checks.format(severity="p1"))
    run = suite.expect("DEGRADED")
    check = run.check("health/token")
    assert (check["outcome"], check["class"]) == ("skipped", "SETUP_ERROR")
    assert "environment variable SCENARIO_TOKEN is not set" in check["summary"]
    suite.checks(checks.format(severity="p0"))
    assert suite.run().code == 6
    run = suite.expect("READY", environ={"SCENARIO_TOKEN": "not-a-real-token"})


def test_missing_secret_of_no_capability_is_a_setup_error(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    def test_token(evidence, environment):
        environment.secret("auth.token")
    """)
    run = suite.run()
    assert (run.code, run.check("health/token")["class"]) == (6, "SETUP_ERROR"), run.output()


DRILL = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)

@pytest.mark.p1
@pytest.mark.drill
def test_rotates(evidence):
    passing(evidence)

@pytest.mark.p1
@pytest.mark.requires("drill")
def test_revokes(evidence):
    passing(evidence)
"""


def test_drills_must_be_requested(suite: Suite) -> None:
    suite.checks(DRILL)
    run = suite.expect("READY")
    assert "--drills" in run.check("health/rotates")["summary"]
    assert run.check("health/rotates")["applicable"] is False
    run = suite.run("--drills")
    assert set(run.outcomes().values()) == {"passed"}, run.output()


def test_protected_environment_refuses_drills(suite: Suite) -> None:
    suite.checks(DRILL)
    suite.write("environments/local.toml", LOCAL.replace("live = false", "live = false\nprotected = true"))
    run = suite.run("--drills")
    assert run.code == 4, run.output()
    assert "environment 'local' is protected" in run.err
    assert suite.run().code == 0


@pytest.mark.parametrize("asked", [(), ("smoke/test_later.py",)])
def test_unknown_capability_is_refused_when_the_suite_is_complete(
    suite: Suite, asked: tuple[str, ...]
) -> None:
    suite.checks(TOUCH + LATER, "smoke/test_later.py", phase="work")
    run = suite.run(*asked)
    if asked:
        assert run.code == 0, run.output()
    else:
        assert run.code == 4, run.output()
        assert "unknown capability 'api'" in run.err
        assert "allowed: drill, extra, money, token" in run.err
