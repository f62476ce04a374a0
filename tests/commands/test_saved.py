"""`readiness report`, `explain`, `diff`, `goals`, `checks` and `waivers` in a project with earlier runs."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_readiness.cli import main

from tests.adapter.scenario import Suite

READINESS = Path(sys.executable).with_name("readiness")
CHECKS = """
@pytest.mark.p0
@pytest.mark.timeout(20)
def test_up(evidence):
    evidence.figure("time to answer", 0.25, "s", limit=1.0)

@pytest.mark.p1
@pytest.mark.parametrize("place", ["a", "b"])
def test_orders(evidence, place):
    passing(evidence)
    assert not pathlib.Path("broken").exists(), "orders are lost"
"""
WAIVED = """
[[waiver]]
check = "{check}"
reason = "known"
approver = "Ada"
issued = 2026-01-01T00:00:00Z
expires = {expires}
"""


@pytest.fixture
def project(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    suite.checks(CHECKS)
    suite._leave_out_empty_phases()
    monkeypatch.chdir(suite.root)
    return suite


@pytest.fixture
def runs(project: Suite) -> Suite:
    """A green run, then one in which both orders fail."""
    assert project.run().code == 0
    project.write("broken", "")
    assert project.run().code == 2
    return project


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    found = main(list(arguments))
    out, err = capsys.readouterr()
    assert found == code, out + err
    return out if code == 0 else err


def data(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(output(capsys, *arguments, "--json"))


def test_a_cause_is_explained_by_its_number_and_by_any_check_behind_it(
    runs: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    for what in ("1", "health/orders[a]", "*[a]", "orders[a]"):
        shown = output(capsys, "explain", what)
        assert shown.startswith("health/orders[a]  P1  failed  PLATFORM_BUG\n")
        for label, text in (
            ("summary", "orders are lost"),
            ("where", "smoke/test_checks.py:"),
            ("also", "health/orders[b]"),
            ("next", "fix the platform so that smoke/test_checks.py:"),
            ("reproduce", "pytest 'smoke/test_checks.py::test_orders[a]' --env local"),
        ):
            assert f"{label:<12}{text}" in shown
        assert shown.endswith("\nEvidence\n  answer = 42\n")
    behind = output(capsys, "explain", "health/orders[b]")
    assert "cause       health/orders[a]" in behind
    assert "rule  " not in behind, "the rule is that of the check that shows the cause"
    assert "time to answer = 0.25 s (at most 1 s)" in output(capsys, "explain", "health/up")
    assert data(capsys, "explain", "1")["cause"]["also"] == ["health/orders[b]"]


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("orders", "2 checks match 'orders'\n  allowed: one of health/orders[a], health/orders[b]\n"),
        ("nope", "no checks match 'nope'\n  allowed: one of health/"),
        ("2", "no cause 2\n  allowed: 1 to 1\n"),
        ("0", "no cause 0"),
    ],
)
def test_what_does_not_exist_is_not_explained(
    runs: Suite, capsys: pytest.CaptureFixture[str], what: str, problem: str
) -> None:
    assert problem in output(capsys, "explain", what, code=4)


def test_a_refused_run_gives_no_verdict_to_explain(runs: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    runs.write("readiness.toml", runs.wrote("readiness.toml").replace("phases = [", 'phases = ["empty", '))
    assert runs.run().code == 4
    assert "PARTIAL" not in runs.wrote("reports/partial/readiness.md")
    for what in ("1", "health/up"):
        said = output(capsys, "explain", what, code=4)
        assert "there is nothing to explain: usage error: readiness.toml: phases: no check in phase" in said
        assert "--report reports/readiness.json has the last full run" in said


def test_the_last_two_runs_are_compared(runs: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    out = output(capsys, "diff")
    assert [line.split()[:2] for line in out.splitlines()[:2]] == [["A", "READY"], ["B", "DEGRADED"]]
    assert "newly failing (2)\n  P1 health/orders[a]: passed → failed PLATFORM_BUG\n" in out
    assert "fixed (2)" in output(capsys, "diff", "2", "1")
    green, red = (entry["run_id"] for entry in runs.ledger())
    saved = str(runs.root / "reports" / "readiness.json")
    for pair in ((green, red), (green,), ("1", saved), ("1", str(runs.root / "reports"))):
        assert [row["id"] for row in data(capsys, "diff", *pair)["failing"]] == [
            "health/orders[a]",
            "health/orders[b]",
        ]
    assert "no difference" in output(capsys, "diff", saved, saved)
    assert (
        f"no such run of local: 9\n  allowed: a readiness.json, a number or id of the ledger: {green}"
        in output(capsys, "diff", "9", code=4)
    )


def test_one_run_has_nothing_to_compare_with(project: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no full run of local in the ledger: nothing to compare" in output(capsys, "diff", code=4)
    project.run()
    assert "1 full run of local in the ledger" in output(capsys, "diff", code=4)
    assert "with a profile or with runs: local\n  next: name one with --env" in output(
        capsys, "diff", "--env", "loca", code=4
    )


def test_a_report_is_rendered_again(runs: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    reports = runs.root / "reports"
    before = {path.name: path.read_bytes() for path in reports.iterdir() if path.is_file()}
    (reports / "readiness.html").unlink()
    assert output(capsys, "report").startswith("DEGRADED  Scenario  local (not live)\n")
    assert {path.name: path.read_bytes() for path in reports.iterdir() if path.is_file()} == before
    output(capsys, "report", "--format", "csv,text", "--to", "elsewhere")
    assert {path.name for path in (runs.root / "elsewhere").iterdir()} == {
        *("readiness.json", "readiness.md", "readiness.html", "readiness.csv", "readiness.txt")
    }
    assert "allowed: csv, ctrf" in output(capsys, "report", "--format", "pdf", code=4)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "cannot be read: not JSON"),
        ("[]", "not a report of a run"),
        ('{"schema_version": 2, "verdict": "READY"}', "not a report of a run"),
        ('{"schema_version": 1, "verdict": "FINE"}', "not a report of a run"),
        ('{"schema_version": 1, "verdict": []}', "not a report of a run"),
        ('{"schema_version": 1, "verdict": "READY", "checks": [{}]}', "not a report of a run"),
        (
            '{"schema_version": 1, "verdict": "READY", "checks": [{"id": "a", "evidence": 5}]}',
            "not a report of a run",
        ),
        ('{"schema_version": 1, "verdict": "READY", "checks": 5}', "not a report of a run"),
        ("[" * 100_000, "cannot be read: not JSON"),
    ],
)
def test_a_file_that_is_not_a_report_is_refused(
    project: Suite, capsys: pytest.CaptureFixture[str], content: str | None, problem: str
) -> None:
    if content is not None:
        project.write("saved.json", content)
    for command in (("report", "saved.json", "--to", "out"), ("explain", "a", "--report", "saved.json")):
        err = output(capsys, *command, code=4)
        assert problem in err
        assert len(err.splitlines()) <= 3


def test_goals_are_listed_before_and_after_a_run(project: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    assert [(row["id"], row["status"]) for row in data(capsys, "goals")] == [
        *(("G-1", None), ("G-2", None), ("G-7", None))
    ]
    assert "no run yet: readiness run" in output(capsys, "goals")
    project.run()
    assert "G-1   It is up      READY    3 checks passed (1 P0)" in output(capsys, "goals")


def test_checks_are_listed_with_their_limits(project: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    def listed(*filters: str, code: int = 0) -> list[str]:
        done = subprocess.run([READINESS, "checks", *filters], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return (done.stderr if code else done.stdout).splitlines()

    assert listed() == [
        "Severity  Goal  Time limit  Check",
        "P0        G-1   20 s        health/up",
        "P1        G-1   300 s       health/orders[a]",
        "P1        G-1   300 s       health/orders[b]",
    ]
    assert (
        listed("--severity", "p0")
        == listed("--severity", "P0")
        == listed("*/up")
        == listed("--phase", "health", "health/u?")
    )
    assert listed("--goal", "G-2") == ["no check matches"]
    assert "no check matches 'health/nope'" in "".join(listed("*/up", "health/nope", code=4))
    found = json.loads("\n".join(listed("--json")))
    assert found[1]["nodeid"] == "smoke/test_checks.py::test_orders[a]"
    assert "allowed: G-1, G-2, G-7" in output(capsys, "checks", "--goal", "G-9", code=4)
    assert "unknown phase 'nope'" in output(capsys, "checks", "--phase", "nope", code=4)
    project.checks("def test_up(): pass")
    assert "the suite cannot be collected" in output(capsys, "checks", code=4)
    assert not (project.root / "reports").exists()


def test_waivers_have_the_state_of_now(project: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=71)).isoformat()
    states = {
        "health/orders[[]a]": "unknown",
        "health/orders[a]": "expiring",
        "health/orders[b]": "active",
        "health/up": "unneeded",
        "health/u*": "expired",
        "gone/*": "unknown",
    }
    times = {"expiring": soon, "expired": "2026-02-01T00:00:00Z"}
    for check, state in states.items():
        expires = times.get(state, "2036-01-01T00:00:00Z")
        project.plan(WAIVED.format(check=check, expires=expires))
    assert "no run yet, so it is unknown what they cover" in output(capsys, "waivers")
    project.write("broken", "")
    project.run()
    assert {row["check"]: row["state"] for row in data(capsys, "waivers")} == states
    found = output(capsys, "waivers", "--state", "expiring", "--state", "expired").splitlines()
    assert [line.split()[0] for line in found] == ["State", "expiring", "expired"]
    assert output(capsys, "waivers", "--state", "upcoming") == "none is upcoming\n"


def test_a_deferral_is_as_needed_as_the_report_says(
    project: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    drill = "\n@pytest.mark.p1\n@pytest.mark.drill\ndef test_restart(evidence):\n    passing(evidence)\n"
    project.checks(CHECKS + drill)
    project.plan('[[deferral]]\nitem = "up"\nseverity = "Low"\nrationale = "later"\ngoal = "G-1"\n')
    (told,) = project.run().model["deferred"]
    (listed,) = data(capsys, "waivers")
    assert listed["state"] == told["state"] == "unneeded"


@pytest.mark.parametrize("check", ['{"id": "a"}', '{"id": "a", "severity": "P0", "outcome": "fine"}'])
def test_waivers_of_a_malformed_report_are_refused(
    project: Suite, capsys: pytest.CaptureFixture[str], check: str
) -> None:
    project.write(
        "reports/readiness.json", f'{{"schema_version": 1, "verdict": "READY", "checks": [{check}]}}'
    )
    assert "reports/readiness.json: a malformed report: " in output(capsys, "waivers", code=4)


@pytest.mark.parametrize(("environment", "state"), [("local", "active"), ("staging", "elsewhere")])
def test_a_deferral_is_judged_in_the_environment_of_the_last_run(
    project: Suite, capsys: pytest.CaptureFixture[str], environment: str, state: str
) -> None:
    project.plan(
        '[[deferral]]\nitem = "orders"\nseverity = "Low"\nrationale = "rare"\n'
        f'check = "health/orders*"\nenvironments = ["{environment}"]\n'
    )
    project.write("broken", "")
    project.run()
    ((found, note),) = [(row["state"], row["note"]) for row in data(capsys, "waivers")]
    assert found == state, note
    assert state == "active" or note == "covers nothing on local: it is for staging"


def test_colour_is_for_people_who_want_it(runs: Suite) -> None:
    def shown(**environ: str) -> str:
        script = ["script", "-qec", f"{READINESS} explain 1", "/dev/null"]
        done = subprocess.run(
            script, capture_output=True, text=True, check=True, env={"TERM": "xterm", **environ}
        )
        return done.stdout

    assert "\x1b[1;33mhealth/orders[a]" in shown()
    assert "\x1b" not in shown(NO_COLOR="1")


def test_completion_knows_the_commands(tmp_path: Path) -> None:
    for shell in ("bash", "zsh"):
        done = subprocess.run([READINESS, "completion", shell], capture_output=True, text=True, check=True)
        assert "waivers" in done.stdout
    script = subprocess.run(
        [READINESS, "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    probe = f"{script}\nCOMP_WORDS=(readiness wai); COMP_CWORD=1; _shtab_readiness; echo ${{COMPREPLY[*]}}"
    done = subprocess.run(["bash", "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip().split() == ["waivers"]


def test_a_reader_that_stops_early_is_not_an_error(runs: Suite) -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {READINESS} ledger export | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
