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


def listed(findings: Sequence[Finding], what: str = "") -> str:
    """Return a message: the first line says `what`, the first finding and their number; then the others."""
    first, *others = sorted(findings)
    count = f" ({len(findings)} findings)" if others else ""
    lines = [f"{what}: {first}{count}" if what else f"{first}{count}", *map(str, others[: SHOWN - 1])]
    more = len(findings) - SHOWN
    return "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])])
