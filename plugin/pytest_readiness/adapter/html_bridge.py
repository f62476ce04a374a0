"""pytest-html: the readiness summary on top of its report, and columns for goal, severity and class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ..core.redaction import Redactor
from ..report import html


class HtmlBridge:
    """Registered only when pytest-html is loaded. ``model`` judges the run when it is first called."""

    def __init__(self, model: Callable[[], Mapping[str, Any]], redactor: Redactor) -> None:
        self._model = model
        self._redactor = redactor

    @pytest.hookimpl
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the report after what it is."""
        report.title = "Launch readiness"

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Show what each attempt recorded; pytest-html lists the extras of all attempts in every row."""
        attempt = getattr(report, "rerun", 0)
        title = f"Attempt {attempt + 1}" if attempt or report.outcome == "rerun" else ""
        facts = getattr(report, "readiness", None) or {}
        extras = html.extras(facts.get("evidence") or (), title)
        report.extras = [*getattr(report, "extras", ()), *extras]

    @pytest.hookimpl
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Add our columns before those of duration and links."""
        cells[2:2] = html.header_cells()

    @pytest.hookimpl
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        """Add the same number of cells to each row, also for reruns, crashes and tests that are no checks."""
        suffix = "" if report.when == "call" else f"::{report.when}"
        cells[1] = html.name_cell(self._redactor.shown(f"{report.nodeid}{suffix}"))
        cells[2:2] = html.row_cells(getattr(report, "readiness", {}))

    @pytest.hookimpl
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        """Put the verdict, its reasons and the readiness tables on top."""
        prefix.append(html.summary(self._model()))
