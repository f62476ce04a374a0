"""A conftest hook that hides a failure changes neither the verdict nor the exit status."""

import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pytest_readiness.adapter.machinery import Machinery

from tests.adapter.scenario import DEFAULT, HTML, WORKERS, Suite
from tests.adapter.test_plugin_exit_codes import P0_FAILS, PASSING

HOOKS = {
    "report": """
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport():
            report = yield
            report.outcome = "passed"
            return report""",
    "report-outermost": """
        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_makereport():
            report = yield
            report.outcome, report.longrepr = "passed", None
            return report""",
    "report-heard": """
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_logreport(report):
            report.outcome = 'passed'""",
    "report-forced": """
        @pytest.hookimpl(hookwrapper=True, tryfirst=True)
        def pytest_runtest_makereport():
            outcome = yield
            report = outcome.get_result()
            report.outcome, report.longrepr = "passed", None
            outcome.force_result(report)""",
    "exception": """
        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_makereport(call):
            call.excinfo = None
            return (yield)""",
    "report-made": """
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_makereport(item, call):
            call.excinfo = None
            return pytest.TestReport.from_item_and_call(item, call)""",
    "call": """
        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_call():
            try:
                yield
            except BaseException:
                pass""",
    "call-innermost": """
        @pytest.hookimpl(wrapper=True, trylast=True)
        def pytest_runtest_call():
            try:
                yield
            except BaseException:
                pass""",
    "body": """
        @pytest.hookimpl(wrapper=True)
        def pytest_pyfunc_call():
            try:
                return (yield)
            except BaseException:
                return True""",
    "body-forced": """
        @pytest.hookimpl(hookwrapper=True)
        def pytest_pyfunc_call():
            outcome = yield
            outcome.force_result(True)""",
    "summary-exits": """
        def pytest_terminal_summary():
            raise SystemExit(0)""",
    "unconfigure-exits": """
        def pytest_unconfigure():
            raise SystemExit(0)""",
    "finish-exits": """
        def pytest_sessionfinish():
            raise SystemExit(0)""",
    "finish-fails": """
        def pytest_sessionfinish():
            1 / 0""",
    "finish-is-interrupted": """
        def pytest_sessionfinish():
            raise KeyboardInterrupt""",
    "main": """
        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_cmdline_main():
            yield
            return 0""",
    "main-forced": """
        @pytest.hookimpl(hookwrapper=True, tryfirst=True)
        def pytest_cmdline_main():
            outcome = yield
            outcome.force_result(0)""",
    "status": """
        @pytest.hookimpl(trylast=True)
        def pytest_sessionfinish(session):
            session.exitstatus = 0""",
    "status-outermost": """
        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_sessionfinish(session):
            yield
            session.exitstatus = 0""",
}


@WORKERS
@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS.keys())
def test_a_failure_that_a_hook_hides_counts(suite: Suite, hook: str) -> None:
    suite.checks(P0_FAILS)
    suite.write("conftest.py", "import pytest\n" + textwrap.dedent(hook))
    run = suite.expect("BROKEN")
    assert "PLATFORM_BUG" in {check["class"] for check in run.model["checks"]}


@pytest.mark.parametrize("order", ["", ", tryfirst=True", ", trylast=True"], ids=["plain", "first", "last"])
@pytest.mark.parametrize("phase", ["setup", "call"])
def test_a_hidden_failure_counts_even_if_its_exception_is_falsy(suite: Suite, phase: str, order: str) -> None:
    suite.checks(f"""
class Mistakes(AssertionError):
    def __len__(self): return 0

def fail_in(phase):
    if phase == {phase!r}: raise Mistakes("down")

@pytest.fixture
def platform(): fail_in("setup")

@pytest.mark.p0
def test_up(evidence, platform):
    passing(evidence)
    fail_in("call")
""")
    suite.write("conftest.py", SWALLOWS.format(hook=f"pytest_runtest_{phase}", order=order))
    suite.expect("BROKEN")


FIXTURES = {
    "setup": "raise AssertionError('down')",
    "teardown": "yield\n    raise AssertionError('down')",
}


@WORKERS
@pytest.mark.parametrize("where", ["conftest.py", "smoke/conftest.py"])
@pytest.mark.parametrize("order", ["", ", tryfirst=True", ", trylast=True"], ids=["plain", "first", "last"])
@pytest.mark.parametrize("hook", ["pytest_fixture_setup", "pytest_runtest_setup", "pytest_runtest_teardown"])
def test_a_failure_of_a_fixture_that_a_hook_hides_counts(
    suite: Suite, hook: str, order: str, where: str
) -> None:
    body = FIXTURES["teardown" if "teardown" in hook else "setup"]
    suite.checks(f"""
@pytest.fixture
def platform():
    {body}

@pytest.mark.p0
def test_up(evidence, platform): passing(evidence)
""")
    suite.write(where, SWALLOWS.format(hook=hook, order=order))
    run = suite.expect("BROKEN")
    assert run.check("health/up")["class"] == "PLATFORM_BUG"


SWALLOWS = """
import pytest

@pytest.hookimpl(wrapper=True{order})
def {hook}():
    try:
        return (yield)
    except BaseException:
        return None
"""


@pytest.mark.parametrize("scope", ["function", "session"])
def test_a_failure_of_a_fixture_that_the_check_itself_expects_does_not_count(
    suite: Suite, scope: str
) -> None:
    suite.checks(f"""
@pytest.fixture(scope="{scope}")
def refused(): raise AssertionError("down")

@pytest.fixture
def tried(request):
    with pytest.raises(AssertionError, match="down"):
        request.getfixturevalue("refused")

@pytest.mark.p0
def test_first(evidence, tried): passing(evidence)

@pytest.mark.p0
def test_second(evidence, request):
    with pytest.raises(AssertionError, match="down"):
        request.getfixturevalue("refused")
    passing(evidence)
""")
    suite.expect("READY")


def test_a_hook_may_hide_the_failure_of_a_fixture_outside_the_suite(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write("conftest.py", SWALLOWS.format(hook="pytest_fixture_setup", order=""))
    suite.write(
        "tests/test_other.py",
        """
import pytest

@pytest.fixture
def optional(): raise AssertionError("absent")

def test_other(optional): assert optional is None
""",
    )
    suite.expect("READY", paths=("smoke", "tests"))


NEVER_READY = {
    "main": "def pytest_cmdline_main(): return 0",
    "start-exits": "import pytest\ndef pytest_sessionstart(): pytest.exit('x', returncode=0)",
    "configure-exits": "import pytest\ndef pytest_configure(): pytest.exit('x', returncode=0)",
    "gate": "def pytest_collection_finish(session):\n"
    "    session.config.pluginmanager.unregister(name='readiness-gate')",
    "facts": "import pytest\n@pytest.hookimpl(wrapper=True)\ndef pytest_runtest_logreport(report):\n"
    "    report.outcome, report.readiness = 'passed', {}\n    return (yield)",
    "reports": "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_protocol(item):\n"
    "    for when in ('setup', 'call', 'teardown'):\n"
    "        report = pytest.TestReport(item.nodeid, item.location, {}, 'passed', None, when)\n"
    "        item.ihook.pytest_runtest_logreport(report=report)\n"
    "    return True",
    "protocol": "def pytest_runtest_protocol(): return True",
    "loop": "def pytest_runtestloop(): return True",
    "body": "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_pyfunc_call(): return True",
    "item": "def pytest_pycollect_makeitem(name):\n    if name.startswith('test_'): return []",
    "parameters": "def pytest_generate_tests(metafunc):\n"
    "    metafunc.fixturenames.append('x'); metafunc.parametrize('x', [])",
    "function": "def pytest_itemcollected(item): item.runtest = lambda: None",
    "function-measures": "def pytest_runtest_setup(item):\n"
    "    item.runtest = lambda: item.funcargs['evidence'].evaluated('x')",
    "items": "def pytest_collection_finish(session): session.items.clear()",
    "skip": "import pytest\ndef pytest_itemcollected(item): item.add_marker(pytest.mark.skip(reason='x'))",
    "xfail": "import pytest\ndef pytest_itemcollected(item): item.add_marker(pytest.mark.xfail)",
}


@pytest.mark.parametrize("hook", NEVER_READY.values(), ids=NEVER_READY.keys())
def test_a_check_that_a_hook_keeps_from_running_is_open(suite: Suite, hook: str) -> None:
    suite.checks(P0_FAILS)
    suite.write("conftest.py", hook)
    suite.expect("NO_VERDICT")


#: Each drops ``test_down`` or the class ``TestDown`` and leaves what else is in the module.
DROPS = {
    "item": "def pytest_pycollect_makeitem(name):\n    if name in GONE: return []",
    "item-after": "@pytest.hookimpl(wrapper=True)\ndef pytest_pycollect_makeitem(name):\n"
    "    found = yield\n    return None if name in GONE else found",
    "report": "@pytest.hookimpl(wrapper=True, tryfirst=True)\ndef pytest_make_collect_report():\n"
    "    report = yield\n    report.result = [one for one in report.result if one.name not in GONE]\n"
    "    return report",
    "module": "collect = pytest.Module.collect\n"
    "def fewer(self): return [one for one in collect(self) if one.name not in GONE]\n"
    "@pytest.fixture(autouse=True, scope='session')\ndef back():\n    pytest.Module.collect = collect\n"
    "pytest.Module.collect = fewer",
}
DOWN = {
    "function": "@pytest.mark.p0\ndef test_down(): assert False",
    "class": "@pytest.mark.p0\nclass TestDown:\n    @staticmethod\n    def test_it(): assert False",
}


@WORKERS
@pytest.mark.parametrize("hook", DROPS.values(), ids=DROPS.keys())
@pytest.mark.parametrize("down", DOWN.values(), ids=DOWN.keys())
def test_a_check_that_a_hook_drops_is_missed(suite: Suite, hook: str, down: str) -> None:
    suite.checks(f"@pytest.mark.p0\ndef test_up(evidence): passing(evidence)\n{down}\n")
    suite.write("conftest.py", f"import pytest\nGONE = {{'test_down', 'TestDown'}}\n{hook}")
    run = suite.expect("NO_VERDICT")
    assert "own: not collected: a hook leaves it out" in run.model["reasons"][0]


def test_what_pytest_does_not_collect_is_not_missed(suite: Suite) -> None:
    suite.checks("""
        import abc, unittest

        class Base:
            __test__ = False
            def test_inherited(self, evidence): passing(evidence)

        @pytest.mark.p0
        class TestIt(Base):
            __test__ = True
            test_data = [1, 2]
            @staticmethod
            @pytest.mark.parametrize("way", ["a", "b"])
            def test_static(evidence, way): passing(evidence)
            @classmethod
            def test_class(cls, evidence): passing(evidence)

        class TestAbstract(abc.ABC):
            @abc.abstractmethod
            def test_it(self): pass

        @pytest.fixture
        def test_client(): pass
    """)
    suite.expect("READY")


THREAD = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
"""
TAKES_OUT = """
def pytest_collection_finish(session):
    manager = session.config.pluginmanager
    if manager.get_plugin("readiness-{part}"):
        manager.unregister(name="readiness-{part}")
"""


@pytest.mark.parametrize("plugins", [DEFAULT, HTML], ids=["plain", "html"])
@WORKERS
@pytest.mark.parametrize(
    "part", ["channels", "collector", "gate", "limits", "listener", "recorder", "start", "tally"]
)
def test_a_part_of_the_plugin_that_a_conftest_unregisters_leaves_no_verdict(
    suite: Suite, part: str, plugins: tuple[str, ...]
) -> None:
    suite.checks(THREAD)
    suite.write("conftest.py", TAKES_OUT.format(part=part))
    suite.expect("NO_VERDICT", plugins=plugins)


@pytest.mark.parametrize("hook", ["pytest_sessionfinish", "pytest_terminal_summary", "pytest_unconfigure"])
def test_a_hook_that_fails_at_the_end_is_shown(suite: Suite, hook: str) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): passing(evidence)")
    suite.write("conftest.py", f"def {hook}():\n    1 / 0")
    run = suite.run()
    expected = (6, "NO_VERDICT") if hook == "pytest_sessionfinish" else (0, "READY")
    assert (run.code, run.verdict) == expected, run.output()
    assert run.model["exit_code"] == run.code
    assert "ZeroDivisionError" in run.output() + run.model["reasons"][0]


@pytest.mark.parametrize("end", ["1 / 0", "pytest.exit('enough', 0)"])
def test_a_hook_that_fails_after_the_page_was_written_takes_the_verdict_back(suite: Suite, end: str) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): passing(evidence)")
    hook = f"import pytest\n@pytest.hookimpl(trylast=True)\ndef pytest_sessionfinish(): {end}"
    suite.write("smoke/conftest.py", hook)
    run = suite.run(".", plugins=HTML)  # loaded after pytest-html's hook, so it runs after it
    assert (run.code, run.verdict) == (6, "NO_VERDICT"), run.output()
    assert not (suite.root / "reports" / "results.html").exists()


def test_a_figure_that_no_text_holds_is_still_evidence(suite: Suite) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): evidence.figure('n', -10**5000, limit=[10**5000])")
    run = suite.expect("READY")
    assert run.check("health/up")["evidence"][0]["value"] == "an integer of 16610 bits"


RUNS_BY_ITSELF = """
    import asyncio, inspect, pytest

    async def gather(body): await asyncio.gather(body, return_exceptions=True)
    async def wait(body): await asyncio.wait([asyncio.ensure_future(body)], timeout=0.05)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(pyfuncitem):
        if not inspect.iscoroutinefunction(pyfuncitem.obj):
            return None
        body = pyfuncitem.obj(evidence=pyfuncitem.funcargs["evidence"])
        {how}
        return True
"""
ASYNCHRONOUS = """
@pytest.mark.p0
async def test_it(evidence):
    passing(evidence)
    await asyncio.sleep(SECONDS)
    assert False, "not so"
"""


@pytest.mark.parametrize(
    ("how", "seconds", "verdict"),
    [
        ("asyncio.run(gather(body))", "0", "BROKEN"),
        ("try: asyncio.run(body)\n        except AssertionError: pass", "0", "BROKEN"),
        ("asyncio.run(wait(body))", "9", "NO_VERDICT"),
        ("pyfuncitem.funcargs['evidence'].figure('n', 1); body.close()", "0", "NO_VERDICT"),
    ],
    ids=["gathered", "swallowed", "not awaited to its end", "closed"],
)
def test_a_coroutine_that_a_conftest_runs_badly_is_not_green(
    suite: Suite, how: str, seconds: str, verdict: str
) -> None:
    suite.checks(f"import asyncio\n{ASYNCHRONOUS.replace('SECONDS', seconds)}")
    suite.write("smoke/conftest.py", RUNS_BY_ITSELF.format(how=how))
    assert suite.run().verdict == verdict


@pytest.mark.parametrize(
    ("members", "verdict"),
    [
        ("    def run(self, result=None): super().run(unittest.TestResult())\n", "BROKEN"),
        ("    def run(self, result): result.startTest(self); result.addSuccess(self)\n", "NO_VERDICT"),
        ("    def test_it(self): yield\n", "NO_VERDICT"),
        ("    def test_it(self): return 1 == 2\n", "NO_VERDICT"),
        ("    async def test_it(self): self.fail('not so')\n", "NO_VERDICT"),
        ("    def run(self, result=None): return super().run(result)\n", "BROKEN"),
    ],
    ids=["another result", "not run", "generator", "returned", "coroutine", "as usual"],
)
def test_a_test_case_that_hides_its_failure_is_not_green(suite: Suite, members: str, verdict: str) -> None:
    suite.checks(f"""
import unittest
class TestUp(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def take(self, evidence): passing(evidence)
    @pytest.mark.p0
    def test_up(self): pass
    def test_it(self): self.fail("not so")
{members}
    test_it = pytest.mark.p0(test_it)
""")
    assert suite.run().verdict == verdict


@pytest.mark.parametrize(
    "ends", ["self.skipTest('no')", "raise unittest.SkipTest('no')", "pytest.skip('no')"]
)
def test_a_test_case_that_skips_itself_is_skipped(suite: Suite, ends: str) -> None:
    suite.checks(f"""
import unittest
class TestUp(unittest.TestCase):
    @pytest.mark.p0
    def test_up(self): {ends}
    @pytest.mark.p0
    @unittest.expectedFailure
    def test_expected(self): self.fail()
""")
    assert suite.run().outcomes() == {"health/up": "skipped", "health/expected": "skipped"}


REPLACED = {
    "a property": "_pytest.reports.TestReport.failed = property(lambda self: False)",
    "a function": "_pytest.assertion.rewrite.rewrite_asserts = lambda *_: None",
    "an assertion": "unittest.TestCase.fail = lambda *_: None",
    "a mock": "unittest.TestCase.assertEqual = unittest.mock.Mock()",
    "a value": "_pytest.reports.BaseReport.passed = True",
    "an attribute": "_pytest.reports.TestReport.outcome = property(\n"
    "    lambda self: 'passed', lambda self, seen: vars(self).update(outcome=seen))",
}


@WORKERS
@pytest.mark.parametrize("how", REPLACED.values(), ids=REPLACED)
def test_a_conftest_that_replaces_code_of_pytest_leaves_no_verdict(suite: Suite, how: str) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): passing(evidence)")
    suite.write("conftest.py", f"import unittest.mock, _pytest.reports, _pytest.assertion.rewrite\n{how}")
    run = suite.expect("NO_VERDICT")
    assert " replaces " in run.model["reasons"][0]


def test_what_a_conftest_adds_to_pytest_is_harmless(suite: Suite) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): passing(evidence)")
    suite.write(
        "conftest.py",
        """
        import unittest, pytest
        unittest.TestCase.maxDiff = None
        unittest.TestCase.setUp = lambda self: None
        unittest.TestCase.assertSame = lambda self, one, other: self.assertIs(one, other)
        unittest.TestCase.shortDescription = lambda self: None
        unittest.TestCase.session = property(lambda self: "ours")
        pytest.Item.owner = lambda self: "us"
        pytest.Item.extra = property(lambda self: {})
        pytest.Function.__repr__ = lambda self: self.name
        """,
    )
    suite.expect("READY", plugins=HTML)


@pytest.mark.parametrize(
    ("file", "package", "installed"),
    [
        ("src/acme/plugin.py", "acme", True),
        ("src/acme/patches.py", "acme", True),
        ("src/acme/conftest.py", "acme", False),
        ("src/acme/plugin.py", "", True),
        ("src/acme/patches.py", "", False),
        ("vendor/lib/python3.99/site-packages/other/plugin.py", "acme", True),
        ("smoke/conftest.py", "acme", False),
    ],
)
def test_an_installed_plugin_may_replace_code_of_pytest_even_below_the_root(
    file: str, package: str, installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machinery, space = Machinery(), dict[str, Any]()
    exec(compile("def patched(*_): ...", str(tmp_path / file), "exec"), space)
    monkeypatch.setattr("_pytest.runner.check_interactive_exception", space["patched"])
    plugin = ModuleType("acme.plugin")
    plugin.__file__, plugin.__package__ = str(tmp_path / "src/acme/plugin.py"), package
    found = f"{file} replaces _pytest.runner.check_interactive_exception, with which checks are run"
    assert machinery.replaced(tmp_path, [plugin, object()]) == ([] if installed else [found])
