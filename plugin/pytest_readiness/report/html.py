"""The report as one HTML page that loads no other resources, and our cells in pytest-html's page."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup, escape

from ..core.formats import counted, figure_bounds, number, one_line, printable
from .charts import pictures, spelled
from .columns import record, rows, sections, variables
from .document import headline, identity, moment, pairs, segments, short_builds, took

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from jinja2.bccache import Bucket

TEMPLATES = Path(__file__).parent / "templates"
#: Colours of the model's words: good, careful, bad, or quiet. All other words stay plain.
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
#: Outcomes in pytest-html's words, because its filters know only these.
RESULTS = {
    "passed": "Passed", "failed": "Failed", "flaky": "Rerun", "skipped": "Skipped", "deferred": "XFailed",
    "not-run": "Error",
}  # fmt: skip
#: Characters shown of a body if the check passed; otherwise everything recorded is shown.
BODY_LIMIT = 160


class Entry(NamedTuple):
    """One check on the page: its anchor, the words for the filters, evidence and command as text."""

    check: Mapping[str, Any]
    anchor: str
    facts: str
    evidence: str
    command: str


def render(model: Mapping[str, Any]) -> str:
    """Return the page; style and script are allowed by hash, and it is readable without the script."""
    checks = [_entry(check, model) for check in rows(model, "checks")]
    groups = {
        str(phase["name"]): (phase, [entry for entry in checks if entry.check.get("phase") == phase["name"]])
        for phase in rows(model, "phases")
    }
    style, script = _file("readiness.css"), _file("readiness.js")
    changes = model.get("changes")
    return page_template().render(
        model=model,
        head=headline(model),
        causes=rows(model, "blockers"),
        needed=variables(model),
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


def brief(model: Mapping[str, Any]) -> str:
    """Return the page for a run without results, such as one that has just begun: verdict and reasons."""
    head, style = headline(model), _file("readiness.css")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'"
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in head.reasons)
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in head.facts)
    kind = tone(head.verdict)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(head.verdict)}: {escape(head.title)}</title>
<style>{style}</style>
</head>
<body>
<header class="{kind}">
<h1>{escape(head.title)}</h1>
<p class="verdict"><strong id="readiness-verdict" class="{kind}">{escape(head.verdict)}</strong></p>
<ul>{reasons}</ul>
<dl>{facts}</dl>
</header>
</body>
</html>
"""


def anchor(check: object) -> str:
    """Return the short id of a check's section, the same in every report."""
    return "c-" + hashlib.sha256(str(check).encode("utf-8", "replace")).hexdigest()[:8]


#: A value that needs no quotes as an attribute.
_UNQUOTED = re.compile(r"[\w./#-]+")
#: Our columns in pytest-html's table.
_COLUMNS = {"goal": "Goal", "severity": "Severity", "class": "Class"}


def header_cells() -> list[str]:
    """Return the header cells of our columns in pytest-html's table."""
    return [f'<th class="sortable" data-column-type="{key}">{name}</th>' for key, name in _COLUMNS.items()]


def blank_cells() -> list[str]:
    """Return as many empty cells as :func:`header_cells`, for a row that is not a check."""
    return [f'<td class="col-{key}"></td>' for key in _COLUMNS]


def row(check: Mapping[str, Any], link: str, log: str) -> dict[str, Any]:
    """Return a check's row for pytest-html; ``link`` is the path from the page to the report.

    All cells are one text with few quotes and brackets, because each takes five characters in pytest-html's
    storage, JSON in an attribute. Only the last cell contains an element: pytest-html's click handler
    mistakes an element inside a cell for another row. ``log`` is the HTML that unfolds below the row; by
    default the check's summary.
    """
    words = {key: str(check.get(key) or "") for key in _COLUMNS}
    texts = {
        "result": RESULTS.get(str(check.get("outcome")), "Error"),
        "testId": escaped(check.get("nodeid")),
        **{key: escaped(word, 80) for key, word in words.items()},
        "duration": f"{check.get('duration_s') or 0:.2f} s",
    }
    cells = [f"<td class={_class(key, words.get(key, ''))}>{text}" for key, text in texts.items()]
    target = f"{escape(link)}#{anchor(check.get('id'))}"
    quote = "" if _UNQUOTED.fullmatch(target) else '"'
    cells.append(f"<td class=col-links><a href={quote}{target}{quote}>evidence</a>")
    log = log or escaped(check.get("summary")) or "No log output captured."
    return {**texts, "log": log, "resultsTableRow": ["".join(cells)]}


def _class(key: str, word: str) -> str:
    return f'"col-{key} rd-{tone(word)}"' if word and tone(word) != "plain" else f"col-{key}"


def name_cell(nodeid: str) -> str:
    """Return the cell that names a test, escaped: pytest-html writes a node id into its page as it is."""
    return f'<td class="col-testId">{escaped(nodeid)}</td>'


def banner(model: Mapping[str, Any], link: str) -> str:
    """Return the text above pytest-html's table: the verdict, and a link to the report."""
    made = _templates().get_template("results.html.j2").render(head=headline(model), link=link)
    return str(made).strip()


def tone(word: object) -> str:
    """Return the colour class of a word of the model."""
    return _TONE.get(str(word), "plain")


@cache
def page_template() -> Template:
    """Return the compiled template of the page."""
    return _templates().get_template("readiness.html.j2")


@cache
def _templates() -> Environment:
    # a run that has just begun does not need it
    from jinja2 import ChainableUndefined, Environment, FileSystemBytecodeCache, FileSystemLoader

    class Compiled(FileSystemBytecodeCache):
        def dump_bytecode(self, bucket: Bucket) -> None:
            with contextlib.suppress(OSError):  # without the cache they are compiled again
                super().dump_bytecode(bucket)

    kept = Compiled(str(TEMPLATES.parent / "__pycache__"), "%s.j2c")  # beside the modules' own bytecode
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        bytecode_cache=None if sys.dont_write_bytecode else kept,
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    made.filters |= {
        "anchor": anchor,
        "identity": identity,
        "line": one_line,
        "moment": moment,
        "number": number,
        "pairs": pairs,
        "short_builds": short_builds,
        "parts": lambda text: [*segments(one_line(text))],
        "spelled": spelled,
        "took": took,
        "tone": tone,
        "counted": counted,
    }
    return made


@cache
def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the content-security-policy hash of a style or script."""
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
    """Return the shell command, on one line, that reruns one check."""
    drills = " --drills" if check.get("drill") else ""
    nodeid = one_line(check.get("nodeid"))
    return f"pytest {shlex.quote(nodeid)} {one_line(model.get('reproduce_with'))}{drills}".rstrip()


def evidence_lines(entries: Sequence[Mapping[str, Any]], *, full: bool) -> Iterator[str]:
    """Yield a check's entries line by line; an entry of an unknown kind is shown as its data.

    ``full``: with the headers of exchanges and everything kept of their bodies.
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
    unit, bounds = one_line(entry.get("unit")), figure_bounds(entry)
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


def escaped(text: object, limit: int | None = None) -> str:
    """Return one line, escaped as an element's content."""
    return str(escape(one_line(text, limit)))
