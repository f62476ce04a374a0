"""Problems that Python and pytest only warn about fail the check, under any filters and plugins."""

import pytest

from tests.adapter.scenario import WORKERS, Suite
from tests.adapter.test_plugin_exit_codes import PASSING

BODIES = {
    "thread": "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
    "raw thread": """
    import _thread, sys
    hook, heard = sys.unraisablehook, threading.Event()
    sys.unraisablehook = lambda unraisable: (hook(unraisable), heard.set())
    _thread.start_new_thread(lambda: 1 / 0, ())
    assert heard.wait(10)
    sys.unraisablehook = hook""",
    "assertion in a thread": """
    def wrong():
        assert 1 == 2
    t = threading.Thread(target=wrong); t.start(); t.join()""",
    "exit of a thread": """
    import sys
    t = threading.Thread(target=lambda: sys.exit("wrong")); t.start(); t.join()""",
    "coroutine": """
    async def wrong():
        assert 1 == 2
    wrong()""",
    "coroutine in a cycle": """
    async def wrong():
        assert 1 == 2
    held = [wrong()]
    held.append(held)
    del held""",
    "task": """
    import asyncio
    async def wrong():
        assert 1 == 2
    async def main():
        task = asyncio.ensure_future(wrong())
        await asyncio.sleep(0)
    asyncio.run(main())""",
    "callback": """
    import asyncio
    async def main():
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
    asyncio.run(main())""",
    "future": """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor() as pool:
        pool.submit(lambda: 1 / 0)""",
    "assertion in a future that is only waited for": """
    from concurrent.futures import ThreadPoolExecutor, wait
    def wrong():
        assert 1 == 2
    with ThreadPoolExecutor() as pool:
        done = wait([pool.submit(wrong)])""",
    "process": """
    import multiprocessing
    process = multiprocessing.get_context("fork").Process(target=lambda: 1 / 0)
    process.start(); process.join()""",
    "process of another interpreter": """
    import multiprocessing
    process = multiprocessing.get_context("spawn").Process(target=int, args=("x",))
    process.start(); process.join(); assert not process.is_alive()""",
    "finalizer": """
    class Wrong:
        def __del__(self):
            assert 1 == 2
    Wrong()""",
    "finalizer in a cycle": """
    class Wrong:
        def __del__(self):
            assert 1 == 2
    wrong = Wrong()
    wrong.me = wrong
    del wrong""",
    "returned": "return False",
    "returned truth": "return 1 == 1",
}
#: Changes that a check or a library may make to warning filters and log levels.
MUTED = {
    "warnings": "import warnings; warnings.simplefilter('ignore')",
    "no warnings": "import warnings; warnings.resetwarnings(); warnings.warn = lambda *_, **__: None",
    "level": "import logging; logging.getLogger('asyncio').setLevel(logging.CRITICAL)",
    "logger": "import logging; logging.getLogger('asyncio').disabled = True",
    "logging": "import logging; logging.disable(logging.CRITICAL)",
    "configured": "import logging.config; logging.config.dictConfig({'version': 1})",
}
QUIET = [
    (),
    ("-W", "ignore"),
    ("-p", "no:warnings"),
    ("-p", "no:threadexception", "-p", "no:unraisableexception", "-p", "no:logging"),
    ("-o", "filterwarnings=ignore"),
    ("-W", "error::RuntimeWarning"),
    ("-n2",),
]


def _refused(suite: Suite, *args: str) -> None:
    run = suite.run(*args)
    assert run.code in (1, 6), run.output()
    assert run.code == run.model["exit_code"], run.output()
    assert run.check("health/up")["outcome"] == "failed", run.model["checks"]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_failure_that_pytest_only_warns_of_fails_its_check(suite: Suite, body: str) -> None:
    suite.checks(f"@pytest.mark.p0\ndef test_up(evidence):\n    passing(evidence)\n    {body.lstrip()}\n")
    _refused(suite, "-W", "ignore", "-p", "no:threadexception", "-p", "no:unraisableexception")


@pytest.mark.parametrize("args", QUIET, ids=" ".join)
@pytest.mark.parametrize("body", [BODIES["thread"], BODIES["coroutine"], BODIES["returned"]])
def test_no_filter_hides_it(suite: Suite, body: str, args: tuple[str, ...]) -> None:
    suite.checks(f"@pytest.mark.p0\ndef test_up(evidence):\n    passing(evidence)\n    {body.lstrip()}\n")
    _refused(suite, *args)


@pytest.mark.parametrize("mute", MUTED.values(), ids=MUTED.keys())
@pytest.mark.parametrize("body", ["coroutine", "task", "returned"])
def test_no_filter_or_level_of_the_check_hides_it(suite: Suite, body: str, mute: str) -> None:
    steps = BODIES[body].lstrip()
    suite.checks(f"@pytest.mark.p0\ndef test_up(evidence):\n    passing(evidence)\n    {mute}\n    {steps}\n")
    _refused(suite)


@pytest.mark.parametrize("when", ["setup", "teardown"])
@WORKERS
def test_a_thread_of_a_fixture_fails_the_check(suite: Suite, when: str) -> None:
    suite.checks(f"""
        @pytest.fixture
        def late():
            if {when == "teardown"}: yield
            t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()
            if {when == "setup"}: yield

        @pytest.mark.p0
        def test_up(evidence, late):
            passing(evidence)
    """)
    _refused(suite)


REPLACED = (
    *("builtins.any", "builtins.isinstance", "builtins.open", "json.dumps", "json.loads", "os.replace"),
    *("os.write", "os.getpid", "time.time", "time.monotonic", "threading.excepthook", "sys.unraisablehook"),
)
REPLACES = """
import builtins, json, sys

def replace(name):
    module, _, member = name.partition(".")
    before = getattr(sys.modules[module], member)
    setattr(sys.modules[module], member, lambda *args, **more: before(*args, **more))
"""


@pytest.mark.parametrize("name", [*REPLACED, "sys.unraisablehook"])
def test_what_a_check_leaves_replaced_is_its_error_and_put_back(suite: Suite, name: str) -> None:
    suite.checks(f"""{REPLACES}
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)
    replace({name!r})

@pytest.mark.p0
def test_next(evidence):
    passing(evidence)
""")
    run = suite.expect("NO_VERDICT")
    assert run.outcomes() == {"health/up": "failed", "health/next": "passed"}
    check = run.check("health/up")
    assert check["class"] == "CHECK_ERROR"
    assert f"{name} was left patched by " in check["summary"]


def test_a_patch_that_refuses_to_tell_its_module_is_the_checks_error(suite: Suite) -> None:
    suite.checks("""
import json

class Lazy:
    def __getattr__(self, name):
        raise RuntimeError("not bound")
    @property
    def __module__(self):
        raise RuntimeError("not bound")

@pytest.mark.p0
def test_up(evidence):
    passing(evidence)
    json.dumps = Lazy()
""")
    check = suite.expect("NO_VERDICT").check("health/up")
    assert check["class"] == "CHECK_ERROR"
    assert "json.dumps was left patched: undo" in check["summary"]


@pytest.mark.parametrize("where", ["setup", "body"])
def test_functions_that_a_check_left_replaced_do_not_change_the_verdict(suite: Suite, where: str) -> None:
    lies = "builtins.any = lambda _: False; os.getpid = time.time = lambda: 1; os.write = json.dumps = None"
    suite.checks(f"""{REPLACES}
@pytest.fixture
def around():
    {lies if where == "setup" else "pass"}

@pytest.mark.p0
def test_up(evidence, around):
    passing(evidence)
    {lies if where == "body" else "pass"}
    assert 1 == 2
""")
    run = suite.expect("BROKEN")
    assert run.check("health/up")["class"] == "PLATFORM_BUG"


@WORKERS
def test_what_a_teardown_puts_back_is_not_a_failure(suite: Suite) -> None:
    suite.checks(f"""
        import builtins, json, sys

        @pytest.mark.p0
        @pytest.mark.parametrize("name", {[*REPLACED]})
        def test_up(evidence, monkeypatch, name, request):
            before = getattr(sys.modules[name.partition(".")[0]], name.partition(".")[2])
            fake = lambda *args, **more: before(*args, **more)
            monkeypatch.setattr(name, fake)
            @request.addfinalizer
            def still_there():
                module, _, member = name.partition(".")
                assert getattr(sys.modules[module], member) is fake
            passing(evidence)
    """)
    suite.expect("READY")


@WORKERS
def test_a_thread_that_outlives_its_check_blames_no_other(suite: Suite) -> None:
    suite.checks("""
        go = threading.Event()

        @pytest.mark.p0
        def test_leaves(evidence):
            passing(evidence)
            threading.Thread(target=lambda: go.wait() and 1 / 0).start()

        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            go.set()
    """)
    run = suite.expect("NO_VERDICT", "--reruns=0")
    assert run.outcomes() == {"health/leaves": "passed", "health/up": "passed"}
    assert "health/leaves: in a thread that it left behind: ZeroDivisionError" in run.model["reasons"][0]


@WORKERS
def test_a_thread_after_the_last_check_is_awaited(suite: Suite) -> None:
    suite.checks("""
        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            threading.Thread(target=lambda: threading.Event().wait(0.5) or 1 / 0).start()
    """)
    run = suite.expect("NO_VERDICT")
    assert "ZeroDivisionError" in run.model["reasons"][0]


ASKED = {
    "at once": "with pytest.raises(ZeroDivisionError): failed.result()",
    "for its exception": "assert isinstance(failed.exception(5), ZeroDivisionError)",
    "by asyncio": """
    import asyncio
    async def main():
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().run_in_executor(pool, lambda: 1 / 0)
    asyncio.run(main())
    failed.exception()""",
    "in a later check": "pass",
}


@pytest.mark.parametrize("how", ASKED.values(), ids=ASKED.keys())
def test_a_failed_future_that_is_read_is_not_a_failure(suite: Suite, how: str) -> None:
    suite.checks(f"""
        from concurrent.futures import ThreadPoolExecutor, wait
        pool = ThreadPoolExecutor()
        failed = pool.submit(lambda: 1 / 0)
        wait([failed])

        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            {how.replace(chr(10), chr(10) + " " * 8)}

        @pytest.mark.p0
        def test_later(evidence):
            passing(evidence)
            assert failed.exception()
    """)
    suite.expect("READY")


@WORKERS
def test_a_failed_future_that_is_never_read_is_not_green(suite: Suite) -> None:
    suite.checks("""
        from concurrent.futures import ThreadPoolExecutor
        pool, kept = ThreadPoolExecutor(), []

        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            kept.extend(pool.submit(lambda: 1 / 0) for _ in range(3))
    """)
    run = suite.expect("NO_VERDICT")
    assert "ZeroDivisionError" in run.model["reasons"][0]
    assert run.model["reasons"][0].endswith("(3 times)"), "what is the same is said once"


def test_an_idle_executor_and_a_daemon_are_no_failure(suite: Suite) -> None:
    suite.checks("""
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor()

        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            pool.submit(int).result()
            threading.Thread(target=threading.Event().wait, daemon=True).start()
    """)
    suite.expect("READY")


def test_a_violation_in_a_thread_is_a_violation(suite: Suite) -> None:
    suite.checks("""
        def wrong():
            raise SafetyViolation("accepted")

        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            t = threading.Thread(target=wrong); t.start(); t.join()
            pytest.skip("no time")
    """)
    run = suite.expect("BROKEN")
    assert run.check("health/up")["attempts"] == 1


SUBTEST = """
@pytest.fixture
def around(subtests):
    {setup}
    yield
    {teardown}

@pytest.mark.p0
def test_up(evidence, subtests, around):
    passing(evidence)
    {body}
"""
FAILS = 'with subtests.test("part"): assert 1 == 2'


@pytest.mark.parametrize(
    "args", [(), ("-n2",), ("--reruns=0",), ("-n2", "--reruns=2"), ("-p", "no:terminal")], ids=" ".join
)
@pytest.mark.parametrize("place", ["setup", "body", "teardown"])
def test_a_failed_subtest_counts_wherever_it_is(suite: Suite, place: str, args: tuple[str, ...]) -> None:
    places = {name: FAILS if name == place else "pass" for name in ("setup", "body", "teardown")}
    suite.checks(SUBTEST.format(**places))
    run = suite.expect("BROKEN", *args)
    assert run.check("health/up")["outcome"] == "failed"
    assert "assert 1 == 2" in run.check("health/up")["summary"]


@WORKERS
@pytest.mark.parametrize("then", ["pytest.skip('no time')", "pytest.xfail('known')"])
def test_a_failed_subtest_is_not_skipped_away(suite: Suite, then: str) -> None:
    suite.checks(SUBTEST.format(setup="pass", teardown="pass", body=f"{FAILS}\n    {then}"))
    suite.expect("BROKEN")


@WORKERS
@pytest.mark.parametrize("then", ["pytest.skip('no time')", "pytest.xfail('known')"])
def test_a_skipped_subtest_leaves_the_check_unanswered(suite: Suite, then: str) -> None:
    suite.checks(SUBTEST.format(setup="pass", teardown="pass", body=f"with subtests.test(): {then}"))
    run = suite.expect("NO_VERDICT")
    assert run.check("health/up")["summary"].startswith("a part did not run: ")


@WORKERS
def test_a_subtest_of_a_test_case_counts(suite: Suite) -> None:
    suite.checks("""
        import unittest

        @pytest.mark.p0
        class TestCase(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def measured(self, evidence):
                passing(evidence)

            def test_up(self):
                with self.subTest("part"):
                    assert 1 == 2
    """)
    suite.expect("BROKEN")


@WORKERS
def test_a_flaky_subtest_makes_its_check_flaky(suite: Suite) -> None:
    suite.checks("""
        seen = []

        @pytest.mark.p0
        def test_up(evidence, subtests):
            passing(evidence)
            seen.append(1)
            with subtests.test("part"):
                if len(seen) == 1: raise ConnectionResetError("reset")
    """)
    run = suite.expect("DEGRADED", "--reruns=1")
    assert (run.check("health/up")["outcome"], run.check("health/up")["attempts"]) == ("flaky", 2)


@pytest.mark.parametrize("fork", ["if os.fork(): assert 0", "if not os.fork(): assert 0", "os.fork()"])
@pytest.mark.parametrize("rest", ["", "threading.Event().wait(0.5)"])
@WORKERS
def test_a_forked_copy_ends_where_the_check_does(suite: Suite, fork: str, rest: str) -> None:
    suite.checks(f"""
        @pytest.mark.p0
        def test_forks(evidence):
            passing(evidence)
            {fork}
            {rest}

        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            with open("ran", "a") as stream: stream.write("x")
    """)
    run = suite.run("--reruns=0")
    assert (run.code, run.verdict) in [(1, "BROKEN"), (6, "NO_VERDICT")], run.output()
    assert suite.wrote("ran") == "x", f"a forked copy also ran the next check: {run.output()}"
    assert run.out.count("launch readiness") == 1
    assert len(suite.ledger()) == 1


def test_a_forked_copy_that_outlives_the_run_leaves_no_verdict(suite: Suite) -> None:
    suite.checks("""
        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            if not os.fork():
                threading.Event().wait(10)
    """)
    run = suite.expect("NO_VERDICT")
    assert "a process that a check forked is still running" in run.model["reasons"]


def test_processes_of_multiprocessing_are_no_copies(suite: Suite) -> None:
    suite.checks("""
        import multiprocessing

        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,), daemon=True).start()
    """)
    suite.expect("READY")


@pytest.mark.parametrize(
    "steps",
    [
        "one = fork(target=lambda: 1 / 0); one.start(); one.join(); assert one.exitcode == 1",
        "one = fork(target=lambda: sys.exit(3)); one.start(); one.join()",
        "one = fork(target=time.sleep, args=(60,)); one.start(); one.terminate(); one.join()",
        "one = fork(target=print); one.start(); one.join(); one.close()",
        "with multiprocessing.get_context('fork').Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]",
    ],
)
def test_normal_ends_of_a_process_are_accepted(suite: Suite, steps: str) -> None:
    suite.checks(f"""
        import multiprocessing, sys

        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            fork = multiprocessing.get_context("fork").Process
            {steps}
    """)
    suite.expect("READY")


def test_a_clean_check_is_ready_with_warnings_as_errors(suite: Suite) -> None:
    suite.checks(PASSING)
    assert suite.run("-W", "error::RuntimeWarning").verdict == "READY"


def test_a_recursion_limit_that_a_check_lowered_is_raised_again(suite: Suite) -> None:
    suite.checks("""
        import sys

        @pytest.mark.p0
        def test_low(evidence):
            passing(evidence)
            sys.setrecursionlimit(60)

        @pytest.mark.p0
        def test_down(evidence): assert False
    """)
    run = suite.expect("BROKEN")
    assert run.outcomes() == {"health/low": "passed", "health/down": "failed"}
