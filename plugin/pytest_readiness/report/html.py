"""The report as one HTML page that loads nothing, and the cells of pytest-html's page."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markupsafe import Markup, escape

from ..core.formats import counted, number, one_line, printable
from .charts import pictures
from .document import segments
from .headline import headline, pairs
from .sections import record, rows, sections

TEMPLATES = Path(__file__).parent / "templates"
#: How a word of the model is coloured: good, careful, bad, or quiet. A word that is not here stays plain.
_TONES = {
    "good": ("READY", "PASS", "passed"),
    "careful": (
        *("DEGRADED", "NO_VERDICT", "PENDING", "flaky", "FLAKE", "EXTERNAL_OUTAGE", "SETUP_ERROR"),
        *("CHECK_ERROR", "not-run"),
    ),
    "bad": ("BROKEN", "FAIL", "failed", "PLATFORM_BUG"),
    "quiet": ("DEFERRED", "deferred", "skipped"),
}
_TONE = {word: tone for tone, words in _TONES.items() for word in words}
#: What pytest-html calls how a check ended: its filters know only pytest's own words.
RESULTS = {
    "passed": "Passed",
    "failed": "Failed",
    "flaky": "Rerun",
    "skipped": "Skipped",
    "deferred": "XFailed",
    "not-run": "Error",
}
#: What is shown of a body of a check that passed; of any other, all that was recorded.
BODY_LIMIT = 160


@dataclass(frozen=True, slots=True)
class Entry:
    """One check of the page: its anchor, the words that a filter compares, evidence and command as text."""

    check: Mapping[str, Any]
    anchor: str
    facts: str
    evidence: str
    command: str


def render(model: Mapping[str, Any]) -> str:
    """Return the page: own style and script by their hashes, everything readable without the script."""
    checks = [_entry(check, model) for check in rows(model, "checks")]
    groups = {
        str(phase["name"]): (phase, [entry for entry in checks if entry.check.get("phase") == phase["name"]])
        for phase in rows(model, "phases")
    }
    style, script = _file("readiness.css"), _file("readiness.js")
    changes = model.get("changes")
    return (
        _templates()
        .get_template("readiness.html.j2")
        .render(
            model=model,
            head=headline(model),
            causes=rows(model, "blockers"),
            runs=rows(model, "runs"),
            streak=model.get("streak") if isinstance(model.get("streak"), Mapping) else {},
            changes=changes if isinstance(changes, Mapping) else None,
            sections=sections(model)[1:],
            record=record(model),
            pictures=pictures(model),
            groups=groups,
            choices={
                key: sorted({str(check[key]) for check in rows(model, "checks") if check.get(key)})
                for key in ("goal", "severity", "outcome", "class")
            },
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            style_hash=_hash(style),
            script_hash=_hash(script),
        )
    )


def anchor(check: object) -> str:
    """Return the short id of a check's section, the same in every report."""
    return "c-" + hashlib.sha256(str(check).encode("utf-8", "replace")).hexdigest()[:8]


def header_cells() -> list[str]:
    """Return the header cells of our columns in pytest-html's table."""
    return _cells("header")


def blank_cells() -> list[str]:
    """Return as many cells as those of :func:`header_cells`, for a row that is no check's."""
    return _cells("blank")


def row_cells(check: Mapping[str, Any], link: str) -> list[str]:
    """Return all cells of a check's row; ``link`` is where the report is, seen from the page.

    They hold text alone, but for the last one: pytest-html's click handler takes an element inside a cell for
    another row.
    """
    return _cells("row", check, link, RESULTS.get(str(check.get("outcome")), "Error"))


def name_cell(nodeid: str) -> str:
    """Return the cell that names a test, escaped: pytest-html writes a node id into its page as it is."""
    return _cells("name", nodeid)[0]


def banner(model: Mapping[str, Any], link: str) -> str:
    """Return what stands above pytest-html's table: the verdict, and where the report is."""
    return "\n".join(_cells("banner", headline(model), link))


def _cells(macro: str, *arguments: object) -> list[str]:
    made = getattr(_templates().get_template("results.html.j2").module, macro)(*arguments)
    return str(made).strip().splitlines()


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    made.filters |= {
        "anchor": anchor,
        "line": one_line,
        "number": number,
        "pairs": pairs,
        "parts": lambda text: [*segments(one_line(text))],
        "tone": lambda word: _TONE.get(str(word), "plain"),
        "counted": counted,
    }
    return made


@cache
def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return what a content-security policy calls a style or a script of this content."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _entry(check: Mapping[str, Any], model: Mapping[str, Any]) -> Entry:
    words = [one_line(check.get(key), 80) for key in ("goal", "severity", "outcome", "class")]
    evidence = "\n".join(evidence_lines(rows(check, "evidence"), full=check.get("outcome") != "passed"))
    return Entry(
        check=check,
        anchor=anchor(check.get("id")),
        facts="\n".join(words),
        evidence=printable(evidence),
        command=command(check, model),
    )


def command(check: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """Return what runs one check again, as one line for a shell."""
    drills = " --drills" if check.get("drill") else ""
    nodeid = one_line(check.get("nodeid"))
    return f"pytest {shlex.quote(nodeid)} {one_line(model.get('reproduce_with'))}{drills}".rstrip()


def evidence_lines(entries: Sequence[Mapping[str, Any]], *, full: bool) -> Iterator[str]:
    """Yield what a check recorded, line by line; an entry of an unknown kind is shown as its data.

    ``full``: with the headers of exchanges and all that was kept of their bodies.
    """
    attempt = None
    for entry in entries:
        if entry.get("attempt") != attempt:
            attempt = entry.get("attempt")
            yield f"Attempt {attempt}"
        kind = entry.get("kind")
        if kind == "exchange":
            yield from _exchange(entry, full=full)
        elif kind == "figure":
            yield _figure(entry)
        elif kind == "evaluated":
            yield f"{one_line(entry.get('rule'))}: compared {one_line(entry.get('times'))}×"
        elif kind == "note":
            yield one_line(entry.get("text"))
        else:
            yield json.dumps(entry, ensure_ascii=False, default=str)


def _figure(entry: Mapping[str, Any]) -> str:
    unit = one_line(entry.get("unit"))
    bounds = [
        f"{word} {number(entry[word])} {unit}".strip()
        for word in ("expected", "limit")
        if entry.get(word) is not None
    ]
    against = f" ({', '.join(bounds)})" if bounds else ""
    return f"{one_line(entry.get('name'))} = {number(entry.get('value'))} {unit}".rstrip() + against


def _exchange(entry: Mapping[str, Any], *, full: bool) -> Iterator[str]:
    took = f" in {number(entry.get('ms'))} ms" if entry.get("ms") is not None else ""
    line = f"{one_line(entry.get('method'))} {one_line(entry.get('url'))}"
    yield f"{line} → {one_line(entry.get('status'))}{took}"
    for name, mark in (("request", ">"), ("response", "<")):
        side = entry.get(name)
        found = side if isinstance(side, Mapping) else {"body": side}
        headers = found.get("headers")
        if full and isinstance(headers, Mapping):
            yield from (f"  {mark} {one_line(key)}: {one_line(value)}" for key, value in headers.items())
        body = found.get("body")
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str)
        if body:
            yield f"  {mark} {one_line(text, None if full else BODY_LIMIT)}"


def escaped(text: object) -> str:
    """Return one line as the content of an element."""
    return str(escape(one_line(text)))
