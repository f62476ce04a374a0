"""No content of a model breaks a row of the Markdown report, or becomes HTML in it."""

import re

from hypothesis import given
from pytest_readiness.report import markdown

from tests.report import sample
from tests.report.hostile import HOSTILE, cells_by_lookbehind, cells_by_parity, hostile, outside_code, tables
from tests.report.test_report_markdown import SECTIONS


@given(HOSTILE)
def test_no_content_breaks_a_row(text: str) -> None:
    page = markdown.render(hostile(sample.broken(), text))
    assert page.encode("utf-8")
    assert re.findall(r"^## (.+)$", page, re.M)[: len(SECTIONS) - 1] == SECTIONS[:-1]
    for rows in tables(page):
        assert {len(cells_by_parity(row)) for row in rows} == {len(cells_by_lookbehind(row)) for row in rows}
        assert {len(cells_by_parity(row)) for row in rows} == {len(cells_by_parity(rows[0]))}


@given(HOSTILE)
def test_no_content_becomes_html(text: str) -> None:
    page = re.sub(r"^ +(`{3,})sh\n.*\n +\1$", "", markdown.render(hostile(sample.broken(), text)), flags=re.M)
    tags = [line for line in page.splitlines() if "<" in outside_code(line)]
    titles = ["Run record", "Exchanges of checks that did not pass", "All checks", "Figures"]
    assert tags == [tag for t in titles for tag in ("<details>", f"<summary>{t}</summary>", "</details>")]
