"""The commands of ``readiness`` beside the runs themselves: each module adds its own to the parser."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import PlanError
from ..core.plan import PLAN_NAME, Plan
from ..profile.project import find_plan, read_plan

#: Exit codes: something was found to be wrong; bad input.
WRONG, USAGE_ERROR = 1, 4
NO_PLAN = f"no {PLAN_NAME} in this directory or its parents"


@dataclass(frozen=True, slots=True)
class Project:
    """The project that a command is called in: where its plan is, and what it says."""

    root: Path
    plan: Plan


def project() -> Project:
    """Return the project around the current directory; PlanError where there is none."""
    path = find_plan(Path.cwd())
    if path is None:
        raise PlanError(NO_PLAN, action="call it in the project of the suite, or begin one: readiness init")
    return Project(path.parent, read_plan(path))


def say(*lines: str) -> None:
    """Print lines to the standard output."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
