"""The columns of a report's tables, in the sections of a launch review, and the folded detail behind them.

``exports`` has the columns of the CSV file, ``html`` those added to pytest-html's page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from ..core.formats import bound, number, one_line
from ..core.model import UNREAD
from .document import (
    Action,
    Actions,
    Block,
    Cell,
    Checklist,
    Paragraph,
    Section,
    Steps,
    Table,
    Tick,
    and_others,
    headline,
    moment,
    observed_of,
    owner_of,
    pairs,
    summary_of,
)

Model: TypeAlias = Mapping[str, Any]

NONE = Paragraph("None.")
UNKNOWN = Paragraph("Unknown: the run recorded no check.")
GOAL_WORDS = Paragraph(
    "PASS: proved on a live environment, or on a checkout where a goal is static. "
    "READY: every check passed, but not on a live environment. DEGRADED, FAIL: a check failed, or passed "
    "only on a rerun. PENDING: evidence is still missing."
)
INVENTORY_COLUMNS = ("Service", "URL", "CPU/Mem", "Image")
WAIVER_COLUMNS = ("Check", "State", "Reason", "Owner", "Approver", "Issued", "Expires")
DECISION_COLUMNS = ("Date", "Decision", "Rationale")
CHECK_COLUMNS = ("Check", "Goal", "Severity", "Outcome", "Class", "Attempts", "Seconds", "Summary")
EXCHANGE_COLUMNS = ("Check", "Request", "Status", "Answer")
MEASUREMENT_COLUMNS = ("Figure", "Observed", "Expected", "Limit")
#: W3C Trace Context: version, trace id, parent id, flags; a later version may add fields.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
SUMMARY_LIMIT, BODY_LIMIT = 400, 200
#: How many unexamined places of one check are shown; readiness.json has them all.
PLACES_SHOWN = 10


def sections(model: Model) -> tuple[Section, ...]:
    """Return the report's sections in their fixed order, without those that the plan does not use."""
    title = text(model.get("declaration_title")) or "Declaration"
    found = (
        Section("Blockers", tuple(_actions(model))),
        Section("Not Examined", tuple(_unexamined(model))),
        Section("Goal Assessment", tuple(_goals(model))),
        Section("Deferred Items", tuple(_deferred(model))),
        Section("Environment Inventory", tuple(_inventory(model))),
        Section("Operational Readiness", tuple(_operational(model))),
        Section("Rollback Plan", tuple(_rollback(model))),
        Section("Decisions", tuple(tabled(model, "decisions", DECISION_COLUMNS, _decision))),
        Section(title, tuple(_declaration(model))),
    )
    return tuple(section for section in found if section.blocks)


def rows(model: Model, key: str) -> Sequence[Model]:
    """Return the list of mappings under ``key``; a key that is absent or null is an empty list."""
    return [row for row in model.get(key) or () if isinstance(row, Mapping)]


def nothing(model: Model) -> Block:
    """Return the text for no blockers; a run without checks has not shown that there are none."""
    return NONE if "blockers" in model and model.get("checks") else UNKNOWN


def tabled(
    model: Model, key: str, columns: tuple[str, ...], cells: Callable[[Model], tuple[Cell, ...]]
) -> Iterator[Block]:
    """Yield a table of the mappings under ``key``, one row of ``cells`` each; nothing if there are none."""
    found = tuple(cells(row) for row in rows(model, key))
    if found:
        yield Table(columns, found)


def text(value: object, limit: int = SUMMARY_LIMIT) -> str:
    """Return one line, cut at the limit of a table cell."""
    return one_line(value, limit)


def texts(row: Model, *keys: str) -> tuple[Cell, ...]:
    """Return the values of a row as cells of prose."""
    return tuple(Cell(text(row.get(key))) for key in keys)


def _actions(model: Model) -> Iterator[Block]:
    found = tuple(
        Action(
            where=and_others(row) or text(row.get("goal")) or "the launch",
            tags=tuple(filter(None, (text(row.get(key)) for key in _tag_keys(row)))),
            summary=summary_of(row, SUMMARY_LIMIT),
            next_action=text(row.get("next_action")),
            command=one_line(row.get("reproduce")),
            rule=text(row.get("rule")),
            observed=observed_of(row),
            who=owner_of(row),
        )
        for row in rows(model, "blockers")
    )
    yield Actions(found) if found else nothing(model)
    if found and (needed := variables(model)):
        yield Paragraph(needed)


def variables(model: Model) -> str:
    """Return a sentence with the variables that a report's commands need; "" if they need none."""
    names = ", ".join(f"`{text(name, 80)}`" for name in model.get("reproduce_env") or ())
    return f"Set in the environment for these commands, as for this run: {names}." if names else ""


def _unexamined(model: Model) -> Iterable[Block]:
    found = tuple((Cell(check, "code"), Cell(place)) for check, place in unexamined(model))
    if found:
        yield Table(("Check", "Place"), found)


def unexamined(model: Model, beside: str = "") -> Iterator[tuple[str, str]]:
    """Yield each check with each place that it could not examine, and at the end how many more there are.

    Places that the blockers' text (``beside``) already names are left out.
    """
    for check in rows(model, "checks"):
        if not check.get("evidence"):
            continue
        notes = [text(entry.get("text")) for entry in rows(check, "evidence") if entry.get("kind") == "note"]
        places = dict.fromkeys(note[note.index(UNREAD) :] for note in notes if UNREAD in note)
        listed = [place for place in places if place not in beside]
        yield from ((text(check.get("id")), place) for place in listed[:PLACES_SHOWN])
        if len(listed) > PLACES_SHOWN:
            yield text(check.get("id")), f"and {len(listed) - PLACES_SHOWN} more, in readiness.json"


def _tag_keys(row: Model) -> tuple[str, ...]:
    return ("severity", "goal", "class") if row.get("check") else ("severity", "class")


def _goals(model: Model) -> Iterable[Block]:
    yield from tabled(model, "goals", ("Goal", "Status", "Evidence"), _goal)
    if rows(model, "goals"):
        yield GOAL_WORDS


def _goal(row: Model) -> tuple[Cell, ...]:
    name = Cell(f"{text(row.get('id'))} {text(row.get('title'))}".strip())
    return name, Cell(text(row.get("status")), "status"), _with_figures(row)


def _with_figures(row: Model) -> Cell:
    """Return the measured figures, followed by the count of checks."""
    figures = "; ".join(one_line(line) for line in row.get("figures") or ())
    return (
        Cell(text(figures, 2 * SUMMARY_LIMIT), note=text(row.get("evidence")))
        if figures
        else Cell(text(row.get("evidence")))
    )


def _deferred(model: Model) -> Iterable[Block]:
    yield from tabled(model, "deferred", ("Item", "Severity", "Rationale"), _deferral)
    if rows(model, "waivers"):
        yield Paragraph("Waivers", strong=True)
        yield from tabled(model, "waivers", WAIVER_COLUMNS, _waiver)
    without = text(model.get("without_cover"))
    if without and without != model.get("verdict"):
        yield Paragraph(f"Without deferrals and waivers the verdict would be {without}.")


def _deferral(row: Model) -> tuple[Cell, ...]:
    expiry = f"expires {text(row['expires'])}" if row.get("expires") else ""
    # An item without goal and check is a statement: a remark that no check covers it would be noise.
    effect = text(row.get("note")) if row.get("goal") or row.get("check") else ""
    note = "; ".join(filter(None, (effect, expiry)))
    item = Cell(text(row.get("item") or row.get("goal") or row.get("check")))
    return item, Cell(text(row.get("severity"))), Cell(text(row.get("rationale")), note=note)


def _waiver(row: Model) -> tuple[Cell, ...]:
    reason = Cell(text(row.get("reason")), note=text(row.get("note")))
    check = Cell(text(row.get("check")), "code")
    state = Cell(text(row.get("state")), nowrap=True)
    times = (Cell(moment(row.get(key)), nowrap=True) for key in ("issued", "expires"))
    return check, state, reason, *texts(row, "owner", "approver"), *times


def _inventory(model: Model) -> Iterator[Block]:
    yield from tabled(model, "inventory", INVENTORY_COLUMNS, _service)
    observed = any(row.get("observed") for row in rows(model, "inventory"))
    if observed and model.get("live") is False:
        yield Paragraph("None of it was observed on a live environment.")


def _service(row: Model) -> tuple[Cell, ...]:
    """Return the declared value with the observed one: checks compare them, a reader sees both."""
    observed = row.get("observed")
    seen = observed if isinstance(observed, Mapping) else {}
    differs = row.get("differs") or ()
    size = Cell(_size(row) or "—", note=_observed(_size(seen), {"cpu", "memory"} & {*differs}))
    url = _address(row.get("url"), _observed(text(seen.get("url")), "url" in differs))
    build = f"build {text(seen['build'])}" if seen.get("build") else ""
    image = _address(
        row.get("image"),
        ", ".join(filter(None, (_observed(text(seen.get("image")), "image" in differs), build))),
    )
    return Cell(text(row.get("service"))), url, size, image


def _address(declared: object, note: str) -> Cell:
    return Cell(text(declared), "code", note) if declared else Cell("—", note=note)


def _size(row: Model) -> str:
    both = text(row.get("cpu") or ""), text(row.get("memory") or "")
    return "/".join(part or "?" for part in both) if any(both) else ""


def _observed(seen: str, differs: object) -> str:
    return f"{'DIFFERS: ' if differs else ''}observed {seen}" if seen else ""


def _operational(model: Model) -> Iterator[Block]:
    found = tuple(
        Tick(bool(row.get("done")), text(row.get("item")), _joined(_with_figures(row)))
        for row in rows(model, "operational")
    )
    if found:
        yield Checklist(found)


def _joined(cell: Cell) -> str:
    return "; ".join(filter(None, (cell.text, cell.note)))


_VERIFIED: Mapping[object, str] = {True: "Verified: ", False: "Not verified: "}


def _rollback(model: Model) -> Iterable[Block]:
    for row in rows(model, "rollback"):
        yield Steps(
            title=text(row.get("title")),
            steps=tuple(one_line(step) for step in row.get("steps") or ()),
            note=_VERIFIED.get(row.get("verified"), "") + _joined(_with_figures(row)),
        )


def _decision(row: Model) -> tuple[Cell, ...]:
    return *texts(row, "date", "decision"), Cell(text(row.get("rationale")), note=text(row.get("source")))


def _declaration(model: Model) -> Iterable[Block]:
    head = headline(model)
    yield Paragraph(f"Status: {head.declaration}", strong=True)
    if head.why:
        yield Paragraph(head.why[:1].upper() + head.why[1:])
    if model.get("declaration_prose"):
        yield Paragraph(text(model["declaration_prose"], 2000))
    if head.partial:
        yield Paragraph(head.partial)
    yield from (Paragraph(reason) for reason in head.reasons)


def appendix(model: Model, room: int) -> Iterator[Section]:
    """Yield the folded sections after the report proper, without empty ones.

    A section is empty if its table takes more than ``room`` characters.
    """
    yield from record(model)
    checks = rows(model, "checks")
    tables = (
        ("Exchanges of checks that did not pass", EXCHANGE_COLUMNS, _exchanges(model)),
        ("All checks", CHECK_COLUMNS, map(_check, checks)),
        ("Figures", ("Check", *MEASUREMENT_COLUMNS), _figures(model)),
    )
    for title, columns, cells in tables:
        fitting = _fitting(room, cells)
        if fitting is None:
            yield Section(title, (), folded=True)
        elif fitting:
            yield Section(title, (Table(columns, tuple(fitting)),), folded=True)


def _fitting(room: int, cells: Iterable[tuple[Cell, ...]]) -> list[tuple[Cell, ...]] | None:
    """Return the rows of a table; None if they take more than ``room`` characters as Markdown."""
    found = []
    for row in cells:
        found.append(row)
        room -= 2 + sum([len(cell.text) + (5 if cell.kind == "code" else 3) for cell in row])
        if room < 0:
            return None
    return found


def record(model: Model) -> tuple[Section, ...]:
    """Return a folded section that identifies the run; nothing if nothing is known."""
    found = Section("Run record", tuple(_record(model)), folded=True)
    return (found,) if found.blocks else ()


def _check(row: Model) -> tuple[Cell, ...]:
    words = (Cell(text(row.get(key)), "status") for key in ("severity", "outcome", "class"))
    seconds = Cell(f"{row.get('duration_s') or 0:.2f}")
    name, goal = Cell(text(row.get("id")), "code"), Cell(text(row.get("goal")))
    covered = f"covered by {text(row['covered_by'])}" if row.get("covered_by") else ""
    return name, goal, *words, *texts(row, "attempts"), seconds, Cell(text(row.get("summary")), note=covered)


def _exchanges(model: Model) -> Iterator[tuple[Cell, ...]]:
    for check in rows(model, "checks"):
        if check.get("outcome") != "passed":
            for entry in rows(check, "evidence"):
                if entry.get("kind") == "exchange":
                    yield (Cell(text(check.get("id")), "code"), *_exchange(entry))


def _exchange(entry: Model) -> tuple[Cell, ...]:
    response = entry.get("response")
    body = response.get("body") if isinstance(response, Mapping) else response
    trace = trace_id(entry)
    note = f"trace {trace}" if trace else ""
    request = Cell(f"{text(entry.get('method'))} {text(entry.get('url'))}", "code", note)
    return request, *texts(entry, "status"), Cell(one_line(body, BODY_LIMIT))


def trace_id(exchange: Model) -> str:
    """Return a request's trace id from its ``traceparent``; "" without one."""
    request = exchange.get("request")
    headers = request.get("headers") if isinstance(request, Mapping) else None
    names = headers if isinstance(headers, Mapping) else {}
    value = next((value for name, value in names.items() if str(name).lower() == "traceparent"), "")
    found = _TRACEPARENT.fullmatch(str(value))
    return found[1] if found else ""


def _figures(model: Model) -> Iterator[tuple[Cell, ...]]:
    for check in rows(model, "checks"):
        for cells in measurements(rows(check, "evidence")):
            yield (Cell(text(check.get("id")), "code"), *cells)


def measurements(evidence: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Cell, ...]]:
    """Yield one row per figure and per evaluated rule; the columns are ``MEASUREMENT_COLUMNS``."""
    for entry in evidence:
        if entry.get("kind") == "figure":
            unit = text(entry.get("unit"))
            yield (
                Cell(text(entry.get("name"))),
                *(Cell(_quantity(entry.get(key), unit)) for key in ("value", "expected")),
                Cell(text(bound(entry["limit"], unit)) if entry.get("limit") is not None else ""),
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
