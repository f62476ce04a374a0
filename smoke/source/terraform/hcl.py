"""Terraform's native syntax as plain blocks and expressions with their places, and the unreadable parts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tree_sitter_hcl
from tree_sitter import Language, Node
from tree_sitter import Parser as Grammar

from smoke.source.checkout import Finding

_GRAMMAR = Grammar(Language(tree_sitter_hcl.language()))


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a file; `path` is relative to the checkout, `line` counts from 1."""

    path: str
    line: int

    def finding(self, what: str) -> Finding:
        """Return a finding here."""
        return Finding(self.path, self.line, what)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Expr:
    """An expression; `text` is how it is written. `kind` says what `args` are:

    literal: (str, int, float, bool or None,); template: parts; name: (identifier,); list: items;
    object: pairs of key and value; call: (name, arguments, whether the last one is expanded);
    path: (base, steps), a step being ("attr", name), ("index", Expr) or ("splat",);
    condition: (condition, then, else); operation: (operator, operands);
    for: (key name, value name, collection, key or None, value, condition or None, whether it groups);
    unread: nothing.
    """

    kind: str
    at: Place
    text: str
    args: tuple[Any, ...]

    def children(self) -> Iterator[Expr]:
        """Yield the expressions directly inside."""
        return _inside(self.args)


def _inside(args: Sequence[Any]) -> Iterator[Expr]:
    for each in args:
        if isinstance(each, Expr):
            yield each
        elif isinstance(each, tuple):
            yield from _inside(each)


@dataclass(frozen=True, slots=True)
class Block:
    """A block: `resource "aws_ecs_service" "api" { ... }` has type resource and two labels.

    `unread` are the places inside, at any depth, that are not valid HCL.
    """

    type: str
    labels: tuple[str, ...]
    at: Place
    attributes: dict[str, Expr]
    blocks: tuple[Block, ...] = ()
    unread: tuple[Place, ...] = ()

    def nested(self, type_: str) -> list[Block]:
        """The blocks of one type directly inside."""
        return [block for block in self.blocks if block.type == type_]


def parse(text: str, path: str, shift: int = 0) -> Block:
    """Return a file in Terraform's native syntax as one block without a type.

    `shift` is the number of lines before the file's own first one.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    source = text.encode()
    root = _GRAMMAR.parse(source).root_node
    starts = [found.start() for found in _BLOCK.finditer(text)] if root.has_error else []
    if len(starts) > 1 or (starts and starts[0]):  # an error must not swallow the blocks after it
        cuts = sorted({0, *starts, len(text)})
        pieces = [
            parse(text[start:end], path, shift - text.count("\n", 0, start))
            for start, end in itertools.pairwise(cuts)
        ]
        return _joined(pieces, path)
    bodies = [child for child in root.children if child.type == "body"]
    reader = _Reader(source, path, shift)
    if root.type == "ERROR" or (root.has_error and not bodies):
        return Block("", (), Place(path, 1), {}, (), (reader.error(root),))
    extra = [reader.at(child) for child in root.children if child.is_error]
    if not bodies:
        return Block("", (), Place(path, 1), {}, (), tuple(extra))
    body = reader.body(bodies[0], "", (), Place(path, 1))
    return Block("", (), body.at, body.attributes, body.blocks, (*body.unread, *extra))


#: A block at the beginning of a line.
_BLOCK = re.compile(
    r"^(?:resource|data|ephemeral|variable|locals|module|output|provider|terraform|moved|removed|import|check)\b",
    re.MULTILINE,
)


def _joined(pieces: Sequence[Block], path: str) -> Block:
    attributes = {name: value for piece in pieces for name, value in piece.attributes.items()}
    blocks = tuple(block for piece in pieces for block in piece.blocks)
    return Block("", (), Place(path, 1), attributes, blocks, tuple(p for each in pieces for p in each.unread))


def template(text: str, path: str, line: int = 1) -> Expr:
    """Return a template as one expression; `line` is where it begins."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found = parse(f"content = <<{_END}\n{text}\n{_END}\n", path.removesuffix(".json"), shift=2 - line)
    if found.unread or "content" not in found.attributes:
        return Expr("unread", Place(path, 1), path, ())
    content = found.attributes["content"]
    # the line break before the end of the wrapper is not part of the file
    parts = content.args if content.kind == "template" else (content,)
    last = parts[-1]
    if last.kind == "literal" and isinstance(last.args[0], str):
        rest = last.args[0].removesuffix("\n")
        parts = (*parts[:-1], *([Expr("literal", last.at, "", (rest,))] if rest else []))
    return Expr("template", Place(path, line), path, parts)


_END = "END_OF_THE_TEMPLATE_FILE"


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f"}
_ESCAPED = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)


class _Reader:
    """Converts the nodes of one file."""

    def __init__(self, source: bytes, path: str, shift: int) -> None:
        self._source = source
        self._path = path
        self._first = 1 - shift

    def at(self, node: Node) -> Place:
        return Place(self._path, node.start_point[0] + self._first)

    def error(self, node: Node) -> Place:
        """The place of the first error inside a node."""
        for child in node.children:
            if child.is_error or child.is_missing:
                return self.at(child)
            if child.has_error:
                return self.error(child)
        return self.at(node)

    def body(self, node: Node, type_: str, labels: tuple[str, ...], at: Place) -> Block:
        attributes: dict[str, Expr] = {}
        blocks: list[Block] = []
        unread: list[Place] = []
        for child in node.named_children:
            if child.type == "attribute" and not child.has_error:
                name, value = self._text(child.named_children[0]), child.named_children[-1]
                unread += [self.at(child)] if name in attributes else []
                attributes[name] = self._expr(value)
            elif child.type == "block":
                block = self._block(child)
                blocks.append(block)
                unread += block.unread
            elif child.type != "comment":
                unread.append(self.error(child))
        return Block(type_, labels, at, attributes, tuple(blocks), tuple(unread))

    def _block(self, node: Node) -> Block:
        words = [child for child in node.named_children if child.type in {"identifier", "string_lit"}]
        names = [self._text(word).strip('"') for word in words] or [""]
        bodies = [child for child in node.named_children if child.type == "body"]
        at = self.at(node)
        empty = Block(names[0], tuple(names[1:]), at, {})
        block = self.body(bodies[0], names[0], tuple(names[1:]), at) if bodies else empty
        if node.has_error and not block.unread:
            return Block(block.type, block.labels, at, block.attributes, block.blocks, (self.error(node),))
        return block

    def _expr(self, node: Node) -> Expr:
        if node.has_error:
            return self._make("unread", node)
        return self._sequence(node.children)

    def _sequence(self, nodes: Sequence[Node]) -> Expr:
        """Convert a term with its attributes, indices and splats."""
        nodes = [each for each in nodes if each.type != "comment"]
        if nodes[0].type == "(":
            base, rest = self._expr(nodes[1]), nodes[3:]
        else:
            base, rest = self._term(nodes[0]), nodes[1:]
        steps = tuple(step for each in rest for step in self._steps(each))
        if not steps:
            return base
        if base.kind == "path":
            base, steps = base.args[0], (*base.args[1], *steps)
        return Expr("path", base.at, self._between(nodes[0], nodes[-1]), (base, steps))

    def _steps(self, node: Node) -> Iterator[tuple[Any, ...]]:
        if node.type == "get_attr":
            yield ("attr", self._text(node.named_children[-1]))
        elif node.type == "index":
            inner = node.named_children[0]
            if inner.type == "legacy_index":
                yield ("index", self._make("literal", inner, int(self._text(inner).strip(" ."))))
            else:
                yield ("index", self._expr(inner.named_children[0]))
        elif node.type == "splat":
            yield ("splat",)
            for child in node.named_children[0].named_children:
                yield from self._steps(child)

    def _term(self, node: Node) -> Expr:  # noqa: C901 - a line for each kind of node
        inner = [child for child in node.children if child.type != "comment"]
        match node.type:
            case "expression" | "literal_value" | "collection_value" | "template_expr":
                return self._sequence(inner) if node.type == "expression" else self._term(inner[0])
            case "variable_expr":
                return self._make("name", node, self._text(node))
            case "numeric_lit":
                return self._make("literal", node, _number(self._text(node)))
            case "bool_lit":
                return self._make("literal", node, self._text(node) == "true")
            case "null_lit":
                return self._make("literal", node, None)
            case "string_lit" | "quoted_template":
                return self._template(node, inner[1:-1], inner[0].end_byte, inner[-1].start_byte, quoted=True)
            case "heredoc_template":
                return self._heredoc(node, inner)
            case "tuple":
                return self._make("list", node, *map(self._expr, _expressions(node)))
            case "object":
                elements = [child for child in node.named_children if child.type == "object_elem"]
                return self._make("object", node, *map(self._entry, elements))
            case "function_call":
                return self._call(node)
            case "for_expr":
                return self._for(inner[0])
            case "conditional":
                return self._make("condition", node, *map(self._expr, _expressions(node)))
            case "operation":
                return self._operation(inner[0])
        return self._make("unread", node)

    def _entry(self, node: Node) -> tuple[Expr, Expr]:
        key, value = _expressions(node)
        read = self._expr(key)
        if read.kind == "name" and key.children[0].type != "(":  # `(name)` is the value of that name
            read = self._make("literal", key, read.args[0])
        return read, self._expr(value)

    def _call(self, node: Node) -> Expr:
        name = self._text(node.named_children[0])
        given = [child for child in node.named_children if child.type == "function_arguments"]
        arguments = tuple(self._expr(each) for group in given for each in _expressions(group))
        expanded = any(child.type == "ellipsis" for group in given for child in group.children)
        return self._make("call", node, name, arguments, expanded)

    def _for(self, node: Node) -> Expr:
        intro = next(child for child in node.named_children if child.type == "for_intro")
        rest = [child for child in node.named_children if child.start_byte >= intro.end_byte]
        names = [self._text(child) for child in intro.named_children if child.type == "identifier"]
        values = [self._expr(child) for child in rest if child.type == "expression"]
        conditions = [self._expr(_expressions(child)[0]) for child in rest if child.type == "for_cond"]
        groups = any(child.type == "ellipsis" for child in rest)
        key = values[0] if node.type == "for_object_expr" else None
        condition = conditions[0] if conditions else None
        collection = self._expr(_expressions(intro)[0])
        first = names[0] if len(names) == 2 else ""
        return self._make("for", node, first, names[-1], collection, key, values[-1], condition, groups)

    def _operation(self, node: Node) -> Expr:
        operator = next(
            child for child in node.children if not child.is_named and child.type not in {"(", ")"}
        )
        before = [child for child in node.children if child.end_byte <= operator.start_byte]
        after = [child for child in node.children if child.start_byte >= operator.end_byte]
        operands = tuple(self._sequence(part) for part in (before, after) if part)
        return self._make("operation", node, operator.type, operands)

    def _heredoc(self, node: Node, inner: Sequence[Node]) -> Expr:
        """The text begins after the line of `<<EOT` and ends with the line break before the last line."""
        names = [child for child in inner if child.type == "heredoc_identifier"]
        first = self._source.index(b"\n", names[0].end_byte) + 1
        last = self._source.rfind(b"\n", 0, names[-1].start_byte) + 1
        parts = [child for child in inner if first <= child.start_byte < last]
        read = self._template(node, parts, first, max(first, last), quoted=False)
        return _dedented(read) if self._text(inner[0]).startswith("<<-") else read

    def _template(self, node: Node, parts: Sequence[Node], start: int, end: int, *, quoted: bool) -> Expr:
        """The text between interpolations, with the blanks that the grammar drops."""
        found: list[Expr] = []

        def add(start: int, end: int) -> None:
            text = self._source[start:end].decode("utf-8", "replace")
            if text:
                line = self._source.count(b"\n", 0, start) + self._first
                content = _unescaped(text) if quoted else text
                content = content.replace("$${", "${").replace("%%{", "%{")
                found.append(Expr("literal", Place(self._path, line), "", (content,)))

        position = start
        for part in parts:
            if part.type == "template_literal" or part.type == "comment":
                continue
            add(position, part.start_byte)
            position = part.end_byte
            found.append(self._interpolation(part, quoted=quoted))
        add(position, end)
        if not found or (len(found) == 1 and found[0].kind == "literal" and not _has_values(parts)):
            return self._make("literal", node, found[0].args[0] if found else "")
        return self._make("template", node, *found)

    def _interpolation(self, node: Node, *, quoted: bool) -> Expr:
        """An interpolation, `%{ if }` as a condition, `%{ for }` as the joined items of a list."""
        if node.type == "template_interpolation":
            values = _expressions(node)
            return self._expr(values[0]) if values else self._make("literal", node, "")
        directive = node.named_children[0]
        pieces = directive.named_children

        def text_of(low: Node, high: Node) -> Expr:
            inner = [each for each in pieces if low.end_byte <= each.start_byte < high.start_byte]
            return self._template(directive, inner, low.end_byte, high.start_byte, quoted=quoted)

        if directive.type == "template_if":
            intro, *middle, end = [each for each in pieces if each.type.startswith("template_if_") or
                                   each.type == "template_else_intro"]  # fmt: skip
            condition = self._expr(_expressions(intro)[0])
            then = text_of(intro, middle[0] if middle else end)
            other = text_of(middle[0], end) if middle else self._make("literal", node, "")
            return self._make("condition", node, condition, then, other)
        if directive.type == "template_for":
            start = next(each for each in pieces if each.type == "template_for_start")
            end = next(each for each in pieces if each.type == "template_for_end")
            names = [self._text(each) for each in start.named_children if each.type == "identifier"]
            first = names[0] if len(names) == 2 else ""
            collection = self._expr(_expressions(start)[0])
            items = self._make(
                "for", node, first, names[-1], collection, None, text_of(start, end), None, False
            )
            return self._make("call", node, "join", (self._make("literal", node, ""), items), False)
        return self._make("unread", node)

    def _make(self, kind: str, node: Node, *args: Any) -> Expr:
        return Expr(kind, self.at(node), self._text(node), args)

    def _text(self, node: Node) -> str:
        return " ".join((node.text or b"").decode("utf-8", "replace").split())

    def _between(self, first: Node, last: Node) -> str:
        return " ".join(self._source[first.start_byte : last.end_byte].decode("utf-8", "replace").split())


def _has_values(parts: Sequence[Node]) -> bool:
    """Whether a template has anything but text: `"${1}"` is not a text, although it is a single literal."""
    return any(part.type not in {"template_literal", "comment"} for part in parts)


def _expressions(node: Node) -> list[Node]:
    return [child for child in node.named_children if child.type == "expression"]


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        return int(number) if number.is_integer() else number


def _unescaped(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        sign = found[1]
        return chr(int(sign[1:], 16)) if len(sign) > 1 else _ESCAPES.get(sign, "\\" + sign)

    return _ESCAPED.sub(one, text)


def _dedented(read: Expr) -> Expr:
    """The text of `<<-`: without the blanks that all its lines begin with."""
    parts = read.args if read.kind == "template" else (read,)
    starts: list[str] = []
    at_start = True
    for part in parts:
        content = part.args[0] if part.kind == "literal" and isinstance(part.args[0], str) else None
        lines = content.split("\n") if content is not None else [""]
        starts += [line for line in (lines if at_start else lines[1:]) if line.strip() or line is lines[-1]]
        at_start = content is not None and content.endswith("\n")
    margin = min((len(line) - len(line.lstrip(" \t")) for line in starts if line), default=0)
    if not margin:
        return read
    removed = re.compile(rf"(?m)^[ \t]{{{margin}}}")
    changed = []
    at_start = True
    for part in parts:
        if part.kind == "literal" and isinstance(part.args[0], str):
            text = part.args[0]
            new = removed.sub("", text) if at_start else re.sub(rf"(?<=\n)[ \t]{{{margin}}}", "", text)
            changed.append(Expr("literal", part.at, part.text, (new,)))
            at_start = text.endswith("\n")
        else:
            changed.append(part)
            at_start = False
    if read.kind == "literal":
        return Expr("literal", read.at, read.text, changed[0].args)
    return Expr("template", read.at, read.text, tuple(changed))
