"""What a report is made of, however it looks: sections of blocks, and text that is safe on one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..core.formats import counted, one_line

_CODE = re.compile(r"`([^`]+)`")

#: text: prose; code: an id, an address, an image; status: a word of the model (PASS, BROKEN, failed, P0).
Kind: TypeAlias = Literal["text", "code", "status"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One table cell; ``note`` is a second, quieter line (what was observed beside what was declared)."""

    text: str
    kind: Kind = "text"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; every row has as many cells as there are columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """One item of a checklist, with the evidence that ticks it or leaves it open."""

    done: bool
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Checklist:
    """Items that are done or not, decided by the model and never by hand."""

    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """A titled procedure, its steps in order; ``note`` says how it was verified."""

    title: str
    steps: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A sentence or two; ``strong`` sets it apart."""

    text: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """A blocker as work to do: where, what was seen, by which rule it counts, what to do next.

    ``tags`` are words of the model: severity, goal, class. ``command`` reproduces it.
    """

    where: str
    tags: tuple[str, ...]
    summary: str
    next_action: str
    command: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Actions:
    """Blockers in the order in which to take them."""

    actions: tuple[Action, ...]


Block: TypeAlias = Table | Checklist | Steps | Paragraph | Actions


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of the page; a folded one is detail that a reader opens."""

    title: str
    blocks: tuple[Block, ...]
    folded: bool = False


def segments(text: str) -> Iterator[tuple[bool, str]]:
    """Split ``text`` at its `code` spans into (is code, content); a lone backtick stays text."""
    end = 0
    for match in _CODE.finditer(text):
        if match.start() > end:
            yield False, text[end : match.start()]
        yield True, match[1]
        end = match.end()
    if end < len(text):
        yield False, text[end:]


def and_others(row: Mapping[str, Any]) -> str:
    """Return a blocker's check, how many others have its cause, and how many did not run because of it."""
    others, behind = len(row.get("also") or ()), len(row.get("behind") or ())
    more = f" and {counted(others, 'more check')}" if others else ""
    return f"{one_line(row.get('check'))}{more}" + (
        f" ({behind} more not run because of it)" if behind else ""
    )
