"""Checks that cannot fail, or that have been removed: a full run without them is not READY."""

import sys

import pytest

from tests.adapter.scenario import HTML, PLUGINS, WORKERS, Suite
from tests.adapter.test_plugin_exit_codes import PASSING

TWO = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)

@pytest.mark.p0
def test_down(evidence):
    passing(evidence)
    assert False
"""
DOWN = TWO.replace("test_up", "test_down_not")
OTHER = "smoke/test_other.py"


@WORKERS
def test_without_assertions_nothing_is_judged(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.checks(TWO)
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    run = suite.run("--assert=plain", fresh=True)
    assert (run.code, run.verdict) == (4, "NO_VERDICT"), run.output()
    assert "PYTHONOPTIMIZE" in run.err + run.out


def test_without_assertions_on_a_worker_nothing_is_judged(suite: Suite) -> None:
    suite.checks(TWO)
    run = suite.run("--dist=load", f"--tx=popen//python={sys.executable} -O", plugins=XDIST)
    assert (run.code, run.verdict) == (4, "NO_VERDICT"), run.output()


XDIST = ("readiness", "rerunfailures", "xdist")
GONE_AT_COLLECTION = {
    "class with a constructor": """
    @pytest.mark.p0
    class TestIt:
        def __init__(self): pass
        def test_down(self): assert False
    """,
    "class with __new__": """
    @pytest.mark.p0
    class TestIt:
        def __new__(cls): return object.__new__(cls)
        def test_down(self): assert False
    """,
    "no function": """
    class Callable:
        def __call__(self): assert False
    test_down = Callable()
    """,
    "generator": """
    @pytest.mark.p0
    def test_down():
        yield
        assert False
    """,
    "hollow assertion": """
    @pytest.mark.p0
    def test_down(evidence):
        passing(evidence)
        assert (1 == 2, "no")
    """,
    "hollow text": """
    @pytest.mark.p0
    def test_down(evidence):
        passing(evidence)
        assert "1 == 2"
    """,
    "hollow lambda": """
    @pytest.mark.p0
    def test_down(evidence):
        passing(evidence)
        assert lambda: 1 == 2
    """,
    "function twice": DOWN.replace("test_down_not", "test_down").replace("assert False", "pass"),
    "method twice": """
    @pytest.mark.p0
    class TestIt:
        def test_down(self): assert False
        def test_down(self, evidence): passing(evidence)
    """,
    "class twice": """
    @pytest.mark.p0
    class TestIt:
        def test_down(self): assert False
    @pytest.mark.p0
    class TestIt:
        def test_other(self, evidence): passing(evidence)
    """,
    "replaced by an import": """
    @pytest.mark.p0
    def test_down(): assert False
    from os import path as test_down
    """,
    "deleted": """
    @pytest.mark.p0
    def test_down(): assert False
    del test_down
    """,
    "module that is no test": """
    __test__ = False
    @pytest.mark.p0
    def test_down(): assert False
    """,
    "class that is no test": """
    @pytest.mark.p0
    class TestIt:
        __test__ = False
        def test_down(self): assert False
    """,
    "function that is no test": """
    @pytest.mark.p0
    def test_down(): assert False
    test_down.__test__ = False
    """,
    "function with another name": """
    @pytest.mark.p0
    def check_down(): assert False
    """,
    "method with another name": """
    class TestIt:
        @pytest.mark.p0
        def check_down(self): assert False
    """,
    "fork at import": """
    if not os.fork():
        assert False
    """,
}


@pytest.mark.parametrize("body", GONE_AT_COLLECTION.values(), ids=GONE_AT_COLLECTION.keys())
@pytest.mark.parametrize("args", [(), ("-n2", "-W", "ignore")], ids=" ".join)
def test_a_test_that_cannot_run_as_a_check_leaves_no_verdict(
    suite: Suite, body: str, args: tuple[str, ...]
) -> None:
    suite.checks(PASSING)
    suite.checks(body, OTHER, phase="health")
    run = suite.expect("NO_VERDICT", *args)
    assert OTHER in run.model["reasons"][0] or "fork" in run.model["reasons"][0]
    again = suite.run(*args)
    assert (again.code, again.verdict) == (6, "NO_VERDICT"), "compiled code warns only once"


def test_a_hollow_assertion_of_a_helper_counts(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write("smoke/helper.py", "def compare(a, b):\n    assert (a == b, 'differs')\n")
    run = suite.expect("NO_VERDICT")
    assert "smoke/helper.py: line 2: this assertion is always true" in run.model["reasons"][0]


@pytest.mark.parametrize(
    "body",
    [
        "if os.sep == '/':\n    x = 1\nelse:\n    x = 2\n",
        "class Data:\n    __test__ = False\n    def __init__(self): pass\n",
        "class Base:\n    __test__ = False\n    def test_of_all(self): pass\n",
        "@pytest.mark.p0\ndef up(evidence): passing(evidence)\ntest_alias = up\n",
        "def helper():\n    assert (\n        1 == 1\n    ), 'no'\ndef helper():\n    pass\n",
    ],
)
def test_code_that_is_no_check_leaves_the_verdict_alone(suite: Suite, body: str) -> None:
    suite.checks(body + PASSING)
    suite.expect("READY")


CONFTESTS = {
    "collect_ignore": 'collect_ignore = ["test_other.py"]',
    "collect_ignore_glob": 'collect_ignore_glob = ["*other*"]',
    "pytest_ignore_collect": """
        def pytest_ignore_collect(collection_path):
            return True if collection_path.name == "test_other.py" else None
    """,
    "pytest_collect_file": """
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_collect_file(file_path):
            found = yield
            return [] if file_path.name == "test_other.py" else found
    """,
}


@WORKERS
@pytest.mark.parametrize("conftest", CONFTESTS.values(), ids=CONFTESTS.keys())
def test_a_module_that_is_left_out_leaves_no_verdict(suite: Suite, conftest: str) -> None:
    suite.checks(PASSING)
    suite.checks(TWO, OTHER, phase="health")
    suite.write("smoke/conftest.py", conftest)
    run = suite.expect("NO_VERDICT")
    assert "smoke/test_other.py: not collected" in run.model["reasons"][0]


NARROWED = """
[pytest]
python_functions = test_up
"""


@pytest.mark.parametrize(
    "args",
    [
        ("-c", "other.ini"),
        ("--config-file", "other.ini", "--rootdir", "."),
        ("--noconftest",),
        ("--confcutdir", "smoke"),
        ("-o", "python_functions=test_up"),
    ],
    ids=" ".join,
)
def test_what_the_invocation_narrows_is_partial(suite: Suite, args: tuple[str, ...]) -> None:
    suite.checks(TWO)
    suite.write("other.ini", NARROWED)
    run = suite.run(*args)
    assert run.model["scope"] == "partial", run.output()
    refused = suite.run(*args, "--gate")
    assert refused.code in (1, 6)
    assert not suite.ledger()


def test_the_usual_configuration_is_not_a_narrowing(suite: Suite) -> None:
    suite.checks(PASSING)
    run = suite.run("-c", "pytest.ini")
    assert (run.code, run.model["scope"]) == (0, "full"), run.output()


@WORKERS
def test_a_p0_that_disappeared_leaves_no_verdict(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.checks(PASSING.replace("test_up", "test_other"), OTHER)
    suite.checks("@pytest.mark.p0\ndef test_other(evidence):\n    passing(evidence)\n", OTHER)
    assert suite.run().code == 0
    (suite.root / OTHER).unlink()
    for _ in range(2):  # running twice does not settle it
        run = suite.expect("NO_VERDICT")
        assert "P0 vanished: health/other: run " in run.model["reasons"][0]
    plan = suite.root / "readiness.toml"
    plan.write_text(plan.read_text().replace("[[goal]]", 'retired = ["health/oth*"]\n[[goal]]', 1))
    run = suite.run()
    assert (run.code, run.model["vanished"]) == (0, []), run.output()


def test_a_renamed_check_keeps_its_history(suite: Suite) -> None:
    ways = '@pytest.mark.p0\n@pytest.mark.parametrize("way", ["a", "b"])\n'
    many = ways + "def test_other(evidence, way): passing(evidence)"
    suite.checks(PASSING)
    suite.checks(many, OTHER)
    suite.plan('[renamed]\n"health/other" = "health/another"')
    assert suite.run().code == 0
    suite.checks(many.replace("test_other", "test_another"), OTHER)
    run = suite.run()
    assert (run.code, run.model["vanished"]) == (0, []), run.output()
    suite.checks(many.replace("test_other", "test_third"), OTHER)
    run = suite.expect("NO_VERDICT")
    assert [each["id"] for each in run.model["vanished"]] == ["health/another[a]", "health/another[b]"]


def test_a_rename_to_a_check_that_is_there_already_hides_nothing(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.checks("@pytest.mark.p0\ndef test_other(evidence): passing(evidence)", OTHER)
    suite.plan('[renamed]\n"health/other" = "health/up"')
    assert suite.run().code == 0
    (suite.root / OTHER).unlink()
    run = suite.expect("NO_VERDICT")
    assert [each["id"] for each in run.model["vanished"]] == ["health/other"]


def test_a_vanished_p1_and_any_check_that_vanished_with_a_new_plan_are_reported(suite: Suite) -> None:
    suite.checks(PASSING)
    assert suite.run().code == 0
    suite.checks(PASSING.replace("test_fast", "test_faster"))
    run = suite.run()
    assert run.code == 0
    assert any("P1 vanished: health/fast" in note for note in run.model["notes"])
    suite.checks(PASSING.replace("test_up", "test_upper"))
    plan = suite.root / "readiness.toml"
    plan.write_text(plan.read_text().replace("Scenario", "Scene"))
    run = suite.run()
    assert run.code == 0
    assert any("P0 vanished: health/up" in note for note in run.model["notes"])
    assert "health/up" in suite.wrote("reports/readiness.md")
    assert not any("health/up" in note for note in suite.run().model["notes"])


def test_a_parameter_that_disappeared_counts(suite: Suite) -> None:
    family = '@pytest.mark.p0\n@pytest.mark.parametrize("name", {})\ndef test_up(evidence, name):\n'
    suite.checks(family.format(["a", "b"]) + "    passing(evidence)\n")
    assert suite.run().code == 0
    suite.checks(family.format(["a"]) + "    passing(evidence)\n")
    assert suite.run().code == 6


def test_a_partial_run_misses_nothing(suite: Suite) -> None:
    suite.checks(PASSING)
    assert suite.run().code == 0
    assert suite.run("-k", "up").code == 0


@pytest.mark.parametrize("option", ["--env", "--readiness-dir", "--readiness-ledger"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_value_is_refused(suite: Suite, option: str, value: str) -> None:
    suite.checks(PASSING)
    run = suite.run(f"{option}={value}")
    assert run.code == 4, run.output()
    assert "empty" in run.err


NAMES_PARTS = """
import pathlib, os

def pytest_unconfigure(config):
    names = [name for name, part in config.pluginmanager.list_name_plugin() if "readiness" in name]
    with open(pathlib.Path(os.environ["SCENARIO_ROOT"], "parts"), "a") as stream:
        stream.writelines(f"{name}\\n" for name in names)
"""


def test_blocking_any_part_of_the_plugin_is_refused(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.write("conftest.py", NAMES_PARTS)
    for workers in ((), ("-n1",)):
        assert suite.run(*workers, plugins=HTML).code == 0
    parts = {*suite.wrote("parts").split()} - {PLUGINS["readiness"]}
    assert {"readiness-gate", "readiness-limits", "readiness-publisher", "readiness-html"} <= parts
    for part in parts:
        run = suite.run("-p", f"no:{part}")
        assert run.code == 4, run.output()
        assert f"-p no:{part}: without this part, a run gets no verdict" in run.err
        assert suite.run("-p", f"no:{part}", "-n1").code == 4
