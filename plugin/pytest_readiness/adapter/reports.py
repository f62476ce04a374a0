"""Where a run's reports go: those of a partial or refused run must not replace a full run's."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from ..core.errors import ReadinessError
from ..core.model import Verdict
from ..core.verdict import exit_code
from ..report import HTML_NAME, PARTIAL_NAME, RENDERERS, keep, move
from . import provisional
from .options import Settings, suite_name
from .scope import is_narrowed

USAGE_ERROR = 4


class Reports:
    """The directory of a run's reports: that of full runs, or ``partial/`` below it.

    Which it is, the invocation tells at the start and the collection at the end. What a run replaced that
    seemed to be a full one comes back then.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config, self._settings = config, settings
        self._full, self._partial = settings.reports, settings.reports / PARTIAL_NAME
        suite = (settings.root / suite_name(settings.plan_path)).resolve()
        self.seems_full = not is_narrowed(config, suite)
        self.directory = self._full if self.seems_full else self._partial
        self._earlier: Mapping[str, bytes] = {}

    def begin(self, run_id: str) -> None:
        """Say NO_VERDICT, so that a killed run leaves no older answer; ReadinessError when it cannot."""
        if self.seems_full:
            self._earlier = keep(self._full)
        provisional.write(self._settings, run_id, self.directory, page=self._page())

    def settle(self, *, full: bool) -> None:
        """Go where the reports belong, now that the scope of the run is known."""
        target = self._full if full else self._partial
        if target != self.directory:
            move(self.directory, target, {} if full else self._earlier)
            if self._page() == self.directory / HTML_NAME:
                self._config.option.htmlpath = str(target / HTML_NAME)
            self.directory = target

    def refuse(self, run_id: str, why: str) -> None:
        """Say that bad input ended the run."""
        self.settle(full=False)
        provisional.write(self._settings, run_id, self.directory, f"usage error: {why}", code=USAGE_ERROR)

    def withdraw(self, run_id: str, why: str, code: int = exit_code(Verdict.NO_VERDICT)) -> None:
        """Take back what may already tell a verdict; where nothing can be written, leave nothing."""
        try:
            provisional.write(self._settings, run_id, self.directory, why, page=self._page(), code=code)
        except ReadinessError:
            for name in RENDERERS:
                with contextlib.suppress(OSError):
                    (self.directory / name).unlink(missing_ok=True)

    def _page(self) -> Path | None:
        path = self._config.getoption("htmlpath", None)
        return self._config.invocation_params.dir / path if path else None
