"""A report of the full suite with all its charts keeps its limits: bytes, nodes, paper, phone."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from pytest_readiness.report import html, markdown

from tests.report import browser as chrome
from tests.report import full

EXECUTABLE = chrome.executable()
needs_browser = pytest.mark.skipif(EXECUTABLE is None, reason=chrome.MISSING)
MODELS = [full.ready, full.broken]
PICTURES = [
    "Verdict and duration of the last 30 runs",
    "Invoke latency",
    "Total charges checked against the budget",
    "Time from an event to the changed score",
    "Revocation: last use of the old key, first use of the new one",
    "Checks of each goal by outcome",
    "Where the checks' time went, by phase",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chrome.chromium(str(EXECUTABLE)) as started:
        yield started


@pytest.fixture(scope="module", params=MODELS, ids=["ready", "broken"])
def page(
    request: pytest.FixtureRequest, browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("full") / "readiness.html"
    path.write_text(html.render(request.param()), encoding="utf-8")
    with chrome.visit(browser, path) as visited:
        yield visited.page
    assert visited.complaints == []


@pytest.mark.parametrize("make", MODELS)
def test_no_file_is_larger_than_its_reader_takes(make: Any) -> None:
    model = make()
    assert len(model["checks"]) > 400
    assert len(model["runs"]) == 30
    assert len(html.render(model).encode()) < 1_000_000
    assert len(markdown.render(model).encode()) <= 60_000
    assert len(markdown.job_summary(model).encode()) < 1024 * 1024


def test_a_job_summary_that_others_have_filled_stays_below_the_limit() -> None:
    for taken in (1024 * 1024 - 30_000, 1024 * 1024 - 15_000, 1024 * 1024 - 200):
        assert taken + len(markdown.job_summary(full.broken(), taken).encode()) < 1024 * 1024


@needs_browser
def test_the_page_is_short_until_a_section_is_opened(page: Any) -> None:
    assert page.locator("details[open]").count() == 0
    assert page.locator("*").count() < 8000


@needs_browser
def test_a_print_is_eight_pages_at_most(page: Any) -> None:
    pdf = page.pdf(format="A4")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 8


@needs_browser
def test_every_picture_has_its_words_and_its_numbers(page: Any) -> None:
    assert page.locator("figcaption").all_inner_texts() == PICTURES
    for figure in page.locator("figure").all():
        title = figure.locator("figcaption").inner_text()
        words = figure.locator("svg[role=img]").get_attribute("aria-label")
        assert re.match(re.escape(title) + r": .*\d", words)
        assert figure.locator("svg :is(rect, polyline)").count() > 0
        assert figure.locator("table tbody tr").count() > 1
    latency = page.locator("figure", has_text="Invoke latency").first
    assert "limit 10,000 ms" in latency.locator("svg").get_attribute("aria-label")
    assert latency.locator("svg line").count() == 1


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_its_screen_and_is_accessible(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
