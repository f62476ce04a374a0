"""Changes of SQL statements: a condition dropped, a boundary moved, an assignment or a lock left out."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_STATEMENT = re.compile(r"\s*(?:WITH|SELECT|INSERT|UPDATE|DELETE)\s")
#: What ends a condition or an assignment, outside of parentheses.
_ENDS = re.compile(r"\b(?:AND|OR|WHERE|FROM|RETURNING|ORDER|LIMIT|FOR|GROUP|ON)\b|,|$")
_EQUAL = re.compile(r"([\w.]+) = (%s|%\(\w+\)s)$")
_SWAPS = {
    "<=": "<",
    "<": "<=",
    ">=": ">",
    ">": ">=",
    "+": "-",
    "-": "+",
    "OR": "AND",
    "least": "greatest",
    "greatest": "least",
    "sum": "max",
}
_SWAPPED = re.compile(r"(?<=[\s(])(?:<=|<|>=|>|\+|-|OR)(?=\s)|\b(?:least|greatest|sum)(?=\()")
_DROPPED = re.compile(r"ON CONFLICT DO NOTHING|FOR UPDATE SKIP LOCKED|SKIP LOCKED|FOR UPDATE|ORDER BY [\w.]+")
_LITERAL = re.compile(r"'([a-z]+)'")
_NUMBER = re.compile(r"(?<![\w.(%])(?<!SELECT )\d+(?![\w.])|(?<=\()\d+(?=,)|(?<=')\d+(?= )")


class Change(NamedTuple):
    """Replace the characters from `start` to `end` by `text`."""

    operator: str
    start: int
    end: int
    text: str


def is_sql(text: str) -> bool:
    """Tell whether a string of a program is an SQL statement."""
    return _STATEMENT.match(text) is not None


def changes(sql: str) -> Iterator[Change]:
    """Yield every change of a statement, or of the part of one between two values of an f-string."""
    yield from _conditions(sql)
    yield from _assignments(sql)
    for found in _SWAPPED.finditer(sql):
        yield Change("sql-operator", *found.span(), _SWAPS[found[0]])
    for found in _DROPPED.finditer(sql):
        yield Change("sql-clause", *found.span(), "")
    for found in _LITERAL.finditer(sql):
        yield Change("sql-literal", *found.span(), f"'{found[1]}x'")
    for found in _NUMBER.finditer(sql):
        for step in (1, -1):
            yield Change("sql-number", *found.span(), str(int(found[0]) + step))


def _conditions(sql: str) -> Iterator[Change]:
    """Leave a condition out; compare without regard to case."""
    for word in re.finditer(r"\b(?:WHERE|AND)\b", sql):
        end = _end(sql, word.end())
        condition = sql[word.end() : end].strip()
        if not condition:
            continue
        yield Change("sql-condition", word.start(), end, f"{word[0]} true ")
        equal = _EQUAL.fullmatch(condition)
        if equal is not None:
            blind = f"{word[0]} lower({equal[1]}::text) = lower({equal[2]}::text) "
            yield Change("sql-case-blind", word.start(), end, blind)


def _assignments(sql: str) -> Iterator[Change]:
    """Leave out one of several assignments of an UPDATE."""
    for word in re.finditer(r"\bSET\b", sql):
        spans, start = [], word.end()
        while True:
            end = _end(sql, start)
            spans.append((start, end))
            if sql[end : end + 1] != ",":
                break
            start = end + 1
        for number, (start, end) in enumerate(spans):
            if len(spans) > 1:
                last = number == len(spans) - 1
                yield Change("sql-assignment", start - last, end + (not last), " ")


def _end(sql: str, start: int) -> int:
    """Return where the expression that begins at `start` ends."""
    depth, at = 0, start
    while at < len(sql):
        depth += {"(": 1, ")": -1}.get(sql[at], 0)
        if depth < 0 or (depth == 0 and at > start and _ENDS.match(sql, at)):
            return at
        at += 1
    return at
