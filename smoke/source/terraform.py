"""A Terraform root module: its resources, and expressions resolved as far as files alone allow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from .checkout import Checkout, Finding
from .hcl import Block, Expr
from .parser import Parser

_INDEX = re.compile(r"\[[^\]]*\]")
_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource, or a data source (its address begins with `data.`)."""

    address: str
    path: str
    block: Block

    @property
    def type(self) -> str:
        """The resource type, such as aws_ecs_service."""
        return self.block.labels[0]

    @property
    def label(self) -> str:
        """The second label, with hyphens: names in AWS have those where labels have underscores."""
        return self.block.labels[1].replace("_", "-")

    def attribute(self, name: str) -> Expr | None:
        """One of its attributes."""
        return self.block.attributes.get(name)

    def finding(self, what: str, at: Expr | None = None) -> Finding:
        """Return a finding at an expression of the resource, or at its first line."""
        return Finding(self.path, at.line if at is not None else self.block.line, what)


@dataclass(frozen=True)
class Module:
    """The files of one directory. `given` are the values of the variable files, by variable."""

    directory: str
    resources: Mapping[str, Resource]
    defaults: Mapping[str, Expr]
    given: Mapping[str, Expr]
    locals: Mapping[str, Expr]
    files: int = field(default=0)

    @classmethod
    def read(
        cls, checkout: Checkout, directory: str, parser: Parser, var_files: Sequence[str] = ()
    ) -> Module:
        """Read the tracked `*.tf` of a directory, not of those below, and the variable files.

        AssertionError for a file that is missing or malformed.
        """
        paths = [
            file.path
            for file in checkout.tracked()
            if PurePosixPath(file.path).match("*.tf") and str(PurePosixPath(file.path).parent) == directory
        ]
        paths = [path for path in paths if (checkout.root / path).is_file()]
        assert paths, f"there is no Terraform file in {directory}"
        resources: dict[str, Resource] = {}
        defaults: dict[str, Expr] = {}
        given: dict[str, Expr] = {}
        local: dict[str, Expr] = {}
        for path in paths:
            for block in parser.parse(checkout.text(path), path).blocks:
                if block.type in {"resource", "data"} and len(block.labels) == 2:
                    address = ".".join((*(["data"] if block.type == "data" else []), *block.labels))
                    resources[address] = Resource(address, path, block)
                elif block.type == "locals":
                    local.update(block.attributes)
                elif block.type == "variable" and "default" in block.attributes:
                    defaults[block.labels[0]] = block.attributes["default"]
        for path in var_files:
            given.update(parser.parse(checkout.text(path), path).attributes)
        return cls(directory, resources, defaults, given, local, len(paths) + len(var_files))

    def of_type(self, type_: str) -> list[Resource]:
        """All resources of one type."""
        return [found for found in self.resources.values() if found.address.startswith(f"{type_}.")]

    def resolve(self, expr: Expr) -> Expr:
        """Follow variables, locals and known attributes; what cannot be followed stays as it is."""
        for _ in range(_DEPTH):
            following = self._follow(expr.value) if expr.kind == "ref" else None
            if following is None:
                return expr
            expr = following
        return expr

    def text(self, expr: Expr | None) -> str:
        """Return an expression as text; what cannot be resolved reads ${as.written}."""
        return "" if expr is None else self._text(expr, _DEPTH)

    def value(self, expr: Expr | None) -> Any:
        """Return a literal's value, None for all else."""
        found = self.resolve(expr) if expr is not None else None
        return found.value if found is not None and found.kind == "literal" else None

    def addresses(self, expr: Expr | None) -> list[str]:
        """Return the resources that an expression refers to, through locals, each once, in order."""
        if expr is None:
            return []
        return list(dict.fromkeys(self._addresses(expr, _DEPTH)))

    def identities(self, expr: Expr | None) -> list[str]:
        """Return what an expression stands for: addresses, else the text of each item."""
        if expr is None:
            return []
        found = self.addresses(expr)
        if found:
            return found
        resolved = self.resolve(expr)
        return [self.text(item) for item in (resolved.items() or [resolved])]

    def objects(self, expr: Expr | None) -> Iterator[Expr]:
        """Yield the objects of a list, or the one object; through locals, jsonencode, concat and flatten."""
        found = self.resolve(expr) if expr is not None else None
        if found is None:
            return
        if found.kind == "object":
            yield found
        elif found.kind == "list":
            for item in found.value:
                yield from self.objects(item)
        elif found.kind == "call" and found.value[0] in {"jsonencode", "concat", "tolist", "flatten"}:
            for argument in found.value[1]:
                yield from self.objects(argument)

    def _addresses(self, expr: Expr, depth: int) -> Iterator[str]:
        for ref in expr.refs():
            address = _address(ref.value)
            if address in self.resources:
                yield address
            elif depth and ref.value.startswith(("local.", "var.")):
                following = self._follow(ref.value)
                if following is not None:
                    yield from self._addresses(following, depth - 1)

    def _follow(self, name: str) -> Expr | None:
        first, _, rest = name.partition(".")
        if first == "var":
            return self.given.get(rest, self.defaults.get(rest))
        if first == "local":
            return self.locals.get(rest)
        resource = self.resources.get(_address(name))
        return resource.attribute(name.rsplit(".", 1)[-1]) if resource is not None else None

    def _text(self, expr: Expr, depth: int) -> str:
        found = self.resolve(expr)
        if found.kind == "literal":
            return {True: "true", False: "false", None: ""}.get(found.value, str(found.value))
        if found.kind == "template" and depth:
            return "".join(self._text(part, depth - 1) for part in found.value)
        written = found.value[0] if found.kind in {"call", "other"} else found.value
        return "${" + (written if isinstance(written, str) else found.kind) + "}"


def _address(name: str) -> str:
    parts = _INDEX.sub("", name).split(".")
    return ".".join(parts[: 3 if parts[0] == "data" else 2])
