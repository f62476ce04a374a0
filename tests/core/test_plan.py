"""Meaning of the plan's settings."""

from datetime import UTC, datetime
from pathlib import Path

from pytest_readiness.core.plan import Plan

from tests.core.build import plan

ROOT = Path(__file__).parent.parent.parent
WAIVER = (
    '[[waiver]]\ncheck = "a/*"\nreason = "r"\napprover = "A"\n'
    "issued = 2026-01-01T00:00:00Z\nexpires = 2026-02-01T00:00:00+01:00\n"
)
DEFERRAL = '[[deferral]]\nitem = "Later"\nseverity = "Low"\nrationale = "r"\n'


def test_defaults() -> None:
    made = plan()
    assert made.goal_ids == ("G-1", "G-2", "G-7")
    assert made.policy.streak_length == 3
    assert made.policy.allowed_deferral_severity == "Medium"
    assert made.policy.require_evidence is True
    assert made.ledger_url == "file:.readiness/{env}.jsonl"
    assert (made.phases, made.deferrals, made.waivers) == ((), (), ())


def test_all_tables_of_a_plan_are_read() -> None:
    made = plan(
        WAIVER
        + DEFERRAL
        + 'goal = "G-1"\nexpires = "2027-03-01T00:00:00+01:00"\n'
        + '[[inventory]]\nservice = "API"\nkey = "api"\nurl = ""\ncpu = 512\nmemory = 1024\n'
        + 'image = "i"\necs = "e"\n'
        + '[[operational]]\nitem = "Deployed"\nrule = "live-run"\n'
        + '[[operational]]\nitem = "Alarms"\nchecks = ["alarms/*"]\nlive = true\n'
        + '[[rollback]]\ntitle = "Back"\nkind = "full"\nsteps = ["revert"]\n'
        + '[[decision]]\ndate = 2026-02-26\ndecision = "a"\n'
        + '[[decision]]\ndate = "2026-02-27"\ndecision = "b"\n'
        + '[facts.connections]\ntotal = 85\n[self_test]\nplatform = ["run"]\ncatalogue = "c.toml"\n'
        + 'judges = ["a/*"]\n'
        + '[ledger]\nurl = "s3://bucket/{env}"\n',
        head='phases = ["health", "auth"]\nnot_waivable = ["auth/*"]',
    )
    assert made.waivers[0].expires == datetime(2026, 1, 31, 23, tzinfo=UTC)
    assert made.deferrals[0].expires == datetime(2027, 2, 28, 23, tzinfo=UTC)
    assert (made.inventory[0].cpu, made.inventory[0].memory) == (512, 1024)
    assert (made.operational[0].rule, made.operational[1].live) == ("live-run", True)
    assert [(row.date, row.decision) for row in made.decisions] == [("2026-02-26", "a"), ("2026-02-27", "b")]
    assert made.facts["connections"]["total"] == 85
    assert (made.self_test.platform, made.self_test.judges) == (("run",), ("a/*",))
    assert made.ledger_url == "s3://bucket/{env}"


def test_the_digest_covers_the_meaning_and_not_the_layout() -> None:
    assert plan("# a comment\n\n").digest == plan().digest
    assert plan("[policy]\nstreak_length = 4").digest != plan().digest


def test_the_projects_own_plan_is_well_formed() -> None:
    path = Path(__file__).parents[2] / "readiness.toml"
    made = Plan.parse(path.read_text(encoding="utf-8"), path.name)
    assert len(made.goals) == 9
    assert [goal.id for goal in made.goals if goal.streak] == ["G-7"]
    assert made.decisions == ()
