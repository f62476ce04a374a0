"""The HTML fragment: complete, escaped, loading nothing; cells that fit pytest-html; no evidence lost."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from pytest_readiness.report import html
from pytest_readiness.report.html import evidence

from tests.report import sample
from tests.report.hostile import HOSTILE, hostile
from tests.report.test_report_markdown import SECTIONS

VOID = {"br", "hr", "img", "input", "link", "meta"}
INJECTED = '<script>alert(1)</script><img src=x onerror="x"><b>'


class Page(HTMLParser):
    """Counts elements and holds the parser's view of text; unbalanced markup fails."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


def test_the_sections_come_in_their_order() -> None:
    for model in (sample.ready(), sample.broken(), sample.unfinished(), {}):
        assert re.findall(r"<h2>(.+?)</h2>", html.summary(model)) == SECTIONS


def test_a_reader_meets_the_answer_first() -> None:
    texts = Page(html.summary(sample.broken())).texts
    assert texts[:5] == ["Freeside staging launch", "This run:", "BROKEN", "Declaration: ", "NOT READY"]


def test_the_headline_marks_a_partial_run() -> None:
    assert '<span class="rd-scope">PARTIAL</span>' in html.summary({**sample.ready(), "scope": "partial"})
    assert "PARTIAL" not in Page(html.summary(sample.ready())).texts


def test_a_blocker_has_its_next_action_and_its_command() -> None:
    texts = Page(html.summary(sample.broken())).texts
    place = texts.index("auth/refused[freeside-expired]")
    assert texts[place + 1 : place + 4] == ["P0", "G-2", "PLATFORM_BUG"]
    assert sample.REPRODUCE in texts


def test_nothing_is_loaded_and_nothing_runs() -> None:
    source = html.summary(sample.broken())
    page = Page(source)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.elements)
    assert not {"src", "href", "style"} & page.attributes
    assert not [name for name in page.attributes if name.startswith("on")]
    assert "url(" not in source
    assert "@import" not in source


@given(HOSTILE)
def test_no_content_becomes_markup(text: str) -> None:
    allowed = set(Page(html.summary(sample.broken())).elements)
    source = html.summary(hostile(sample.broken(), text))
    page = Page(source)
    assert set(page.elements) <= allowed
    assert source.encode("utf-8")


def test_injected_markup_is_shown_as_text() -> None:
    page = Page(html.summary(hostile(sample.broken(), INJECTED)))
    assert INJECTED in "".join(page.texts)
    assert not {"script", "img"} & set(page.elements)


@pytest.mark.parametrize(
    "check", [None, {}, {"goal": INJECTED, "severity": "P0", "class": None}, sample.ready()["checks"][0]]
)
def test_row_cells_match_the_header(check: dict[str, object] | None) -> None:
    header, row = html.header_cells(), html.row_cells(check)
    assert [re.findall(r'data-column-type="(\w+)"', cell) for cell in header] == [
        ["goal"],
        ["severity"],
        ["class"],
    ]
    # pytest-html reads a sortable cell with these two expressions.
    assert [re.findall(r"col-(\w+)", cell)[0] for cell in row] == ["goal", "severity", "class"]
    assert all(re.fullmatch(r"<td[^>]*>[^<]*</td>", cell) for cell in row)


def test_a_class_is_coloured_by_what_it_means() -> None:
    assert 'class="col-class rd-bad"' in html.row_cells({"class": "PLATFORM_BUG"})[2]
    assert 'class="col-class rd-careful"' in html.row_cells({"class": "EXTERNAL_OUTAGE"})[2]


def test_a_test_is_named_escaped() -> None:
    cell = html.name_cell("smoke/test_x.py::test_x[<b>]")
    assert cell == '<td class="col-testId">smoke/test_x.py::test_x[&lt;b&gt;]</td>'


def test_what_was_measured_comes_first_and_the_rest_in_its_order() -> None:
    odd = {"kind": "odd", "detail": INJECTED}
    entries = [sample.NOTE, sample.EXCHANGE, sample.FIGURE, odd, sample.EVALUATED, sample.NOTE]
    page = Page(evidence(entries))
    text = "\n".join(page.texts)
    measured = ["Σ charges", "22100 µUSD", "compared 10×"]
    exchanged = ["POST http://127.0.0.1:41233", "200", "41.7 ms", "echo n-7f3a", "costMicro"]
    places = [text.index(part) for part in (*measured, "seeded tenant", *exchanged, "onerror")]
    assert places == sorted(places)
    assert text.count("seeded tenant") == 2
    assert page.elements.count("table") == 1
    assert "script" not in page.elements


def test_no_evidence_is_no_markup() -> None:
    assert evidence([]) == ""


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "exchange"},
        {
            "kind": "exchange",
            "method": "GET",
            "url": "/",
            "status": None,
            "ms": None,
            "request": None,
            "response": "cut",
        },
        {
            "kind": "exchange",
            "status": 200,
            "request": {"headers": {}, "body": {"typed": [1]}},
            "response": {},
        },
        {"kind": "figure"},
        {"kind": "evaluated"},
        {"kind": "note"},
        {},
    ],
)
def test_incomplete_evidence_is_still_shown(entry: dict[str, object]) -> None:
    assert Page(evidence([entry])).elements[0] == "div"


@given(HOSTILE)
def test_no_evidence_becomes_markup(text: str) -> None:
    entries = [sample.NOTE, sample.EXCHANGE, sample.FIGURE, sample.EVALUATED, {"kind": "odd", "detail": text}]
    allowed = set(Page(evidence(entries)).elements)
    assert set(Page(evidence(hostile(entries, text))).elements) <= allowed
