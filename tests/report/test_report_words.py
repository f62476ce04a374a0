"""Times, durations and charts as people read them."""

import pytest
from pytest_readiness.report import html, markdown, terminal
from pytest_readiness.report.charts import pictures
from pytest_readiness.report.document import moment, took

from tests.report import sample


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2026-11-27T22:05:30.123Z", "2026-11-27 22:05 UTC"),
        ("2026-11-27T22:05:30+00:00", "2026-11-27 22:05 UTC"),
        ("2026-11-27T22:05:30+02:00", "2026-11-27T22:05:30+02:00"),
        (None, ""),
    ],
)
def test_a_time_names_its_zone(value: object, shown: str) -> None:
    assert moment(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0123, "12 ms"), (0.1, "0.1 s"), (61, "61.0 s"), (0, "0.0 s"), (None, "0.0 s"), ("long", "0.0 s")],
)
def test_a_short_duration_is_in_milliseconds(value: object, shown: str) -> None:
    assert took(value) == shown


def test_one_run_has_no_older_one() -> None:
    model = sample.ready()
    (first,) = pictures({"runs": model["runs"][-1:]})
    assert first.title == "Verdict and duration of the last run"
    assert [label.text for label in first.labels[1:]] == []


def test_a_goal_without_checks_has_no_bar() -> None:
    goals = [{"id": "G-1", "outcomes": {"passed": 2}}, {"id": "G-2", "outcomes": {}}]
    (found,) = pictures({"goals": goals})
    assert [row[0].text for row in found.table.rows] == ["G-1"]


def test_a_phone_leaves_out_what_is_empty() -> None:
    page = html.render({**sample.ready(), "waivers": [{"check": "a/b", "owner": "", "approver": None}]})
    assert '<td data-l="Owner" class="none">' in page
    assert '<td data-l="Approver" class="none">' in page


def test_a_streak_that_is_longer_than_needed() -> None:
    page = html.render({**sample.ready(), "streak": {"length": 4, "required": 3}})
    assert "Streak 4, needed: 3</h2>" in page
    assert "Streak 2 of 3</h2>" in html.render({**sample.ready(), "streak": {"length": 2, "required": 3}})


def test_the_variables_that_a_command_needs_are_named_and_never_their_values() -> None:
    model = {**sample.broken(), "reproduce_env": ["AWS_PROFILE", "SHOP_KEY"]}
    said = "Set in the environment for these commands, as for this run:"
    assert f"{said} `AWS_PROFILE`, `SHOP_KEY`." in markdown.render(model)
    assert f"{said} <code>AWS_PROFILE</code>, <code>SHOP_KEY</code>." in html.render(model)
    assert f"{said} AWS_PROFILE, SHOP_KEY." in " ".join(terminal.lines(model))
    assert said not in html.render(sample.broken())
