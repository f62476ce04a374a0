"""The schema of environment profiles (environments/schema.toml): typed fields, and capabilities."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import ProfileError
from ..core.formats import is_one_line
from ..core.toml import LARGEST, TomlTable, load_toml

#: The directory of a project's profiles, one file each, and the schema file beside them.
DIRECTORY = "environments"
SCHEMA_NAME = "schema.toml"
ENV_KINDS = ("env", "file")
BUILT_IN = ("name", "live", "protected")
TYPES = ("url", "string", "choice", "bool", "int", "secret", "table")
#: Type of a field with an invalid type; a valid schema never has it.
UNREAD = ""
FORMATS = ("p256-pem",)
SECRET_KINDS = ("env", "file", "secretsmanager")
REFERENCE_FORM = "env:NAME, file:PATH, secretsmanager:ID, or empty where it is not offered"
URL_FORM = "an http:// or https:// URL without user info, query or fragment"
_OTHER_SCHEME = "; in the schema, another address is of type string, or with a password of type secret"
_PLACEHOLDER = re.compile(r"\{([\w.-]+)\}")
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class BadValue(ValueError):
    """A value that its field does not accept, and what it accepts. It is not shown if it may be secret."""

    def __init__(self, what: str, allowed: str) -> None:
        super().__init__(what)
        self.what, self.allowed = what, allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a profile. ``env`` names the variable that overrides it.

    ``env_kind`` "file" means that the variable of a secret holds a path; otherwise it holds the secret
    itself. ``derived`` is a template for the value if nothing else sets it: ``{section.key}`` stands for
    another field's value, or in a URL for the address in an https URL.
    """

    name: str
    type: str
    required: bool = False
    env: str = ""
    env_kind: str = "env"
    allowed: tuple[str, ...] = ()
    format: str = ""
    default: Any = ""
    derived: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the fields from which it is derived."""
        return tuple(_PLACEHOLDER.findall(self.derived))

    def derive(self, values: Mapping[str, Any]) -> Any:
        """Return the derived value, "" if a source is empty or not an https URL."""
        parts = {name: values[name] for name in self.sources}
        if self.type == "url":
            parts = {name: _address(value, self.derived) for name, value in parts.items()}
        if not parts or not all(parts.values()):
            return ""
        return self.accept(_PLACEHOLDER.sub(lambda found: str(parts[found[1]]), self.derived))

    def accept(self, value: Any) -> Any:
        """Return the value as the profile holds it; BadValue if the field does not accept it."""
        return _ACCEPT[self.type](self, value)

    def from_environment(self, text: str) -> Any:
        """Return the value of the overriding variable; BadValue if its content is not valid."""
        if self.type == "secret":
            return self.accept(f"file:{text}" if self.env_kind == "file" else f"env:{self.env}")
        if self.type == "bool":
            return boolean(text)
        if self.type == "int" and text.strip().isdecimal():
            return int(text)
        return self.accept(text)


def _address(url: str, template: str) -> str:
    """Return an https URL without its scheme; "" if that is not the address under another scheme."""
    parts = urlsplit(url)
    if parts.scheme != "https" or (parts.port and not template.startswith("https:")):
        return ""
    return url.partition("://")[2]


def boolean(text: str) -> bool:
    """Read a boolean from an environment variable; BadValue for any other text."""
    word = text.strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise BadValue(f"{text!r} is not a boolean", ", ".join((*_TRUE, *_FALSE)))
    return word in _TRUE


def _string(_: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise BadValue(f"{value!r} is not a string", "a string")
    if not is_one_line(value):  # not shown: in place of a reference, it may be a secret
        raise BadValue("it contains a control character", "one line without control characters")
    return value


def _bool(_: Field, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadValue(f"{value!r} is not a boolean", "true, false")
    return value


def _int(_: Field, value: Any) -> int:
    if isinstance(value, int) and value > LARGEST:
        raise BadValue("a number that is too large", f"an integer from 0 to {LARGEST}")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadValue(f"{value!r} is not an integer >= 0", "an integer >= 0")
    return value


def _choice(field: Field, value: Any) -> str:
    if value not in field.allowed:
        raise BadValue(f"unknown value {value!r}", ", ".join(field.allowed))
    return str(value)


def _url(field: Field, value: Any) -> str:
    text = _string(field, value).strip()
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise BadValue(f"{text!r} is not a URL", URL_FORM) from None
    if "@" in parts.netloc:
        raise BadValue("the URL carries user info", URL_FORM)
    if parts.hostname and parts.scheme not in ("http", "https"):
        raise BadValue(f"{text!r} is not a usable URL", f"{URL_FORM}{_OTHER_SCHEME}")
    if not usable or parts.query or parts.fragment or any(char.isspace() for char in text):
        raise BadValue(f"{text!r} is not a usable URL", URL_FORM)
    return text.rstrip("/")


def _secret(field: Field, value: Any) -> str:
    text = _string(field, value).strip()
    kind, colon, name = text.partition(":")
    if text and not (kind in SECRET_KINDS and colon and name.strip()):
        # The value is not shown: it may be the secret itself, pasted into the profile.
        raise BadValue("not a reference to a secret", REFERENCE_FORM)
    return text


def _table(field: Field, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(one, str) and one for one in value.values()):
        raise BadValue(f"{value!r} is not a table of strings", "a table of strings that are not empty")
    return {_string(field, key): _string(field, one) for key, one in value.items()}


_ACCEPT: Mapping[str, Callable[[Field, Any], Any]] = {
    "url": _url, "string": _string, "choice": _choice, "bool": _bool, "int": _int, "secret": _secret,
    "table": _table,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityRule:
    """What a capability needs: values that are not empty, a reachability flag, an option of the run."""

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
        top = load_toml(text, source, ProfileError, collect=True)
        fields = {entry.name: entry for entry in _fields(top.table("section"))}
        for entry in fields.values():
            unknown = [name for name in entry.sources if name not in fields or fields[name].derived]
            if unknown:
                what = f"{', '.join(map(repr, unknown))}: not a field that a profile sets"
                top.refuse(f"section.{entry.name}.derived", what, allowed=", ".join(fields))
        rules = top.table("capability")
        capabilities = {name: _capability(name, rules.table(name), fields) for name in rules.data}
        built_in = top.table("profile")
        overrides = {name: _override(built_in, name) for name in built_in.data}
        top.finish()
        top.settle()
        return cls(source=source, fields=fields, capabilities=capabilities, overrides=overrides)


def _fields(sections: TomlTable) -> list[Field]:
    read = []
    for section in sections.data:
        keys = sections.table(section)
        if section in BUILT_IN:
            sections.refuse(
                section, "a built-in name", allowed="a section name other than " + ", ".join(BUILT_IN)
            )
        read += [_field(f"{section}.{key}", keys.table(key)) for key in keys.data]
    return read


def _field(name: str, table: TomlTable) -> Field:
    kind = table.choice("type", TYPES)
    allowed = table.texts("allowed", ())
    if table.is_wrong("type"):
        kind = UNREAD  # then it is unknown what the other keys should be
    elif (kind == "choice") != bool(allowed):
        table.refuse(
            "allowed", "a choice, and only a choice, lists its values", allowed="an array of strings"
        )
    if kind == "table" and "env" in table.data:
        table.refuse("env", "a variable cannot hold a table", allowed="no env")
    read = Field(
        name=name,
        type=kind,
        required=table.boolean("required", False),
        env=table.text("env", ""),
        env_kind=table.choice("env_kind", ENV_KINDS, "env"),
        allowed=allowed,
        format=table.choice("format", FORMATS, ""),
        default=_default(table, kind, allowed),
        derived=table.text("derived", ""),
    )
    if read.derived and kind not in ("url", "secret", "string", UNREAD):
        table.refuse(
            "derived", f"a value of type {kind} is not derived", allowed="of a url, secret or string"
        )
    table.finish("default")
    return read


def _default(table: TomlTable, kind: str, allowed: tuple[str, ...]) -> Any:
    if kind == "bool":
        return table.boolean("default", False)
    if kind == "int":
        return table.integer("default", 0)
    if kind == "table":
        return {}
    if kind == UNREAD or (kind == "choice" and not allowed):
        return ""
    if kind == "choice":
        return table.choice("default", allowed, allowed[0])
    return table.text("default", "", empty=True)


def _capability(name: str, table: TomlTable, fields: Mapping[str, Field]) -> CapabilityRule:
    flags = [key for key, entry in fields.items() if entry.type in ("bool", UNREAD)]
    rule = table.read(CapabilityRule, name=name, reachable=table.choice("reachable", flags, ""))
    unknown = [repr(need) for need in rule.needs if need not in fields]
    if unknown:
        table.refuse("needs", f"unknown field {', '.join(unknown)}", allowed=", ".join(fields))
    return rule


def _override(built_in: TomlTable, name: str) -> str:
    if name not in BUILT_IN:
        built_in.refuse(name, "not a built-in value", allowed=", ".join(BUILT_IN))
        return ""
    table = built_in.table(name)
    env = table.text("env")
    table.finish()
    return env
