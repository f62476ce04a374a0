"""One rerun for a transport failure, none for a failure that is already proof."""

import pytest

from tests.adapter.scenario import DEFAULT, WORKERS, Suite

COUNTED = """
def count(name):
    path = pathlib.Path(os.environ["SCENARIO_ROOT"], name)
    with path.open("a") as stream:
        stream.write("x")
    return len(path.read_text())

def lost(when):
    if when: raise ConnectionResetError("the call was lost")

class LeakedMoney(SafetyViolation):
    pass

class Answer:
    def __init__(self, attempt): self.attempt = attempt
"""


def _checks(suite: Suite, body: str, severity: str = "p0") -> None:
    suite.checks(f"{COUNTED}\n@pytest.mark.{severity}\ndef test_it(evidence):\n    passing(evidence)\n{body}")


@WORKERS
def test_flaky_p0_degrades(suite: Suite) -> None:
    _checks(suite, "    lost(count('tries') == 1)")
    run = suite.expect("DEGRADED")
    check = run.check("health/it")
    assert (check["outcome"], check["class"], check["attempts"]) == ("flaky", "FLAKE", 2)
    assert "the call was lost" in check["summary"]
    assert [entry["name"] for entry in check["evidence"]] == ["answer", "answer"]


def test_failure_of_every_attempt_is_a_failure(suite: Suite) -> None:
    _checks(suite, "    lost(count('tries') < 10)")
    run = suite.run()
    assert (run.code, run.check("health/it")["attempts"]) == (1, 2), run.output()
    assert suite.wrote("tries") == "xx"


@pytest.mark.parametrize(
    ("raised", "workers"),
    [
        ("SafetyViolation('a refused token was accepted')", ()),
        ("LeakedMoney('money is gone')", ("-n2",)),
        ("ExceptionGroup('five at once', [ValueError('odd'), LeakedMoney('money is gone')])", ()),
    ],
    ids=["itself", "subclass-on-a-worker", "in-a-group"],
)
def test_safety_violation_is_never_rerun(suite: Suite, workers: tuple[str, ...], raised: str) -> None:
    _checks(suite, f"    if count('tries') == 1: raise {raised}")
    run = suite.run(*workers)
    assert suite.wrote("tries") == "x"
    check = run.check("health/it")
    assert (run.code, check["outcome"], check["class"], check["attempts"]) == (
        1,
        "failed",
        "PLATFORM_BUG",
        1,
    ), run.output()
    assert "accepted" in check["summary"] or "money is gone" in check["summary"]


def test_safety_violation_stays_one_though_a_marker_reruns_it(suite: Suite) -> None:
    suite.checks(f"""{COUNTED}
@pytest.mark.p0
@pytest.mark.flaky(reruns=2, rerun_except="NothingLikeIt")
def test_it(evidence):
    passing(evidence)
    if count('tries') == 1: raise SafetyViolation('a refused token was accepted')
""")
    run = suite.run()
    assert suite.wrote("tries") == "x"
    assert (run.code, run.check("health/it")["outcome"]) == (1, "failed"), run.output()


def test_the_runners_own_fault_is_not_rerun(suite: Suite) -> None:
    _checks(suite, "    count('tries')\n    raise SetupError('no key: export TOKEN')")
    run = suite.run()
    assert suite.wrote("tries") == "x"
    assert (run.code, run.check("health/it")["class"]) == (6, "SETUP_ERROR"), run.output()


def test_number_of_reruns_can_be_chosen(suite: Suite) -> None:
    _checks(suite, "    lost(count('tries') < 4)")
    run = suite.run("--reruns", "3")
    assert run.check("health/it")["attempts"] == 4, run.output()
    assert run.check("health/it")["outcome"] == "flaky"


def test_reruns_of_the_ini_file_apply(suite: Suite) -> None:
    suite.write("pytest.ini", "[pytest]\nreruns = 0\n")
    _checks(suite, "    lost(count('tries') < 2)")
    assert suite.run().check("health/it")["attempts"] == 1


def test_default_delay_is_a_second(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p1
    def test_settings(evidence, pytestconfig):
        evidence.figure("delay", pytestconfig.option.reruns_delay)
        evidence.figure("reruns", pytestconfig.option.reruns)
    """)
    figures = suite.run("--override-ini=reruns_delay=").check("health/settings")["evidence"]
    assert [entry["value"] for entry in figures] == [0, 1], "what the command line gives stands"


def test_without_rerunfailures(suite: Suite) -> None:
    _checks(suite, "    lost(count('tries') < 2)")
    run = suite.run(plugins=[name for name in DEFAULT if name != "rerunfailures"])
    assert (run.code, run.check("health/it")["attempts"]) == (1, 1), run.output()


def test_flaky_teardown(suite: Suite) -> None:
    suite.checks(f"""{COUNTED}
@pytest.fixture
def unsteady():
    yield
    lost(count('tries') < 2)

@pytest.mark.p0
def test_it(evidence, unsteady):
    passing(evidence)
""")
    run = suite.run()
    assert (run.code, run.check("health/it")["outcome"]) == (2, "flaky"), run.output()


@WORKERS
def test_a_rerun_by_others_hides_no_failure(suite: Suite) -> None:
    """A plugin that runs a check again without numbering its attempts."""
    suite.write(
        "conftest.py",
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            for last in (None, nextitem):
                item._initrequest()
                runtestprotocol(item, nextitem=last, log=True)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
            return True
        """,
    )
    _checks(suite, "    lost(count('tries') == 1)")
    run = suite.run(plugins=("readiness",))
    assert (run.code, run.check("health/it")["outcome"]) == (2, "flaky"), run.output()
    assert run.check("health/it")["attempts"] == 2


@pytest.mark.parametrize(
    ("failure", "code", "cls"),
    [
        ("assert False", 1, "PLATFORM_BUG"),
        ("nome()", 6, "CHECK_ERROR"),
        ("raise SetupError('no key')", 6, "SETUP_ERROR"),
    ],
)
def test_a_rerun_by_others_takes_no_answer_back(suite: Suite, failure: str, code: int, cls: str) -> None:
    """Only a transport failure is retried, whichever plugin reruns the check."""
    suite.write("conftest.py", "def pytest_collection_modifyitems(items): items[:] = items * 2\n")
    _checks(suite, f"    if count('tries') == 1: {failure}")
    run = suite.run()
    assert suite.wrote("tries") == "xx"
    assert (run.code, run.check("health/it")["class"]) == (code, cls), run.output()


def test_a_failure_of_the_platform_in_the_last_attempt_outranks_an_earlier_setup_error(suite: Suite) -> None:
    suite.write("conftest.py", "def pytest_collection_modifyitems(items): items[:] = items * 2\n")
    _checks(suite, "    if count('tries') == 1: raise SetupError('no key')\n    lost(True)")
    run = suite.run()
    assert (run.code, run.check("health/it")["class"]) == (1, "PLATFORM_BUG"), run.output()


@pytest.mark.parametrize("asked", [(), ("--reruns=3",), ("--force-reruns=3",)])
@pytest.mark.parametrize(
    "failure",
    ["assert False", "nome()", "raise ExternalOutage('down')", "raise ExceptionGroup('g', [OSError(9)])"],
)
def test_what_is_not_a_transport_error_is_not_repeated(
    suite: Suite, failure: str, asked: tuple[str, ...]
) -> None:
    _checks(suite, f"    if count('tries') == 1: {failure}")
    run = suite.run(*asked)
    assert suite.wrote("tries") == "x"
    assert run.check("health/it")["outcome"] == "failed", run.output()
    assert run.code in (1, 6)


@pytest.mark.parametrize(
    "failure",
    [
        "TimeoutError('slow')",
        "httpx.ReadTimeout('slow')",
        "httpx.ConnectError('reset')",
        "status(502)",
        "status(503)",
        "status(504)",
        "urllib.error.HTTPError('http://x/', 503, 'no', {}, None)",
        "ExceptionGroup('g', [ConnectionResetError(), httpx.ReadTimeout('slow')])",
    ],
)
def test_trouble_of_the_transport_is_repeated_once(suite: Suite, failure: str) -> None:
    suite.checks(f"""{COUNTED}
import httpx, urllib.error

def status(code):
    request = httpx.Request("GET", "http://x/")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(code, request=request))

@pytest.mark.p0
def test_it(evidence):
    passing(evidence)
    if count('tries') == 1: raise {failure}
""")
    run = suite.run()
    assert (run.code, suite.wrote("tries")) == (2, "xx"), run.output()
    assert run.check("health/it")["outcome"] == "flaky"


def test_a_static_check_is_never_repeated(suite: Suite) -> None:
    suite.checks(f"""{COUNTED}
@pytest.mark.p0
@pytest.mark.static
@pytest.mark.flaky(reruns=2)
def test_it(evidence):
    passing(evidence)
    lost(count('tries') == 1)
""")
    run = suite.run()
    assert (run.code, suite.wrote("tries")) == (1, "x"), run.output()


def test_a_failed_assertion_beside_lost_calls_is_an_answer(suite: Suite) -> None:
    suite.checks(f"""{COUNTED}
@pytest.fixture
def unsteady():
    yield
    lost(count('ends') == 1)

@pytest.mark.p0
def test_it(evidence, unsteady):
    passing(evidence)
    assert count('tries') > 1
""")
    run = suite.run()
    assert (run.code, suite.wrote("tries")) == (1, "x"), run.output()


def test_the_markers_own_condition_applies(suite: Suite) -> None:
    suite.checks(f"""{COUNTED}
@pytest.mark.p0
@pytest.mark.flaky(reruns=2, condition=False)
def test_it(evidence):
    passing(evidence)
    lost(count('tries') == 1)
""")
    assert suite.run().code == 1
    assert suite.wrote("tries") == "x"
