"""Text from anywhere becomes one printable line that fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.formats import ELLIPSIS, number, one_line, printable
from pytest_readiness.report.document import segments
from pytest_readiness.report.terminal import clip, pad, width

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
