"""What a report is made of, without saying how it looks: sections of tables, checklists, steps, sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

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
