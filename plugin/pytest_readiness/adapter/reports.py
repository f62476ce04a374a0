"""The directory of a run's reports: a partial or refused run must not replace a full run's reports.

The first act of a run writes reports that say NO_VERDICT, so that a killed run leaves no older verdict
behind.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ..core.assess import UNFINISHED, UNJUDGED, unfinished_model
from ..core.errors import ReadinessError
from ..core.formats import text_of
from ..core.model import SHARDS, Verdict
from ..core.redaction import Redactor
from ..core.verdict import exit_code
from ..report import (
    ATTESTATION_NAME,
    HTML_NAME,
    NAMES,
    PARTIAL_NAME,
    RESULTS_NAME,
    discard,
    html,
    keep,
    move,
    put_back,
    write_all,
)
from .channels import guard
from .checks import is_narrowed
from .context import hand_over, own_run_id
from .options import Settings, suite_name

USAGE_ERROR = 4
#: Exit codes that the verdict replaces: pytest's 0, 1, 2 and 5, and pytest-rerunfailures' 7. pytest's 3 and
#: 4 stay, and so does a status set with pytest.exit.
REPLACED = frozenset({0, 1, 2, 5, 7})


def unfinished(
    settings: Settings, run_id: str, reason: str, verdict: Verdict = Verdict.NO_VERDICT
) -> Mapping[str, Any]:
    """Return the model of this run without a verdict."""
    return unfinished_model(
        settings.environment, run_id, reason, verdict, degraded_exit_code=settings.degraded_exit_code
    )


def write_unfinished(
    settings: Settings,
    run_id: str,
    directory: Path,
    reason: str = UNFINISHED,
    page: Path | None = None,
    code: int | None = None,
) -> None:
    """Write the reports of a run without a verdict, and remove HTML pages of an earlier run and of this one.

    ``code`` is the exit status of the process if it differs from the verdict's.
    """
    discard(directory, *([page] if page is not None else []))
    made = unfinished(settings, run_id, reason)
    described = made if code is None else {**made, "exit_code": code}
    write_all(described, directory, Redactor(), settings.formats, brief=True)


class Reports:
    """The directory of a run's reports: the one for full runs, or ``partial/`` below it.

    The options decide first, the collection finally. If a run that seemed to be full turns out to be partial,
    or ends in bad input, the reports that it replaced are restored.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.run_id, self._handover = own_run_id()
        hand_over(self._handover, settings)
        self._earlier: Mapping[str, bytes] = {}
        self._is_open = False
        #: The exit status in the reports; None without reports, or before they have a verdict.
        self.code: int | None = None
        #: What ended a run before it could be judged.
        self.ended_by = ""
        self._aim(config, settings)
        config.add_cleanup(self._close)

    def _aim(self, config: pytest.Config, settings: Settings) -> None:
        self._config, self._settings = config, settings
        self._full, self._partial = settings.reports, settings.reports / PARTIAL_NAME
        suite = (settings.root / suite_name(settings.plan_path)).resolve()
        self.seems_full = not is_narrowed(config, suite)
        self.directory = self._full if self.seems_full else self._partial

    def begin(self) -> None:
        """Write NO_VERDICT, so that a killed run leaves no older verdict; ReadinessError if that fails."""
        if not self._is_open:
            self._earlier = keep(self.directory)
            try:
                if shard := self._settings.shard:
                    discard(self.directory, self._full / SHARDS / shard.file_name)
                write_unfinished(self._settings, self.run_id, self.directory, page=self._page())
            except ReadinessError:
                self._leave_nothing()
                raise
            self._is_open = True

    def confirm(self, config: pytest.Config, settings: Settings) -> None:
        """Decide again, now that all options are known, and undo the beginning if they say otherwise."""
        before = self.directory
        self._aim(config, settings)
        if self.directory != before:
            self.undo(before)

    def undo(self, directory: Path | None = None) -> None:
        """Restore the earlier reports: this run writes none, or not in this directory."""
        if self._is_open:
            put_back(directory or self.directory, self._earlier)
        self._is_open = False

    def settle(self, *, full: bool) -> None:
        """Move to the right directory, now that the scope of the run is known."""
        self._is_open = False
        target = self._full if full else self._partial
        if target != self.directory:
            move(self.directory, target, self._earlier)
            if self._page() == self.directory / RESULTS_NAME:
                self._config.option.htmlpath = str(target / RESULTS_NAME)
            self.directory = target

    def _close(self) -> None:
        """Report that bad input ended the run, if it did; in any other case it stays without a verdict.

        pytest calls this at every kind of end, while the error is still being raised.
        """
        problem = sys.exception()
        if (
            not self._is_open
            or not isinstance(problem, Exception)
            or isinstance(problem, pytest.exit.Exception)
        ):
            return
        first = guard(self._config).text(text_of(problem)).partition("\n")[0]
        with contextlib.suppress(ReadinessError):  # the usage error may be that reports cannot be written
            self.settle(full=False)
            write_unfinished(
                self._settings, self.run_id, self.directory, f"usage error: {first}", code=USAGE_ERROR
            )

    def answer(self, status: int) -> int:
        """Return the exit status of a run that pytest ends with ``status``: the one in its reports."""
        if self._is_open:
            code = exit_code(Verdict.NO_VERDICT) if status in REPLACED else status
            self.withdraw(self.ended_by or UNJUDGED, code)
        return status if self.code is None else self.code

    def withdraw(self, why: str, code: int = exit_code(Verdict.NO_VERDICT)) -> None:
        """Remove a verdict that may already be written; if nothing can be written, leave no reports."""
        self._is_open, self.code = False, code
        try:
            write_unfinished(self._settings, self.run_id, self.directory, why, page=self._page(), code=code)
        except Exception:
            self._leave_nothing()
            with contextlib.suppress(OSError):
                hand_over(self._handover, self._settings, why)

    def _leave_nothing(self) -> None:
        for name in (*NAMES, ATTESTATION_NAME):
            with contextlib.suppress(OSError):
                (self.directory / name).unlink(missing_ok=True)

    def _page(self) -> Path | None:
        path = self._config.getoption("htmlpath", None)
        return self._config.invocation_params.dir / path if path else None


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
        #: Node id -> the reports of an attempt that has passed so far and has nothing to show.
        self._silent: dict[str, list[pytest.TestReport]] = {}
        self._spare()

    def _spare(self) -> None:
        """Keep the reports of silent passing checks from pytest-html: their rows are written at the end.

        Only if nothing else needs them from pytest-html: no page after each test, no hook for their logs.
        """
        manager = self._config.pluginmanager
        page: Any = next(filter(_is_page, manager.get_plugins()), None)
        if (
            page is None
            or self._config.getini("generate_report_on_test")
            or self._config.hook.pytest_html_results_table_html.get_hookimpls()
        ):
            return
        write = page.pytest_runtest_logreport

        @pytest.hookimpl(trylast=True)
        def pytest_runtest_logreport(report: pytest.TestReport) -> None:
            for each in self._due(report):
                write(each)

        manager.unregister(page)
        page.pytest_runtest_logreport = pytest_runtest_logreport
        manager.register(page)

    def _due(self, report: pytest.TestReport) -> list[pytest.TestReport]:
        """Return the reports to pass to pytest-html when this one arrives."""
        held = self._silent.pop(report.nodeid, None)
        if _is_silent(report) and (held is not None or report.when == "setup"):
            if report.when != "teardown":
                self._silent[report.nodeid] = [*(held or ()), report]
            return []
        return [*(held or ()), report]

    @pytest.hookimpl
    def pytest_html_report_title(self, report: Any) -> None:
        """Set the page's title, and keep pytest-html's data."""
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
        """Add the verdict at the top and the checks' outcomes to the rows, now that both are known."""
        model = self._model()
        page = self._config.invocation_params.dir / str(self._config.getoption("htmlpath"))
        link = os.path.relpath(self._reports.directory / HTML_NAME, page.parent)
        prefix.append(html.banner(model, link))
        if self._page is not None:
            self._settle(model, link)

    def _settle(self, model: Mapping[str, Any], link: str) -> None:
        """Reduce to one row per check, with phases, subtests and attempts in its log; also for a crash."""
        tests = self._page.data["tests"]
        for check in model["checks"]:
            earlier = tests.get(check["nodeid"], [])
            # for a skip pytest-html has only pytest's tuple; the check's summary says why
            kept = [row["log"] for row in earlier if check["outcome"] != "skipped"]
            log = "\n".join(dict.fromkeys(kept))
            tests[check["nodeid"]] = [html.row(check, link, log)]
        ended = [row["result"].lower() for found in tests.values() for row in found]
        for name, count in self._page.outcomes.items():
            count["value"] = ended.count(name)


def _is_page(plugin: object) -> bool:
    """Tell whether a plugin is pytest-html's page writer."""
    return type(plugin).__module__.startswith("pytest_html.") and hasattr(plugin, "pytest_runtest_logreport")


def _is_silent(report: pytest.TestReport) -> bool:
    """Tell whether pytest-html would show nothing of a report except the outcome."""
    return (
        report.passed
        and bool(getattr(report, "readiness", None))
        and not (report.longrepr or report.sections or getattr(report, "extras", None))
        and not (hasattr(report, "wasxfail") or hasattr(report, "context"))
    )
