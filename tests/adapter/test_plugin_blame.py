"""Whose fault a failure is, in real runs: PLATFORM_BUG is a claim that needs its proof."""

import socket
from collections.abc import Iterator

import pytest

from tests.adapter.scenario import HTML, WORKERS, Suite

#: A mistake in the check's own code -> the expected message.
OWN_FAULTS = {
    "nome()": "NameError: name 'nome' is not defined",
    "len(5)": "TypeError: object of type 'int' has no len()",
    "import no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
    "open('no-such-file')": "FileNotFoundError",
    "environment.x": "AttributeError: the profile has no section 'x'",
    "environment.api.uri": "AttributeError: the profile has no api.uri",
    "{}['id']": "KeyError: 'id'",
    "[][0]": "IndexError",
    "int('one')": "ValueError: invalid literal",
    "1 / 0": "ZeroDivisionError",
    "import json; json.loads('<html>')": "JSONDecodeError",
    "raise MemoryError": "MemoryError",
    "raise OSError(28, 'No space left on device')": "OSError: [Errno 28] No space left on device",
    "raise SystemExit(0)": "SystemExit: 0",
    "raise RuntimeError('odd')": "RuntimeError: odd",
    "os.environ['NO_SUCH']": "KeyError: 'NO_SUCH'",
    "\n    def odd(): yield\n    it = odd(); next(it); it.throw(StopIteration)": "RuntimeError",
    "import asyncio; asyncio.run(asyncio.wait_for(asyncio.sleep(9), 0.01))": "TimeoutError",
    "import sqlite3; sqlite3.connect('/no/such/file')": "OperationalError",
    "from unittest.mock import Mock; Mock(spec=[]).name": "AttributeError",
    "import email.message as m; m.Message().get_payload(decode=1, i='a')": "TypeError",
    "raise ExceptionGroup('two', [KeyError('id'), ExternalOutage('down')])": "ExceptionGroup: two",
    "\n    try: raise ExternalOutage('down')\n    except ExternalOutage: nome()": "NameError",
    "\n    try: assert 0\n    except AssertionError: nome()": "NameError",
}
PLATFORM_FAULTS = {
    "assert 1 == 2": "assert 1 == 2",
    "pytest.fail('no')": "Failed: no",
    "\n    with pytest.raises(ValueError): pass": "Failed: DID NOT RAISE",
    "import unittest; unittest.TestCase().assertEqual(1, 2)": "1 != 2",
    "raise SafetyViolation('accepted')": "SafetyViolation: accepted",
    "import socket; socket.create_connection(('127.0.0.1', CLOSED))": "ConnectionRefusedError",
    "import httpx; httpx.get(f'http://127.0.0.1:{CLOSED}/')": "ConnectError",
    "import httpx; httpx.get(f'http://127.0.0.1:{MUTE}/', timeout=0.1)": "ReadTimeout",
    "import urllib.request as u; u.urlopen(f'http://127.0.0.1:{CLOSED}/')": "URLError",
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', CLOSED); c.request('GET', '/')": "Connection",
    "import psycopg; psycopg.connect(f'host=127.0.0.1 port={CLOSED}')": "OperationalError",
    "raise ValueError('no answer') from ConnectionResetError()": "ValueError: no answer",
    "raise ExceptionGroup('two', [KeyError('id'), AssertionError('no')])": "(2 sub-exceptions): no",
}
RUNNER_FAULTS = {
    "import httpx; httpx.get('http://name.invalid/')": "ConnectError",
    "raise OSError(101, 'Network is unreachable')": "OSError: [Errno 101]",
    "raise OSError(24, 'Too many open files')": "OSError: [Errno 24]",
    "import boto3; boto3.client('sts', region_name='x').get_caller_identity()": "NoCredentialsError",
}


TWO_YIELDS = """
@pytest.fixture
def twice():
    yield
    yield

@pytest.mark.p0
def test_up(twice, evidence): evidence.evaluated("rule")
"""


@pytest.fixture
def ports() -> Iterator[str]:
    """Settings of a case: a port where nothing listens, and one where nothing answers."""
    with socket.socket() as closed, socket.socket() as mute:
        for bound in (closed, mute):
            bound.bind(("127.0.0.1", 0))
        mute.listen()
        yield f"CLOSED, MUTE = {closed.getsockname()[1]}, {mute.getsockname()[1]}\n"


def _checks(suite: Suite, ports: str, bodies: dict[str, str], severity: str = "p0") -> list[str]:
    text = "".join(
        f"""
@pytest.mark.{severity}
def test_case_{number}(evidence, environment):
    evidence.evaluated("rule")
    {body}
"""
        for number, body in enumerate(bodies)
    )
    suite.checks(ports + text)
    return [f"health/case-{number}" for number in range(len(bodies))]


@pytest.mark.parametrize(
    ("bodies", "failure_class", "code"),
    [
        (OWN_FAULTS, "CHECK_ERROR", 6),
        (PLATFORM_FAULTS, "PLATFORM_BUG", 1),
        (RUNNER_FAULTS, "SETUP_ERROR", 6),
    ],
    ids=["check", "platform", "runner"],
)
def test_a_failure_gets_the_class_of_whoever_is_at_fault(
    suite: Suite, ports: str, bodies: dict[str, str], failure_class: str, code: int
) -> None:
    names = _checks(suite, ports, bodies)
    run = suite.run("--reruns=0")
    found = {name: (run.check(name)["class"], run.check(name)["outcome"]) for name in names}
    assert found == dict.fromkeys(names, (failure_class, "failed")), run.output()
    for name, expected in zip(names, bodies.values(), strict=True):
        assert expected in run.check(name)["summary"], name
        assert run.check(name)["where"].startswith("smoke/test_checks.py:"), name
    assert (run.code, run.verdict) == (code, "BROKEN" if code == 1 else "NO_VERDICT"), run.output()
    assert run.model["exit_code"] == run.code


@WORKERS
def test_a_check_error_names_what_to_fix(suite: Suite) -> None:
    _checks(suite, "", {"nome()": ""})
    run = suite.run(plugins=HTML)
    blocker = run.model["blockers"][0]
    assert (run.code, blocker["class"]) == (6, "CHECK_ERROR"), run.output()
    line = (suite.root / "smoke/test_checks.py").read_text().splitlines().index("    nome()") + 1
    assert blocker["next_action"].startswith(f"fix the check: smoke/test_checks.py:{line}"), blocker
    for name in ("readiness.md", "readiness.html"):
        assert "CHECK_ERROR" in (suite.root / "reports" / name).read_text()
    assert "CHECK_ERROR" in run.out


def test_a_check_error_of_a_p1_degrades(suite: Suite) -> None:
    _checks(suite, "", {"nome()": ""}, "p1")
    suite.expect("DEGRADED")


@pytest.mark.parametrize(
    "body",
    [
        "async def test_up(evidence): evidence.evaluated('rule')",
        TWO_YIELDS,
        "@pytest.mark.usefixtures('no_such')\ndef test_up(evidence): evidence.evaluated('rule')",
        "@pytest.mark.xfail(strict=True)\ndef test_up(evidence): evidence.evaluated('rule')",
    ],
    ids=["coroutine", "two-yields", "unknown-fixture", "strict-xpass"],
)
def test_what_pytest_itself_fails_is_not_the_platforms_fault(suite: Suite, body: str) -> None:
    suite.checks(body if "p0" in body else f"@pytest.mark.p0\n{body}")
    run = suite.run()
    assert run.check("health/up")["class"] == "CHECK_ERROR", run.output()
    assert (run.code, run.verdict) == (6, "NO_VERDICT"), run.output()


def test_the_worst_of_several_parts_decides(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    def test_parts(evidence, subtests):
        evidence.evaluated("rule")
        with subtests.test("first"): nome()
        with subtests.test("second"): assert False, "not there"
    """)
    run = suite.run()
    assert (run.code, run.check("health/parts")["class"]) == (1, "PLATFORM_BUG"), run.output()


@pytest.mark.parametrize(
    ("body", "failure_class", "code"),
    [
        ("self.assertEqual(1, 2)", "PLATFORM_BUG", 1),
        ("self.evidence.evaluated('rule'); assert 1 == 2", "PLATFORM_BUG", 1),
        ("raise SafetyViolation('accepted')", "PLATFORM_BUG", 1),
        ("self.evidence.evaluated('rule'); nome()", "CHECK_ERROR", 6),
        ("pass", "CHECK_ERROR", 6),
        ("self.skipTest('later')", None, 6),
        ("self.evidence.evaluated('rule')", None, 0),
    ],
)
@pytest.mark.parametrize("base", ["TestCase", "IsolatedAsyncioTestCase"])
def test_a_test_case_of_unittest_is_judged_as_any_check(
    suite: Suite, base: str, body: str, failure_class: str | None, code: int
) -> None:
    suite.checks(f"""
    import unittest

    @pytest.mark.p0
    class TestUp(unittest.{base}):
        @pytest.fixture(autouse=True)
        def _take(self, evidence): self.evidence = evidence

        {"async " * (base != "TestCase")}def test_up(self): {body}
    """)
    run = suite.run()
    assert (run.code, run.check("health/up")["class"]) == (code, failure_class), run.output()
    if failure_class is not None and body != "pass":
        assert run.check("health/up")["where"].startswith("smoke/test_checks.py:")


def test_an_invalid_failure_class_is_ignored(suite: Suite) -> None:
    suite.checks("""
    class Passing(Exception):
        failure_class = "FLAKE"

    class Odd(Exception):
        @property
        def failure_class(self): raise ValueError

    @pytest.mark.p0
    @pytest.mark.parametrize("kind", [Passing, Odd])
    def test_up(evidence, kind):
        evidence.evaluated("rule")
        raise kind
    """)
    run = suite.run()
    assert [check["class"] for check in run.model["checks"]] == ["CHECK_ERROR"] * 2, run.output()
    assert run.code == 6
