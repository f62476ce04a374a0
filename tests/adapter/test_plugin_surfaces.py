"""Outputs beyond the reports: GitHub Actions, optional formats, pytest's JUnit file."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pytest_readiness.report import report_of

from tests.adapter.samples import PLAN
from tests.adapter.scenario import DEFAULT, PLUGINS, Suite
from tests.adapter.test_plugin_exit_codes import PASSING
from tests.adapter.test_plugin_interruption import TAKES_THE_LEDGER_AWAY

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
    assert run.code == 1, run.output()
    commands = [line for line in run.out.splitlines() if line.startswith("::")]
    assert len(commands) == 1, run.output()
    assert commands[0].startswith("::error file=smoke/test_checks.py,")
    assert "title=P0 PLATFORM_BUG health/down::the service is down" in commands[0]
    report = (suite.root / "reports/readiness.md").read_text()
    assert summary.read_text() == f"from an earlier tool\n{report}"


def test_outside_github_no_annotation_is_written(suite: Suite) -> None:
    suite.checks(FAILING)
    run = suite.run()
    assert run.code == 1
    assert not [line for line in run.out.splitlines() if line.startswith("::")]


def test_a_summary_that_cannot_be_written_is_reported_and_changes_nothing(suite: Suite) -> None:
    suite.checks(FAILING)
    (suite.root / "summary.md").mkdir()
    run = suite.expect("BROKEN", environ=github(suite.root))
    assert "GITHUB_STEP_SUMMARY cannot be written: Is a directory" in run.out


FILES = {"readiness.csv", "readiness.ctrf.json", "readiness.prom", "readiness.txt"}


def written(suite: Suite) -> set[str]:
    return {path.name for path in (suite.root / "reports").iterdir() if path.is_file()} & FILES


def test_formats_are_written_on_request(suite: Suite) -> None:
    suite.checks(FAILING)
    run = suite.run()
    assert written(suite) == set(), run.output()
    run = suite.run("--readiness-format=csv,ctrf,prometheus,text")
    assert written(suite) == FILES, run.output()
    assert "reports/readiness.prom" in run.out
    assert 'readiness_verdict{environment="local",verdict="BROKEN"} 1' in suite.wrote(
        "reports/readiness.prom"
    )
    assert suite.wrote("reports/readiness.txt").startswith("BROKEN, exit code 1: ")


def test_a_format_that_is_no_longer_requested_goes(suite: Suite) -> None:
    suite.checks(FAILING)
    suite.write("pytest.ini", "[pytest]\nreadiness_format = csv, text\n")
    suite.run()
    assert written(suite) == {"readiness.csv", "readiness.txt"}
    suite.run("--readiness-format=text")
    assert written(suite) == {"readiness.txt"}


def test_a_partial_run_leaves_the_formats_of_the_full_one(suite: Suite) -> None:
    suite.checks(FAILING)
    suite.run("--readiness-format=csv")
    before = suite.wrote("reports/readiness.csv")
    run = suite.run("--readiness-format=text", "-k", "up")
    assert suite.wrote("reports/readiness.csv") == before, run.output()
    assert written(suite) == {"readiness.csv"}
    assert "(PARTIAL)" in suite.wrote("reports/partial/readiness.txt")


def test_a_run_without_a_verdict_is_reported_as_such_in_every_format(suite: Suite) -> None:
    suite.checks("os._exit(0)")
    suite.run("--readiness-format=csv,ctrf,prometheus,text")
    assert suite.wrote("reports/readiness.txt").startswith("NO_VERDICT"), "left by a run that died"
    assert 'verdict="NO_VERDICT"} 1' in suite.wrote("reports/readiness.prom")


@pytest.mark.parametrize("source", ["option", "setting"])
@pytest.mark.parametrize("names", ["pdf", "csv,pdf", ",", "CSV"])
def test_an_unknown_format_is_refused(suite: Suite, source: str, names: str) -> None:
    suite.checks(FAILING)
    args = [f"--readiness-format={names}"]
    if source == "setting":
        suite.write("pytest.ini", f"[pytest]\nreadiness_format = {names}\n")
        args = []
    run = suite.run(*args)
    assert run.code == 4, run.output()
    assert "not a report format (allowed: csv, ctrf, prometheus, text)" in run.err
    assert "Traceback" not in run.output()
    assert written(suite) == set() if (suite.root / "reports").exists() else True


@pytest.mark.parametrize("args", [(), ("-n1",), ("-n1", "--dist=loadgroup"), ("-o", "junit_family=xunit1")])
def test_the_junit_file_has_the_verdict(suite: Suite, args: tuple[str, ...]) -> None:
    suite.checks(FAILING.replace("def test_up", "@pytest.mark.xdist_group('one')\ndef test_up"))
    run = suite.run("--junitxml=junit.xml", "--junit-prefix=nightly", *args)
    assert run.code == 1, run.output()
    root = ElementTree.parse(suite.root / "junit.xml").getroot()
    facts = {found.attrib["name"]: found.attrib["value"] for found in root.findall("*/properties/property")}
    assert (facts["readiness.verdict"], facts["readiness.run_id"]) == ("BROKEN", run.model["run_id"])
    cases = [
        {found.attrib["name"]: found.attrib["value"] for found in case.findall("properties/property")}
        for case in root.iter("testcase")
    ]
    assert {case["readiness.id"]: case["readiness.outcome"] for case in cases} == run.outcomes()
    assert [case.get("readiness.class") for case in cases] == [None, "PLATFORM_BUG"]


def test_no_file_shows_a_verdict_that_was_taken_back(suite: Suite) -> None:
    suite.checks(PASSING + TAKES_THE_LEDGER_AWAY)
    summary = suite.write("summary.md", "")
    run = suite.run(
        "--junitxml=junit.xml", "--readiness-format=csv,ctrf,prometheus,text", environ=github(suite.root)
    )
    assert (run.code, run.verdict) == (6, "NO_VERDICT"), run.output()
    assert 'name="readiness.verdict" value="NO_VERDICT"' in suite.wrote("junit.xml")
    assert "READY" not in summary.read_text()
    assert suite.wrote("reports/readiness.txt").startswith("NO_VERDICT, exit code 6: ")
    assert 'verdict="READY"} 0' in suite.wrote("reports/readiness.prom")


@pytest.mark.parametrize("into", ["pipe", "full-disk"])
@pytest.mark.parametrize(("body", "code"), [("passing(evidence)", 0), ("assert False", 1)])
def test_an_unread_or_unstored_output_changes_no_verdict(
    suite: Suite, body: str, code: int, into: str
) -> None:
    """``pytest | head`` breaks the pipe, for which pytest would exit with 1: BROKEN."""
    suite.write("readiness.toml", PLAN.replace('"health", "work", "late"', '"health"'))
    suite.checks(f"@pytest.mark.p0\ndef test_up(evidence):\n    {body}\n")
    plugins = [word for name in DEFAULT for word in ("-p", PLUGINS[name])]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *plugins, "smoke"],
        cwd=suite.root,
        env={"PATH": os.environ["PATH"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if into == "pipe" else os.open("/dev/full", os.O_WRONLY),
        stderr=subprocess.PIPE,
    )
    if process.stdout is not None:
        process.stdout.close()
    assert process.wait(60) == code, process.stderr and process.stderr.read()
    assert report_of(suite.root / "reports").exists()
