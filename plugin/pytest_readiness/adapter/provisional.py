"""The first act of a run: reports that say NO_VERDICT, so that a killed run leaves no older answer behind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.formats import format_moment
from ..core.model import Scope, Verdict
from ..core.redaction import Redactor
from ..core.verdict import exit_code
from ..report import discard, write_all
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
    """Return the smallest model that every renderer understands."""
    now = format_moment(datetime.now(UTC))
    lists = (
        "blockers",
        "goals",
        "checks",
        "deferred",
        "waivers",
        "inventory",
        "operational",
        "rollback",
        "decisions",
    )
    return {
        "schema_version": 1,
        "run_id": run_id,
        "environment": settings.environment,
        "scope": str(Scope.PARTIAL),
        "started_at": now,
        "finished_at": now,
        "verdict": str(verdict),
        "exit_code": exit_code(verdict, settings.degraded_exit_code),
        "reasons": [reason],
        "declaration": "NOT READY",
        **{name: [] for name in lists},
        "build_identity": {},
        "streak": {},
        "notes": [],
    }
