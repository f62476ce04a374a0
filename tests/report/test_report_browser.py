"""The HTML report of a real run, in a real browser: what a reviewer sees, clicks and prints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.report import browser as chrome
from tests.report import project
from tests.report.test_report_markdown import SECTIONS

EXECUTABLE = chrome.executable()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason=chrome.MISSING)

CONTRAST = """selector => [...document.querySelectorAll(selector)].map(element => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number)
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
  let behind = element
  while (channels(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement
  const colours = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
  const pair = colours.map(channels).map(luminance)
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)
})"""


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


def top(page: Any, selector: str) -> float:
    return float(page.locator(selector).first.bounding_box()["y"])


def test_the_answer_is_the_first_thing_seen(visit: chrome.Visit) -> None:
    verdict = visit.page.locator("#readiness-verdict")
    assert verdict.is_visible()
    assert verdict.inner_text() == "BROKEN"
    assert top(visit.page, "#readiness-verdict") < 120
    assert "Declaration: NOT READY" in visit.page.locator(".rd-banner").inner_text()


def test_the_readiness_table_stands_above_the_results(visit: chrome.Visit) -> None:
    page = visit.page
    goals = page.locator("section[aria-label='Goal Assessment'] table")
    assert goals.is_visible()
    assert [cell.strip() for cell in goals.locator("tbody td:nth-child(2)").all_inner_texts()] == [
        "READY",
        "FAIL",
        "PENDING",
    ]
    assert page.locator("#readiness h2").all_inner_texts() == SECTIONS
    order = [top(page, selector) for selector in ("#readiness", "#results-table", "#environment")]
    assert order == sorted(order)


def test_nothing_in_the_report_becomes_markup(visit: chrome.Visit) -> None:
    page = visit.page
    page.locator("#show_all_details").click()
    names = page.locator("#results-table .col-testId").all_inner_texts()
    assert "smoke/health/test_health.py::test_named[<b>bold</b>]" in names
    assert any("<script>window.pwned = 1</script>" in name for name in names)
    assert page.locator("#results-table :is(.col-testId, .log) :is(b, script, img)").count() == 0
    assert page.locator(".rd :is(script, img, i)").count() == 0
    assert "Browser <b>launch</b>" in page.locator("#readiness h1").inner_text()
    assert page.evaluate("window.pwned") is None


def test_the_results_have_goal_severity_and_class(visit: chrome.Visit) -> None:
    page = visit.page
    assert [text.strip() for text in page.locator("#results-table th").all_inner_texts() if text.strip()] == [
        "Result",
        "Test",
        "Goal",
        "Severity",
        "Class",
        "Duration",
        "Links",
        *["Figure", "Observed", "Expected", "Limit"] * page.locator("#results-table .rd-table").count(),
    ]
    row = page.locator(
        "#results-table tr", has=page.get_by_text("test_expired_token_is_refused", exact=False)
    ).first
    cells = [row.locator(f".col-{name}").inner_text() for name in ("result", "goal", "severity", "class")]
    assert cells == ["Failed", "G-2", "P0", "PLATFORM_BUG"]


def test_the_results_sort_by_our_columns(visit: chrome.Visit) -> None:
    page = visit.page
    page.locator("th[data-column-type=severity]").click()
    column = page.locator("#results-table .col-severity").all_inner_texts()
    assert column in (sorted(column), sorted(column, reverse=True))
    assert set(column) == {"P0", "P1"}


def test_the_evidence_of_a_check_opens_with_its_row(visit: chrome.Visit) -> None:
    page = visit.page
    exchange = page.locator(".rd-evidence summary", has_text="http://127.0.0.1:9/v1/invoke").first
    assert exchange.inner_text() == "POST http://127.0.0.1:9/v1/invoke → 200 in 42 ms"
    body = exchange.locator("xpath=..").locator("pre").last
    assert not body.is_visible()
    exchange.click()
    assert body.is_visible()
    assert '"<script>window.pwned = 1</script>"' in body.inner_text()


def test_a_click_on_any_of_our_cells_folds_the_row(visit: chrome.Visit) -> None:
    page = visit.page
    shown = page.locator("#results-table .extras-row:not(.hidden)").count()
    for name in ("goal", "severity", "class"):
        page.locator(f"#results-table .failed .col-{name}").first.click()
        assert page.locator("#results-table .extras-row:not(.hidden)").count() == shown - 1
        page.locator(f"#results-table .failed .col-{name}").first.click()
        assert page.locator("#results-table .extras-row:not(.hidden)").count() == shown


def test_each_attempt_at_a_flaky_check_is_labelled(visit: chrome.Visit) -> None:
    visit.page.locator("#show_all_details").click()
    row = visit.page.locator("#results-table tbody.rerun", has_text="test_shaky")
    shown = row.locator(".rd-evidence").all_inner_texts()
    assert [" ".join(text.split()) for text in shown] == [
        "ATTEMPT 1 Figure Observed Expected Limit I-1 compared 1×",
        "ATTEMPT 2 Figure Observed Expected Limit I-1 compared 2×",
    ]


@pytest.mark.parametrize("width", [1280, 900])
def test_long_content_does_not_widen_the_page(visit: chrome.Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.page.locator("#show_all_details").click()
    for summary in visit.page.locator("details > summary").all():
        summary.click()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(browser: Any, report: Path, scheme: Literal["light", "dark"]) -> None:
    with chrome.visit(browser, report, scheme) as visited:
        visited.page.locator("#show_all_details").click()
        for summary in visited.page.locator("#readiness details > summary").all():
            summary.click()
        background = visited.page.evaluate("getComputedStyle(document.body).backgroundColor")
        ratios = visited.page.evaluate(
            CONTRAST, ".rd *:not(style), #results-table :is(td, th), .log span, .run-count"
        )
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        assert len(ratios) > 100
        assert min(ratios) >= 4.5


def test_a_print_shows_all_details_on_white(browser: Any, report: Path) -> None:
    with chrome.visit(browser, report, "dark") as visited:
        assert not visited.page.locator("#readiness details table").first.is_visible()
        visited.page.emulate_media(media="print", color_scheme="dark")
        assert (
            visited.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert not visited.page.locator(".controls").is_visible()
        assert visited.page.locator("#readiness details table").first.is_visible()
        assert visited.page.pdf(format="A4").startswith(b"%PDF")
