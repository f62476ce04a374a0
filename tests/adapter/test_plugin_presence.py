"""The plugin with other plugins, without them, and in projects that do not use it."""

import html
import re

import pytest

from tests.adapter.scenario import HTML, WORKERS, Suite
from tests.adapter.test_plugin_exit_codes import P0_FAILS, PASSING

SPY = """
import json, os, pathlib, sys

def pytest_unconfigure(config):
    names = [str(name) for name, plugin in config.pluginmanager.list_name_plugin() if plugin]
    ours = [name for name in names if "readiness" in name]
    heavy = {"boto3", "cryptography", "pytest_readiness.core.assess"} & {*sys.modules}
    marks = [line for line in config.getini("markers") if line.startswith("p0")]
    record = json.dumps([ours, sorted(heavy), marks])
    pathlib.Path(os.environ["SCENARIO_ROOT"], "spied").write_text(record)
"""


@pytest.mark.parametrize("plan", [True, False], ids=["other-tests", "no-plan"])
def test_inactive_registers_nothing(suite: Suite, plan: bool) -> None:
    suite.write("tests/test_other.py", "def test_other(): assert True")
    suite.write("conftest.py", SPY)
    if not plan:
        (suite.root / "readiness.toml").unlink()
    run = suite.run("tests", fresh=True)
    assert run.code == 0, run.output()
    assert suite.wrote("spied") == '[["pytest_readiness.adapter.plugin"], [], []]'
    assert not (suite.root / "reports").exists()
    assert "launch readiness" not in run.out


@pytest.mark.parametrize("args", [("--gate",), ("--env", "local"), ("--drills",)])
def test_gate_without_a_plan_is_refused(suite: Suite, args: tuple[str, ...]) -> None:
    suite.checks(PASSING)
    (suite.root / "readiness.toml").unlink()
    run = suite.run(*args)
    assert run.code == 4, run.output()
    assert "readiness.toml: no launch plan" in run.err
    assert "Traceback" not in run.err


def test_a_plan_above_the_rootdir_is_named(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write("smoke/pytest.ini", "[pytest]\n")
    run = suite.run("--gate")
    assert run.code == 4, run.output()
    assert f"next: run it in {suite.root}, where the plan is" in run.err


@pytest.mark.parametrize("args", [("--gate",), ("--env", "local"), ("--drills",)])
def test_options_of_the_suite_are_refused_for_other_tests(suite: Suite, args: tuple[str, ...]) -> None:
    suite.checks(PASSING)
    suite.write("tests/test_other.py", "def test_other(): assert True")
    run = suite.run("tests", *args)
    assert run.code == 4, run.output()
    assert "tests: --env, --gate, --drills and --attest are for the suite" in run.err
    assert "next: pytest smoke and the same options" in run.err


def test_the_suite_of_another_rootdir_is_named_from_here(suite: Suite) -> None:
    for name in ("away/readiness.toml", "away/smoke/test_checks.py", "other/test_other.py"):
        suite.write(name, "")
    run = suite.run("--gate", "--rootdir", "away", "other")
    assert run.code == 4, run.output()
    assert "next: pytest away/smoke and the same options" in run.err


def test_a_mistyped_path_is_named(suite: Suite) -> None:
    suite.checks(PASSING)
    run = suite.run("--gate", paths=("smok",))
    assert run.code == 4, run.output()
    assert "smok: no such file or directory" in run.err
    assert "next: pytest smoke and the same options" in run.err


def test_broken_plan_does_not_stop_other_tests(suite: Suite) -> None:
    suite.write("tests/test_other.py", "def test_other(): assert True")
    suite.write("readiness.toml", "title = [")
    assert suite.run("tests").code == 0


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "workers"])
@pytest.mark.parametrize("asked", ["", ".", "tests-and-smoke"])
@pytest.mark.parametrize("fails", [False, True], ids=["passes", "fails"])
def test_other_tests_run_without_the_suite_where_there_is_no_local_environment(
    suite: Suite, asked: str, fails: bool, workers: tuple[str, ...]
) -> None:
    suite.checks(PASSING)
    suite.write("tests/test_other.py", f"def test_other(): assert {not fails}")
    (suite.root / "environments/local.toml").rename(suite.root / "environments/staging.toml")
    if asked == "tests-and-smoke":
        suite.write("pytest.ini", "[pytest]\ntestpaths = tests smoke\n")
    run = suite.run(*([asked] if asked == "." else ["-c", "pytest.ini"]), *workers, paths=())
    assert run.code == int(fails), run.output()
    assert ("1 failed" if fails else "1 passed") in run.out
    assert "readiness: smoke/ did not run: there is no environment 'local'" in run.out
    assert not (suite.root / "reports").exists()


@pytest.mark.parametrize("args", [("smoke",), ("smoke", "tests"), (".", "--gate"), (".", "--attest=env:KEY")])
def test_a_run_that_asks_for_the_suite_needs_its_environment(suite: Suite, args: tuple[str, ...]) -> None:
    suite.checks(PASSING)
    suite.write("tests/test_other.py", "def test_other(): assert True")
    (suite.root / "environments/local.toml").unlink()
    run = suite.run(*args)
    assert run.code == 4, run.output()
    assert "unknown environment 'local'" in run.err


def test_testpaths_that_name_the_suite_alone_ask_for_it(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write("pytest.ini", "[pytest]\ntestpaths = smoke\n")
    (suite.root / "environments/local.toml").unlink()
    run = suite.run(paths=())
    assert run.code == 4, run.output()


def test_heavy_libraries_are_not_imported_without_need(suite: Suite) -> None:
    suite.write("conftest.py", SPY)
    suite.checks(PASSING)
    assert suite.run(environ={"SCENARIO_TOKEN": "a-token-that-is-local"}, fresh=True).code == 0
    assert "boto3" not in suite.wrote("spied")
    assert "cryptography" not in suite.wrote("spied")


@WORKERS
def test_without_other_plugins(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.expect("READY", plugins=["readiness"])


@pytest.mark.parametrize(
    ("checks", "code", "workers"), [(PASSING, 0, ()), (P0_FAILS, 1, ("-n2",))], ids=["alone", "workers"]
)
def test_without_a_terminal(suite: Suite, workers: tuple[str, ...], checks: str, code: int) -> None:
    suite.checks(checks)
    run = suite.run("-p", "no:terminal", *workers)
    assert run.code == code, run.output()
    assert run.model["verdict"] in run.err
    assert "declaration" in run.err


def test_terminal_summary_comes_once(suite: Suite) -> None:
    suite.checks(P0_FAILS)
    run = suite.run()
    assert run.out.count("launch readiness") == 1
    assert "BROKEN" in run.out
    assert "reports/readiness.md" in run.out
    assert "declaration" not in run.err


def test_pytest_own_other_modes(suite: Suite) -> None:
    suite.checks(PASSING)
    for mode in ("--fixtures", "--setup-plan", "--version"):
        assert suite.run(mode).code == 0
        assert not (suite.root / "reports").exists(), mode


def test_page_shows_verdict_and_columns(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    @pytest.mark.parametrize("kind", ["<script>alert(1)</script>"])
    def test_up(evidence, kind):
        passing(evidence)
        assert False, "<b>bold</b>"

    @pytest.mark.p1
    def test_flaky(evidence, request):
        passing(evidence)
        if request.node.execution_count == 1: raise ConnectionResetError
    """)
    run = suite.run(plugins=HTML)
    assert run.code == 1, run.output()
    page = suite.wrote("reports/results.html")
    assert page.index("BROKEN") < page.index('id="results-table"')
    for column in ("goal", "severity", "class"):
        assert f'data-column-type="{column}"' in page
    assert "col-class" in page
    assert "PLATFORM_BUG" in page
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>bold" not in page


def test_page_under_workers(suite: Suite) -> None:
    suite.checks(PASSING)
    run = suite.run("-n2", plugins=HTML)
    assert run.code == 0, run.output()
    assert "READY" in suite.wrote("reports/results.html")
    assert "html" in run.out


def test_page_can_be_elsewhere(suite: Suite) -> None:
    suite.checks(PASSING)
    assert suite.run("--html=other/page.html", plugins=HTML).code == 0
    assert "READY" in suite.wrote("other/page.html")
    assert not suite.wrote("reports/results.html")


def test_debugger_disables_reruns_only(suite: Suite) -> None:
    suite.checks(PASSING)
    assert suite.run("--pdb").code == 0


def test_a_suite_of_another_rootdir_is_refused(suite: Suite) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(): pass")
    suite.write("other/pytest.ini", "[pytest]\n")
    run = suite.run("-c", "other/pytest.ini", "smoke")
    assert run.code == 4, run.output()
    assert "its launch plan does not apply to this run" in run.err
    assert f"--rootdir {suite.root}" in run.err


def test_tests_beside_a_suite_may_have_a_rootdir_of_their_own(suite: Suite) -> None:
    suite.write("tests/pytest.ini", "[pytest]\n")
    suite.write("tests/test_other.py", "def test_other(): assert True")
    run = suite.run("tests")
    assert run.code == 0, run.output()


def test_a_rootdir_that_is_a_link_is_the_same(suite: Suite) -> None:
    suite.checks(PASSING)
    link = suite.root / "link"
    link.symlink_to(suite.root)
    suite.expect("READY", "--rootdir", str(link), "smoke")


@pytest.mark.parametrize(
    "part",
    [
        "cacheprovider",
        "doctest",
        "faulthandler",
        "junitxml",
        "logging",
        "pastebin",
        "setuponly",
        "stepwise",
        "tmpdir",
        "unittest",
    ],
)
def test_a_part_of_pytest_may_be_absent(suite: Suite, part: str) -> None:
    suite.checks(PASSING)
    suite.expect("READY", "-p", f"no:{part}")


def test_the_raw_results_agree_with_the_verdict(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    def test_parts(evidence, subtests):
        passing(evidence)
        for part in range(4):
            with subtests.test(part=part):
                assert part != 2

    @pytest.mark.p1
    def test_crashes(evidence):
        passing(evidence)
        os._exit(11)
    """)
    run = suite.run("-n2", plugins=HTML)
    ended = run.outcomes()
    assert ended == {"health/parts": "failed", "health/crashes": "not-run"}, run.output()
    page = html.unescape(suite.wrote("reports/results.html"))
    for name, word in (("test_parts", "Failed"), ("test_crashes", "Error")):
        rows = re.findall(rf"col-result[^>]*>(\w+)<td class=col-testId>[^<]*{name}", page)
        assert rows == [word], name
