"""The report as HTML for pytest-html: a fragment for the top of its page, cells and evidence for its rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, assert_never

from ..core.formats import printable
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
    number,
    one_line,
    segments,
)
from .headline import Headline, headline
from .sections import MEASUREMENT_COLUMNS, appendix, measurements, sections

#: How a word of the model is coloured: good, careful, bad, or quiet. A word that is not here stays plain.
_TONES = {
    "good": ("READY", "PASS", "passed"),
    "careful": (
        "DEGRADED",
        "NO_VERDICT",
        "PENDING",
        "flaky",
        "FLAKE",
        "EXTERNAL_OUTAGE",
        "SETUP_ERROR",
        "CHECK_ERROR",
        "not-run",
    ),
    "bad": ("BROKEN", "FAIL", "failed", "PLATFORM_BUG"),
    "quiet": ("DEFERRED", "deferred", "skipped"),
}
_MEASUREMENTS = ("figure", "evaluated")
_TONE = {word: tone for tone, words in _TONES.items() for word in words}


def summary(model: Mapping[str, Any]) -> str:
    """Return the report as one self-contained fragment: own style, no script, nothing loaded."""
    head = headline(model)
    body = "".join(_section(section) for section in (*sections(model), *appendix(model)))
    return f'<style>{_style()}</style><div class="rd" id="readiness">{_banner(head)}{body}</div>'


def header_cells() -> list[str]:
    """Return the header cells of the columns that ``row_cells`` fills."""
    return [
        f'<th class="sortable" data-column-type="{key}">{name}</th>'
        for key, name in (("goal", "Goal"), ("severity", "Severity"), ("class", "Class"))
    ]


def row_cells(check: Mapping[str, Any] | None) -> list[str]:
    """Return the cells Goal, Severity and Class of one result; they are empty when it belongs to no check.

    They hold text alone: pytest-html's click handler takes an element inside a cell for another row.
    """
    known = check or {}
    return [
        f'<td class="col-{key}{_tone(one_line(known.get(key)))}">{escape(one_line(known.get(key), 80))}</td>'
        for key in ("goal", "severity", "class")
    ]


def name_cell(nodeid: str) -> str:
    """Return the cell that names a test, escaped: pytest-html writes a node id into its page as it is."""
    return f'<td class="col-testId">{escape(one_line(nodeid))}</td>'


@cache
def _style() -> str:
    return files(__package__).joinpath("readiness.css").read_text(encoding="utf-8")


def _tone(word: str) -> str:
    return f" rd-{_TONE[word]}" if word in _TONE else ""


def _text(text: str) -> str:
    return "".join(
        f"<code>{escape(part)}</code>" if is_code else escape(part) for is_code, part in segments(text)
    )


def _banner(head: Headline) -> str:
    partial = f'<p class="rd-partial">{escape(head.partial)}</p>' if head.partial else ""
    mark = '<span class="rd-scope">PARTIAL</span>' if head.partial else ""
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in head.reasons)
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in head.facts
    )
    return (
        f'<header class="rd-banner{_tone(head.verdict)}"><h1>{escape(head.title)}</h1>'
        f'<p class="rd-verdict"><span>This run:</span>'
        f'<strong id="readiness-verdict">{escape(head.verdict)}</strong>{mark}'
        f"<span>Declaration: <b>{escape(head.declaration)}</b></span></p>"
        f"{f'<p>{_text(head.why)}</p>' if head.why else ''}"
        f"{partial}{f'<ul>{reasons}</ul>' if reasons else ''}<dl>{facts}</dl></header>"
    )


def _section(section: Section) -> str:
    body = "".join(map(_block, section.blocks))
    title = escape(section.title)
    if section.folded:
        return f"<details><summary>{title}</summary>{body}</details>"
    return f'<section aria-label="{title}"><h2>{title}</h2>{body}</section>'


def _block(block: Block) -> str:
    match block:
        case Table():
            return table(block)
        case Checklist():
            return f'<ul class="rd-checklist">{"".join(_ticks(block))}</ul>'
        case Steps():
            steps = "".join(f"<li>{_text(step)}</li>" for step in block.steps)
            note = f'<p class="rd-note">{_text(block.note)}</p>' if block.note else ""
            return f"<h3>{_text(block.title)}</h3><ol>{steps}</ol>{note}"
        case Paragraph():
            return (
                f"<p><strong>{_text(block.text)}</strong></p>"
                if block.strong
                else f"<p>{_text(block.text)}</p>"
            )
        case Actions():
            return f'<ol class="rd-actions">{"".join(map(_action, block.actions))}</ol>'
        case _:
            assert_never(block)


def _ticks(block: Checklist) -> Iterator[str]:
    for tick in block.ticks:
        mark, state, word = ("✓", "good", "done") if tick.done else ("○", "open", "open")
        note = f'<span class="rd-note">{_text(tick.note)}</span>' if tick.note else ""
        sign = f'<span class="rd-{state}" role="img" aria-label="{word}">{mark}</span>'
        yield f"<li>{sign} {_text(tick.text)}{note}</li>"


def _action(action: Action) -> str:
    rule = f'<p class="rd-note">Rule: {_text(action.rule)}</p>' if action.rule else ""
    following = f"<p>Next: {_text(action.next_action)}</p>" if action.next_action else ""
    command = f'<pre class="rd-command">{escape(action.command)}</pre>' if action.command else ""
    tags = "".join(f'<span class="rd-tag{_tone(tag)}">{escape(tag)}</span>' for tag in action.tags)
    title = f'<p class="rd-where"><code>{escape(action.where)}</code>{tags}</p>'
    return f"<li>{title}<p>{_text(action.summary)}</p>{rule}{following}{command}</li>"


def table(block: Table) -> str:
    """Return a table with every cell escaped."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in block.columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in block.rows)
    return f'<table class="rd-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(cell: Cell) -> str:
    note = f'<span class="rd-note">{_text(cell.note)}</span>' if cell.note else ""
    if cell.kind == "code":
        return f"<td><code>{escape(cell.text)}</code>{note}</td>"
    if cell.kind == "status":
        return f'<td><span class="rd-status{_tone(cell.text)}">{escape(cell.text)}</span>{note}</td>'
    return f"<td>{_text(cell.text)}{note}</td>"


def evidence(entries: Sequence[Mapping[str, Any]], title: str = "") -> str:
    """Return what was measured as one table, then everything else in its order. No entries: an empty text.

    ``title`` tells one attempt at a check from another. An entry of an unknown kind is shown as its data and
    never dropped.
    """
    if not entries:
        return ""
    heading = f"<h4>{escape(one_line(title))}</h4>" if title else ""
    measured = tuple(measurements(entries))
    figures = table(Table(MEASUREMENT_COLUMNS, measured)) if measured else ""
    others = "".join(_shown(entry) for entry in entries if entry.get("kind") not in _MEASUREMENTS)
    return f'<div class="rd rd-evidence">{heading}{figures}{others}</div>'


def extras(entries: Sequence[Mapping[str, Any]], title: str = "") -> list[dict[str, str | None]]:
    """Return the evidence as what pytest-html calls extras of a report; an empty list when there is none."""
    content = evidence(entries, title)
    extra = {"name": None, "format_type": "html", "content": content, "mime_type": None, "extension": None}
    return [extra] if content else []


def _shown(entry: Mapping[str, Any]) -> str:
    if entry.get("kind") == "exchange":
        return _exchange(entry)
    if entry.get("kind") == "note":
        return f"<p>{escape(one_line(entry.get('text')))}</p>"
    return f"<pre>{escape(printable(json.dumps(entry, indent=1, default=str)))}</pre>"


def _exchange(entry: Mapping[str, Any]) -> str:
    line = f"{one_line(entry.get('method'))} {one_line(entry.get('url'))}"
    took = f" in {number(entry.get('ms'))} ms" if entry.get("ms") is not None else ""
    sides = "".join(f"<h4>{name}</h4><pre>{escape(text)}</pre>" for name, text in _sides(entry) if text)
    answer = f"<b>{escape(one_line(entry.get('status')))}</b>{escape(took)}"
    return f"<details><summary><code>{escape(line)}</code> → {answer}</summary>{sides}</details>"


def _sides(entry: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name in ("request", "response"):
        side = entry.get(name)
        yield name.capitalize(), _message(side) if isinstance(side, Mapping) else one_line(side)


def _message(side: Mapping[str, Any]) -> str:
    headers = side.get("headers")
    lines = [f"{name}: {value}" for name, value in headers.items()] if isinstance(headers, Mapping) else []
    body = side.get("body")
    if body:
        text = body if isinstance(body, str) else json.dumps(body, indent=1, ensure_ascii=False, default=str)
        lines += ["", text] if lines else [text]
    return printable("\n".join(lines))
