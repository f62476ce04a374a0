"""Checks that the last full run had and this one has not: nothing fails when a check is no longer there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .model import Severity, Vanished
from .patterns import matching


def vanished(
    entries: Sequence[Mapping[str, Any]], collected: Collection[str], retired: Sequence[str], plan_digest: str
) -> tuple[Vanished, ...]:
    """Compare what was collected with the newest run of the same environment that came to its end.

    A run that was blocked for a vanished P0 hands it on, so that running twice does not settle it. Only a
    change of the plan does: best one that names the check in ``retired``, then it is not mentioned any more.
    """
    complete = [entry for entry in entries if entry.get("complete", True) and entry.get("checks")]
    newest = complete[-1] if complete else {}
    run_id = str(newest.get("run_id"))
    unchanged = newest.get("plan_digest") == plan_digest
    had = {check["id"]: (check["severity"], run_id) for check in newest.get("checks", ())}
    if unchanged:
        had |= {check["id"]: (check["severity"], check["run_id"]) for check in newest.get("vanished", ())}
    gone = [id_ for id_ in had if id_ not in collected]
    on_purpose = matching(retired, gone)
    return tuple(
        Vanished(
            id=id_,
            severity=Severity(had[id_][0]),
            run_id=had[id_][1],
            blocking=unchanged and had[id_][0] == Severity.P0,
        )
        for id_ in gone
        if id_ not in on_purpose
    )
