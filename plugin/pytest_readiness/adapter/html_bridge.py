"""pytest-html: its page holds the raw results, one row for each check, ended as the verdict has it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ..core.redaction import Redactor
from ..report import HTML_NAME, html
from .reports import Reports

_COLUMNS = ("result", "testId", "goal", "severity", "class", "duration")


class HtmlBridge:
    """Registered only when pytest-html is loaded. ``model`` judges the run when it is first called."""

    def __init__(
        self,
        config: pytest.Config,
        model: Callable[[], Mapping[str, Any]],
        reports: Reports,
        redactor: Redactor,
    ) -> None:
        self._config = config
        self._model = model
        self._reports = reports
        self._redactor = redactor
        self._page: Any = None

    @pytest.hookimpl
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the page after what it is, and keep what pytest-html collects."""
        report.title = "Launch readiness: raw results"
        self._page = report

    @pytest.hookimpl
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Add our columns before those of duration and links."""
        cells[2:2] = html.header_cells()

    @pytest.hookimpl
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        """Add the same number of cells to each row; those of checks are written at the end."""
        suffix = "" if report.when == "call" else f"::{report.when}"
        cells[1] = html.name_cell(self._redactor.shown(f"{report.nodeid}{suffix}"))
        cells[2:2] = html.blank_cells()

    @pytest.hookimpl
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        """Put the verdict on top and the checks' outcomes into the rows, now that both are known."""
        model = self._model()
        page = self._config.invocation_params.dir / str(self._config.getoption("htmlpath"))
        link = os.path.relpath(self._reports.directory / HTML_NAME, page.parent)
        prefix.append(html.banner(model, link))
        if self._page is not None:
            self._settle(model, link)

    def _settle(self, model: Mapping[str, Any], link: str) -> None:
        """Leave one row for each check: phases, parts and attempts are in its log, a crash has a row, too."""
        tests = self._page.data["tests"]
        for check in model["checks"]:
            earlier = tests.get(check["nodeid"], [])
            cells = html.row_cells(check, link)
            log = "\n".join(dict.fromkeys(row["log"] for row in earlier)) or html.escaped(check["summary"])
            row = {"extras": [], "log": log, "resultsTableRow": cells}
            values = (cell.partition(">")[2].rpartition("<")[0] for cell in cells)
            tests[check["nodeid"]] = [row | dict(zip(_COLUMNS, values, strict=False))]
        ended = [row["result"].lower() for found in tests.values() for row in found]
        for name, count in self._page.outcomes.items():
            count["value"] = ended.count(name)
