"""What Terraform refuses to read: things declared twice, moved and still there, keys that are missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from posixpath import dirname, normpath

from smoke.source.checkout import Finding

from .configuration import Configuration, Module
from .evaluate import Environment
from .functions import ABSENT
from .hcl import Block, Expr
from .references import expressions, names_in, paths
from .values import Symbol, settle

#: A thing without the key of one of several: a resource or a module, here or in a module.
_WHOLE = re.compile(r"(?:module\.[\w-]+\.)*(?:module\.[\w-]+|(?!module\.|data\.)\w+\.[\w-]+)")
#: What is declared only where its block stands.
_ALIAS = re.compile(r"([\w-]+\.[\w-]+)(?:\[.*\])?")


def misdeclared(configuration: Configuration) -> list[Finding]:
    """Return what keeps Terraform from reading the files, and would not even make a plan."""
    found: list[Finding] = []
    for module in {each.files.directory: each for each in configuration.modules}.values():
        found += _twice(module)
        if not module.files.unread:
            found += [*_addressed(module), *_providers(module), *_elsewhere(module)]
    for module in configuration.modules:
        found += _missing(module)
    return list(dict.fromkeys(found))


def _elsewhere(module: Module) -> Iterator[Finding]:
    """Calls of modules by a path at which there is nothing, beside what is there."""
    for address, block in module.files.blocks.items():
        written = block.attributes.get("source") if address.startswith("module.") else None
        source = written.args[0] if written is not None and written.kind == "literal" else ""
        if written is None or not isinstance(source, str) or not source.startswith(("./", "../")):
            continue
        path, sources = normpath(f"{module.files.directory}/{source}"), module.sources
        beside = any(each.startswith(f"{dirname(path)}/") for each in sources.tracked)
        if beside and not sources.has(path) and not sources.has(".gitmodules"):
            what = f"{address} calls {path}, which is not in the checkout"
            yield Finding(written.at.path, written.at.line, what)


def _twice(module: Module) -> Iterator[Finding]:
    for name, first, second in module.files.twice:
        yield Finding(second.path, second.line, f"{name} is declared here and at {first}")


def _addressed(module: Module) -> Iterator[Finding]:
    """What a block says of an address: that it is another's now, gone, or in the files."""
    for block in module.files.others:
        name = {"moved": "from", "removed": "from", "import": "to"}.get(block.type, "")
        expr = block.attributes.get(name)
        address = _bare(expr) if expr is not None else ""
        if expr is None or not _WHOLE.fullmatch(address):
            continue
        there = address in module.files.blocks
        if block.type == "import":
            if not there and address.count(".") == 1 and not address.startswith("module."):
                yield Finding(expr.at.path, expr.at.line, f"{address} is imported and declared nowhere")
        elif there and not _is_keyed(block, address):
            yield Finding(expr.at.path, expr.at.line, f"{address} is {block.type} and still declared")


def _is_keyed(block: Block, address: str) -> bool:
    """Whether a thing becomes one of several of the same name."""
    to = block.attributes.get("to")
    return to is not None and _bare(to).startswith(f"{address}[")


def _bare(expr: Expr) -> str:
    """An address as written, with or without quotes."""
    return expr.text.strip().strip('"')


def _providers(module: Module) -> Iterator[Finding]:
    """Providers under a name that neither the module nor who calls it has given one."""
    known = set[str]()
    for block in module.files.others:
        alias = block.attributes.get("alias") if block.type == "provider" else None
        if alias is not None:
            known.add(f"{block.labels[0]}.{_bare(alias)}")
    for block in module.files.others:
        for inner in block.nested("required_providers") if block.type == "terraform" else ():
            for expr in inner.attributes.values():
                known |= {*re.findall(r"[\w-]+\.[\w-]+", expr.text.partition("configuration_aliases")[2])}
    for expr in _chosen(module):
        named = _ALIAS.fullmatch(_bare(expr))
        if named is not None and named[1] not in known:
            yield Finding(expr.at.path, expr.at.line, f"there is no provider {named[1]}")


def _chosen(module: Module) -> Iterator[Expr]:
    for address, block in module.files.blocks.items():
        if "provider" in block.attributes and not address.startswith(("variable.", "output.")):
            yield block.attributes["provider"]
        given = block.attributes.get("providers") if address.startswith("module.") else None
        if given is not None and given.kind == "object":
            yield from (expr for _, expr in given.args)


def _missing(module: Module) -> Iterator[Finding]:
    """Keys that a map has not, and names that a template uses and is not given."""
    if module.uncertain:
        return
    here = Environment(module)
    for expr in module.files.locals.values():
        yield from _of_expr(module, here, expr, guarded=False)
    for resource in module.resources:
        for expr in expressions(resource.block) if not resource.uncertain else ():
            yield from _of_expr(module, resource.environment, expr, guarded=False)


def _of_expr(module: Module, environment: Environment, expr: Expr, *, guarded: bool) -> Iterator[Finding]:
    for path, guard in paths(expr, guarded):
        base, steps = path.args
        first = steps[0][1] if steps[0][0] == "attr" else ""
        sure = base.args[0] in {"local", "each"} or (base.args[0] == "var" and first in module.given)
        if guard or not sure or len(steps) < 2 or any(step[0] == "splat" for step in steps):
            continue
        for number in range(2 if base.args[0] != "each" else 1, len(steps) + 1):
            held = settle(environment.value(_cut(path, number - 1))).content
            if not isinstance(held, dict | tuple) or any("${" in str(key) for key in held):
                continue
            found = settle(environment.value(_cut(path, number))).content
            if isinstance(found, Symbol) and found.why == f"{ABSENT}{path.text}":
                yield Finding(path.at.path, path.at.line, f"{path.text}: there is no such key")
                break
    yield from _of_templates(module, environment, expr)


def _cut(path: Expr, number: int) -> Expr:
    base, steps = path.args
    return replace(path, args=(base, steps[:number])) if number else base


def _of_templates(module: Module, environment: Environment, expr: Expr) -> Iterator[Finding]:
    if expr.kind == "call" and expr.args[0] == "templatefile" and len(expr.args[1]) == 2:
        path, names = (settle(environment.value(each)).content for each in expr.args[1])
        if isinstance(path, str) and isinstance(names, dict):
            template = module.sources.text_of(path, module.files.directory) is not None
            body = module.sources.template(path, module.files.directory) if template else None
            used = {name.split(".")[0] for name, _ in names_in(body, frozenset(names))} if body else set()
            for name in sorted(filter(None, used)):
                yield Finding(expr.at.path, expr.at.line, f"{path} uses {name}, which it is not given")
    for child in expr.children():
        yield from _of_templates(module, environment, child)
