"""A Terraform configuration: modules with their variables and locals, and the resulting resources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from posixpath import normpath

from pytest_readiness import SetupError

from smoke.source.checkout import Checkout, Examined, Finding

from .evaluate import Body, Environment, Resource, Step, keys_of
from .files import Files, Sources, convert
from .functions import ABSENT
from .hcl import Block, Expr, Place
from .values import Symbol, Value, flat, is_known, known_text, lift, options, plain, settle, symbols, text

_DEPTH = 8


@dataclass(eq=False)
class Module:
    """One use of a directory: `address` is empty or ends with a dot, `given` are the values of variables.

    A `rerouted` module gets providers from its call.
    """

    sources: Sources
    files: Files
    address: str = ""
    given: Mapping[str, Value] = field(default_factory=dict)
    depth: int = 0
    uncertain: str = ""
    rerouted: bool = False
    _memo: dict[str, Value] = field(default_factory=dict, repr=False)
    _expanded: dict[str, tuple[list[Resource], str]] = field(default_factory=dict, repr=False)
    _children: dict[str, tuple[list[Module], str]] = field(default_factory=dict, repr=False)

    @property
    def type(self) -> str:
        """A module is not a resource."""
        return "module"

    def attribute(self, name: str) -> Value | None:
        """One of its outputs."""
        block = self.files.blocks.get(f"output.{name}")
        if block is None or "value" not in block.attributes:
            return None
        return self._once(f"output.{name}", Environment(self), block.attributes["value"])

    def variable(self, name: str) -> Value:
        """The value of a variable: the given one, or else its default, in its declared type."""
        block = self.files.blocks.get(f"variable.{name}")
        value = self.given.get(name)
        if value is None and block is not None and "default" in block.attributes:
            value = self._once(f"var.{name}", Environment(self), block.attributes["default"])
        if value is None:
            why = f"the files do not set var.{name}" if block is not None else f"{ABSENT}var.{name}"
            return Value(Symbol(f"{self.address}var.{name}", why), block.at if block else self.files.at)
        type_ = block.attributes.get("type") if block is not None else None
        return lift(lambda each: convert(each, type_, Environment(self)), value, name=f"var.{name}")

    def lookup(self, name: str, steps: Sequence[Step], at: Place, text: str) -> tuple[Value, int]:
        """Return what a name with its first steps refers to, and how many steps those are."""
        first = steps[0][1] if steps and steps[0][0] == "attr" else ""
        if name == "var":
            return self.variable(first), 1
        if name == "local":
            expr = self.files.locals.get(first)
            if expr is None:
                return Value(Symbol(text, f"{ABSENT}local.{first}"), at), len(steps)
            return self._once(f"local.{first}", Environment(self), expr), 1
        if name == "terraform" and first == "workspace" and self.sources.workspace:
            return Value(self.sources.workspace, at), 1
        if name == "path":
            return Value(self.files.directory if first == "module" else self.sources.root, at), 1
        if name == "module":
            return self._module(first, at), 1
        words = [name, *(step[1] for step in steps[:2] if step[0] == "attr")]
        words = words[: 3 if name in {"data", "ephemeral"} else 2]
        address = ".".join(words)
        if address in self.files.blocks:
            return self._value_of(address, at), len(words) - 1
        why = f"{text}, known only at run time" if name in _HERE else f"{ABSENT}{address}"
        return Value(Symbol(text, why), at), len(steps)

    def read(self, name: str, arguments: Sequence[Value], at: Place, written: str) -> Value | None:
        """Call a function that reads a file; None for any other function."""
        if name not in {"file", "templatefile", "fileexists"}:
            return None
        path = flat(arguments[0]).content
        text = self.sources.text_of(path, self.files.directory) if isinstance(path, str) else None
        if name == "fileexists" and isinstance(path, str):
            return Value(text is not None, at)
        if text is None:
            return Value(Symbol(written, f"the file of {written}"), at)
        if name == "file":
            return Value(text, at)
        names = settle(arguments[1]).content
        if not isinstance(names, dict):
            return Value(Symbol(written, f"the variables of {written}"), at)
        return Environment(self, names).value(self.sources.template(str(path), self.files.directory))

    @cached_property
    def children(self) -> list[Module]:
        """The local modules that this one calls, each use of each."""
        return [each for block in self._calls for each in self._called(block)[0]]

    @cached_property
    def resources(self) -> list[Resource]:
        """The resources and data sources of this directory."""
        return [each for address in self.addresses for each in self.expand(address)[0]]

    @cached_property
    def absent(self) -> list[Resource]:
        """The resources with no instance: `count = 0`, or an empty `for_each`."""
        return [
            Resource(self.files.blocks[address], Environment(self), address=self.address + address)
            for address in self.addresses
            if self.expand(address) == ([], "")
        ]

    @cached_property
    def unread(self) -> list[Finding]:
        """The parts of this directory's files that could not be read."""
        found = [place.finding("not valid HCL") for place in self.files.unread]
        for block in self._calls:
            children, why = self._called(block)
            if why and not children:
                found.append(block.at.finding(why))
        return found

    @property
    def unread_calls(self) -> list[Block]:
        """The calls of modules that are not in the checkout."""
        return [block for block in self._calls if not self._called(block)[0] and self._called(block)[1]]

    @property
    def _calls(self) -> list[Block]:
        return [block for name, block in self.files.blocks.items() if name.startswith("module.")]

    def _called(self, block: Block) -> tuple[list[Module], str]:
        """Return the uses of a module, and why there may be others, or none that can be read."""
        name = block.labels[0]
        if name not in self._children:
            self._children[name] = self._call(block, name)
        return self._children[name]

    def _call(self, block: Block, name: str) -> tuple[list[Module], str]:
        written = block.attributes.get("source")
        self._children[name] = [], f"the module {name}, whose source refers to itself"
        source = text(Environment(self).value(written)) if written is not None else "elsewhere"
        below = source.removeprefix(f"{self.files.directory}/")  # as `path.module` begins
        if below == source and not source.startswith(("./", "../")):
            return [], f"the module {name}, which comes from {source}"
        directory = normpath(str(PurePosixPath(self.files.directory, below)))
        files = self.sources.files(directory)
        if not files.paths or self.depth >= _DEPTH:
            return [], f"the module {name}: there is no Terraform file in {directory}"
        instances, why = self._instances(block)
        found = []
        for key, environment in instances:
            given = {
                argument: environment.value(expr)
                for argument, expr in block.attributes.items()
                if argument not in META
            }
            address = f"{self.address}module.{name}{f'[{key}]' if key else ''}."
            rerouted = self.rerouted or "providers" in block.attributes
            found.append(Module(self.sources, files, address, given, self.depth + 1, why, rerouted))
        return found, why

    def _module(self, name: str, at: Place) -> Value:
        block = self.files.blocks.get(f"module.{name}")
        if block is None:
            return Value(Symbol(f"module.{name}", f"{ABSENT}module.{name}"), at)
        found, why = self._called(block)
        values = [Value(Symbol(each.address.rstrip("."), resource=each), at) for each in found]
        if why and not values:
            return Value(Symbol(f"{self.address}module.{name}", why), at)
        return self._collected(block, values, [each.address for each in found], why, at)

    def _value_of(self, address: str, at: Place) -> Value:
        found, why = self.expand(address)
        values = [Value(Symbol(each.address, resource=each), at) for each in found]
        return self._collected(self.files.blocks[address], values, [each.key for each in found], why, at)

    def _collected(self, block: Block, values: list[Value], keys: list[str], why: str, at: Place) -> Value:
        """The value of a reference without an index: one, a list, or a map."""
        if "count" in block.attributes:
            return values[0] if why and values else Value(tuple(values), at)
        if "for_each" in block.attributes:
            names = [key.rstrip(".").rpartition("[")[2].strip('"]') for key in keys]
            return values[0] if why and values else Value(dict(zip(names, values, strict=True)), at)
        return values[0]

    @cached_property
    def addresses(self) -> list[str]:
        """The addresses of this module's resources and data sources, without indices."""
        others = ("variable.", "output.", "module.")
        return [address for address in self.files.blocks if not address.startswith(others)]

    def expand(self, address: str) -> tuple[list[Resource], str]:
        """Return the resources of one block, and why there may be more or fewer."""
        if address not in self._expanded:
            self._expanded[address] = self._resources(address)
        return self._expanded[address]

    def _resources(self, address: str) -> tuple[list[Resource], str]:
        block = self.files.blocks[address]
        instances, why = self._instances(block)
        made = []
        for key, environment in instances:
            full = f"{self.address}{address}{f'[{key}]' if key else ''}"
            made.append(Resource(block, environment, why or self.uncertain, address=full, key=key))
        return made, why

    def _instances(self, block: Block) -> tuple[list[tuple[str, Environment]], str]:
        """Return the key and environment of each instance of a block, and why if the files do not say."""
        environment = Environment(self)
        for name in ("count", "for_each"):
            expr = block.attributes.get(name)
            if expr is None:
                continue
            value = environment.value(expr)
            if name == "count":
                counts = [_count(each) for each in options(value)]
                if None in counts or len(set(counts)) > 1:
                    why = f"its count is {expr.text}"
                    index = value.symbol(f"count.index at {expr.at}", why)
                    return [("", environment.bound(count=Value({"index": index}, expr.at)))], why
                numbers = [Value(number, expr.at) for number in range(min(counts[0] or 0, 200))]
                return [(str(each.content), environment.bound(count=Value({"index": each}, expr.at)))
                        for each in numbers], ""  # fmt: skip
            keys, why = keys_of(value)
            return [
                (f'"{plain(key)}"' if not why else "",
                 environment.bound(each=Value({"key": key, "value": item}, expr.at)))
                for key, item in keys
            ], why and f"its for_each is {expr.text}"  # fmt: skip
        return [("", environment)], ""

    def _once(self, name: str, environment: Environment, expr: Expr) -> Value:
        """Evaluate something once; a reference to itself is unknown."""
        if name not in self._memo:
            self._memo[name] = Value(
                Symbol(f"{self.address}{name}", f"{name}, which refers to itself"), expr.at
            )
            self._memo[name] = environment.value(expr)
        return self._memo[name]


#: Names with values that only a running Terraform knows.
_HERE = {"terraform", "self", "each", "count"}
#: Arguments of a module's call that are not variables.
META = {"source", "version", "count", "for_each", "providers", "depends_on"}


def _count(value: Value) -> int | None:
    content = flat(value).content
    if isinstance(content, str) and content.isdigit():
        return int(content)
    return content if isinstance(content, int) and not isinstance(content, bool) else None


#: Resources that are found by name, which an unknown `for_each` also hides.
_BY_NAME = {"aws_ecs_service", "aws_ecs_task_definition"}
#: Resources that contain others, written in another language.
_STACKS = {
    "aws_cloudformation_stack", "aws_cloudformation_stack_set", "aws_cloudcontrolapi_resource",
    "aws_serverlessapplicationrepository_cloudformation_stack", "helm_release",
}  # fmt: skip


class Configuration:
    """The root module of a checkout and everything below it."""

    def __init__(self, checkout: Checkout, directory: str, var_files: Sequence[str] = ()) -> None:
        """Read a directory with its variable files, those that Terraform finds by itself first.

        SetupError if it has no Terraform, or lacks one of the variable files.
        """
        sources = Sources(checkout, directory)
        files = sources.files(directory)
        if not files.paths:
            others = "".join(
                f"\n{path} ({tool}) is not examined" for path, tool in sources.foreign(directory)
            )
            raise SetupError(
                f"the checkout has no Terraform in {directory}: correct [facts.source] of readiness.toml"
                f"{others}"
            )
        given, self.unread_values = sources.given(directory, var_files)
        self.root = Module(sources, files, given=given)
        self.directory = directory
        self.sources = sources

    @cached_property
    def modules(self) -> list[Module]:
        """The root module and all local ones below it."""
        found = [self.root]
        for each in found:
            found += each.children
        return found

    @cached_property
    def resources(self) -> list[Resource]:
        """Every resource and data source."""
        return [each for module in self.modules for each in module.resources]

    @cached_property
    def unread(self) -> list[Finding]:
        """Everything that could not be read, each once."""
        found = [*self.unread_values, *(each for module in self.modules for each in module.unread)]
        return list(dict.fromkeys(found))

    def of_type(self, type_: str, *, data: bool = False) -> list[Resource]:
        """All resources of one type; with `data` the data sources."""
        kind = "data" if data else "resource"
        return [each for each in self.resources if each.type == type_ and each.block.type == kind]

    @cached_property
    def provider_version(self) -> str:
        """The versions of the AWS provider that the root module accepts; empty for any."""
        for block in self.root.files.others:
            for inner in block.nested("required_providers") if block.type == "terraform" else ():
                wanted = Body(inner, Environment(self.root)).attribute("aws")
                if wanted is not None:
                    version = wanted.content.get("version") if isinstance(wanted.content, dict) else wanted
                    return known_text(version)
        return ""

    @cached_property
    def _regions(self) -> dict[str, Value | None]:
        """The regions of the root module's AWS providers, the default one's as `aws`."""
        found = dict[str, Value | None]()
        for block in self.root.files.others:
            if block.type == "provider" and block.labels == ("aws",):
                body = Body(block, Environment(self.root))
                alias = body.attribute("alias")
                found["aws" if alias is None else f"aws.{plain(alias)}"] = body.attribute("region")
        return found

    @property
    def home(self) -> str:
        """The region of the default provider; empty if the files do not say."""
        region = self._regions.get("aws")
        return known_text(region)

    @cached_property
    def tags_all(self) -> bool:
        """Whether a provider adds default tags."""
        others = [block for module in self.modules for block in module.files.others]
        return any(block.nested("default_tags") for block in others if block.type == "provider")

    def region(self, resource: Resource) -> str:
        """The region in which a resource is created; empty if the files do not say."""
        written = resource.block.attributes.get("provider")
        own, module = resource.attribute("region"), resource.environment.scope
        if own is None and isinstance(module, Module) and module.rerouted:
            return ""
        region = self._regions.get(written.text if written is not None else "aws") if own is None else own
        return known_text(region)

    def foreign_region(self, resource: Resource) -> str | None:
        """The region in which a resource is created, if it is not the default provider's."""
        region, default = self.region(resource), self._regions.get("aws")
        if not region or default is None or not is_known(default):
            return None
        return None if region == plain(default) else region

    def receivers(self, resource: Resource) -> list[str]:
        """The modules that cannot be read and get a resource, each with its place."""
        return [
            f"the module {block.labels[0]} ({block.at})"
            for module in self.modules
            for block in module.unread_calls
            for expr in block.attributes.values()
            if any(symbol.resource is resource for symbol in symbols(Environment(module).value(expr)))
        ]

    def lacks(self, result: Examined, what: str, about: Sequence[str], at: Finding | None = None) -> None:
        """Record that something is missing: a finding, unless it may be in a part that could not be read.

        It may be in an invalid file, in a module or a stack with one of the words `about` in its call or
        template, or among services and tasks if the files do not say what these are for. A module named by
        such a word comes first.
        """
        place = at or Finding(self.directory, 0, "")
        invalid = [each.finding("") for module in self.modules for each in module.files.unread]
        holders = [*self.unread_values, *invalid, *self._mentions(about), *self._hidden(about)]
        if holders:
            where = str(holders[0]).removesuffix(": ")
            what = f"{what}, unless it is in what could not be read: {where}"
            result.not_examined.append(replace(place, what=what))
        else:
            result.findings.append(replace(place, what=what))

    def _mentions(self, words: Sequence[str]) -> list[Finding]:
        calls = [(module, block) for module in self.modules for block in module.unread_calls]
        called, inside = list[Finding](), list[Finding]()
        for scope, block in calls:
            what = block.at.finding(f"the module {block.labels[0]}")
            said = [(expr.text, text(Environment(scope).value(expr))) for expr in block.attributes.values()]
            written = " ".join(word for both in said for word in both).lower()
            if any(word.lower() in block.labels[0].lower() for word in words):
                called.append(what)
            elif any(word.lower() in written for word in words):
                inside.append(what)
        return [*called, *inside]

    def _hidden(self, words: Sequence[str]) -> Iterator[Finding]:
        for each in self.resources:
            if each.type in _BY_NAME and each.uncertain.startswith("its for_each"):
                yield each.finding(f"{each.address}, {each.uncertain}")
            elif each.type in _STACKS:
                values = [each.attribute(name) for name in each.block.attributes]
                written = " ".join(
                    [each.label, *(str(plain(value)) for value in values if value is not None)]
                )
                if any(word.lower() in written.lower() for word in words) or "${" in written:
                    yield each.finding(each.address)

    def absent(self, type_: str) -> list[Resource]:
        """The resources of one type with no instance."""
        return [each for module in self.modules for each in module.absent if each.type == type_]
