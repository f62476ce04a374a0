"""Expressions of GitHub workflows, evaluated with three values: true, false, and not known from the files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_TOKENS = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>[A-Za-z_][\w-]*)"
    r"|(?P<sign>==|!=|<=|>=|&&|\|\||[!<>()\[\].,*]))"
)
_EMBEDDED = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)
#: With one of these in a condition GitHub does not add `success() &&` in front of it.
STATUS_FUNCTIONS = frozenset({"always", "success", "failure", "cancelled"})
_ORDERING: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class NotAnExpression(AssertionError):
    """A text that is not an expression as GitHub writes them."""


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Any = _Unknown()


@dataclass(frozen=True, slots=True)
class Node:
    """A parsed expression: `op` is literal, name (a dotted context), call, `!` or an operator."""

    op: str
    value: Any = None
    args: tuple[Node, ...] = ()

    def calls(self) -> Iterator[str]:
        """Yield the names of all functions that are called."""
        if self.op == "call":
            yield self.value
        for arg in self.args:
            yield from arg.calls()


def parse(text: str) -> Node:
    """Parse a condition, with or without `${{ }}` around it. NotAnExpression for anything else."""
    stripped = text.strip()
    if stripped.startswith("${{") and stripped.endswith("}}") and stripped.count("${{") == 1:
        stripped = stripped[3:-2]
    if "${{" in stripped:
        # Text around expressions makes a string: never empty, so true, whatever they say.
        return Node("literal", stripped, tuple(parse(inner) for inner in _EMBEDDED.findall(stripped)))
    parser = _Parser(list(_tokens(stripped)))
    node = parser.either()
    if parser.rest:
        raise NotAnExpression(f"unexpected {parser.rest[0][1]!r} in {text!r}")
    return node


def evaluate(node: Node, name: Callable[[str], Any], call: Callable[[str], Any]) -> Any:
    """Return an expression's value, UNKNOWN where it depends on something unknown.

    `name` gives the value of a dotted context (a list for a filter), `call` that of a status function.
    """
    if node.op == "literal":
        return node.value
    if node.op == "name":
        return name(node.value)
    if node.op == "call":
        return _call(node, [evaluate(arg, name, call) for arg in node.args], call)
    if node.op == "!":
        value = truth(evaluate(node.args[0], name, call))
        return UNKNOWN if value is UNKNOWN else not value
    left, right = (evaluate(arg, name, call) for arg in node.args)
    if node.op in {"&&", "||"}:
        return _both(left, right) if node.op == "&&" else _either(left, right)
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    return _compare(node.op, left, right)


def truth(value: Any) -> Any:
    """True, False or UNKNOWN: null, false, 0, '' and NaN are false."""
    if value is UNKNOWN:
        return UNKNOWN
    return not (value is None or value is False or value == "" or value == 0 or value != value)


def _both(left: Any, right: Any) -> Any:
    if truth(left) is False:
        return left
    if truth(left) is True:
        return right
    return False if truth(right) is False else UNKNOWN


def _either(left: Any, right: Any) -> Any:
    if truth(left) is True:
        return left
    if truth(left) is False:
        return right
    return True if truth(right) is True else UNKNOWN


def _compare(op: str, left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        left, right = left.lower(), right.lower()
        if op in _ORDERING:
            return UNKNOWN
        equal = left == right
    elif isinstance(left, list) or isinstance(right, list):
        return UNKNOWN
    else:
        a, b = _number(left), _number(right)
        if op in _ORDERING:
            return _ORDERING[op](a, b)
        equal = a == b
    return equal if op == "==" else not equal


def _number(value: Any) -> float:
    if value is None:
        return 0.0
    try:
        return float(value) if value != "" else 0.0
    except ValueError:
        return math.nan


def _call(node: Node, args: Sequence[Any], call: Callable[[str], Any]) -> Any:
    if node.value in STATUS_FUNCTIONS:
        return call(node.value)
    if any(arg is UNKNOWN for arg in args):
        return UNKNOWN
    if node.value == "contains" and len(args) == 2:
        where, what = args
        if isinstance(where, list):
            found = [_compare("==", item, what) if item is not UNKNOWN else UNKNOWN for item in where]
            return True if True in found else UNKNOWN if UNKNOWN in found else False
        return str(what).lower() in str(where).lower()
    if node.value in {"startswith", "endswith"} and len(args) == 2:
        texts = [str(arg).lower() for arg in args]
        return texts[0].startswith(texts[1]) if node.value == "startswith" else texts[0].endswith(texts[1])
    return UNKNOWN


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text.rstrip()):
        match = _TOKENS.match(text, position)
        if match is None:
            raise NotAnExpression(f"cannot read {text[position:].strip()[:20]!r} in {text!r}")
        yield str(match.lastgroup), match.group().strip()
        position = match.end()


class _Parser:
    def __init__(self, rest: list[tuple[str, str]]) -> None:
        self.rest = rest

    def either(self) -> Node:
        return self._chain(("||",), lambda: self._chain(("&&",), self._equality))

    def _equality(self) -> Node:
        return self._chain(("==", "!="), lambda: self._chain(tuple(_ORDERING), self._unary))

    def _chain(self, signs: tuple[str, ...], part: Callable[[], Node]) -> Node:
        node = part()
        while self._next() in signs:
            op = self._take()[1]
            node = Node(op, None, (node, part()))
        return node

    def _unary(self) -> Node:
        if self._next() == "!":
            self._take()
            return Node("!", None, (self._unary(),))
        return self._primary()

    def _primary(self) -> Node:
        kind, text = self._take()
        if text == "(":
            node = self.either()
            self._expect(")")
            return node
        if kind == "string":
            return Node("literal", text[1:-1].replace("''", "'"))
        if kind == "number":
            return Node("literal", float(text))
        if kind != "word":
            raise NotAnExpression(f"unexpected {text!r}")
        if text in {"true", "false", "null"}:
            return Node("literal", {"true": True, "false": False, "null": None}[text])
        if self._next() == "(":
            self._take()
            args = []
            while self._next() != ")":
                args.append(self.either())
                if self._next() == ",":
                    self._take()
            self._expect(")")
            return Node("call", text.lower(), tuple(args))
        return Node("name", self._context(text))

    def _context(self, first: str) -> str:
        parts = [first]
        while self._next() in {".", "["}:
            bracket = self._take()[1] == "["
            kind, text = self._take()
            parts.append(text[1:-1] if kind == "string" else text)
            if bracket:
                self._expect("]")
        return ".".join(parts)

    def _next(self) -> str:
        return self.rest[0][1] if self.rest else ""

    def _take(self) -> tuple[str, str]:
        if not self.rest:
            raise NotAnExpression("the expression ends too early")
        return self.rest.pop(0)

    def _expect(self, sign: str) -> None:
        if self._take()[1] != sign:
            raise NotAnExpression(f"expected {sign!r}")
