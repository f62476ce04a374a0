"""The first act of a run: reports that say NO_VERDICT, so that a killed run leaves no older answer behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.model import Verdict
from ..core.redaction import Redactor
from ..report import discard, write_all
from ..report.unfinished import unfinished_model
from .options import Settings

UNFINISHED = "the run did not finish"


def write(
    settings: Settings,
    run_id: str,
    directory: Path,
    reason: str = UNFINISHED,
    page: Path | None = None,
    code: int | None = None,
) -> None:
    """Write the reports of a run without a verdict, and take away pages: an earlier run's, its own.

    ``code`` is the exit status of the process, where that is not the verdict's.
    """
    discard(directory, *([page] if page is not None else []))
    made = model(settings, run_id, reason)
    write_all(made if code is None else {**made, "exit_code": code}, directory, Redactor())


def model(
    settings: Settings, run_id: str, reason: str, verdict: Verdict = Verdict.NO_VERDICT
) -> Mapping[str, Any]:
    """Return the model of this run without an answer."""
    return unfinished_model(
        settings.environment, run_id, reason, verdict, degraded_exit_code=settings.degraded_exit_code
    )
