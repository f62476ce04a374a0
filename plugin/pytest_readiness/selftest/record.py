"""What a self-test proved, as the model of self-test.json (schema version 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..core.formats import format_moment
from ..core.model import Scope
from .campaign import Results
from .catalogue import Catalogue

SCHEMA_VERSION = 1


def record(
    results: Results,
    catalogue: Catalogue,
    *,
    scope: Scope,
    uncovered: Sequence[str],
    changed: bool,
    date: datetime,
    duration_s: float,
    cpu_s: float,
) -> dict[str, Any]:
    """Return the model as plain JSON values. ``cpu_s`` is that of all processes, platforms included.

    The suite's digest is the one that the runs themselves reported. A suite that changed meanwhile, between
    them or (``changed``) since it was imported, has none.
    """
    digests = results.suite_digests
    changed = changed or len(digests) > 1
    problems = ["the suite changed while it was tested"] if changed else []
    order = {fault.id: place for place, fault in enumerate(catalogue.faults)}
    findings = sorted(results.findings, key=lambda finding: order[finding.fault.id])
    alarms = [alarm.as_data() for run in results.clean_runs for alarm in run.alarms]
    whole = sum(run.whole for run in results.clean_runs)
    return {
        "schema_version": SCHEMA_VERSION,
        "scope": scope.value,
        "detected": sum(finding.detected for finding in findings),
        "total": len(findings),
        "false_alarms": len(alarms),
        "clean_runs": whole,
        "control_runs": len(results.clean_runs) - whole,
        "date": format_moment(date),
        "catalogue_digest": catalogue.digest,
        "suite_digest": digests.copy().pop() if digests and not changed else "",
        "duration_s": round(duration_s, 1),
        "cpu_s": round(cpu_s, 1),
        "spent_s": {what: round(seconds, 1) for what, seconds in sorted(results.spent.items())},
        "faults": [finding.as_data() for finding in findings],
        "alarms": alarms,
        "leaks": [leak.as_data() for leak in results.leaks],
        "uncovered": list(uncovered),
        "unfaulted": [{"check": entry.check, "reason": entry.reason} for entry in catalogue.unfaulted],
        "problems": problems,
    }


def is_proved(model: Mapping[str, Any]) -> bool:
    """Tell whether everything was detected, nothing was red without a fault, and no check was left out."""
    wrong = ("alarms", "leaks", "uncovered", "problems")
    return model["detected"] == model["total"] and not any(model[key] for key in wrong)
