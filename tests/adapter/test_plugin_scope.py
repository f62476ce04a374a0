"""Full and partial runs: only a full one is recorded, and the gate refuses the other."""

import pytest

from tests.adapter.scenario import HTML, WORKERS, Run, Suite
from tests.adapter.test_plugin_exit_codes import PASSING

OTHER = "smoke/test_other.py"


@pytest.fixture
def two_files(suite: Suite) -> Suite:
    suite.checks(PASSING)
    suite.checks(PASSING, OTHER, phase="work")
    suite.write("smoke/nested/data.py", "")
    return suite


def _is_full(run: Run) -> bool:
    assert run.model["scope"] in {"full", "partial"}
    return bool(run.model["scope"] == "full")


@pytest.mark.parametrize("args", [("smoke",), (".",), ("smoke/", "--env", "local"), ("smoke", "--ff")])
def test_full_runs_are_recorded(two_files: Suite, args: tuple[str, ...]) -> None:
    run = two_files.run(*args)
    assert (run.code, _is_full(run)) == (0, True), run.output()
    assert [entry["run_id"] for entry in two_files.ledger()] == [run.model["run_id"]]


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("-k", "up"), id="-k"),
        pytest.param(("-m", "p0"), id="-m"),
        pytest.param(("--ignore", OTHER), id="--ignore"),
        pytest.param(("--ignore-glob", "*/test_o*"), id="--ignore-glob"),
        pytest.param(("--ignore-glob", "*other*"), id="--ignore-glob-across-directories"),
        pytest.param(("--ignore-glob", "smoke/neste?"), id="--ignore-glob-directory"),
        pytest.param(("-o", "python_files=test_checks.py"), id="-o-python_files"),
        pytest.param(("-o", "norecursedirs=nested"), id="-o-norecursedirs"),
        pytest.param(("-p", "no:unittest"), id="-p-no:unittest"),
        pytest.param(("--deselect", f"{OTHER}::test_up"), id="--deselect"),
        pytest.param((OTHER,), id="file"),
        pytest.param((f"{OTHER}::test_up",), id="nodeid"),
        pytest.param(("smoke/test_checks.py", OTHER), id="all-files"),
        pytest.param(("-k", "up", "-n2"), id="-k-workers"),
    ],
)
def test_partial_runs_are_judged_but_not_recorded(two_files: Suite, args: tuple[str, ...]) -> None:
    run = two_files.run(*args)
    assert (run.code, run.verdict, _is_full(run)) == (0, "READY", False), run.output()
    assert "PARTIAL" in run.out
    assert not two_files.ledger()


def test_last_failed_is_partial(two_files: Suite) -> None:
    two_files.checks("@pytest.mark.p0\ndef test_up(evidence):\n    passing(evidence)\n    assert False")
    assert two_files.run().code == 1
    run = two_files.run("--lf")
    assert (run.code, _is_full(run)) == (1, False), run.output()
    assert len(two_files.ledger()) == 1


@WORKERS
def test_gate_refuses_a_partial_run(two_files: Suite) -> None:
    run = two_files.expect("NO_VERDICT", "--gate", "-k", "up")
    assert run.model["reasons"] == ["the gate refuses a partial run: run the whole suite"]
    assert not two_files.ledger()


def test_gate_takes_a_full_run(two_files: Suite) -> None:
    two_files.expect("READY", "--gate")


DROPS = """
import pytest

@pytest.hookimpl(wrapper={early})
def pytest_collection_modifyitems(items):
    del items[0]
    {end}
"""


@WORKERS
@pytest.mark.parametrize("early", [False, True])
def test_silently_dropped_check_makes_the_run_partial(two_files: Suite, early: bool) -> None:
    two_files.write("smoke/conftest.py", DROPS.format(early=early, end="return (yield)" if early else ""))
    run = two_files.run()
    assert (run.code, _is_full(run)) == (0, False), run.output()


@WORKERS
@pytest.mark.parametrize(
    "skip", ["pytest.skip('why', allow_module_level=True)", "pytest.importorskip('x_y')"]
)
def test_a_skipped_module_leaves_no_verdict(two_files: Suite, skip: str) -> None:
    two_files.write(OTHER, f"import pytest\n{skip}\n@pytest.mark.p0\ndef test_up(): assert False\n")
    run = two_files.expect("NO_VERDICT")
    assert f"{OTHER}: skipped altogether: " in run.model["reasons"][0]
    assert not two_files.ledger()


def test_a_module_skipped_outside_the_suite_does_not_matter(two_files: Suite) -> None:
    two_files.write("tests/test_y.py", "import pytest\npytest.skip('why', allow_module_level=True)\n")
    two_files.expect("READY", "smoke", "tests")


@pytest.mark.parametrize("linked", [OTHER, "smoke"])
def test_linked_files_and_directories_belong_to_the_suite(two_files: Suite, linked: str) -> None:
    two_files.checks("@pytest.mark.p0\ndef test_up(evidence): assert False", OTHER, phase="work")
    elsewhere = (two_files.root / linked).rename(two_files.root / "elsewhere")
    (two_files.root / linked).symlink_to(elsewhere)
    run = two_files.run()
    assert (run.code, run.outcomes().get("work/up")) == (1, "failed"), run.output()


@WORKERS
def test_collect_only_judges_nothing(two_files: Suite) -> None:
    first = two_files.run(plugins=HTML)
    page = two_files.wrote("reports/results.html")
    two_files.checks("@pytest.mark.p0\ndef test_up(): assert False")
    run = two_files.run("--collect-only", plugins=HTML)
    assert run.code == 0, run.output()
    assert run.model == first.model
    assert two_files.wrote("reports/results.html") == page
    assert len(two_files.ledger()) == 1
    assert "launch readiness" not in run.out


def test_two_full_runs_make_a_streak(two_files: Suite) -> None:
    assert two_files.run().model["streak"]["length"] == 1
    assert two_files.run("-k", "up").model["streak"]["length"] == 1
    assert two_files.run("-n2").model["streak"]["length"] == 2
    two_files.checks(PASSING + "\n# another suite now")
    assert two_files.run().model["streak"]["length"] == 1


def test_reports_and_ledger_go_where_options_say(two_files: Suite) -> None:
    run = two_files.run("--readiness-dir", "elsewhere", "--readiness-ledger", "file:past/{env}.jsonl")
    assert run.code == 0
    assert two_files.wrote("elsewhere/readiness.json")
    assert two_files.wrote("past/local.jsonl")
    assert not (two_files.root / "reports").exists()
    assert not two_files.ledger()


def test_a_suite_that_is_edited_during_its_run_is_the_one_that_ran(suite: Suite) -> None:
    suite.checks(PASSING)
    before = suite.run().model["suite_digest"]
    suite.checks("""
        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            text = pathlib.Path(__file__).read_text()
            pathlib.Path(__file__).write_text(text + "# edited")
    """)
    first, second = (suite.run().model["suite_digest"] for _ in range(2))
    assert len({before, first, second}) == 3, "the second run ran what the first one wrote"


def test_a_run_that_ended_meanwhile_counts_in_the_streak(suite: Suite) -> None:
    suite.checks("""
        import json
        from pytest_readiness.ledger import FileLedger

        @pytest.mark.p0
        def test_up(evidence):
            passing(evidence)
            root = pathlib.Path(os.environ["SCENARIO_ROOT"])
            ledger = FileLedger(root / ".readiness/local.jsonl")
            if os.environ.get("OTHER_RUN"):
                ledger.append({**ledger.recent(1)[-1], "verdict": "BROKEN", "run_id": "other"})
    """)
    assert suite.run().model["streak"]["length"] == 1
    run = suite.run(environ={"OTHER_RUN": "1"})
    assert (run.code, run.model["streak"]["length"]) == (0, 1), run.output()
    assert "run other" in run.model["streak"]["why"]


def test_pattern_that_protects_nothing_is_noted_when_the_suite_is_complete(two_files: Suite) -> None:
    plan = two_files.root / "readiness.toml"
    plan.write_text(plan.read_text().replace("work/money*", "work/up*"))
    assert not [line for line in two_files.run().model["notes"] if "waivable" in line]
    plan.write_text(plan.read_text().replace("work/up*", "work/upp*"))
    note = "not_waivable 'work/upp*' matches no check of the suite"
    assert [line for line in two_files.run().model["notes"] if "waivable" in line] == [note]
    assert not [line for line in two_files.run("-k", "up").model["notes"] if "waivable" in line]


@WORKERS
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("-k", "helth"), "-k 'helth' matched none of 1 check"),
        (("-m", "late", "-k", "up"), "-k 'up' and -m 'late' matched none of 1 check"),
        (("--deselect", "smoke"), "the options matched none of 1 check"),
    ],
    ids=["-k", "-m", "--deselect"],
)
def test_a_run_that_selects_nothing_says_by_which_option(
    suite: Suite, asked: tuple[str, ...], said: str
) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): passing(evidence)")
    run = suite.expect("NO_VERDICT", *asked)
    assert run.model["reasons"] == [f"no check was selected: {said}"]
