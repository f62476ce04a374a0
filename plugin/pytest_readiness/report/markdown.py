"""The report as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, assert_never

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
    headline,
    segments,
)
from .sections import appendix, sections

# An underscore inside a word is literal in GitHub's dialect, which keeps PLATFORM_BUG readable in the source.
_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# A code span in a table can hold neither: a pipe ends the cell, a backslash before it changes its meaning.
_NOT_CODE = re.compile(r"[`|\\]")


#: Bytes that the file may have: a comment on GitHub takes 65,536 characters.
LIMIT = 60_000


def render(model: Mapping[str, Any]) -> str:
    """Return the report: headline, sections, then the folded detail. Every text of the model is escaped.

    Detail that would make it longer than what a comment on a pull request holds is left to the other reports.
    """
    lines: list[str] = list(_headline(headline(model)))
    for section in sections(model):
        lines.extend(_section(section))
    text = "\n".join(lines)
    for section in appendix(model, LIMIT):
        detail = "" if section.least > LIMIT else "\n".join(_section(section))
        if not detail or len((text + detail).encode("utf-8", "replace")) > LIMIT:
            detail = f"{section.title}: in readiness.html.\n"
        text += "\n" + detail
    return text.rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Return one line of prose in which only `code` spans keep a meaning."""
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
        yield from ("", f"{indent}Rule: {escape(action.rule)}")
    if action.next_action:
        yield from ("", f"{indent}Next: {escape(action.next_action)}")
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
