"""Reading the values of an environment profile: from its table, from its overriding variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .errors import ProfileError
from .fields import BUILT_IN, REFERENCE_FORM, URL_FORM, BadValue, Field, boolean
from .reading import Table
from .schema import Schema

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def read_name(table: Table, default: str | None = None) -> str:
    """Return the environment's name, which also names its ledger: a-z, digits, dot, dash, underscore."""
    name = table.text("name") if default is None else table.text("name", default)
    if not _NAME.fullmatch(name):
        table.refuse("name", f"{name!r} cannot name an environment", allowed="a-z, 0-9, '.', '_' and '-'")
    return name


def read_values(top: Table, schema: Schema) -> dict[str, Any]:
    """Return a profile's checked values by dotted name; unknown sections and keys are refused."""
    read: dict[str, Any] = {}
    for section in top.data:
        if section in BUILT_IN:
            continue
        if section not in schema.sections:
            top.refuse(section, "unknown section", allowed=", ".join((*BUILT_IN, *schema.sections)))
        table = top.table(section)
        for key, value in table.data.items():
            name = f"{section}.{key}"
            if name not in schema.fields:
                known = (
                    field.partition(".")[2] for field in schema.fields if field.startswith(f"{section}.")
                )
                table.refuse(key, "unknown key", allowed=", ".join(known))
            read[name] = accepted(schema.fields[name], value, f"{top.source}: {name}")
    return read


def read_variable(field: Field, text: str, where: str) -> Any:
    """Return what an overriding variable says of a field; ProfileError naming the variable."""
    try:
        return field.from_environment(text)
    except BadValue as bad:
        raise ProfileError(bad.what, where=where, allowed=bad.allowed) from None


def read_built_in(key: str, text: str, where: str) -> Any:
    """Return what an overriding variable says of name, live or protected; ProfileError naming it."""
    try:
        return text if key == "name" else boolean(text)
    except BadValue as bad:
        raise ProfileError(bad.what, where=where, allowed=bad.allowed) from None


def accepted(field: Field, value: Any, where: str) -> Any:
    """Return the value as the profile holds it; ProfileError when the field does not accept it."""
    try:
        return field.accept(value)
    except BadValue as bad:
        raise ProfileError(bad.what, where=where, allowed=bad.allowed) from None


def what_is_accepted(field: Field) -> str:
    """Say in words what a field accepts."""
    words = {"url": URL_FORM, "secret": REFERENCE_FORM, "bool": "true, false", "int": "an integer >= 0"}
    return ", ".join(field.allowed) or words.get(field.type, "a string")


def variables(schema: Schema) -> set[str]:
    """Return the names of all variables that can override a value."""
    return {field.env for field in schema.fields.values() if field.env} | set(schema.overrides.values())


def overrides(schema: Schema, environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the variable that overrides each field, and its content; an empty one overrides nothing."""
    named = {key: field.env for key, field in schema.fields.items() if field.env} | dict(schema.overrides)
    return {key: (env, environ[env]) for key, env in named.items() if environ.get(env)}
