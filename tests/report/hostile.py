"""Text that tries to break a report, and Markdown parsers that detect whether it did."""

import re
from typing import Any

from hypothesis import strategies as st

TOKENS = (
    *"|`\\<>&*_[]#~$!-+1. \n\r\u2028\x00a鍵",
    *(
        "\\|",
        "\\\\|",
        "`|`",
        "`\\`",
        "``",
        "`a`",
        "<b>",
        "&lt;",
        "</details>",
        "~~~",
        "```",
        "| a | b |",
        "\n# a",
        "\n\n|",
        "](",
    ),
)
HOSTILE = st.one_of(
    st.text(st.characters(codec=None), max_size=60),
    st.lists(st.sampled_from(TOKENS), max_size=8).map("".join),
)


def cells_by_parity(row: str) -> list[str]:
    """Split a row as cmark-gfm does: a backslash escapes the character after it."""
    return re.findall(r"((?:\\.|[^|\\]|\\$)*)\|", row.removeprefix("|"))


def cells_by_lookbehind(row: str) -> list[str]:
    """Split a row as markdown-it does: a pipe directly after a backslash is text."""
    return re.split(r"(?<!\\)\|", row)[1:-1]


def hostile(model: Any, text: str) -> Any:
    """Replace every text of a model, in cells and in lists, by ``text``; keys and structure stay."""
    if isinstance(model, dict):
        return {
            key: hostile(value, text) if key not in {"kind", "scope"} else value
            for key, value in model.items()
        }
    if isinstance(model, list):
        return [hostile(value, text) for value in model]
    return text if isinstance(model, str) else model


def tables(page: str) -> list[list[str]]:
    """Return the rows of every table, header first."""
    return [part.splitlines() for part in re.findall(r"(?:^\|.*\n)+", page, re.M)]


def outside_code(line: str) -> str:
    """Return the part of a line that CommonMark reads as text: no escaped characters, no code spans."""
    rest, text = line, ""
    while rest:
        if rest[0] == "\\":
            rest = rest[2:]
        elif rest[0] == "`":
            fence = re.match("`+", rest)[0]  # type: ignore[index]
            span = re.match(rf"{fence}(?!`).*?(?<!`){fence}(?!`)", rest)
            rest = rest[len(span[0] if span else fence) :]
        else:
            text, rest = text + rest[0], rest[1:]
    return text
