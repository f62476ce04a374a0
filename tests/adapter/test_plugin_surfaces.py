"""What a run offers beside its reports: to GitHub Actions, in formats on request, in pytest's JUnit file."""

from pathlib import Path

from tests.adapter.scenario import Suite

FAILING = """
@pytest.mark.p0
def test_up(evidence):
    passing(evidence)

@pytest.mark.p0
def test_down(evidence):
    passing(evidence)
    assert "up" == "down", "the service is down\\n::error::forged"
"""


def github(root: Path) -> dict[str, str]:
    return {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(root / "summary.md")}


def test_github_gets_a_summary_and_annotations(suite: Suite) -> None:
    suite.checks(FAILING)
    summary = suite.write("summary.md", "from an earlier tool")
    run = suite.run(environ=github(suite.root))
    assert run.code == 1, run.told()
    commands = [line for line in run.out.splitlines() if line.startswith("::")]
    assert len(commands) == 1, run.told()
    assert commands[0].startswith("::error file=smoke/test_checks.py,")
    assert "title=P0 PLATFORM_BUG health/down::the service is down" in commands[0]
    report = (suite.root / "reports/readiness.md").read_text()
    assert summary.read_text() == f"from an earlier tool\n{report}"


def test_elsewhere_nothing_of_github_is_written(suite: Suite) -> None:
    suite.checks(FAILING)
    run = suite.run()
    assert run.code == 1
    assert not [line for line in run.out.splitlines() if line.startswith("::")]


def test_a_summary_that_cannot_be_written_is_said_and_changes_nothing(suite: Suite) -> None:
    suite.checks(FAILING)
    (suite.root / "summary.md").mkdir()
    run = suite.run(environ=github(suite.root))
    assert (run.code, run.verdict) == (1, "BROKEN"), run.told()
    assert "GITHUB_STEP_SUMMARY cannot be written: Is a directory" in run.out
