"""Both pages of a real run, in a real browser: what a reviewer sees, clicks and prints."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from pytest_readiness.report import html

from tests.report import browser as chrome
from tests.report import project, sample
from tests.report.test_report_markdown import SECTIONS

EXECUTABLE = chrome.executable()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason=chrome.MISSING)
MODELS = {
    "READY": sample.ready(),
    "BROKEN": sample.broken(),
    "DEGRADED": {**sample.broken(), "verdict": "DEGRADED"},
    "NO_VERDICT": sample.unfinished(),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.run(tmp_path_factory.mktemp("launch"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chrome.chromium(str(EXECUTABLE)) as started:
        yield started


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[chrome.Visit]:
    with chrome.visit(browser, report) as visited:
        yield visited
    assert visited.complaints == []
    assert visited.requests == [report.as_uri()]


@pytest.fixture
def results(browser: Any, report: Path) -> Iterator[Any]:
    with chrome.visit(browser, report.with_name("results.html")) as visited:
        yield visited.page
    assert visited.complaints == []


def test_the_verdict_is_the_first_thing_seen(visit: chrome.Visit) -> None:
    verdict = visit.page.locator("#readiness-verdict")
    assert verdict.inner_text() == "BROKEN"
    assert verdict.bounding_box()["y"] < 120
    assert "Declaration: NOT READY" in visit.page.locator("header").inner_text()
    cause = visit.page.locator(".causes > li").first
    assert cause.bounding_box()["y"] < 500
    assert "Next (the platform): fix what serves POST" in cause.inner_text()


def test_the_goals_have_their_status(visit: chrome.Visit) -> None:
    goals = visit.page.locator("section[aria-label='Goal Assessment'] tbody td:nth-child(2)")
    assert goals.all_inner_texts() == ["READY", "FAIL", "PENDING"]
    titles = visit.page.locator("h2").all_inner_texts()
    assert [title for title in titles if title in SECTIONS] == [
        title for title in SECTIONS if title not in ("Decisions", "Staging Declaration")
    ]


def test_nothing_in_the_report_becomes_markup(visit: chrome.Visit) -> None:
    page = visit.page
    text = page.locator("main").text_content()
    assert "<script>window.pwned = 1</script>" in text
    assert "<img src=x onerror=" in text
    assert page.locator(":is(img, i)").count() == 0
    assert page.locator("h1").inner_text() == "Browser <b>launch</b>"
    assert page.evaluate("window.pwned") is None


def test_a_link_opens_the_section_of_its_check(visit: chrome.Visit) -> None:
    page = visit.page
    section = page.locator(".check", has_text="expired-token-is-refused")
    assert not section.locator("pre").first.is_visible()
    page.locator(".causes a").first.click()
    assert section.locator("pre").first.is_visible()
    assert "POST http://127.0.0.1:9/v1/invoke → 200 in 42 ms" in section.inner_text()
    assert '"<script>window.pwned = 1</script>"' in section.inner_text()
    assert "--env local" in section.locator(".command").inner_text()


def test_the_filter_leaves_what_was_requested(visit: chrome.Visit) -> None:
    page = visit.page
    page.locator("select[name=goal]").select_option("G-2")
    assert page.locator(".check:visible").count() == 1
    assert page.locator("output").inner_text() == "1 of 6 checks"
    page.locator("select[name=goal]").select_option("")
    page.locator("input[name=q]").fill("I-1: compared")
    assert page.locator(".check:visible code").first.inner_text() == "health/shaky"
    page.locator("input[name=q]").fill("")
    assert page.locator(".check:visible").count() == 0


def test_a_command_has_a_button_that_copies_it(visit: chrome.Visit) -> None:
    page = visit.page
    assert page.locator(".causes button").count() == page.locator(".causes .command:visible").count() > 0
    assert page.locator(".causes button").first.inner_text() == "Copy"
    before = page.locator("button").count()
    page.locator(".phase summary").first.click()
    page.locator(".check summary").first.click()
    page.locator(".check button").wait_for()
    assert page.locator("button").count() == before + 1


def test_each_attempt_at_a_flaky_check_is_labelled(visit: chrome.Visit) -> None:
    shown = visit.page.locator(".check", has_text="health/shaky").locator("pre").first.text_content()
    assert shown == "Attempt 1\nI-1: compared 1×\nAttempt 2\nI-1: compared 2×"


def test_without_javascript_everything_is_visible(browser: Any, report: Path) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(report.as_uri())
    assert not page.locator("#filter").is_visible()
    page.locator(".phase summary").first.click()
    page.locator(".check summary").first.click()
    assert page.locator(".check pre").first.is_visible()
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("verdict", MODELS)
def test_the_page_is_accessible_in_every_scheme_and_width(
    browser: Any, tmp_path: Path, verdict: str, scheme: Literal["light", "dark"], width: int
) -> None:
    path = tmp_path / "readiness.html"
    path.write_text(html.render(MODELS[verdict]), encoding="utf-8")
    with chrome.visit(browser, path, scheme) as visited:
        page = visited.page
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page)
        assert found.response["violations"] == [], found.generate_report()
        assert len(found.response["passes"]) > 10


def test_a_print_leaves_details_closed_on_white(browser: Any, report: Path) -> None:
    with chrome.visit(browser, report, "dark") as visited:
        visited.page.emulate_media(media="print", color_scheme="dark")
        assert (
            visited.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert not visited.page.locator("#filter").is_visible()
        assert not visited.page.locator(".check").first.is_visible()
        pdf = visited.page.pdf(format="A4")
        assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 4


def test_the_raw_results_have_one_row_for_each_check_that_agrees(results: Any) -> None:
    header = [text.strip() for text in results.locator("#results-table th").all_inner_texts()]
    assert header == ["Result", "Test", "Goal", "Severity", "Class", "Duration", "Links"]
    names = results.locator("#results-table .col-testId").all_inner_texts()
    assert len(names) == len(set(names)) == 6
    assert "smoke/health/test_health.py::test_named[<b>bold</b>]" in names
    row = results.locator("#results-table tr", has_text="test_expired_token_is_refused").first
    cells = [row.locator(f".col-{name}").inner_text() for name in ("result", "goal", "severity", "class")]
    assert cells == ["Failed", "G-2", "P0", "PLATFORM_BUG"]
    flaky = results.locator("#results-table tr", has_text="test_shaky").first
    assert flaky.locator(".col-result").inner_text() == "Rerun"
    assert "1 Failed" in results.locator(".summary").first.inner_text()


def test_nothing_in_the_raw_results_becomes_markup(results: Any) -> None:
    results.locator("#show_all_details").click()
    assert results.locator("#results-table :is(.col-testId, .log) :is(b, script, img)").count() == 0
    assert "Browser <b>launch</b>" in results.locator("#readiness").inner_text()
    assert results.evaluate("window.pwned") is None


def test_the_raw_results_sort_by_our_columns_and_lead_to_the_report(results: Any) -> None:
    results.locator("th[data-column-type=severity]").click()
    column = results.locator("#results-table .col-severity").all_inner_texts()
    assert column in (sorted(column), sorted(column, reverse=True))
    link = results.locator("#readiness a").get_attribute("href")
    assert link == "readiness.html"
    assert results.locator("#results-table a").first.get_attribute("href").startswith("readiness.html#c-")
