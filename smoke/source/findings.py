"""A finding: something wrong at a line of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN = 12


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """`path` is relative to the checkout; `line` counts from 1, 0 where no single line is meant."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}" if self.line else f"{self.path}: {self.what}"


def listed(findings: Sequence[Finding]) -> str:
    """Return the findings one a line, the first ones and how many more there are."""
    lines = [str(finding) for finding in sorted(findings)]
    more = len(lines) - SHOWN
    return "\n".join([*lines[:SHOWN], *([f"and {more} more"] if more > 0 else [])])
