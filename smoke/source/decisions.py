"""The decisions that the notes record, as opposed to what a tool wrote into the same table."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SOURCE = re.compile(r"\bsource:\s*([\w-]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table, at `line` of the notes; `source` is what its rationale names as such."""

    line: int
    date: str
    decision: str
    rationale: str

    @property
    def source(self) -> str:
        """Where the row comes from, lower case; empty when it does not say."""
        found = _SOURCE.search(self.rationale)
        return found.group(1).lower() if found else ""

    @property
    def key(self) -> tuple[str, str]:
        """What identifies a decision: its date and its words."""
        return self.date, " ".join(self.decision.split())


def rows(text: str) -> Iterator[Row]:
    """Yield the rows of the tables under a heading that says Decisions."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            inside = line.lstrip("#").strip().lower() == "decisions"
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not inside or not line.lstrip().startswith("|") or len(cells) < 3:
            continue
        if cells[0].lower() != "date" and not set("".join(cells)) <= set("-: "):
            yield Row(number, cells[0], cells[1], "|".join(cells[2:]))
