"""The HTML report: complete, escaped in every place, loading nothing; and cells that fit pytest-html."""

import base64
import hashlib
import re
import sys
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from jinja2 import FileSystemBytecodeCache
from pytest_readiness.report import html

from tests.report import sample
from tests.report.hostile import HOSTILE, hostile
from tests.report.test_report_markdown import SECTIONS

VOID = {"br", "hr", "img", "input", "link", "meta", "rect", "line", "polyline"}
INJECTED = """</pre></style></script><script>alert(1)</script><img src=x onerror="x"> ' onload=x "><b>"""


class Page(HTMLParser):
    """Counts elements and holds the parser's view of text; unbalanced markup fails."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [str(value) for name, value in attrs if name == "href"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.texts.append(data)


def test_the_sections_come_in_their_order() -> None:
    page = html.render(sample.broken())
    found = re.findall(r"<h2[^>]*>(.+?)</h2>", page)
    assert found[0] == SECTIONS[0]
    assert [title for title in found if title in SECTIONS] == SECTIONS
    assert found[-2:] == ["Charts", "Checks"]


def test_sections_that_a_plan_does_not_use_are_absent() -> None:
    unused = ("deferred", "waivers", "inventory", "operational", "rollback", "decisions")
    page = html.render({**sample.ready(), **{key: [] for key in unused}})
    assert "Environment Inventory" not in page
    assert "Rollback" not in page


def test_the_verdict_comes_first() -> None:
    texts = [text for text in Page(html.render(sample.broken())).texts if text.strip()]
    assert texts[1:5] == ["Freeside staging launch", "BROKEN", "Declaration: ", "NOT READY"]


def test_the_headline_marks_a_partial_run() -> None:
    assert "PARTIAL" in Page(html.render({**sample.ready(), "scope": "partial"})).texts
    assert "PARTIAL" not in Page(html.render(sample.ready())).texts


def test_a_cause_is_one_line_with_its_owner_and_the_next_step() -> None:
    texts = " ".join("".join(Page(html.render(sample.broken())).texts).split())
    assert "auth/refused[freeside-expired] P0 PLATFORM_BUG an expired token was accepted" in texts
    assert "Next (the platform): fix what serves POST" in texts
    assert "P1 3 checks not run: dixie is down" in texts
    assert sample.REPRODUCE in texts


def test_nothing_is_loaded_and_nothing_but_our_script_runs() -> None:
    source = html.render(sample.broken())
    page = Page(source)
    assert not {"link", "img", "iframe", "object"} & set(page.elements)
    assert page.elements.count("script") == page.elements.count("style") == 1
    assert not {"src", "style"} & page.attributes
    assert not [name for name in page.attributes if name.startswith("on")]
    assert {link.partition("#")[0] for link in page.links} == {"", "results.html", "readiness.json"}
    assert "url(" not in source
    assert "@import" not in source


def test_the_policy_allows_what_is_in_the_page_by_its_hash() -> None:
    source = html.render(sample.ready())
    for name in ("style", "script"):
        content = re.search(rf"<{name}>(.*?)</{name}>", source, re.S)[1]  # type: ignore[index]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in source
    assert "default-src 'none'" in source


@settings(max_examples=40)
@given(HOSTILE)
def test_no_content_becomes_markup(text: str) -> None:
    allowed = set(Page(html.render(sample.broken())).elements)
    source = html.render(hostile(sample.broken(), text))
    assert set(Page(source).elements) <= allowed
    assert source.encode("utf-8")


def test_injected_markup_is_shown_as_text_wherever_it_comes_from() -> None:
    model = sample.broken()
    model["charts"] = [
        {"title": "t", "kind": kind, "unit": "ms", "points": [{"label": "l", "value": 1, "limit": 2}]}
        for kind in ("bars", "total")
    ]
    honest = Page(html.render(model))
    page = Page(html.render(hostile(model, INJECTED)))
    assert "".join(page.texts).count("alert(1)") > 50
    assert set(page.elements) <= set(honest.elements)
    assert page.attributes <= honest.attributes
    assert page.elements.count("script") == 1


def test_a_runbook_is_a_link_and_an_owner_is_named() -> None:
    model = sample.broken()
    model["blockers"][0]["whose"] = {"team": "Keys", "contact": "#keys", "runbook": "https://wiki/keys"}
    page = Page(html.render(model))
    assert "https://wiki/keys" in page.links
    assert "Next (Keys, #keys): " in " ".join("".join(page.texts).split())


def test_every_check_has_a_section_that_a_link_reaches() -> None:
    source = html.render(sample.broken())
    for check in sample.broken()["checks"]:
        assert f'id="{html.anchor(check["id"])}"' in source
        assert html.command(check, sample.broken()) in "".join(Page(source).texts)
    assert re.fullmatch(r"c-[0-9a-f]{8}", html.anchor("auth/x"))


def test_what_a_check_recorded_is_in_its_section_in_its_order() -> None:
    model = sample.broken()
    odd = {"kind": "odd", "detail": INJECTED}
    entries = [
        sample.NOTE,
        sample.EXCHANGE,
        sample.FIGURE,
        odd,
        sample.EVALUATED,
        {**sample.NOTE, "attempt": 2},
    ]
    model["checks"][0].update(evidence=entries, outcome="failed")
    text = "".join(Page(html.render(model)).texts)
    expected = (
        *("seeded tenant", "POST http://127.0.0.1:41233/api/agents/invoke → 200 in 41.7 ms"),
        *("> authorization: Bearer [redacted]", '> {"prompt": "echo n-7f3a"}', "< x-trace-id: tr_01"),
        *("Σ charges = 22100 µUSD (expected 22100 µUSD)", "onerror", "compared 10×", "Attempt 2"),
    )
    places = [text.index(part) for part in expected]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "exchange"},
        {"kind": "exchange", "method": "GET", "url": "/", "status": None, "request": None, "response": "cut"},
        {"kind": "exchange", "status": 200, "request": {"headers": {}, "body": {"a": [1]}}, "response": {}},
        {"kind": "figure"},
        {"kind": "evaluated"},
        {"kind": "note"},
        {},
    ],
)
def test_incomplete_evidence_is_not_an_error(entry: dict[str, object]) -> None:
    model = sample.broken()
    model["checks"][0]["evidence"] = [entry]
    Page(html.render(model))


@pytest.mark.parametrize("model", [{}, sample.unfinished()])
def test_a_run_without_a_verdict_has_a_page(model: dict[str, object]) -> None:
    assert "NO_VERDICT" in Page(html.render(model)).texts


def cells_of(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row; their end tags are optional."""
    return re.findall(r"<td(?:(?!<td).)*", "".join(row["resultsTableRow"]))


def test_row_cells_match_the_header() -> None:
    check = {**sample.broken()["checks"][0], "goal": INJECTED, "id": INJECTED, "nodeid": INJECTED}
    made = html.row(check, "readiness.html", "")
    header, blank, row = html.header_cells(), html.blank_cells(), cells_of(made)
    assert [re.findall(r'data-column-type="(\w+)"', cell) for cell in header] == [
        ["goal"],
        ["severity"],
        ["class"],
    ]
    # pytest-html reads a sortable cell with these two expressions.
    names = ["result", "testId", "goal", "severity", "class", "duration", "links"]
    assert [re.findall(r"col-(\w+)", cell)[0] for cell in row] == names
    assert [re.findall(r"col-(\w+)", cell)[0] for cell in blank] == names[2:5]
    assert all(re.fullmatch(r"<td[^>]*>[^<]*(</td>)?", cell) for cell in (*row[:-1], *blank))
    assert [made[name] for name in names[:-1]] == [cell.partition(">")[2] for cell in row[:-1]]


def test_a_class_is_coloured_by_what_it_means() -> None:
    check = sample.ready()["checks"][0]
    bad, careful = (
        cells_of(html.row({**check, "class": name}, "", ""))[4]
        for name in ("PLATFORM_BUG", "EXTERNAL_OUTAGE")
    )
    assert 'class="col-class rd-bad"' in bad
    assert 'class="col-class rd-careful"' in careful


def test_a_test_is_named_escaped() -> None:
    cell = html.name_cell("smoke/test_x.py::test_x[<b>]")
    assert cell == '<td class="col-testId">smoke/test_x.py::test_x[&lt;b&gt;]</td>'


def test_a_page_needs_no_place_for_compiled_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(FileSystemBytecodeCache, "load_bytecode", lambda *_: None)
    monkeypatch.setattr(FileSystemBytecodeCache, "dump_bytecode", full)
    html._templates.cache_clear()
    try:
        assert "READY" in html.banner({"verdict": "READY"}, "readiness.html")
    finally:
        html._templates.cache_clear()
