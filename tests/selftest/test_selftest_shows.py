"""Output of the self-test: progress on a terminal and elsewhere, the page, usage errors."""

import io
from pathlib import Path

import pytest
from pytest_readiness.cli import main
from pytest_readiness.selftest import page
from pytest_readiness.selftest.campaign import CleanRun, Leak
from pytest_readiness.selftest.catalogue import Expected, FalseAlarm, Fault, Finding
from pytest_readiness.selftest.page import Progress, headline

from tests.selftest.scene import DOWN, Scene

FAULT = Fault(
    id="a|b",
    goal="G-1",
    what="It <sleeps>",
    verdict="BROKEN",
    checks=(Expected(id="health/up", severity="P0", failure_class="PLATFORM_BUG"),),
)
MODEL = {
    "scope": "partial",
    "detected": 0,
    "total": 1,
    "false_alarms": 1,
    "clean_runs": 0,
    "clean_runs_when": {"before": 0, "after": 0, "variant": 0},
    "control_runs": 1,
    "date": "2026-03-01T00:00:00Z",
    "catalogue_digest": "abc",
    "suite_digest": "",
    "duration_s": 12.0,
    "cpu_s": 20.0,
    "spent_s": {"boot": 2.0},
    "faults": [Finding(fault=FAULT, detected=False, why="health/up: outcome passed,\nnot failed").as_data()],
    "alarms": [{"run": "control run", "check": "health/up", "summary": "failed"}],
    "leaks": [{"fault": "a|b", "what": "state"}],
    "uncovered": ["health/mood"],
    "unfaulted": [],
    "problems": ["the suite changed while it was tested"],
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def feed(stream: io.StringIO) -> str:
    progress = Progress(stream, 2)
    progress.update(Finding(fault=FAULT, detected=True, why=""))
    progress.update(Finding(fault=FAULT, detected=False, why="it passed"))
    progress.update(Leak(fault="a|b", what="state"))
    progress.update(
        CleanRun(
            name="run",
            when="before",
            checks=1,
            alarms=(FalseAlarm(run="run", check="a/b", summary="failed"),),
        )
    )
    progress.end()
    return stream.getvalue()


def test_the_result_counts_the_checks_that_no_fault_names() -> None:
    assert "detected 0 of 1, 1 check without a fault, 1 false alarm in " in headline(MODEL)
    assert "without a fault" not in headline({**MODEL, "uncovered": []})


def test_progress_where_lines_stay() -> None:
    """Without a terminal, only problems are printed between the rare progress lines."""
    assert feed(io.StringIO()).splitlines() == [
        "undetected: a|b: it passed",
        "left something behind: a|b: state",
        "false alarm: run: a/b failed",
    ]


def test_progress_on_a_terminal_is_one_line() -> None:
    shown = feed(Terminal())
    assert "\r\x1b[K1 of 2 faults, 0 undetected, 0 false alarms in 0 runs without a fault, 0 s" in shown
    assert "2 of 2 faults, 1 undetected, 1 false alarm in 1 run without a fault, 0 s" in shown
    assert shown.endswith("\r\x1b[K")
    assert shown.count("\n") == 3


def test_the_last_lines_name_everything_that_is_wrong() -> None:
    assert list(page.lines(MODEL)) == [
        "undetected:",
        "  a|b  G-1  health/up: outcome passed, not failed",
        "false alarms:",
        "  control run  health/up  failed",
        "left something behind:",
        "  a|b  state",
        "checks that no fault names:",
        "  health/mood",
        "problems:",
        "  the suite changed while it was tested",
        "time of the platforms: boot 2 s; CPU of all processes: 20 s",
        "longest faults: a|b 0 s",
        "self-test: partial: detected 0 of 1, 1 check without a fault, 1 false alarm in 1 control run, 12 s",
    ]


def test_texts_do_not_break_the_table_of_the_page() -> None:
    text = page.render(MODEL)
    row = next(line for line in text.splitlines() if line.startswith("| `a"))
    assert row.startswith(
        "| `a\\|b` | G-1 | It &lt;sleeps> | BROKEN: `health/up` failed (P0 PLATFORM_BUG) | **no**: "
    )
    assert "suite digest `none`" in text
    assert "## Undetected\n\n- a\\|b: G-1: health/up: outcome passed, not failed" in text


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--only", "nothing-such"], "--only: no fault matches 'nothing-such'"),
        (["--only", "nothing-such"], "next: look for ids and goals in faults"),
        (["--workers", "0"], "'0' is not an integer >= 1"),
        (["--clean-runs", "x"], "'x' is not an integer >= 0"),
    ],
)
def test_bad_options(tmp_path: Path, arguments: list[str], what: str) -> None:
    scene = Scene(tmp_path)
    scene.catalogue(DOWN)
    tested = scene.test(*arguments)
    assert tested.code == 4
    assert what in tested.out
    assert len(tested.out.splitlines()) <= 3


@pytest.mark.parametrize(
    ("old", "what"),
    [
        ('platform = ["python", "double.py"]', "[self_test] platform: the plan names no platform"),
        ('catalogue = "faults"', "[self_test] catalogue: the plan names no catalogue of faults"),
    ],
)
def test_a_plan_without_self_test(tmp_path: Path, old: str, what: str) -> None:
    scene = Scene(tmp_path)
    scene.catalogue(DOWN)
    scene.write("readiness.toml", (tmp_path / "readiness.toml").read_text().replace(old, ""))
    tested = scene.test()
    assert tested.code == 4
    assert what in tested.out


def test_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["self-test"]) == 4
    assert "no readiness.toml in this directory or its parents" in capsys.readouterr().err
