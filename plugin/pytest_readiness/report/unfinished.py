"""The reports of a run that has no answer: what stands in them before one comes, or when none came."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..core.formats import format_moment
from ..core.model import Scope, Verdict
from ..core.verdict import exit_code

_LISTS = (
    *("blockers", "goals", "checks", "deferred", "waivers", "inventory"),
    *("operational", "rollback", "decisions", "notes"),
)


def unfinished_model(
    environment: str,
    run_id: str,
    reason: str,
    verdict: Verdict = Verdict.NO_VERDICT,
    degraded_exit_code: int = 2,
) -> Mapping[str, Any]:
    """Return the smallest model that every renderer understands."""
    now = format_moment(datetime.now(UTC))
    return {
        "schema_version": 1,
        "run_id": run_id,
        "environment": environment,
        "scope": str(Scope.PARTIAL),
        "started_at": now,
        "finished_at": now,
        "verdict": str(verdict),
        "exit_code": exit_code(verdict, degraded_exit_code),
        "reasons": [reason],
        "declaration": "NOT READY",
        **{name: [] for name in _LISTS},
        "build_identity": {},
        "streak": {},
    }
