"""A module's source and its SQL statements, the places where a change can be made, and the change made."""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

_STATEMENT = re.compile(r"\s*(?:WITH|SELECT|INSERT|UPDATE|DELETE)\s")
#: What ends a condition or an assignment, outside of parentheses.
_ENDS = re.compile(r"\b(?:AND|OR|WHERE|FROM|RETURNING|ORDER|LIMIT|FOR|GROUP|ON)\b|,|$")
_EQUAL = re.compile(r"([\w.]+) = (%s|%\(\w+\)s)$")
_SWAPS = {
    "<=": "<", "<": "<=", ">=": ">", ">": ">=", "+": "-", "-": "+", "OR": "AND", "least": "greatest",
    "greatest": "least", "sum": "max",
}  # fmt: skip
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
    """Return whether a string of a program is an SQL statement."""
    return _STATEMENT.match(text) is not None


def sql_changes(sql: str) -> Iterator[Change]:
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


#: Log messages are not part of the contract, and error texts for people have no fixed words.
_LOGS = frozenset(("_log", "logging"))
_SAYS = {"ApiError": 2, "bad_request": 0, "unavailable": 0, "unauthorized": 1}
_COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.AsyncFor, ast.AsyncWith)


Operators = Mapping[type[ast.AST], tuple[Callable[["Finder", Any], None], ...]]


@dataclass(frozen=True, slots=True)
class Edit:
    """One change: bytes `start` to `end` of the source become `text`.

    `before` and `after` show it to a person. A line from `first` to `last` runs when the changed place does;
    both are 0 for what runs at import. `names` are what it gives a value to then.
    """

    operator: str
    function: str
    start: int
    end: int
    text: str
    line: int
    before: str
    after: str
    first: int = 0
    last: int = 0
    names: tuple[str, ...] = ()


def applied(source: str, edit: Edit) -> str:
    """Return the source with the change made."""
    raw = source.encode()
    return (raw[: edit.start] + edit.text.encode() + raw[edit.end :]).decode()


class Finder(ast.NodeVisitor):
    """Collects the edits; knows in which function and statement it is."""

    def __init__(self, source: str, operators: Operators) -> None:
        self.edits: list[Edit] = []
        self._operators = operators
        self._raw = source.encode()
        self._lines = [0]
        for line in self._raw.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._names: list[str] = []
        self.depth = 0
        self._statement: ast.stmt | None = None

    # What is visited

    def visit(self, node: ast.AST) -> None:
        """Collect the mutants of a node and its children."""
        if isinstance(node, ast.stmt):
            self._statement = node
        if isinstance(node, (ast.Import, ast.ImportFrom)) or is_log(node) or _is_alias(node):
            return
        for operator in self._operators.get(type(node), ()):
            operator(self, node)
        super().visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Enter a class; a protocol does nothing."""
        if any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases):
            return
        self._names.append(node.name)
        self._bodies(node.body)
        self._names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Enter a function; annotations and decorators are left alone."""
        if node.name == "__repr__":
            return
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        with self.inside(node):
            self._bodies(node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Look at the value only."""
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave the parts alone: what is inside of an f-string has no place of its own."""

    def visit_Expr(self, node: ast.Expr) -> None:
        """Leave a docstring alone."""
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        """Look into what is raised, its words left out."""
        if isinstance(node.exc, ast.Call):
            self._call_but_words(node.exc)

    def visit_Call(self, node: ast.Call) -> None:
        """Look into a call; what an error says to a person is left out."""
        self._call_but_words(node)

    def _call_but_words(self, node: ast.Call) -> None:
        says = _SAYS.get(name_of(node.func))
        for number, part in enumerate(node.args):
            if not (number == says or is_prose(part)):
                self.visit(part)
        self.visit(node.func)
        for keyword in node.keywords:
            self.visit(keyword.value)

    def _bodies(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    @contextmanager
    def inside(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[None]:
        """Have what is noted in the block belong to this function."""
        self._names.append(node.name)
        self.depth += 1
        yield
        self.depth -= 1
        self._names.pop()

    # How an edit is noted

    def add(self, operator: str, node: ast.AST, new: ast.AST | str) -> None:
        """Note that a node becomes another, or a text."""
        start, end = self.span(node)
        text = new if isinstance(new, str) else _unparsed(new)
        before = self._raw[start:end].decode()
        self.note(operator, start, end, text, before=before, after=text)

    def note(
        self,
        operator: str,
        start: int,
        end: int,
        text: str,
        *,
        before: str,
        after: str,
        statement: ast.stmt | None = None,
    ) -> None:
        """Note an edit of these bytes, in the statement that is visited or in the one given."""
        line = self._raw.count(b"\n", 0, start) + 1
        first = last = 0
        statement = statement or self._statement
        if self.depth and statement is not None:
            first, last = statement.lineno, statement.end_lineno or line
            if isinstance(statement, _COMPOUND):
                first, last = line, max(line, line + self._raw[start:end].count(b"\n"))
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):  # a default
            first, last = statement.body[0].lineno, statement.end_lineno or line
        name, names = ".".join(self._names), () if self.depth else given(statement)
        self.edits.append(
            Edit(operator, name, start, end, text, line, _one(before), _one(after), first, last, names)
        )

    def span(self, node: Any) -> tuple[int, int]:
        """Return the bytes that a node covers."""
        return (
            self._lines[node.lineno - 1] + node.col_offset,
            self._lines[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.AST, until: ast.AST | None = None) -> str:
        """Return the source of a node, or what stands between it and another one."""
        start, end = self.span(node)
        if until is not None:
            start, end = end, self.span(until)[0]
        return self._raw[start:end].decode()


def given(statement: ast.AST | None) -> tuple[str, ...]:
    """Return the names that an assignment gives a value to."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    found = [each for target in targets if target is not None for each in ast.walk(target)]
    return tuple(each.id for each in found if isinstance(each, ast.Name))


class Reads(ast.NodeVisitor):
    """Where a module reads names: `later` the lines in functions, `at_import` the names made from them."""

    def __init__(self, source: str) -> None:
        self.later: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
        self.at_import: defaultdict[str, set[str]] = defaultdict(set)
        self._depth = 0
        self._statement: ast.stmt | None = None
        self.visit(ast.parse(source))

    def visit(self, node: ast.AST) -> None:
        """Note a name that is read, and the names inside it."""
        if isinstance(node, ast.stmt):
            self._statement = node
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            self._read(node.id if isinstance(node, ast.Name) else node.attr, node)
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        self._depth += function
        super().generic_visit(node)
        self._depth -= function

    def _read(self, name: str, node: ast.expr) -> None:
        if not self._depth:
            self.at_import[name].update(given(self._statement))
            return
        at: ast.stmt | ast.expr = node
        if self._statement is not None and not isinstance(self._statement, _COMPOUND):
            at = self._statement
        self.later[name].add((at.lineno, at.end_lineno or at.lineno))


def is_log(node: ast.AST) -> bool:
    """Return whether a statement writes to the log, or makes one."""
    call = node.value if isinstance(node, ast.Expr) else None
    names = (
        {each.id for each in ast.walk(call.func) if isinstance(each, ast.Name)}
        if isinstance(call, ast.Call)
        else set()
    )
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    return bool(names & _LOGS) or (isinstance(target, ast.Name) and target.id == "_log")


def _is_alias(node: ast.AST) -> bool:
    """Return whether a statement gives a type a name."""
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript) and node.col_offset == 0


def is_prose(node: ast.AST) -> bool:
    """Return whether a string is written for people: three words or more."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = "".join(
        str(each.value) for each in parts if isinstance(each, ast.Constant) and isinstance(each.value, str)
    )
    return text.count(" ") > 1 and not is_sql(text)


def name_of(node: ast.AST) -> str:
    """Return the last name of a call's target, "" if it has none."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _unparsed(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if isinstance(node, (ast.Name, ast.Attribute, ast.JoinedStr)) else f"({text})"


def _one(text: str) -> str:
    return " ".join(text.split())
