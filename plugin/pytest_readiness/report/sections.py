"""The readiness report's sections: names, columns and order are those that a launch review knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from .blocks import Action, Actions, Block, Cell, Checklist, Paragraph, Section, Steps, Table, Tick
from .headline import headline
from .text import one_line

Model: TypeAlias = Mapping[str, Any]

NONE = Paragraph("None.")
UNKNOWN = Paragraph("Not known: the run did not finish.")
GOAL_WORDS = Paragraph(
    "PASS: proved on a live environment, or on a checkout where a goal is static. "
    "READY: every check passed, on the embedded environment only."
)
BLOCKER_COLUMNS = ("Check", "Goal", "Severity", "Class", "Observed")
SUMMARY_LIMIT = 400


def sections(model: Model) -> tuple[Section, ...]:
    """Return the report's sections in their fixed order; one without content says so and stays."""
    return (
        Section("Blockers and next actions", (_actions(model),)),
        Section("Goal Assessment", tuple(_goals(model))),
        Section("Deferred Items", tuple(_deferred(model))),
        Section(
            "Environment Inventory",
            (table(model, "inventory", ("Service", "URL", "CPU/Mem", "Image"), _service),),
        ),
        Section("Operational Readiness", (_operational(model),)),
        Section("Rollback Plan", tuple(_rollback(model))),
        Section("Decisions", (table(model, "decisions", ("Date", "Decision", "Rationale"), _decision),)),
        Section("Blockers", (table(model, "blockers", BLOCKER_COLUMNS, _blocker),)),
        Section("Staging Declaration", tuple(_declaration(model))),
    )


def rows(model: Model, key: str) -> Sequence[Model]:
    """Return the list of mappings under ``key``; a key that is absent or null is an empty list."""
    return [row for row in model.get(key) or () if isinstance(row, Mapping)]


def nothing(model: Model, key: str) -> Block:
    """Return what stands for an empty list: a run that did not finish has not shown that there is nothing."""
    return NONE if key in model and model.get("finished_at") else UNKNOWN


def table(
    model: Model, key: str, columns: tuple[str, ...], cells: Callable[[Model], tuple[Cell, ...]]
) -> Block:
    """Return the mappings under ``key`` as a table, one row of ``cells`` each, or what stands for none."""
    found = tuple(cells(row) for row in rows(model, key))
    return Table(columns, found) if found else nothing(model, key)


def text(value: object, limit: int = SUMMARY_LIMIT) -> str:
    """Return one line, cut at the limit of a table cell."""
    return one_line(value, limit)


def _actions(model: Model) -> Block:
    found = tuple(
        Action(
            check=text(row.get("check")) or "the run",
            tags=tuple(filter(None, (text(row.get(key)) for key in ("severity", "goal", "class")))),
            summary=text(row.get("summary")),
            next_action=text(row.get("next_action")),
            command=one_line(row.get("reproduce")),
        )
        for row in rows(model, "blockers")
    )
    return Actions(found) if found else nothing(model, "blockers")


def _goals(model: Model) -> Iterable[Block]:
    yield table(model, "goals", ("Goal", "Status", "Evidence"), _goal)
    if rows(model, "goals"):
        yield GOAL_WORDS


def _goal(row: Model) -> tuple[Cell, ...]:
    name = Cell(f"{text(row.get('id'))} {text(row.get('title'))}".strip())
    return name, Cell(text(row.get("status")), "status"), Cell(text(row.get("evidence")))


def _deferred(model: Model) -> Iterable[Block]:
    yield table(model, "deferred", ("Item", "Severity", "Rationale"), _deferral)
    if rows(model, "waivers"):
        yield Paragraph("Waivers", strong=True)
        yield table(model, "waivers", ("Check", "Reason", "Approver", "Issued", "Expires"), _waiver)
    yield from (Paragraph(text(statement)) for statement in model.get("cover") or ())


def _deferral(row: Model) -> tuple[Cell, ...]:
    expiry = f"expires {text(row['expires'])}" if row.get("expires") else ""
    item = Cell(text(row.get("item") or row.get("goal") or row.get("check")))
    return item, Cell(text(row.get("severity"))), Cell(text(row.get("rationale")), note=expiry)


def _waiver(row: Model) -> tuple[Cell, ...]:
    rest = (Cell(text(row.get(key))) for key in ("reason", "approver", "issued", "expires"))
    return Cell(text(row.get("check")), "code"), *rest


def _service(row: Model) -> tuple[Cell, ...]:
    """Return what the plan declares, beside it what was observed: checks compare, a reader sees both."""
    observed = row.get("observed")
    seen = observed if isinstance(observed, Mapping) else {}
    size = Cell(_size(row) or "—", note=_observed(_size(seen)))
    url, image = (
        Cell(text(row.get(key)) or "—", "code" if row.get(key) else "text", _observed(text(seen.get(key))))
        for key in ("url", "image")
    )
    return Cell(text(row.get("service"))), url, size, image


def _size(row: Model) -> str:
    both = text(row.get("cpu") or ""), text(row.get("memory") or "")
    return "/".join(part or "?" for part in both) if any(both) else ""


def _observed(seen: str) -> str:
    return f"observed {seen}" if seen else ""


def _operational(model: Model) -> Block:
    found = tuple(
        Tick(bool(row.get("done")), text(row.get("item")), text(row.get("evidence")))
        for row in rows(model, "operational")
    )
    return Checklist(found) if found else nothing(model, "operational")


def _rollback(model: Model) -> Iterable[Block]:
    found = rows(model, "rollback")
    for row in found:
        kind = text(row.get("kind"))
        title = text(row.get("title"))
        yield Steps(
            title=f"{kind.capitalize()} rollback: {title}" if kind else title,
            steps=tuple(one_line(step) for step in row.get("steps") or ()),
            note=text(row.get("evidence")),
        )
    if not found:
        yield nothing(model, "rollback")


def _decision(row: Model) -> tuple[Cell, ...]:
    return tuple(Cell(text(row.get(key))) for key in ("date", "decision", "rationale"))


def _blocker(row: Model) -> tuple[Cell, ...]:
    kind = (Cell(text(row.get(key)), "status") for key in ("severity", "class"))
    return (
        Cell(text(row.get("check")), "code"),
        Cell(text(row.get("goal"))),
        *kind,
        Cell(text(row.get("summary"))),
    )


def _declaration(model: Model) -> Iterable[Block]:
    head = headline(model)
    yield Paragraph(f"Status: {head.declaration}", strong=True)
    if head.partial:
        yield Paragraph(head.partial)
    yield from (Paragraph(reason) for reason in head.reasons)
