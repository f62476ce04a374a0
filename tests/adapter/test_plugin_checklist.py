"""The launch checklist: only a full run ticks an item, and the item says where its checks passed."""

import subprocess

import pytest

from tests.adapter.samples import SCHEMA
from tests.adapter.scenario import Run, Suite

ITEM = '[[operational]]\nitem = "Alarms"\nchecks = ["health/alarm*"]\n'
CHECKS = """
@pytest.mark.p1
@pytest.mark.static
@pytest.mark.requires("source")
def test_alarm_one(evidence):
    passing(evidence)

@pytest.mark.p1
@pytest.mark.static
@pytest.mark.requires("source")
def test_alarm_two(evidence):
    passing(evidence)

@pytest.mark.p0
def test_other(evidence):
    passing(evidence)
"""
SOURCE = """
[section.source.dir]
type = "string"
env = "SOURCE_DIR"
[capability.source]
needs = ["source.dir"]
"""


@pytest.fixture
def launch(suite: Suite) -> Suite:
    suite.plan(ITEM)
    suite.write("environments/schema.toml", SCHEMA + SOURCE)
    suite.checks(CHECKS)
    return suite


def ticked(run: Run) -> tuple[bool, str]:
    (row,) = run.model["operational"]
    return row["done"], row["evidence"]


@pytest.mark.parametrize(
    ("args", "evidence"),
    [
        (("-k", "alarm"), "a partial run cannot tick an item"),
        (("smoke/test_checks.py",), "a partial run cannot tick an item"),
        ((), "2 checks passed, on the platform's own checkout"),
    ],
)
def test_a_partial_run_ticks_no_item(launch: Suite, args: tuple[str, ...], evidence: str) -> None:
    run = launch.run(*args, environ={"SOURCE_DIR": str(launch.root)})
    assert ticked(run) == (not args, evidence)
    assert ("[x] Alarms" in launch.wrote("reports/readiness.md")) is not bool(args)


def test_a_check_that_did_not_run_ticks_no_item(launch: Suite) -> None:
    done, evidence = ticked(launch.run())
    assert not done
    assert evidence.startswith(
        "health/alarm-one skipped, and 1 more (of 2 checks): capability 'source' is not offered"
    )


def test_a_tick_names_the_commit_of_its_checkout(launch: Suite) -> None:
    checkout = launch.root / "checkout"
    checkout.mkdir()
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@b.example", "-C", str(checkout))
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    evidence = f"2 checks passed, on checkout {head.stdout[:7]}"
    assert ticked(launch.run(environ={"SOURCE_DIR": str(checkout)})) == (True, evidence)
