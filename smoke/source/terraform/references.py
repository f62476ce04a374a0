"""The AWS resource to which a Terraform value refers, and whether everything referred to is declared."""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from smoke.source.checkout import Examined, Finding

from .configuration import META, Configuration, Module
from .evaluate import Resource
from .files import Files
from .hcl import Block, Expr, Place
from .values import MOST, Symbol, Text, Value, hidden, options, settle, text

#: The two services that provide containers' secrets.
SECRETS_MANAGER, PARAMETERS = "secretsmanager", "ssm"
_SECRET_TYPES = {"aws_secretsmanager_secret": SECRETS_MANAGER, "aws_ssm_parameter": PARAMETERS}
#: Attributes with which a secret is referenced.
_VERSIONS = {"aws_secretsmanager_secret_version", "aws_secretsmanager_secret_rotation"}
#: Secrets Manager adds a hyphen and six characters to the name in an ARN; a policy may match those.
_SUFFIX = re.compile(r"-([A-Za-z0-9]{6}|\?{6})$")


@dataclass(frozen=True, slots=True)
class Identity:
    """`key` is equal for the same thing, `name` is its name for people; `why` says what hides it."""

    key: str
    name: str
    why: str = ""


def items(value: Value | None) -> Iterator[Value]:
    """Yield every item that a value may contain: of lists at any depth, and of each alternative."""
    for each in options(value):
        if isinstance(each.content, tuple):
            for item in each.content:
                yield from items(item)
        elif each.content is not None:
            yield each


def choices(value: Value | None) -> list[list[Value]]:
    """The items that a value may contain together, for each choice of its alternatives; none if too many."""
    found: list[list[Value]] = []
    for each in options(value):
        if not isinstance(each.content, tuple):
            found.append([each] if each.content is not None else [])
            continue
        inner = [choices(item) for item in each.content]
        if not 0 < math.prod(map(len, inner)) <= MOST:
            return []
        found += [[*itertools.chain(*chosen)] for chosen in itertools.product(*inner)]
    return found


#: Suffixes after a reference that still means the same thing: a key or version, or an IAM pattern.
_BEHIND = (":", "*", "-*", "-?", "/*")


def referenced(value: Value | None) -> Resource | None:
    """The resource that a value refers to, by any of its attributes, at the beginning of the value.

    An account's number inside an ARN is not a reference to the ARN's resource.
    """
    content = value.content if value is not None else None
    if isinstance(content, Text):
        first, *rest = content.parts
        behind = rest[0] if rest else ":"
        held = isinstance(first, Value) and isinstance(behind, str) and behind.startswith(_BEHIND)
        return referenced(first) if held and isinstance(first, Value) else None
    if not isinstance(content, Symbol) or content.resource is None or value is None:
        return None
    if isinstance(content.resource, Resource):
        return content.resource
    settled = settle(value)  # an output of a module
    return referenced(settled) if settled is not value else None


def declared(value: Value | None, *types: str) -> Resource | None:
    """The resource, of one of these types (none: any), to which a value refers; None for data."""
    found = referenced(value)
    fits = found is not None and found.block.type != "data" and (not types or found.type in types)
    return found if fits else None


def named(resource: Resource, attribute: str = "name") -> Identity:
    """Identify a resource by its name; two of one type and name are the same thing, data sources included."""
    name = resource.attribute(attribute)
    if name is None:
        return Identity(resource.address, resource.address)
    return Identity(f"{resource.type} {text(name)}", text(name))


def thing(value: Value, type_: str) -> Identity:
    """Identify the thing behind a reference, an ARN or a name, if names of its type are unique."""
    resource = referenced(value)
    if resource is not None:
        return named(resource) if resource.type == type_ else Identity(resource.address, resource.address)
    name = text(value)
    if name.startswith("arn:"):
        name = name.split(":", 5)[-1].removeprefix("log-group:").removesuffix(":*").rpartition("role/")[2]
    return Identity(f"{type_} {name}", name, hidden(value) if "${" in name else "")


def secret(value: Value | None) -> Identity | None:
    """Identify a secret or a parameter, without key and version; None if it is neither."""
    if value is None:
        return None
    resource = referenced(value)
    if resource is not None:
        return _secret_of(resource)
    written = text(value)
    name, service = written, PARAMETERS
    if written.startswith("arn:"):
        parts = written.split(":")
        service = parts[2] if len(parts) > 5 else ""
        if service == SECRETS_MANAGER and len(parts) > 6:
            name = _SUFFIX.sub("", parts[6])
        elif service == PARAMETERS:
            name = ":".join(parts[5:]).removeprefix("parameter")
        elif "$" not in service:
            return None
    name = name.strip("/") if service == PARAMETERS else name
    return Identity(f"{service} {name}", name, hidden(value) if "${" in name else "")


def _secret_of(resource: Resource) -> Identity | None:
    if resource.type in _SECRET_TYPES:
        if resource.block.type == "data" and (arn := resource.attribute("arn")) is not None:
            return secret(arn)
        name = resource.attribute("name")
        begins = name or resource.attribute("name_prefix")
        shown = text(begins) if begins is not None else resource.address
        if name is None or "${" in shown:
            return Identity(resource.address, shown)
        service = _SECRET_TYPES[resource.type]
        return Identity(f"{service} {shown.strip('/') if service == PARAMETERS else shown}", shown.strip("/"))
    if resource.type in _VERSIONS:
        return secret(resource.attribute("secret_id"))
    if resource.attribute("manage_master_user_password") is not None:
        return Identity(f"{resource.address}.master_user_secret", f"{resource.address}.master_user_secret")
    return None


def of_service(resource: Resource) -> str:
    """The service that stores a secret; empty if the resource is neither a secret nor a parameter."""
    return SECRETS_MANAGER if resource.type in _VERSIONS else _SECRET_TYPES.get(resource.type, "")


def entries(value: Value | None) -> dict[str, Any]:
    """The entries of an object; empty for any other value."""
    content = settle(value).content if value is not None else None
    return content if isinstance(content, dict) else {}


def objects(value: Value | None) -> list[dict[str, Any]]:
    """The entries of every object in a list; empty for an item that is not an object."""
    return [*map(entries, items(value))]


#: Names that need no declaration.
_BUILT_IN = {"self", "path", "terraform", "provider", "dynamic"}
#: Names that stand for one of several things, and the argument that makes these.
_COUNTERS = {"each": "for_each", "count": "count"}
#: Blocks and attributes in which names are not references: types, attributes to ignore, former addresses.
_OTHER_BLOCKS = {"moved", "removed", "import", "terraform", "required_providers"}
_OTHER_ATTRIBUTES = {"ignore_changes", "provider", "providers"}


def undeclared(configuration: Configuration) -> tuple[int, Examined]:
    """Return how many references there are, and findings for undeclared things with their places.

    If a file could not be read, the missing thing may be in it.
    """
    count, result = 0, Examined()
    seen: dict[str, Module] = {}
    for module in configuration.modules:
        seen.setdefault(module.files.directory, module)
    for module in seen.values():
        missing: dict[str, list[Place]] = defaultdict(list)
        for name, at in _references(module.files):
            count += 1
            if name and name not in _COUNTERS and not _is_declared(name, module):
                missing[name].append(at)
        for name, places in (*_arguments(module), *_instances(module), *_counters(module.files)):
            missing[name] += places
        for name, found in missing.items():
            first, *others = sorted(set(found))
            what = name if " " in name else f"{name} is not declared"
            if others:
                what += f" (also {', '.join(map(str, others))})"
            if module.files.unread:
                what += f", unless it is in what could not be read: {module.files.unread[0]}"
            kept = result.not_examined if module.files.unread else result.findings
            kept.append(Finding(first.path, first.line, what))
    return count, result


def _is_declared(name: str, module: Module) -> bool:
    kind, _, rest = name.partition(".")
    files = module.files
    if kind == "local":
        return rest in files.locals
    if kind == "var":
        return f"variable.{rest}" in files.blocks
    if kind == "module":
        call, _, output = rest.partition(".")
        if f"module.{call}" not in files.blocks:
            return False
        called = [
            each for each in module.children if each.address.startswith(f"{module.address}module.{call}")
        ]
        unread = any(each.files.unread for each in called)
        return not output or not called or unread or f"output.{output}" in called[0].files.blocks
    # a `check` may bring a data source of its own
    own = (inner for block in files.others if block.type == "check" for inner in block.nested("data"))
    return name in files.blocks or any(name == ".".join(("data", *inner.labels)) for inner in own)


def named_by(part: Block | Expr) -> Iterator[tuple[str, Place]]:
    """Yield the addresses to which a block or an expression refers."""
    found = _of_block(part, frozenset()) if isinstance(part, Block) else names_in(part, frozenset())
    yield from (each for each in found if each[0] and each[0] not in _COUNTERS)


def _references(files: Files) -> Iterator[tuple[str, Place]]:
    """Yield the references of each expression in a directory; an empty name if no declaration is needed."""
    for expr in files.locals.values():
        yield from names_in(expr, frozenset())
    for block in (*files.blocks.values(), *files.others):
        yield from _of_block(block, frozenset())


def _of_block(block: Block, bound: frozenset[str]) -> Iterator[tuple[str, Place]]:
    if block.type in _OTHER_BLOCKS:
        return
    if block.type == "dynamic" and block.labels:
        named = block.attributes.get("iterator")
        bound |= {named.text if named is not None else block.labels[0]}
    for name, expr in block.attributes.items():
        is_type = block.type == "variable" and name == "type"
        if (
            name not in _OTHER_ATTRIBUTES
            and not is_type
            and not (block.type == "dynamic" and name == "iterator")
        ):
            yield from names_in(expr, bound)
    for inner in block.blocks:
        yield from _of_block(inner, bound)


def names_in(expr: Expr, bound: frozenset[str]) -> Iterator[tuple[str, Place]]:
    """Yield the addresses to which an expression refers, without locally bound names."""
    if expr.kind in {"name", "path"}:
        base, steps = (expr, ()) if expr.kind == "name" else expr.args
        if base.kind == "name":
            yield _name(base.args[0], steps, bound), expr.at
        else:
            yield from names_in(base, bound)
        for step in steps:
            if step[0] == "index":
                yield from names_in(step[1], bound)
        return
    if expr.kind == "for":
        yield from names_in(expr.args[2], bound)
        bound |= {name for name in expr.args[:2] if name}
        for child in expr.args[3:6]:
            if child is not None:
                yield from names_in(child, bound)
        return
    for child in expr.children():
        yield from names_in(child, bound)


def _name(base: str, steps: tuple[tuple[str, object], ...], bound: frozenset[str]) -> str:
    attributes: list[str] = []
    for kind, *of in steps:
        if kind == "attr":
            attributes.append(str(of[0]))
        elif base != "module":
            break
    if base in bound or base in _BUILT_IN:
        return ""
    if base in _COUNTERS:
        return base
    wanted = {"data": 2, "ephemeral": 2, "module": 2}.get(base, 1)
    return ".".join([base, *attributes[:wanted]])


def _instances(module: Module) -> Iterator[tuple[str, list[Place]]]:
    """Yield references to several things without a key, to a single one with a key, and to a missing key.

    A guarded expression may use a missing key, such as `length(x.y) > 0 ? x.y[0].id : ""`, and so may one
    that may itself be left out.
    """
    written = [each for expr in module.files.locals.values() for each in paths(expr)]
    for block in (*module.files.blocks.values(), *module.files.others):
        optional = "count" in block.attributes or "for_each" in block.attributes
        written += [each for expr in expressions(block) for each in paths(expr, optional)]
    for expr, guarded in written:
        base, steps = expr.args
        address = _name(base.args[0], steps[:2], frozenset())
        steps = steps[address.count(".") :]
        declared = module.files.blocks.get(address)
        if declared is None or not steps or declared.type not in {"resource", "data", "module"}:
            continue
        several = next((each for each in ("count", "for_each") if each in declared.attributes), "")
        if several and steps[0][0] == "attr":
            yield f"{address} has {several}: a reference to it needs a key", [expr.at]
        elif not several and steps[0][0] == "index":
            yield f"{address} has neither count nor for_each: it has no keys", [expr.at]
        elif several and not guarded and steps[0][0] == "index" and declared.type != "module":
            key = steps[0][1]
            found, why = module.expand(address)
            known = {each.key.strip('"') for each in found}
            if not why and key.kind == "literal" and str(key.args[0]) not in known:
                yield f"{address} has no key {key.text}, by its {several}", [expr.at]


def _counters(files: Files) -> Iterator[tuple[str, list[Place]]]:
    """Yield uses of `each` and `count` outside a block with `for_each` or `count`."""
    for block in files.blocks.values():
        if block.type not in {"resource", "data", "module", "output"} or block.unread:
            continue
        for name, of in _COUNTERS.items():
            places = [at for used, at in _of_block(block, frozenset()) if used == name]
            if places and of not in block.attributes:
                yield f"{'.'.join(block.labels)} uses {name} and has no {of}", places


def expressions(block: Block) -> Iterator[Expr]:
    """Yield the expressions in a block, at any depth, that need their references."""
    if block.type not in _OTHER_BLOCKS:
        others = _OTHER_ATTRIBUTES | {"depends_on", "replace_triggered_by"}
        yield from (expr for name, expr in block.attributes.items() if name not in others)
        for inner in block.blocks:
            yield from expressions(inner)


#: Functions that need all of their arguments.
_PLAIN = {"jsonencode", "concat", "merge", "toset", "compact", "join", "format"}


def paths(expr: Expr, guarded: bool = False) -> Iterator[tuple[Expr, bool]]:
    """Yield the paths in an expression that begin with a name, and whether something guards each."""
    if expr.kind == "path" and expr.args[0].kind == "name":
        yield expr, guarded
    guards = expr.kind in {"condition", "for"} or (expr.kind == "call" and expr.args[0] not in _PLAIN)
    guards |= expr.kind == "operation" and expr.args[0] in {
        "&&",
        "||",
    }  # they short-circuit (1.12, OpenTofu 1.10)
    for child in expr.children():
        yield from paths(child, guarded or guards)


def _arguments(module: Module) -> Iterator[tuple[str, list[Place]]]:
    """Yield arguments for which a local module has no variable, and variables that a call does not set."""
    for child in module.children:
        call = module.files.blocks[
            "module." + child.address.removeprefix(module.address).split(".")[1].partition("[")[0]
        ]
        if child.files.unread or call.unread:
            continue
        variables = _variables(child.files)
        for name, expr in call.attributes.items():
            if name not in META and name not in variables:
                yield f"the module {call.labels[0]} has no variable {name}", [expr.at]
        for name, block in variables.items():
            if name not in call.attributes and "default" not in block.attributes:
                yield f"the module {call.labels[0]} is not given its variable {name}", [call.at]


def _variables(files: Files) -> Mapping[str, Block]:
    blocks = files.blocks.values()
    return {block.labels[0]: block for block in blocks if block.type == "variable"}
