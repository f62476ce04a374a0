"""Wrongly marked checks are usage errors that name file and line, on a worker too."""

import re

import pytest

from tests.adapter.scenario import WORKERS, Suite
from tests.adapter.test_plugin_exit_codes import PASSING

UP = "def test_up(): pass\n"
#: The marks of a check, or a whole module that begins so; what is wrong; what is allowed.
MISTAKES = {
    "no severity": ("", "no severity", "pytest.mark.p0, pytest.mark.p1"),
    "two severities": ("@pytest.mark.p0\n@pytest.mark.p1\n", "both p0 and p1", "one of"),
    "unknown goal": ("@pytest.mark.p0\n@pytest.mark.goal('G-9')\n", "unknown goal 'G-9'", "G-1, G-2, G-7"),
    "two goals": ("@pytest.mark.p0\n@pytest.mark.goal('G-1')\n@pytest.mark.goal('G-2')\n",
                  "several goal markers: G-1, G-2", "one"),
    "unknown phase": ("@pytest.mark.p0\n@pytest.mark.phase('soon')\n", "unknown phase 'soon'", "health"),
    "goal without its id": ("@pytest.mark.p0\n@pytest.mark.goal\n", "malformed goal marker", 'goal("...")'),
    "requires nothing": ("@pytest.mark.p0\n@pytest.mark.requires()\n", "malformed requires marker",
                         "requires("),
    "misspelt covered_by": ("@pytest.mark.p0\n@pytest.mark.requires('extra', coverd_by='x')\n",
                            "malformed requires marker", "covered_by="),
    "covered by nothing": ("@pytest.mark.p0\n@pytest.mark.requires('extra', covered_by='health/x')\n",
                           "covered_by names 'health/x', which is not a check of this suite", "health/up"),
    "misspelt marker": ("@pytest.mark.p0\n@pytest.mark.require('extra')\n", "unknown marker 'require'",
                        "requires, or register 'require' in pytest's markers"),
    "marker in the plural": ("@pytest.mark.p0\n@pytest.mark.drills\n", "unknown marker 'drills'",
                             "drill, or register"),
    "marker in capitals": ("@pytest.mark.p0\n@pytest.mark.Static\n", "unknown marker 'Static'", "static, or"),
    "static that is said to be off": ("@pytest.mark.p0\n@pytest.mark.static(False)\n",
                                      "malformed static marker", "pytest.mark.static, without arguments"),
    "drill that is said to be off": ("@pytest.mark.p0\n@pytest.mark.drill(False)\n",
                                     "malformed drill marker", "pytest.mark.drill, without arguments"),
    "severity with arguments": ("@pytest.mark.p0(False)\n", "malformed p0 marker", "pytest.mark.p0, without"),
    "doubled id": (f"class TestMore:\n    @pytest.mark.p0\n    {UP}\n@pytest.mark.p0\n",
                   "check id 'health/up' is also used by smoke/test_checks.py:", "unique within its phase"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(suite: Suite, mistake: str) -> None:
    marks, what, allowed = MISTAKES[mistake]
    suite.checks(marks + UP)
    run = suite.run()
    assert run.code == 4, run.output()
    message = run.err[run.err.index("ERROR:") :].strip()
    assert message.startswith("ERROR: smoke/test_checks.py:")
    assert message.split(":")[2].isdecimal()
    assert what in message
    assert allowed in message.split("allowed:")[1]
    assert len(message.splitlines()) <= 3
    assert "Traceback" not in run.out + run.err
    assert run.verdict == "NO_VERDICT"
    assert what in run.model["reasons"][0]


@pytest.mark.parametrize("args", [(), ("-n2",), ("-k", "up")])
def test_an_empty_phase_of_a_complete_suite(suite: Suite, args: tuple[str, ...]) -> None:
    suite.checks(PASSING)
    plan = suite.root / "readiness.toml"
    plan.write_text(plan.read_text().replace("phases", 'phases = ["later", "health"] #'))
    run = suite.run(*args)
    assert run.code == 4, run.output()
    assert "readiness.toml: phases: no check in phase 'later'" in run.err
    assert suite.run("smoke/test_checks.py").code == 0


def test_mistake_on_a_worker(suite: Suite) -> None:
    suite.checks(PASSING)
    suite.checks(UP, "smoke/test_unmarked.py")
    run = suite.run("-n2")
    assert run.code == 4, run.output()
    assert "smoke/test_unmarked.py:" in run.err
    assert "no severity" in run.err
    assert "crashed" not in run.out


def test_a_suites_own_markers_may_be_named_like_ours(suite: Suite) -> None:
    suite.checks(f"@pytest.mark.drills\n@pytest.mark.slow\n{PASSING}")
    suite.write("pytest.ini", "[pytest]\nmarkers =\n    drills(kind): of this team\n")
    assert suite.run().code == 0


def test_nearest_marker_wins(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p1
    @pytest.mark.phase("work")
    class TestGroup:
        @pytest.mark.p0
        @pytest.mark.goal("G-2")
        def test_inner(self, evidence):
            passing(evidence)

        def test_outer(self, evidence):
            passing(evidence)
    """)
    run = suite.run("smoke/test_checks.py")
    assert run.code == 0, run.output()
    inner, outer = run.check("work/inner"), run.check("work/outer")
    assert (inner["severity"], inner["goal"]) == ("P0", "G-2")
    assert (outer["severity"], outer["goal"]) == ("P1", "G-1")
    assert inner["nodeid"] == "smoke/test_checks.py::TestGroup::test_inner"


def test_check_without_a_goal(suite: Suite) -> None:
    suite.write(
        "smoke/test_operations.py",
        'import pytest\n@pytest.mark.p0\n@pytest.mark.phase("work")\n'
        "def test_backups(evidence): evidence.figure('n', 1)",
    )
    run = suite.run("--strict-markers")
    assert (run.code, run.check("work/backups")["goal"]) == (0, ""), run.output()


def test_markers_explain_themselves(suite: Suite) -> None:
    out = suite.run("--markers").out
    for marker in ("p0", "p1", "goal(id)", "phase(name)", "requires(", "establishes(", "drill", "static"):
        assert re.search(rf"@pytest.mark.{re.escape(marker)}.*:", out)


def test_static_checks_pass_on_a_real_checkout_only(suite: Suite) -> None:
    suite.write(
        "environments/schema.toml",
        suite.wrote("environments/schema.toml")
        + '[section.source.dir]\ntype = "string"\nenv = "SOURCE_DIR"\n'
        + '[capability.source]\nneeds = ["source.dir"]\n',
    )
    suite.checks("""
    @pytest.mark.p0
    @pytest.mark.static
    @pytest.mark.requires("source")
    def test_no_trace(evidence):
        passing(evidence)
    """)
    suite.write(
        "conftest.py",
        "def pytest_readiness_environment(name, profile, config): return {'source': {'dir': 'embedded'}}",
    )
    status = {row["id"]: row["status"] for row in suite.run().model["goals"]}
    assert status["G-1"] == "READY", "what a hook offers may be made for the embedded platform"
    run = suite.run(environ={"SOURCE_DIR": "checkout"})
    status = {row["id"]: row["status"] for row in run.model["goals"]}
    assert status["G-1"] == "PASS", run.output()


@WORKERS
def test_all_mistakes_of_all_checks_are_reported_at_once(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.goal("G-98")
    def test_one(evidence): pass

    @pytest.mark.p0
    @pytest.mark.phase("never")
    @pytest.mark.parametrize("number", [1, 2])
    def test_two(evidence, number): pass
    """)
    run = suite.run()
    assert run.code == 4, run.output()
    lines = run.err[run.err.index("ERROR:") :].strip().splitlines()
    assert [line.partition(" (allowed: ")[0].rpartition(": test_")[2] for line in lines[:-1]] == [
        "one: unknown goal 'G-98'",
        "one: no severity",
        "two: unknown phase 'never'",
    ]
    assert lines[-1] == "  next: correct these 3 mistakes"


def test_all_inconsistencies_between_checks_are_reported_at_once(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    @pytest.mark.requires("telepathy", covered_by="work/none")
    def test_one(evidence): pass
    """)
    run = suite.run()
    assert run.code == 4, run.output()
    assert "unknown capability 'telepathy'" in run.err
    assert "covered_by names 'work/none', which is not a check of this suite" in run.err


def test_one_mistake_in_several_checks_keeps_its_advice(suite: Suite) -> None:
    suite.checks("""
    @pytest.mark.p0
    @pytest.mark.requires("telepathy")
    def test_one(evidence): pass

    @pytest.mark.p0
    @pytest.mark.requires("telepathy")
    def test_two(evidence): pass
    """)
    assert (
        "next: correct these 2 mistakes: correct the name, or define [capability.telepathy] in"
        in suite.run().err
    )
