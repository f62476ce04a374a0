"""The commands of ``readiness`` other than the runs themselves: each module adds its own to the parser."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import PlanError, ReadinessError
from ..core.plan import PLAN_NAME, Plan
from ..profile import find_plan, read_plan
from ..report.terminal import colour, pad, width

#: Exit codes: the command found a problem; bad input.
WRONG, USAGE_ERROR = 1, 4
_COLOURS = {"green": 32, "yellow": 33, "red": 31}
NO_PLAN = f"no {PLAN_NAME} in this directory or its parents"


@dataclass(frozen=True, slots=True)
class Project:
    """The project in which a command is called: its directory and its plan."""

    root: Path
    plan: Plan


def project() -> Project:
    """Return the project around the current directory; PlanError if there is none."""
    path = find_plan(Path.cwd())
    if path is None:
        raise PlanError(
            NO_PLAN, action=f"run it in a directory with a {PLAN_NAME}, or create one: readiness init"
        )
    return Project(path.parent, read_plan(path))


def refuse_file(directory: Path, option: str) -> None:
    """Refuse a file in place of an output directory; ReadinessError names the ``option``."""
    if directory.exists() and not directory.is_dir():
        raise ReadinessError(
            "is a file, not a directory", where=str(directory), action=f"name a directory as {option}"
        )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option for machine-readable output."""
    parser.add_argument("--json", action="store_true", help="Print JSON")


def say_json(value: object) -> None:
    """Print plain data as JSON."""
    say(json.dumps(value, indent=1, ensure_ascii=False))


def table(rows: Iterable[Sequence[str]], head: Sequence[str]) -> list[str]:
    """Return rows of text as aligned lines, without padding the last column; empty without rows."""
    found = [head, *rows]
    wide = [max(width(row[place]) for row in found) for place in range(len(head) - 1)]
    lines = ["  ".join([*map(pad, row, wide), row[-1]]).rstrip() for row in found]
    return lines if len(found) > 1 else []


def tinted(text: str, model: Mapping[str, Any]) -> str:
    """Return a text in the colour of the verdict, on a terminal and without NO_COLOR."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\x1b[1;{_COLOURS[colour(model)]}m{text}\x1b[0m"


def say(*lines: str) -> None:
    """Print lines to the standard output."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
