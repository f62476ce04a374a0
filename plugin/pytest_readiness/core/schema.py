"""The schema of environment profiles (environments/schema.toml): their values, and what these offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ProfileError
from .fields import BUILT_IN, FORMATS, TYPES, Field
from .reading import Table, load_toml

#: Where the profiles of a project are, one file each, and beside them the file that says what they may hold.
DIRECTORY = "environments"
SCHEMA_NAME = "schema.toml"
ENV_KINDS = ("env", "file")


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityRule:
    """What a capability takes: values that are not empty, a reach flag, an option of the run."""

    name: str
    needs: tuple[str, ...] = ()
    reachable: str = ""
    option: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Fields by dotted name, capability rules by name; ``overrides`` are the variables of built-in values."""

    source: str
    fields: Mapping[str, Field]
    capabilities: Mapping[str, CapabilityRule] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of all sections, in the schema's order."""
        return tuple(dict.fromkeys(name.partition(".")[0] for name in self.fields))

    @classmethod
    def parse(cls, text: str, source: str) -> Schema:
        """Parse a schema; ProfileError naming ``source``, key and allowed values for anything malformed."""
        top = load_toml(text, source, ProfileError)
        fields = {entry.name: entry for entry in _fields(top.table("section"))}
        rules = top.table("capability")
        capabilities = {name: _capability(name, rules.table(name), fields) for name in rules.data}
        built_in = top.table("profile")
        overrides = {name: _override(built_in, name) for name in built_in.data}
        top.finish()
        return cls(source=source, fields=fields, capabilities=capabilities, overrides=overrides)


def _fields(sections: Table) -> list[Field]:
    read = []
    for section in sections.data:
        keys = sections.table(section)
        if section in BUILT_IN:
            sections.refuse(
                section, "a built-in name", allowed="a section name other than " + ", ".join(BUILT_IN)
            )
        read += [_field(f"{section}.{key}", keys.table(key)) for key in keys.data]
    return read


def _field(name: str, table: Table) -> Field:
    kind = table.choice("type", TYPES)
    allowed = table.texts("allowed", ())
    if (kind == "choice") != bool(allowed):
        table.refuse(
            "allowed", "a choice, and only a choice, lists its values", allowed="an array of strings"
        )
    read = Field(
        name=name,
        type=kind,
        required=table.boolean("required", False),
        env=table.text("env", ""),
        env_kind=table.choice("env_kind", ENV_KINDS, "env"),
        allowed=allowed,
        format=table.choice("format", FORMATS, ""),
        default=_default(table, kind, allowed),
    )
    table.finish()
    return read


def _default(table: Table, kind: str, allowed: tuple[str, ...]) -> Any:
    if kind == "bool":
        return table.boolean("default", False)
    if kind == "int":
        return table.integer("default", 0)
    if kind == "choice":
        return table.choice("default", allowed, allowed[0])
    return table.text("default", "", empty=True)


def _capability(name: str, table: Table, fields: Mapping[str, Field]) -> CapabilityRule:
    rule = CapabilityRule(
        name=name,
        needs=table.texts("needs", ()),
        reachable=table.choice(
            "reachable", [key for key, entry in fields.items() if entry.type == "bool"], ""
        ),
        option=table.text("option", ""),
    )
    for need in rule.needs:
        if need not in fields:
            table.refuse("needs", f"unknown field {need!r}", allowed=", ".join(fields))
    table.finish()
    return rule


def _override(built_in: Table, name: str) -> str:
    if name not in BUILT_IN:
        built_in.refuse(name, "not a built-in value", allowed=", ".join(BUILT_IN))
    table = built_in.table(name)
    env = table.text("env")
    table.finish()
    return env
