"""A check's time limit holds on every attempt, with and without pytest-timeout."""

from typing import Any

import pytest

from tests.adapter.scenario import DEFAULT, HTML, PLUGINS, WORKERS, Run, Suite
from tests.adapter.test_plugin_reruns import COUNTED

PLUGINS.setdefault("timeout", "pytest_timeout")
WITH = pytest.mark.parametrize("plugins", [DEFAULT, (*DEFAULT, "timeout")], ids=["alone", "pytest-timeout"])
MARK = "@pytest.mark.timeout(0.3)"
#: Code that blocks for ever.
WAIT = "threading.Event().wait(50)"


def _run(suite: Suite, body: str, *args: str, marks: str = MARK, **more: Any) -> Run:
    suite.checks(
        f"{COUNTED}\n{marks}\n@pytest.mark.p0\ndef test_it(evidence):\n    passing(evidence)\n{body}"
    )
    run = suite.run(*args, **more)
    assert run.model["exit_code"] == run.code
    return run


@WITH
@WORKERS
def test_a_check_that_never_ends_is_interrupted(suite: Suite, plugins: tuple[str, ...]) -> None:
    run = _run(suite, f"    {WAIT}", plugins=plugins)
    check = run.check("health/it")
    assert (run.code, check["class"], check["attempts"]) == (6, "CHECK_ERROR", 1), run.output()
    assert check["summary"] == "TimeLimitExceeded: took longer than its limit of 0.3 s"
    assert check["where"].startswith("smoke/test_checks.py:")
    assert check["duration_s"] < 10


@WITH
def test_the_second_attempt_has_the_limit_too(suite: Suite, plugins: tuple[str, ...]) -> None:
    run = _run(suite, f"    lost(count('tries') == 1)\n    {WAIT}", plugins=plugins)
    check = run.check("health/it")
    assert (run.code, check["outcome"], suite.wrote("tries")) == (6, "failed", "xx"), run.output()
    assert "longer than its limit" in check["summary"]
    assert check["duration_s"] < 20


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_the_limit_of_the_command_line_holds(suite: Suite, method: str) -> None:
    args = ("--timeout=0.3", f"--timeout-method={method}")
    plugins = (*DEFAULT, "timeout")
    run = _run(suite, f"    lost(count('tries') == 1)\n    {WAIT}", *args, marks="", plugins=plugins)
    assert (run.code, run.check("health/it")["class"]) == (6, "CHECK_ERROR"), run.output()


def test_every_check_has_the_limit_of_the_plan(suite: Suite) -> None:
    suite.plan("[policy]\ncheck_limit_s = 1\n")
    run = _run(suite, f"    {WAIT}", marks="")
    assert (run.code, run.check("health/it")["class"]) == (6, "CHECK_ERROR"), run.output()
    assert "limit of 1 s" in run.check("health/it")["summary"]


@pytest.mark.parametrize(
    "swallow",
    [
        f"    try: {WAIT}\n    except Exception: pass",
        f"    try: {WAIT}\n    except BaseException: pass",
        f"    for _ in range(2):\n        try: {WAIT}\n        except: pass",
    ],
)
def test_a_check_that_swallows_its_limit_does_not_pass(suite: Suite, swallow: str) -> None:
    run = _run(suite, swallow)
    assert (run.code, run.check("health/it")["class"]) == (6, "CHECK_ERROR"), run.output()


@pytest.mark.parametrize("where", ["before", "after"])
def test_fixtures_have_the_limit_too(suite: Suite, where: str) -> None:
    before, after = (WAIT if where == place else "pass" for place in ("before", "after"))
    suite.checks(f"""
    @pytest.fixture
    def slow():
        {before}
        yield
        {after}

    @pytest.mark.p0
    @pytest.mark.timeout(0.3)
    def test_it(evidence, slow):
        passing(evidence)

    @pytest.mark.p0
    def test_next(evidence):
        passing(evidence)
    """)
    run = suite.run()
    assert (run.code, run.check("health/it")["class"]) == (6, "CHECK_ERROR"), run.output()
    assert run.check("health/next")["outcome"] == "passed"


@pytest.mark.parametrize("seconds", ["0", "-1", "'1'", "True", "1e9", "None"])
def test_an_impossible_limit_is_refused(suite: Suite, seconds: str) -> None:
    suite.checks(f"@pytest.mark.timeout({seconds})\n@pytest.mark.p0\ndef test_it(evidence): pass")
    run = suite.run()
    assert run.code == 4, run.output()
    assert "malformed timeout marker" in run.err


def test_a_limit_of_the_plan_that_no_clock_can_hold_is_refused(suite: Suite) -> None:
    suite.plan("[policy]\ncheck_limit_s = 99999999999999\n")
    suite.checks("@pytest.mark.p0\ndef test_it(evidence): passing(evidence)")
    run = suite.run()
    assert run.code == 4, run.output()
    assert "check_limit_s" in run.err


def test_a_very_long_chain_of_causes_keeps_its_ends(suite: Suite) -> None:
    suite.checks("""
        @pytest.mark.p0
        def test_it(evidence):
            passing(evidence)
            problem = ConnectionRefusedError("the first cause")
            for number in range(3000):
                try:
                    raise AssertionError(f"link {number}") from problem
                except AssertionError as raised:
                    problem = raised
            raise problem
    """)
    run = suite.expect("BROKEN")
    assert run.check("health/it")["summary"] == "link 2999"
    for said in ("the first cause", "link 2999", "2,961 further exceptions of this chain are left out here"):
        assert said in run.out


def test_the_middle_of_a_long_chain_still_decides_who_is_at_fault(suite: Suite) -> None:
    suite.checks("""
        import socket

        @pytest.mark.p0
        def test_it(evidence):
            passing(evidence)
            problem = ConnectionRefusedError("the first cause")
            for number in range(60):
                unknown = socket.gaierror(socket.EAI_NONAME, "a name that this runner does not know")
                try:
                    raise (unknown if number == 30 else AssertionError(f"link {number}")) from problem
                except (AssertionError, OSError) as raised:
                    problem = raised
            raise problem
    """)
    run = suite.expect("NO_VERDICT")
    assert run.check("health/it")["class"] == "SETUP_ERROR"
    assert "21 further exceptions of this chain are left out here" in run.out


_HANGS = "def __str__(self):\n        while True: time.sleep(0.1)"


@pytest.mark.parametrize(
    ("members", "verdict"),
    [
        ("def __str__(self): raise SystemExit(0)", "BROKEN"),
        ("def __str__(self): pytest.skip('no')", "BROKEN"),
        ("__slots__ = ()\n    def __str__(self): raise ValueError", "BROKEN"),
        (_HANGS, "BROKEN"),
        ("def __bool__(self): raise ValueError('no')", "NO_VERDICT"),
        ("def __getattribute__(self, name): raise RuntimeError(name)", "NO_VERDICT"),
    ],
    ids=["exits", "skips", "slots", "hangs", "no-truth", "no-attribute"],
)
def test_an_exception_that_cannot_be_shown_is_still_a_failure(
    suite: Suite, members: str, verdict: str
) -> None:
    suite.checks(f"class Odd(AssertionError):\n    {members}\n")
    path = suite.root / "smoke/test_checks.py"
    check = "@pytest.mark.timeout(1)\n@pytest.mark.p0\ndef test_it(evidence):\n    raise Odd('x')\n"
    path.write_text(f"{path.read_text()}{check}")
    run = suite.expect(verdict, plugins=HTML)
    assert run.outcomes() == {"health/it": "failed"}
    assert "INTERNALERROR" not in run.out


def test_an_argument_whose_repr_exits_is_no_end_of_the_run(suite: Suite) -> None:
    suite.checks("""
        class Odd:
            def __repr__(self): raise SystemExit(0)

        @pytest.mark.p0
        def test_it(evidence): assert Odd() == 1
    """)
    run = suite.expect("NO_VERDICT")
    assert "SystemExit cannot be shown" in run.check("health/it")["summary"]


def test_a_module_that_exits_is_a_collection_error(suite: Suite) -> None:
    suite.checks("raise SystemExit(0)")
    run = suite.expect("NO_VERDICT")
    assert "smoke/test_checks.py: SystemExit: 0" in run.model["reasons"][0]
    assert "INTERNALERROR" not in run.out
