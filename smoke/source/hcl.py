"""Terraform files as plain blocks and expressions with their lines; parsed once per content, then cached."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import hcl2
from lark import Token, Tree
from lark.exceptions import LarkError, UnexpectedInput

from .checkout import Malformed

#: Part of a cached file's name: a change of the form makes older entries unreadable, so it gets a new number.
FORM = 2


@dataclass(frozen=True, slots=True)
class Expr:
    """An expression. `kind` says what `value` is:

    literal: str, int, float, bool or None; template: list of Expr; ref: the dotted name, indices kept
    (`aws_iam_role.x[0].arn`); list: list of Expr; object: list of (key Expr, value Expr);
    call: (name, list of Expr); other: (source text, list of the refs in it).
    """

    kind: str
    line: int
    value: Any

    def refs(self) -> Iterator[Expr]:
        """Yield every reference in the expression, at any depth."""
        if self.kind == "ref":
            yield self
        for child in self.children():
            yield from child.refs()

    def children(self) -> Iterator[Expr]:
        """Yield the expressions directly inside."""
        if self.kind in {"template", "list"}:
            yield from self.value
        elif self.kind == "object":
            for key, value in self.value:
                yield from (key, value)
        elif self.kind in {"call", "other"}:
            yield from self.value[1]

    def entries(self) -> dict[str, Expr]:
        """The entries of an object by literal key; empty for anything else."""
        if self.kind != "object":
            return {}
        return {str(key.value): value for key, value in self.value if key.kind in {"literal", "ref"}}

    def items(self) -> list[Expr]:
        """The items of a list; empty for anything else."""
        return list(self.value) if self.kind == "list" else []

    def to_data(self) -> list[Any]:
        """Return the expression as JSON data."""
        value = self.value
        if self.kind in {"template", "list"}:
            value = [item.to_data() for item in value]
        elif self.kind == "object":
            value = [[key.to_data(), item.to_data()] for key, item in value]
        elif self.kind in {"call", "other"}:
            value = [value[0], [item.to_data() for item in value[1]]]
        return [self.kind, self.line, value]

    @classmethod
    def from_data(cls, data: list[Any]) -> Expr:
        """Rebuild an expression from `to_data`."""
        kind, line, value = data
        if kind in {"template", "list"}:
            value = [cls.from_data(item) for item in value]
        elif kind == "object":
            value = [(cls.from_data(key), cls.from_data(item)) for key, item in value]
        elif kind in {"call", "other"}:
            value = (value[0], [cls.from_data(item) for item in value[1]])
        return cls(kind, line, value)


@dataclass(frozen=True, slots=True)
class Block:
    """A block: `resource "aws_ecs_service" "api" { ... }` has type resource and two labels."""

    type: str
    labels: tuple[str, ...]
    line: int
    attributes: dict[str, Expr]
    blocks: tuple[Block, ...]

    def nested(self, type_: str) -> list[Block]:
        """The blocks of one type directly inside."""
        return [block for block in self.blocks if block.type == type_]

    def to_data(self) -> list[Any]:
        """Return the block as JSON data."""
        attributes = {name: value.to_data() for name, value in self.attributes.items()}
        return [self.type, self.labels, self.line, attributes, [block.to_data() for block in self.blocks]]

    @classmethod
    def from_data(cls, data: list[Any]) -> Block:
        """Rebuild a block from `to_data`."""
        type_, labels, line, attributes, blocks = data
        return cls(
            type_, tuple(labels), line,
            {name: Expr.from_data(value) for name, value in attributes.items()},
            tuple(cls.from_data(block) for block in blocks),
        )  # fmt: skip


@dataclass(frozen=True)
class Parser:
    """Parses files, remembering by content in `cache` (a directory, shared by any number of processes)."""

    cache: Path

    def parse(self, text: str, path: str) -> Block:
        """Return a file as one block without a type. Malformed names `path` and the line."""
        stored = self.cache / f"{self._form}-{hashlib.sha256(text.encode()).hexdigest()}.json"
        try:
            return Block.from_data(json.loads(stored.read_text("utf-8")))
        except (FileNotFoundError, ValueError):  # not there, or torn by a killed run
            pass
        block = convert(text, path)
        self.cache.mkdir(parents=True, exist_ok=True)
        new = stored.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(block.to_data()), "utf-8")
        new.replace(stored)
        return block

    @cached_property
    def _form(self) -> str:
        from importlib.metadata import version

        return f"{FORM}-{version('python-hcl2')}"


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
#: A name alone between ${ and }, as in a heredoc, which the grammar leaves unread.
_INTERPOLATED = re.compile(r"\$\{\s*([A-Za-z_][\w.-]*(?:\[[^\]]*\][\w.-]*)*)\s*\}")
_CONSTANTS = {"true": True, "false": False, "null": None}
Node = Tree[Token]


def convert(text: str, path: str) -> Block:
    """Parse a file. Malformed names `path` and the line."""
    try:
        tree = hcl2.parses_to_tree(text)
    except UnexpectedInput as error:
        raise Malformed(f"{path}:{error.line}: not valid Terraform") from error
    except LarkError as error:
        raise Malformed(f"{path}: not valid Terraform: {error}") from error
    return _Converter(text).body(_trees(tree)[0], "", (), 1)


class _Converter:
    def __init__(self, text: str) -> None:
        self._text = text

    def body(self, node: Node, type_: str, labels: tuple[str, ...], line: int) -> Block:
        attributes = {}
        blocks = []
        for child in _trees(node):
            if child.data == "attribute":
                name, value = _trees(child)
                attributes[_word(name)] = self.expr(value)
            elif child.data == "block":
                *names, inner = _values(child)
                words = [self._label(name) for name in names]
                blocks.append(self.body(inner, words[0], tuple(words[1:]), child.meta.line))
        return Block(type_, labels, line, attributes, tuple(blocks))

    def expr(self, node: Node) -> Expr:
        """Convert an expression; what has no kind of its own keeps its text and its references."""
        line = node.meta.line
        data = node.data
        if data == "expr_term":
            return self.expr(_values(node)[0])
        if data == "string":
            return self._string(node)
        if data in {"int_lit", "float_lit"}:
            return Expr("literal", line, (int if data == "int_lit" else float)(_word(node)))
        if data == "literal_value":
            return Expr("literal", line, _CONSTANTS[_word(node)])
        if data in {"heredoc_template", "heredoc_template_trim"}:
            text = _word(node)
            return Expr(
                "other", line, (text, [Expr("ref", line, name) for name in _INTERPOLATED.findall(text)])
            )
        if data in {"identifier", "get_attr_expr_term", "index_expr_term"}:
            return Expr("ref", line, self._source(node)) if _is_named(node) else self._other(node)
        if data == "tuple":
            return Expr("list", line, [self.expr(tree) for tree in _values(node)])
        if data == "object":
            return Expr("object", line, [self._entry(tree) for tree in _values(node)])
        if data == "function_call":
            arguments = [tree for tree in _trees(node) if tree.data == "arguments"]
            given = [self.expr(tree) for each in arguments for tree in _values(each)]
            return Expr("call", line, (_word(_trees(node)[0]), given))
        return self._other(node)

    def _entry(self, node: Node) -> tuple[Expr, Expr]:
        key, value = _trees(node)
        name = _trees(key)[0]
        if name.data == "keyword":
            return Expr("literal", key.meta.line, _word(name)), self.expr(value)
        return self.expr(name), self.expr(value)

    def _string(self, node: Node) -> Expr:
        parts: list[Expr] = []
        for part in _trees(node):
            inner = part.children[0]
            if isinstance(inner, Token):
                parts.append(Expr("literal", part.meta.line, _unescaped(str(inner))))
            elif inner.data == "interpolation":
                parts.append(self.expr(_values(inner)[0]))
            else:
                parts.append(self._other(inner))
        if all(part.kind == "literal" and isinstance(part.value, str) for part in parts):
            return Expr("literal", node.meta.line, "".join(part.value for part in parts))
        return Expr("template", node.meta.line, parts)

    def _other(self, node: Node) -> Expr:
        inside = [self.expr(tree) for tree in _values(node)]
        return Expr(
            "other", node.meta.line, (self._source(node), [ref for each in inside for ref in each.refs()])
        )

    def _label(self, node: Node) -> str:
        return str(self._string(node).value) if node.data == "string" else _word(node)

    def _source(self, node: Node) -> str:
        return "".join(self._text[node.meta.start_pos : node.meta.end_pos].split())


def _trees(node: Node) -> list[Node]:
    return [child for child in node.children if isinstance(child, Tree)]


def _values(node: Node) -> list[Node]:
    return [tree for tree in _trees(node) if tree.data != "new_line_or_comment"]


def _word(node: Node) -> str:
    """The text of a node that is one word: an identifier, a keyword or a constant."""
    return str(node.children[0]).strip()


def _is_named(node: Node) -> bool:
    """Whether a chain of attributes and indices starts with a name, not with a call or a list."""
    while node.data != "identifier":
        inner = _values(node)
        if not inner:
            return False
        node = inner[0]
        if node.data not in {"identifier", "get_attr_expr_term", "index_expr_term", "expr_term"}:
            return False
    return True


def _unescaped(text: str) -> str:
    parts = []
    signs = iter(text)
    for sign in signs:
        if sign == "\\":
            following = next(signs, "")
            parts.append(_ESCAPES.get(following, sign + following))
        else:
            parts.append(sign)
    return "".join(parts)
