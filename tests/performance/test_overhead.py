"""The overhead of a check: counted, not timed, so that a busy machine makes no difference."""

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_readiness.core.redaction import Redactor
from pytest_readiness.core.redaction.shapes import Found

from tests.adapter.scenario import HTML, Suite

#: Counts the plugin's function calls until a run ends, and how often a page is rendered.
COUNTING = """
import atexit, pathlib, sys
from pytest_readiness import report

counts = {"calls": 0, "pages": 0}
render = report.STANDARD[report.HTML_NAME]

def rendered(model):
    counts["pages"] += 1
    return render(model)

def called(frame, event, _):
    if event == "call" and "pytest_readiness" in frame.f_code.co_filename:
        counts["calls"] += 1

def pytest_unconfigure():
    sys.setprofile(None)
    pathlib.Path("counts").write_text(f"{counts['calls']} {counts['pages']}")

report.STANDARD[report.HTML_NAME] = rendered
sys.setprofile(called)
"""
#: Plugin function calls for one empty check, reports included.
CALLS_PER_CHECK = 670


def counted(suite: Suite, checks: int) -> tuple[int, int]:
    """Return the calls and rendered pages of a run with this many checks that only measure."""
    body = "\n".join(
        f"@pytest.mark.p1\ndef test_{name}(evidence):\n    passing(evidence)" for name in range(checks)
    )
    suite.checks(body)
    suite.write("smoke/conftest.py", COUNTING)
    run = suite.run(plugins=HTML)
    assert run.verdict == "READY", run.out
    calls, pages = (suite.root / "counts").read_text().split()
    return int(calls), int(pages)


def test_a_check_costs_the_same_in_a_large_suite(suite: Suite) -> None:
    few, pages = counted(suite, 100)
    more, _ = counted(suite, 200)
    most, _ = counted(suite, 400)
    assert pages == 1, "each report is rendered once"
    assert (most - more) / 200 <= 1.1 * (more - few) / 100
    assert (most - more) / 200 <= CALLS_PER_CHECK


def test_redaction_does_not_search_what_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    redactor = Redactor(["a-secret-of-this-run"])
    searched: list[str] = []

    def search(text: str) -> list[Found]:
        searched.append(text)
        return []

    monkeypatch.setattr(redactor, "_found", search)
    nodeid = "smoke/health/test_health.py::test_answers[freeside]"
    check = {
        "id": "health/answers[freeside]",
        "nodeid": nodeid,
        "outcome": "passed",
        "evidence": [{"kind": "figure", "name": "status", "value": 200, "unit": ""}],
        "class": None,
    }
    assert redactor.data(check) == check
    assert redactor.shown(nodeid) == nodeid
    assert searched == []
    redactor.data({**check, "summary": "token=a-secret"})
    assert searched


def test_the_package_loads_nothing_that_a_run_may_not_need() -> None:
    code = (
        "import sys, pytest_readiness, pytest_readiness.adapter.plugin;"
        "print({'boto3', 'botocore', 'cryptography', 'jinja2'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """An empty suite with a launch plan."""
    return Suite(tmp_path)
