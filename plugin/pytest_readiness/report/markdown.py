"""The report as GitHub-flavoured Markdown.

Also GitHub Actions' annotations of the causes, and the job summary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, assert_never

from ..core.formats import one_line
from .columns import appendix, rows, sections
from .document import (
    Action,
    Actions,
    Block,
    Cell,
    Checklist,
    Headline,
    Paragraph,
    Section,
    Steps,
    Table,
    and_others,
    headline,
    owner_of,
    segments,
    summary_of,
)

# An underscore inside a word is literal in GitHub's dialect, which keeps PLATFORM_BUG readable in the source.
_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# A code span in a table can hold neither: a pipe ends the cell, a backslash before it changes its meaning.
_NOT_CODE = re.compile(r"[`|\\]")


#: Maximum bytes of the file: a comment on GitHub may have 65,536 characters.
LIMIT = 60_000


def render(model: Mapping[str, Any]) -> str:
    """Return the report: headline, sections, then the folded detail. Every text of the model is escaped.

    Detail that does not fit into a pull request's comment is only in the other reports.
    """
    lines: list[str] = list(_headline(headline(model)))
    for section in sections(model):
        lines.extend(_section(section))
    text = "\n".join(lines)
    for section in appendix(model, LIMIT - len(text)):
        detail = "\n".join(_section(section)) if section.blocks else ""
        if not detail or len((text + detail).encode("utf-8", "replace")) > LIMIT:
            detail = f"{section.title}: in readiness.html.\n"
        text += "\n" + detail
    return text.rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Return one line of prose, escaped except for `code` spans."""
    if "`" not in text:
        return _literal(text)
    return "".join(_code(part) if is_code else _literal(part) for is_code, part in segments(text))


def _literal(text: str) -> str:
    text = _SPECIAL.sub(lambda match: "\\" + match[0], text)
    text = re.sub(r"&(?=[#A-Za-z])", "&amp;", text).replace("<", "&lt;").replace(">", "&gt;")
    # Two dollar signs in one text would read as a formula.
    return text.replace("$", "\\$") if text.count("$") > 1 else text


def _code(text: str) -> str:
    if not text.strip() or _NOT_CODE.search(text):
        return _literal(f"`{text}`")
    return f"`{text}`"


def _headline(head: Headline) -> Iterator[str]:
    yield f"# {escape(head.title)}"
    yield ""
    yield f"**Verdict: {escape(head.verdict)}**" + (" (PARTIAL)" if head.partial else "")
    yield ""
    yield f"**Declaration: {escape(head.declaration)}**" + (f" ({escape(head.why)})" if head.why else "")
    yield ""
    if head.partial:
        yield head.partial
        yield ""
    if head.reasons:
        yield from (f"- {_start(escape(reason))}" for reason in head.reasons)
        yield ""
    yield from _table(
        Table(("Fact", "Value"), tuple((Cell(name), Cell(value)) for name, value in head.facts))
    )


def _section(section: Section) -> Iterator[str]:
    if section.folded:
        yield from ("<details>", f"<summary>{section.title}</summary>", "")
    else:
        yield from (f"## {escape(section.title)}", "")
    for block in section.blocks:
        yield from _block(block)
    if section.folded:
        yield from ("</details>", "")


def _block(block: Block) -> Iterator[str]:
    match block:
        case Table():
            yield from _table(block)
        case Checklist():
            yield from (
                f"- [{'x' if tick.done else ' '}] {escape(tick.text)}"
                + (f": {escape(tick.note)}" if tick.note else "")
                for tick in block.ticks
            )
            yield ""
        case Steps():
            yield from (f"### {escape(block.title)}", "")
            yield from (f"{place}. {_start(escape(step))}" for place, step in enumerate(block.steps, start=1))
            yield from ("", *([escape(block.note), ""] if block.note else []))
        case Paragraph():
            yield from (f"**{escape(block.text)}**" if block.strong else _start(escape(block.text)), "")
        case Actions():
            for place, action in enumerate(block.actions, start=1):
                yield from _action(place, action)
        case _:
            assert_never(block)


def _start(line: str) -> str:
    """Keep the first characters of a paragraph from opening a heading, a list, a quote or a rule."""
    return re.sub(r"^(#|[-+=]|\d+(?=[.)]))", lambda match: _escaped_start(match[0]), line)


def _escaped_start(start: str) -> str:
    return f"{start}&#8203;" if start.isdigit() else f"\\{start}"


def _action(place: int, action: Action) -> Iterator[str]:
    indent = " " * len(f"{place}. ")
    tags = f" ({escape(', '.join(action.tags))})" if action.tags else ""
    yield f"{place}. **{escape(action.where)}**{tags}: {escape(action.summary)}"
    if action.rule:
        seen = f". Observed: {escape(action.observed)}" if action.observed else ""
        yield from ("", f"{indent}Rule: {escape(action.rule)}{seen}")
    if action.next_action:
        who = f" ({escape(action.who)})" if action.who else ""
        yield from ("", f"{indent}Next{who}: {escape(action.next_action)}")
    if action.command:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", action.command)), default=0))
        yield from ("", f"{indent}{fence}sh", f"{indent}{action.command}", f"{indent}{fence}")
    yield ""


def _table(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(table.columns)} |"
    yield f"|{'|'.join('-' * (len(column) + 2) for column in table.columns)}|"
    yield from (f"| {' | '.join(map(_cell, row))} |" for row in table.rows)
    yield ""


def _cell(cell: Cell) -> str:
    text = _code(cell.text) if cell.kind == "code" and "`" not in cell.text else escape(cell.text)
    return f"{text} ({escape(cell.note)})" if cell.note else text


#: Variables of a GitHub runner: its marker, and the file of the step's summary.
ACTIONS, SUMMARY = "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"
#: GitHub shows ten annotations of a kind for each step, and takes a summary of up to 1 MiB.
ANNOTATIONS, SUMMARY_LIMIT = 10, 1024 * 1024
_REST = "\n\nThe rest is in readiness.md.\n"
_PLACE = re.compile(r"(.+?)(?::(\d+))?")


def workflow_commands(model: Mapping[str, Any]) -> list[str]:
    """Return a workflow command for each of the first ten causes.

    It is an error, a warning for a P1, and a notice in a READY run, where it names the next step.
    """
    ready = model.get("verdict") == "READY"
    checks = {check.get("id"): check for check in rows(model, "checks")}
    return [
        _command(
            "notice" if ready else "warning" if blocker.get("severity") == "P1" else "error",
            blocker,
            checks.get(blocker.get("check"), {}),
        )
        for blocker in rows(model, "blockers")[:ANNOTATIONS]
    ]


def job_summary(model: Mapping[str, Any], taken: int = 0) -> str:
    """Return Markdown to append to a job summary of ``taken`` bytes, cut to GitHub's limit.

    It is cut between two sections, or is empty if not even the first one fits.
    """
    text = f"\n{render(model)}"
    room = SUMMARY_LIMIT - 1 - taken
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= room:
        return text
    start = data[: max(0, room - len(_REST))].decode("utf-8", "ignore").rpartition("\n## ")[0]
    return start + _REST if start else ""


def _command(level: str, blocker: Mapping[str, Any], check: Mapping[str, Any]) -> str:
    words = (one_line(blocker.get("severity")), one_line(blocker.get("class")), and_others(blocker))
    title = one_line(" ".join(filter(None, words)) or blocker.get("goal") or "the run", 200)
    properties = ",".join(f"{name}={_property(value)}" for name, value in (*_place(check), ("title", title)))
    next_action = one_line(blocker.get("next_action"), 300)
    message = summary_of(blocker, 500)
    if next_action:
        who = f" ({owner})" if (owner := owner_of(blocker)) else ""
        message = f"{message.removesuffix('.')}. Next{who}: {next_action}"
    return f"::{level} {properties}::{_data(message)}"


def _place(check: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield file and line where the failure was raised, or else the check's file."""
    where = one_line(check.get("where")) or one_line(check.get("nodeid")).partition("::")[0]
    if found := _PLACE.fullmatch(where):
        yield "file", found[1]
        if found[2]:
            yield "line", found[2]


def _data(text: str) -> str:
    """Escape the message of a workflow command, as GitHub's own toolkit does."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
