"""What the last run of a one-shot task says of its migration."""

from __future__ import annotations

from collections.abc import Sequence

from .ecs import Run

STOPPED = "STOPPED"


def last_of(runs: Sequence[Run]) -> Run | None:
    """The newest run of those that ECS still knows; they come oldest first."""
    return runs[-1] if runs else None


def failure_of(run: Run) -> str:
    """Why a run does not count as a successful migration; empty when it does.

    An exit code is final only once the task is STOPPED: before that it says nothing. A container without one
    never ran to its end.
    """
    if run.status != STOPPED:
        return f"the last run is {run.status}, not stopped"
    if not run.exit_codes:
        return "the last run had no container"
    bad = {name: code for name, code in run.exit_codes.items() if code != 0}
    if not bad:
        return ""
    told = ", ".join(
        f"{name} {'without an exit code' if code is None else code}" for name, code in bad.items()
    )
    return f"the last run ended with {told}" + (f" ({run.reason})" if run.reason else "")
