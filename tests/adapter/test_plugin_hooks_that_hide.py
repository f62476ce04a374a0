"""A hook of a conftest that thinks better of a failure changes neither the verdict nor the exit status."""

import textwrap

import pytest

from tests.adapter.scenario import Suite
from tests.adapter.test_plugin_exit_codes import P0_FAILS, WORKERS

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
def test_a_failure_that_a_hook_hides_counts(suite: Suite, hook: str, workers: tuple[str, ...]) -> None:
    suite.checks(P0_FAILS)
    suite.write("conftest.py", "import pytest\n" + textwrap.dedent(hook))
    run = suite.run(*workers)
    assert (run.code, run.verdict, run.model["exit_code"]) == (1, "BROKEN", 1), run.told()
    assert "PLATFORM_BUG" in {check["class"] for check in run.model["checks"]}


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
    "items": "def pytest_collection_finish(session): session.items.clear()",
    "skip": "import pytest\ndef pytest_itemcollected(item): item.add_marker(pytest.mark.skip(reason='x'))",
    "xfail": "import pytest\ndef pytest_itemcollected(item): item.add_marker(pytest.mark.xfail)",
}


@pytest.mark.parametrize("hook", NEVER_READY.values(), ids=NEVER_READY.keys())
def test_a_check_that_a_hook_keeps_from_running_is_open(suite: Suite, hook: str) -> None:
    suite.checks(P0_FAILS)
    suite.write("conftest.py", hook)
    run = suite.run()
    assert (run.code, run.verdict, run.model["exit_code"]) == (6, "NO_VERDICT", 6), run.told()


@pytest.mark.parametrize("hook", ["pytest_sessionfinish", "pytest_terminal_summary", "pytest_unconfigure"])
def test_a_hook_that_fails_at_the_end_is_shown(suite: Suite, hook: str) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): passing(evidence)")
    suite.write("conftest.py", f"def {hook}():\n    1 / 0")
    run = suite.run()
    expected = (6, "NO_VERDICT") if hook == "pytest_sessionfinish" else (0, "READY")
    assert (run.code, run.verdict) == expected, run.told()
    assert run.model["exit_code"] == run.code
    assert "ZeroDivisionError" in run.told() + run.model["reasons"][0]


def test_a_figure_that_no_text_holds_is_still_evidence(suite: Suite) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): evidence.figure('n', -10**5000, limit=[10**5000])")
    run = suite.run()
    assert (run.code, run.verdict) == (0, "READY"), run.told()
    assert run.check("health/up")["evidence"][0]["value"] == "an integer of 16610 bits"
