"""What the verdict rests on, for a reader who checks it: every check, every figure, how the run was made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .blocks import Block, Cell, Paragraph, Section, Table
from .headline import pairs
from .sections import Model, rows, table, text, texts
from .text import number, one_line


def appendix(model: Model) -> tuple[Section, ...]:
    """Return the folded sections after the report proper; those without content are left out."""
    found = (
        Section("All checks", (table(model, "checks", CHECK_COLUMNS, _check),), folded=True),
        Section("Exchanges of checks that did not pass", tuple(_exchanges(model)), folded=True),
        Section("Figures", tuple(_figures(model)), folded=True),
        Section("Run record", tuple(_record(model)), folded=True),
    )
    return tuple(section for section in found if section.blocks)


BODY_LIMIT = 200
CHECK_COLUMNS = ("Check", "Goal", "Severity", "Outcome", "Class", "Attempts", "Seconds", "Summary")


def _check(row: Model) -> tuple[Cell, ...]:
    words = (Cell(text(row.get(key)), "status") for key in ("severity", "outcome", "class"))
    seconds = Cell(f"{row.get('duration_s') or 0:.2f}")
    name, goal = Cell(text(row.get("id")), "code"), Cell(text(row.get("goal")))
    covered = f"covered by {text(row['covered_by'])}" if row.get("covered_by") else ""
    return name, goal, *words, *texts(row, "attempts"), seconds, Cell(text(row.get("summary")), note=covered)


def _exchanges(model: Model) -> Iterable[Block]:
    found = tuple(
        (Cell(text(check.get("id")), "code"), *_exchange(entry))
        for check in rows(model, "checks")
        if check.get("outcome") != "passed"
        for entry in rows(check, "evidence")
        if entry.get("kind") == "exchange"
    )
    if found:
        yield Table(("Check", "Request", "Status", "Answer"), found)


def _exchange(entry: Model) -> tuple[Cell, ...]:
    response = entry.get("response")
    body = response.get("body") if isinstance(response, Mapping) else response
    request = Cell(f"{text(entry.get('method'))} {text(entry.get('url'))}", "code")
    return request, *texts(entry, "status"), Cell(one_line(body, BODY_LIMIT))


def _figures(model: Model) -> Iterable[Block]:
    found = tuple(
        (Cell(text(check.get("id")), "code"), *cells)
        for check in rows(model, "checks")
        for cells in measurements(rows(check, "evidence"))
    )
    if found:
        yield Table(("Check", *MEASUREMENT_COLUMNS), found)


MEASUREMENT_COLUMNS = ("Figure", "Observed", "Expected", "Limit")


def measurements(evidence: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Cell, ...]]:
    """Yield one row per figure and per evaluated rule; the columns are ``MEASUREMENT_COLUMNS``."""
    for entry in evidence:
        if entry.get("kind") == "figure":
            unit = text(entry.get("unit"))
            yield (
                Cell(text(entry.get("name"))),
                *(Cell(_quantity(entry.get(key), unit)) for key in ("value", "expected", "limit")),
            )
        elif entry.get("kind") == "evaluated":
            yield (
                Cell(text(entry.get("rule"))),
                Cell(f"compared {text(entry.get('times'))}×"),
                Cell(""),
                Cell(""),
            )


def _quantity(value: object, unit: str) -> str:
    return text(f"{number(value)} {unit}".strip()) if value is not None else ""


def _record(model: Model) -> Iterable[Block]:
    facts = (
        ("Run", text(model.get("run_id"))),
        ("Scope", text(model.get("scope"))),
        ("Exit code", text(model.get("exit_code"))),
        ("Suite digest", text(model.get("suite_digest"))),
        ("Plan digest", text(model.get("plan_digest"))),
        ("Build", pairs(model.get("build_identity"))),
        ("Ledger", pairs(model.get("ledger"))),
    )
    found = tuple((Cell(name), Cell(value)) for name, value in facts if value)
    if found:
        yield Table(("Fact", "Value"), found)
    yield from (Paragraph(text(note)) for note in model.get("notes") or ())
