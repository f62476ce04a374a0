"""The evidence of one check as HTML, for its row in pytest-html's results: sent, received, measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .appendix import MEASUREMENT_COLUMNS, measurements
from .blocks import Table
from .html import table
from .text import number, one_line, printable

_MEASUREMENTS = ("figure", "evaluated")


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
