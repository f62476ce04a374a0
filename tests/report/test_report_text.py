"""Text, times, durations and charts as people read them: text is one printable line that fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.formats import ELLIPSIS, number, one_line, printable
from pytest_readiness.report import html, markdown, terminal
from pytest_readiness.report.charts import pictures
from pytest_readiness.report.document import moment, segments, took
from pytest_readiness.report.terminal import clip, pad, width

from tests.report import sample

ANY = st.text(st.characters(codec=None))


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (None, ""),
        (0, "0"),
        ("  two\r\n\tlines  ", "two lines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\u2028b\x85c", "a b c"),
        ("nul\x00 and \ud800", "nul\ufffd and \ufffd"),
        ("user\u202egnp.exe", "user\ufffdgnp.exe"),
        ("ключ 鍵", "ключ 鍵"),
    ],
)
def test_a_value_becomes_one_line(value: object, line: str) -> None:
    assert one_line(value) == line


def test_a_cut_is_marked() -> None:
    assert one_line("x" * 30, 10) == "x" * 9 + ELLIPSIS
    assert one_line("x" * 10, 10) == "x" * 10


@given(ANY, st.integers(1, 50))
def test_a_line_is_printable_and_within_its_limit(value: str, limit: int) -> None:
    line = one_line(value, limit)
    assert len(line) <= limit
    assert line.splitlines() in ([], [line])
    assert line.encode("utf-8").decode("utf-8") == line


def test_line_breaks_of_a_block_stay() -> None:
    assert printable("a\r\n\tb\x07") == "a\n\tb\ufffd"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("plain", [(False, "plain")]),
        ("run `git revert` now", [(False, "run "), (True, "git revert"), (False, " now")]),
        ("a lone ` stays", [(False, "a lone ` stays")]),
        ("`all`", [(True, "all")]),
    ],
)
def test_code_spans_are_found(text: str, parts: list[tuple[bool, str]]) -> None:
    assert list(segments(text)) == parts


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (22100, "22100"),
        (123456789012, "123456789012"),
        (0.0417342, "0.0417342"),
        (1 / 3, "0.333333"),
        (10.0, "10"),
        (1e300, "1e+300"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (True, "True"),
        ("ok", "ok"),
        ({"api": "COMPLETED", "pools": [1, 2.50]}, "api: COMPLETED, pools: 1, 2.5"),
        ((), ""),
    ],
)
def test_figures_are_exact_where_they_can_be(value: object, shown: str) -> None:
    assert number(value) == shown


def test_width_counts_columns_and_not_characters() -> None:
    assert (width("abc"), width("鍵"), width("e\u0301"), width("\u200d")) == (3, 2, 1, 0)


@given(ANY, st.integers(2, 60))
def test_a_clipped_text_fits_its_columns(text: str, columns: int) -> None:
    assert width(clip(text, columns)) <= columns
    assert width(pad(clip(text, columns), columns)) == columns


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
