"""The grammar of Terraform files: from python-hcl2's trees to plain blocks and expressions."""

from __future__ import annotations

import re

import hcl2
from lark import Token, Tree
from lark.exceptions import LarkError, UnexpectedInput

from .checkout import Malformed
from .hcl import Block, Expr

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
