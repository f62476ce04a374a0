"""Files of Terraform modules, native or JSON: which belong together, overrides, values of variables."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

from pytest_readiness import SetupError

from smoke.source.checkout import Checkout, Finding

from .evaluate import Environment
from .hcl import Block, Expr, Place, parse, template
from .values import Symbol, Value, flat, scalar, settle

#: Suffixes of a module's files; only OpenTofu reads `.tofu`, in place of a `.tf` of the same name.
SUFFIXES = (".tf", ".tf.json", ".tofu", ".tofu.json")
#: Files of other tools that define infrastructure, or fill a module in.
_TOOLS = {
    "terragrunt.hcl": "Terragrunt, which fills in a module that the plan may name", "cdk.json": "AWS CDK",
    "Pulumi.yaml": "Pulumi", "samconfig.toml": "AWS SAM", "copilot/*/manifest.yml": "AWS Copilot",
    "ecspresso.yml": "ecspresso", "serverless.yml": "Serverless",
}  # fmt: skip
_TEMPLATES, _TEMPLATE = (".yaml", ".yml", ".json", ".template"), b"AWSTemplateFormatVersion"
#: Types of block that have a name, and the prefix of their address.
_ADDRESSED = {"resource": "", "data": "data.", "ephemeral": "ephemeral.", "variable": "variable.",
              "output": "output.", "module": "module."}  # fmt: skip


@dataclass(frozen=True)
class Files:
    """The content of one directory's files. `blocks` are by address, `others` those without one.

    `twice` are the names that are declared twice, with both places.
    """

    directory: str
    paths: tuple[str, ...]
    blocks: dict[str, Block] = field(default_factory=dict)
    locals: dict[str, Expr] = field(default_factory=dict)
    others: tuple[Block, ...] = ()
    unread: tuple[Place, ...] = ()
    twice: tuple[tuple[str, Place, Place], ...] = ()

    @property
    def at(self) -> Place:
        """Where to look when there is no better place."""
        return Place(self.paths[0] if self.paths else self.directory, 1)


#: Terragrunt's functions for the top of the repository, and for the directory of a file.
_TOP, _OWN = "${get_repo_root()}/", "${get_terragrunt_dir()}/"
#: Where a workspace is selected, and how.
_SELECTS_IN = re.compile(
    r"\A\.github/workflows/|\.(?:sh|bash|mk)\Z|(?:\A|/)(?:GNU)?[Mm]akefile\Z|(?:\A|/)[Jj]ustfile\Z"
)
_SELECTS = re.compile(
    r"\b(?:terraform|tofu)\s+workspace\s+(?:select|new)\s+(?:-[\w=-]+\s+)*(\S+)|\bTF_WORKSPACE\s*[:=]\s*(\S+)"
)


class Sources:
    """The Terraform files of a checkout, each read once."""

    def __init__(self, checkout: Checkout, root: str) -> None:
        self.root = root
        self._checkout = checkout
        self._files: dict[str, Files] = {}
        self._around: set[str] = set()

    @property
    def count(self) -> int:
        """How many files were read."""
        return sum(len(files.paths) for files in self._files.values())

    @cached_property
    def tracked(self) -> list[str]:
        """The paths that git tracks and that exist."""
        paths = [file.path for file in self._checkout.tracked()]
        return sorted(path for path in paths if (self._checkout.root / path).is_file())

    def has(self, path: str) -> bool:
        """Whether a path of the checkout exists, tracked or not."""
        return (self._checkout.root / path).exists()

    def files(self, directory: str) -> Files:
        """Read the files of one directory, not of its subdirectories; overrides are merged last."""
        if directory not in self._files:
            paths = [path for path in self._in(directory) if path.endswith(SUFFIXES)]
            shadowed = {path.replace(".tofu", ".tf") for path in paths if ".tofu" in PurePosixPath(path).name}
            paths = [path for path in paths if path not in shadowed]
            overrides = [
                path for path in paths if _stem(path) == "override" or _stem(path).endswith("_override")
            ]
            ordered = [*(path for path in paths if path not in overrides), *overrides]
            self._files[directory] = self._merged(directory, ordered, frozenset(overrides))
        return self._files[directory]

    def given(self, directory: str, var_files: Sequence[str]) -> tuple[dict[str, Value], list[Finding]]:
        """Return the values of variable files, later ones over earlier ones, and what was not read.

        SetupError for a file of the plan that the checkout lacks.
        """
        own = self._in(directory)
        found = [
            path for path in own if PurePosixPath(path).name in {"terraform.tfvars", "terraform.tfvars.json"}
        ]
        found += [path for path in own if path.endswith((".auto.tfvars", ".auto.tfvars.json"))]
        inputs = self._terragrunt(directory, var_files)
        missing = [path for path in var_files if path not in self.tracked]
        var_files = [path for path in var_files if path not in missing]
        if missing and not inputs:
            raise SetupError(
                f"the checkout lacks {', '.join(missing)}: correct [facts.source] var_files in readiness.toml"
            )
        values: dict[str, Value] = {}
        unread: list[Finding] = []
        environment = Environment(_Nothing())
        for path in inputs:
            expr = self._parsed(path).attributes["inputs"]
            given = environment.value(expr).content
            values |= given if isinstance(given, dict) else {}
            if not isinstance(given, dict):
                unread.append(Finding(path, expr.at.line, "inputs that the file alone does not determine"))
        for path in dict.fromkeys([*found, *var_files]):
            body = self._parsed(path)
            if body.unread:
                place = body.unread[0]
                unread.append(place.finding("not valid HCL: a variable may have another value"))
            values |= {name: environment.value(expr) for name, expr in body.attributes.items()}
        return values, unread

    def _terragrunt(self, directory: str, var_files: Sequence[str]) -> list[str]:
        """The file with the variables that Terragrunt gives a directory: beside it, or this environment's.

        The latter is below a directory with the name of the one that contains the plan's variable files.
        """
        around = self._around = {PurePosixPath(path).parent.name for path in var_files}
        found = []
        for path in (each for each in self.tracked if PurePosixPath(each).name == "terragrunt.hcl"):
            here, body = PurePosixPath(path).parent, self._parsed(path)
            if "inputs" not in body.attributes:
                continue
            sources = [each.attributes["source"].text.strip('"').replace("//", "/")
                       for each in body.nested("terraform") if "source" in each.attributes]  # fmt: skip
            places = [
                each.removeprefix(_TOP) if each.startswith(_TOP) else f"{here}/{each.removeprefix(_OWN)}"
                for each in sources
            ]
            to_it = directory in map(posixpath.normpath, places)
            if str(here) == directory or (to_it and around & {*here.parts}):
                found.append(path)
        return found if len(found) == 1 else []

    @cached_property
    def workspace(self) -> str:
        """The workspace that the repository's scripts select, if all select the same; otherwise empty.

        A workspace with another name than this environment's counts if a file of this environment selects it.
        """
        selected: dict[str, list[str]] = {}
        for path in filter(_SELECTS_IN.search, self.tracked):
            for found in _SELECTS.finditer((self._checkout.root / path).read_text("utf-8", "replace")):
                selected.setdefault("".join(filter(None, found.groups())).strip("\"'"), []).append(path)
        (name, *others), paths = [*selected, ""], [path for each in selected.values() for path in each]
        own = name in self._around or any(each and each in path for each in self._around for path in paths)
        return name if own and not any(others) and re.fullmatch(r"[\w-]+", name) else ""

    def foreign(self, directory: str) -> list[tuple[str, str]]:
        """Files that show that another tool defines the platform; per tool the first, preferably here."""
        found: dict[str, str] = {}
        for path in sorted(self.tracked, key=lambda each: not each.startswith(f"{directory}/")):
            tool = next((tool for name, tool in _TOOLS.items() if PurePosixPath(path).match(name)), "")
            if not tool and path.endswith(_TEMPLATES):
                tool = "CloudFormation" if _TEMPLATE in (self._checkout.root / path).read_bytes() else ""
            if tool:
                found.setdefault(tool, path)
        return [(path, tool) for tool, path in found.items()]

    def text_of(self, path: str, directory: str) -> str | None:
        """The text of a file that a Terraform function names; None if it is missing or not text."""
        for base in dict.fromkeys(("", self.root, directory)):
            full = normpath(str(PurePosixPath(base, path)))
            if full in self.tracked:
                try:
                    return (self._checkout.root / full).read_text("utf-8-sig")
                except UnicodeDecodeError:
                    return None
        return None

    def template(self, path: str, directory: str) -> Expr:
        """A template file as an expression."""
        return template(self.text_of(path, directory) or "", normpath(path))

    def _in(self, directory: str) -> list[str]:
        return [path for path in self.tracked if str(PurePosixPath(path).parent) == directory]

    def _parsed(self, path: str) -> Block:
        content = (self._checkout.root / path).read_bytes()
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            return Block("", (), Place(path, 1), {}, (), (Place(path, line),))
        return parsed(text, path)

    def _merged(self, directory: str, paths: Iterable[str], overrides: frozenset[str]) -> Files:
        blocks: dict[str, Block] = {}
        local: dict[str, Expr] = {}
        others: list[Block] = []
        unread: list[Place] = []
        twice: list[tuple[str, Place, Place]] = []
        listed = list(paths)
        for path in listed:
            body = self._parsed(path)
            inside = {place for block in body.blocks if _address(block) for place in block.unread}
            unread += [place for place in body.unread if place not in inside]
            for block in body.blocks:
                address = _address(block)
                if block.type == "locals":
                    again = local.keys() & block.attributes.keys() if path not in overrides else ()
                    twice += [(f"local.{each}", local[each].at, block.attributes[each].at) for each in again]
                    local |= block.attributes
                elif not address:
                    others.append(block)
                elif address in blocks and path in overrides:
                    blocks[address] = _overridden(blocks[address], block)
                else:
                    if address in blocks:
                        twice.append((address, blocks[address].at, block.at))
                    blocks[address] = block
        unread += [place for block in blocks.values() for place in block.unread]
        return Files(directory, tuple(listed), blocks, local, tuple(others), tuple(unread), tuple(twice))


@cache
def parsed(text: str, path: str) -> Block:
    """Parse a file in one of Terraform's two syntaxes, once for each content."""
    if not path.endswith(".json"):
        return parse(text, path)
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    held: list[str] = []
    return _of_json(parse(f"json = {_held(text, held)}", path.removesuffix(".json")), path, held)


#: How many labels a block of Terraform's JSON syntax has.
_LABELS = {"resource": 2, "data": 2, "variable": 1, "module": 1, "output": 1, "provider": 1, "locals": 0}


#: Marks the number of a JSON string while the rest is read: a character that no file should contain.
_HELD = "\ue000"


def _held(text: str, held: list[str]) -> str:
    """Replace the strings of a JSON text: each is a template, with JSON's escapes around it."""

    def hold(found: re.Match[str]) -> str:
        try:
            held.append(json.loads(found[0], strict=False))
        except ValueError:
            return found[0]
        return f'"{_HELD}{len(held) - 1}"'

    return re.sub(r'"(?:\\.|[^"\\])*"', hold, text)


def _restored(value: Any, path: str, held: Sequence[str]) -> Any:
    """Put the strings back, keys as they are and values as templates."""
    if isinstance(value, tuple):
        return tuple(_restored(each, path, held) for each in value)
    if not isinstance(value, Expr):
        return value
    at = Place(path, value.at.line)
    if value.kind == "object":
        entries = ((_key(key, path, held), _restored(each, path, held)) for key, each in value.args)
        return Expr("object", at, value.text, tuple(entries))
    content = value.args[0] if value.kind == "literal" else None
    if not isinstance(content, str) or not content.startswith(_HELD):
        return Expr(value.kind, at, value.text, _restored(value.args, path, held))
    content = held[int(content.removeprefix(_HELD))]
    if "${" in content or "%{" in content:
        return template(content, path, at.line)
    return Expr("literal", at, content, (content,))


def _key(key: Expr, path: str, held: Sequence[str]) -> Expr:
    name = str(key.args[0])
    name = held[int(name.removeprefix(_HELD))] if name.startswith(_HELD) else name
    return Expr("literal", Place(path, key.at.line), name, (name,))


def _of_json(parsed: Block, path: str, held: Sequence[str]) -> Block:
    content = _restored(parsed.attributes.get("json"), path, held)
    places = [Place(path, each.line) for each in parsed.unread]
    if content is None or content.kind != "object" or places:
        return Block("", (), Place(path, 1), {}, (), tuple(places or [Place(path, 1)]))
    attributes: dict[str, Expr] = {}
    blocks: list[Block] = []
    for key, value in content.args:
        type_ = str(key.args[0])
        attributes[type_] = value
        if type_ in _LABELS:
            blocks += _labelled(type_, (), value, _LABELS[type_])
    return Block("", (), Place(path, 1), attributes, tuple(blocks))


def _labelled(type_: str, labels: tuple[str, ...], value: Expr, depth: int) -> Iterator[Block]:
    for each in value.args if value.kind == "list" else (value,):
        if each.kind != "object":
            yield Block(type_, labels, each.at, {}, (), (each.at,))
        elif depth == 0:
            entries = {str(key.args[0]): inner for key, inner in each.args}
            yield Block(type_, labels, each.at, entries, tuple(_json_blocks(entries)))
        else:
            for key, inner in each.args:
                yield from _labelled(type_, (*labels, str(key.args[0])), inner, depth - 1)


def _json_blocks(entries: dict[str, Expr]) -> Iterator[Block]:
    """Yield every object among attributes as a possible block: only the resource's type decides."""
    for name, value in entries.items():
        if name == "dynamic":
            yield from _labelled("dynamic", (), value, 1)
        elif value.kind == "object" or (value.kind == "list" and all(e.kind == "object" for e in value.args)):
            yield from _labelled(name, (), value, 0)


class _Nothing:
    """The scope of a variable file: no names, and no function reads a file."""

    def lookup(self, _: str, steps: Sequence[object], at: Place, text: str) -> tuple[Value, int]:
        """There are no names."""
        return Value(Symbol(text, f"{text} in a variable file"), at), len(steps)

    def read(self, *_: object) -> Value | None:
        """No function reads a file."""
        return None


def _stem(path: str) -> str:
    return PurePosixPath(path).name.partition(".")[0]


def _address(block: Block) -> str:
    """The address of a block in its module, empty for one that has none."""
    labels = 2 if block.type in {"resource", "data", "ephemeral"} else 1
    if block.type not in _ADDRESSED or len(block.labels) != labels:
        return ""
    return _ADDRESSED[block.type] + ".".join(block.labels)


def _overridden(block: Block, by: Block) -> Block:
    """Return a block overridden by another one's attributes, and its blocks, type by type."""
    replaced = {each.type for each in by.blocks}
    kept = [each for each in block.blocks if each.type not in replaced]
    return Block(
        block.type, block.labels, block.at, {**block.attributes, **by.attributes}, (*kept, *by.blocks),
        (*block.unread, *by.unread),
    )  # fmt: skip


def convert(value: Value, type_: Expr | None, environment: Environment) -> Value:
    """Return a value in a variable's declared type, with the defaults of optional attributes."""
    if type_ is None:
        return value
    content = settle(value).content
    name = type_.args[0] if type_.kind in {"name", "call"} else ""
    if type_.kind == "name":
        return _primitive(value, str(name))
    inner = type_.args[1][0] if type_.kind == "call" and type_.args[1] else None
    if inner is None or content is None:
        return value
    if name == "optional":
        return convert(value, inner, environment)
    if name in {"list", "set"} and isinstance(content, tuple):
        return value.to(tuple(convert(each, inner, environment) for each in content))
    if name == "map" and isinstance(content, dict):
        return value.to({key: convert(each, inner, environment) for key, each in content.items()})
    if name == "object" and isinstance(content, dict) and inner.kind == "object":
        return value.to({str(key.args[0]): _entry(content, str(key.args[0]), each, value, environment)
                         for key, each in inner.args})  # fmt: skip
    return value


def _entry(content: dict[str, Value], key: str, type_: Expr, whole: Value, environment: Environment) -> Value:
    given = content.get(key)
    if given is not None and settle(given).content is not None:
        return convert(given, type_, environment)
    if type_.kind == "call" and type_.args[0] == "optional" and len(type_.args[1]) > 1:
        return convert(environment.value(type_.args[1][1]), type_, environment)
    return given if given is not None else whole.to(None)


def _primitive(value: Value, type_: str) -> Value:
    content = flat(value).content
    if type_ == "string" and isinstance(content, bool | int | float):
        return value.to(scalar(content))
    if type_ == "number" and isinstance(content, str):
        try:
            number = float(content)
        except ValueError:
            return value
        return value.to(int(number) if number.is_integer() else number)
    if type_ == "bool" and content in ("true", "false"):
        return value.to(content == "true")
    return value
