"""Terraform files as plain blocks and expressions with their lines, and as the JSON that a cache holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


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
