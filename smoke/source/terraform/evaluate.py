"""Evaluates expressions, blocks and resources as far as a module's files determine their values."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from smoke.source.checkout import Finding

from .functions import ABSENT, call
from .hcl import Block, Expr, Place
from .values import (
    Either,
    Symbol,
    Text,
    Value,
    concatenated,
    either,
    flat,
    is_known,
    lift,
    options,
    plain,
    settle,
    why_unknown,
)

Step = tuple[Any, ...]


class Scope(Protocol):
    """The module that contains an expression."""

    def lookup(self, name: str, steps: Sequence[Step], at: Place, text: str) -> tuple[Value, int]:
        """Return what a name with the first of its steps refers to, and how many steps those are."""

    def read(self, name: str, arguments: Sequence[Value], at: Place, written: str) -> Value | None:
        """Call a function that reads a file; None for any other function."""


@dataclass(frozen=True)
class Environment:
    """The context of an expression: its module, and local names such as `each`."""

    scope: Scope
    names: Mapping[str, Value] = field(default_factory=dict)

    def bound(self, **names: Value) -> Environment:
        """Return the environment with further names."""
        return replace(self, names={**self.names, **names})

    def value(self, expr: Expr) -> Value:  # noqa: C901 - a line for each kind of expression
        """Return the value of an expression."""
        args = expr.args
        match expr.kind:
            case "literal":
                return Value(args[0], expr.at)
            case "template":
                if len(args) == 1:  # "${x}" is x, whatever its type
                    return self.value(args[0])
                return concatenated([self.value(part) for part in args], expr.at)
            case "list":
                return Value(tuple(self.value(item) for item in args), expr.at)
            case "object":
                return Value({self._key(key): self.value(item) for key, item in args}, expr.at)
            case "name" | "path":
                return self._path(expr)
            case "call":
                return self._call(expr)
            case "condition":
                return self._condition(expr)
            case "operation":
                operands = [self.value(each) for each in args[1]]
                return lift(lambda *each: _operation(args[0], each, expr), *operands, name=expr.text)
            case "for":
                return self._for(expr)
        return self._unknown(expr, "an expression that is not valid HCL")

    def _unknown(self, expr: Expr, why: str) -> Value:
        # with other values of local names, the same text means another thing
        here = "".join(f" {flat(each).content}" for each in self.names.values() if is_known(each))
        return Value(Symbol(expr.text + here, why), expr.at)

    def _key(self, key: Expr) -> str:
        value = flat(self.value(key))
        return str(plain(value)) if is_known(value) else f"${{{key.text}}}"

    def _path(self, expr: Expr) -> Value:
        base, steps = (expr, ()) if expr.kind == "name" else expr.args
        if base.kind != "name":
            return self._follow(self.value(base), steps, expr)
        name = base.args[0]
        if name in self.names:
            return self._follow(self.names[name], steps, expr)
        value, used = self.scope.lookup(name, steps, expr.at, expr.text)
        return self._follow(Value(value.content, expr.at), steps[used:], expr)

    def _follow(self, value: Value, steps: Sequence[Step], expr: Expr) -> Value:
        for index, (kind, *of) in enumerate(steps):
            if kind == "splat":
                rest = steps[index + 1 :]
                return lift(lambda each: self._splat(each, rest, expr), value, name=expr.text)  # noqa: B023
            key = Value(of[0], expr.at) if kind == "attr" else self.value(of[0])
            index = kind == "index"
            value = lift(lambda each, at: _step(each, at, expr, index=index), value, key, name=expr.text)  # noqa: B023
        return value

    def _splat(self, value: Value, rest: Sequence[Step], expr: Expr) -> Value:
        content = value.content
        items = (
            content if isinstance(content, tuple)
            else () if content is None
            else (value,)
        )  # fmt: skip
        return Value(tuple(self._follow(item, rest, expr) for item in items), expr.at)

    def _call(self, expr: Expr) -> Value:
        name, arguments, expanded = expr.args
        values = [self.value(each) for each in arguments]
        if expanded:
            last = settle(values[-1])
            if not isinstance(last.content, tuple):
                return self._unknown(expr, why_unknown(last) or "an expanded argument that is not known")
            values = [*values[:-1], *last.content]
        read = self.scope.read(name, values, expr.at, expr.text)
        return read if read is not None else call(name, values, expr.at, self._unknown(expr, "").content.name)

    def _condition(self, expr: Expr) -> Value:
        decided, then, other = expr.args
        found = []
        for each in options(self.value(decided)):
            content = flat(each).content
            content = (
                {"true": True, "false": False}.get(content, content) if isinstance(content, str) else content
            )
            if content in (True, None) or not isinstance(content, bool):
                found.append(self.value(then))
            if content in (False, None) or not isinstance(content, bool):
                found.append(self.value(other))
        return either(found)

    def _for(self, expr: Expr) -> Value:
        collection = self.value(expr.args[2])
        return lift(lambda each: self._each(each, expr), collection, name=expr.text)

    def _each(self, collection: Value, expr: Expr) -> Value:
        first, second, _, key, item, condition, groups = expr.args
        content = collection.content
        if isinstance(content, dict):
            pairs = [(Value(name, collection.at), each) for name, each in sorted(content.items())]
        elif isinstance(content, tuple):
            pairs = [(Value(index, collection.at), each) for index, each in enumerate(content)]
        else:
            return self._unknown(expr, why_unknown(collection) or f"the items of {expr.args[2].text}")
        listed: list[Value] = []
        entries: dict[str, Value] = {}
        for index, each in pairs:
            inner = self.bound(**{**({first: index} if first else {}), second: each})
            if condition is not None:
                kept = flat(inner.value(condition)).content
                if not isinstance(kept, bool):
                    return self._unknown(expr, f"the condition {condition.text}")
                if not kept:
                    continue
            value = inner.value(item)
            if key is None:
                listed.append(value)
                continue
            name = inner._key(key)
            if groups:
                before = entries.get(name, Value((), expr.at)).content
                entries[name] = Value((*before, value), expr.at)
            else:
                entries[name] = value
        return Value(tuple(listed) if key is None else entries, expr.at)


def _step(value: Value, key: Value, expr: Expr, *, index: bool) -> Value:
    """Take one step: an attribute, or with `index` an entry or an item."""
    name: Any = flat(key).content
    content = value.content
    if isinstance(content, Symbol) and content.resource is not None:
        if index and not content.path:  # one of an unknown number
            return (
                value if isinstance(name, int) else value.to(replace(content, name=f"{content.name}[{name}]"))
            )
        return value.to(replace(content, name=f"{content.name}.{name}", path=(*content.path, str(name))))
    content = settle(value).content
    if isinstance(content, Symbol):
        return value.to(Symbol(f"{content.name}.{name}", content.why))
    if not isinstance(name, str | int):
        return value.symbol(expr.text, why_unknown(key) or "an index that is not known")
    if isinstance(content, dict) and str(name) in content:
        found: Value = content[str(name)]
        return found
    if isinstance(content, tuple) and str(name).isdigit() and int(name) < len(content):
        item: Value = content[int(name)]
        return item
    if isinstance(content, Text | Either):
        return value.symbol(expr.text, f"a part of {expr.text}")
    return value.symbol(expr.text, f"{ABSENT}{expr.text}")


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "%": operator.mod,
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip


def _operation(sign: str, operands: Sequence[Value], expr: Expr) -> Value:
    """Return the result of an operation; a single operand may decide it."""
    known = [plain(each) if is_known(each) else Symbol for each in operands]
    if sign in {"&&", "||"}:
        decisive = sign == "||"
        if decisive in [_truth(each) for each in known]:
            return Value(decisive, expr.at)
        if all(_truth(each) is not None for each in known):
            return Value(not decisive, expr.at)
    elif sign in {"==", "!="}:
        same = _same(operands, known)
        if same is not None:
            return Value(same == (sign == "=="), expr.at)
    elif sign == "!":
        truth = _truth(known[0])
        if truth is not None:
            return Value(not truth, expr.at)
    elif Symbol not in known:
        try:
            numbers = [_numeric(each) for each in known]
            result = -numbers[0] if len(numbers) == 1 else _ARITHMETIC[sign](*numbers)
        except (ArithmeticError, TypeError, ValueError):
            return Value(Symbol(expr.text, f"{ABSENT}value of {expr.text}"), expr.at)
        is_integer = isinstance(result, float) and result.is_integer()
        return Value(int(result) if is_integer else result, expr.at)
    why = next((why_unknown(each) for each in operands if not is_known(each) and why_unknown(each)), "")
    return Value(Symbol(expr.text, why or f"{expr.text} of an unknown value"), expr.at)


def _truth(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value)
    return value if isinstance(value, bool) else None


def _numeric(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return value if isinstance(value, int | float) else float(value)


def _same(operands: Sequence[Value], known: Sequence[Any]) -> bool | None:
    """Whether two values are equal; a computed attribute, such as an ARN, is neither null nor empty."""
    first, second = known
    if Symbol not in known:
        alike = isinstance(first, bool) == isinstance(second, bool)
        return bool(alike and first == second)
    if settle(operands[0]) == settle(operands[1]):
        return True
    for value, other in ((operands[0], second), (operands[1], first)):
        if other is None and isinstance(value.content, Text | tuple | dict):
            return False  # whatever its parts are
        if other is None or other == "":
            parts = value.content.parts if isinstance(value.content, Text) else (value,)
            if any(part if isinstance(part, str) else _is_computed(part) for part in parts):
                return False
    return None


def _is_computed(value: Value) -> bool:
    content = settle(value).content
    return isinstance(content, Symbol) and content.resource is not None and bool(content.path)


@dataclass(eq=False)
class Body:
    """A block with its local names. `uncertain` says why the files leave open whether it exists.

    Terraform ignores changes of arguments in `drifts` after creation: their values may differ from the files.
    """

    block: Block
    environment: Environment
    uncertain: str = ""
    drifts: bool = False
    _values: dict[str, Value | None] = field(default_factory=dict, repr=False)

    @property
    def at(self) -> Place:
        """The place where the block begins."""
        return self.block.at

    def attribute(self, name: str) -> Value | None:
        """An attribute that the block sets; None for null, which counts as absent.

        In a block that is not valid HCL, a missing attribute is unknown.
        """
        if name not in self._values:
            expr = self.block.attributes.get(name)
            value = self.environment.value(expr) if expr is not None else None
            if value is None and self.block.unread:
                value = Value(Symbol(name, f"not valid HCL at {self.block.unread[0]}"), self.at)
            self._values[name] = None if value is None or value.content is None else value
        return self._values[name]

    def blocks(self, type_: str) -> list[Body]:
        """The blocks of one type inside, those of `dynamic` included."""
        drifts = self.drifts or self.ignores(type_)
        found = [Body(block, self.environment, drifts=drifts) for block in self.block.nested(type_)]
        for block in self.block.nested("dynamic"):
            if block.labels == (type_,):
                found += self._dynamic(block, type_)
        return found

    def finding(self, what: str, at: Value | Place | None = None) -> Finding:
        """Return a finding at a value, or at the block's first line."""
        return (at.at if isinstance(at, Value) else at or self.at).finding(what)

    def _dynamic(self, block: Block, type_: str) -> Iterator[Body]:
        content = next(iter(block.nested("content")), None)
        each = block.attributes.get("for_each")
        if content is None or each is None:
            return
        named = block.attributes.get("iterator")
        name = named.text if named is not None else type_
        keys, why = keys_of(self.environment.value(each))
        for key, value in keys:
            names = {name: Value({"key": key, "value": value}, each.at)}
            yield Body(content, self.environment.bound(**names), why, self.drifts or self.ignores(type_))

    def ignores(self, name: str) -> bool:
        """Whether a `lifecycle` makes Terraform ignore changes of an argument or a block."""
        return any(
            re.search(rf"\b(?:{name}|all)\b", each.attributes["ignore_changes"].text) is not None
            for each in self.block.nested("lifecycle")
            if "ignore_changes" in each.attributes
        )


@dataclass(eq=False)
class Resource(Body):
    """A resource or data source; `key` is its key in `for_each` or its number in `count`."""

    address: str = ""
    key: str = ""

    @property
    def type(self) -> str:
        """The resource type, such as aws_ecs_service; aws_alb is another name of aws_lb, in all its types."""
        return self.block.labels[0].replace("aws_alb", "aws_lb", 1)

    @property
    def label(self) -> str:
        """The second label, with hyphens: names in AWS have those where labels have underscores."""
        return self.block.labels[1].replace("_", "-")

    @property
    def title(self) -> str:
        """The address without the type: how findings name the resource."""
        return self.address.replace(f"{self.block.labels[0]}.", "", 1)

    @property
    def reference(self) -> Value:
        """What refers to the resource."""
        return Value(Symbol(self.address, resource=self), self.at)


def keys_of(value: Value) -> tuple[list[tuple[Value, Value]], str]:
    """Return the keys and values of a `for_each`; if it is unknown, one unknown pair, and why."""
    value = settle(value)
    content = value.content
    if isinstance(content, dict):
        return [(value.to(key), each) for key, each in content.items()], ""
    if isinstance(content, tuple):  # the items of a set are their own keys
        pairs = enumerate(content)
        return [(each if is_known(each) else value.to(index), each) for index, each in pairs], ""
    why = content.why if isinstance(content, Symbol) and content.why else "its items are not known"
    key, item = (value.symbol(f"each.{name} at {value.at}", why) for name in ("key", "value"))
    return [(key, item)], why
