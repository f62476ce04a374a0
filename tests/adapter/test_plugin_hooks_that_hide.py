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
    assert (run.code, run.verdict) == (6, "NO_VERDICT"), run.told()


def test_a_figure_that_no_text_holds_is_still_evidence(suite: Suite) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): evidence.figure('n', -10**5000, limit=[10**5000])")
    run = suite.run()
    assert (run.code, run.verdict) == (0, "READY"), run.told()
    assert run.check("health/up")["evidence"][0]["value"] == "an integer of 16610 bits"
