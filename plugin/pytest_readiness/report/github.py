"""What GitHub Actions shows of a run: annotations of the causes, and the job's summary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..core.formats import one_line
from .document import and_others, summary_of
from .markdown import render
from .sections import rows

#: The variables of a runner: its mark, and the file of the step's summary.
ACTIONS, SUMMARY = "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"
#: GitHub shows ten annotations of a kind for each step, and takes a summary of up to 1 MiB.
ANNOTATIONS, SUMMARY_LIMIT = 10, 1024 * 1024
_REST = "\n\nThe rest is in readiness.md.\n"
_PLACE = re.compile(r"(.+?)(?::(\d+))?")


def workflow_commands(model: Mapping[str, Any]) -> list[str]:
    """Return a workflow command for each of the first ten causes.

    It is an error, a warning for a P1, and a notice where the run is READY: then it is what comes next.
    """
    ready = model.get("verdict") == "READY"
    checks = {check.get("id"): check for check in rows(model, "checks")}
    return [
        _command("notice" if ready else _level(blocker), blocker, checks.get(blocker.get("check"), {}))
        for blocker in rows(model, "blockers")[:ANNOTATIONS]
    ]


def job_summary(model: Mapping[str, Any], taken: int = 0) -> str:
    """Return Markdown to append to a job summary of ``taken`` bytes; what GitHub would refuse is left out.

    It ends between two sections then, or is empty where not even the first one fits.
    """
    text = f"\n{render(model)}"
    room = SUMMARY_LIMIT - 1 - taken
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= room:
        return text
    start = data[: max(0, room - len(_REST))].decode("utf-8", "ignore").rpartition("\n## ")[0]
    return start + _REST if start else ""


def _level(blocker: Mapping[str, Any]) -> str:
    return "warning" if blocker.get("severity") == "P1" else "error"


def _command(level: str, blocker: Mapping[str, Any], check: Mapping[str, Any]) -> str:
    words = (one_line(blocker.get("severity")), one_line(blocker.get("class")), and_others(blocker))
    title = one_line(" ".join(filter(None, words)) or blocker.get("goal") or "the run", 200)
    properties = ",".join(f"{name}={_property(value)}" for name, value in (*_place(check), ("title", title)))
    next_action = one_line(blocker.get("next_action"), 300)
    message = summary_of(blocker, 500)
    if next_action:
        message = f"{message.removesuffix('.')}. Next: {next_action}"
    return f"::{level} {properties}::{_data(message)}"


def _place(check: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield file and line of what raised, else the file of the check."""
    where = one_line(check.get("where")) or one_line(check.get("nodeid")).partition("::")[0]
    if found := _PLACE.fullmatch(where):
        yield "file", found[1]
        if found[2]:
            yield "line", found[2]


def _data(text: str) -> str:
    """Escape the message of a workflow command, as GitHub's own toolkit does."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
