"""An environment profile: where a platform is and what it offers. It never holds a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from .errors import ProfileError
from .pem import p256_problem
from .profile_reading import (
    overrides,
    read_built_in,
    read_name,
    read_values,
    read_variable,
    variables,
    what_is_accepted,
)
from .reading import Table, load_toml
from .schema import Schema


class Offer(StrEnum):
    """Whether an environment offers a capability, as far as its profile alone can tell."""

    OFFERED = "offered"
    ABSENT = "absent"
    UNKNOWN_SECRET = "unknown-secret"  # noqa: S105 - a word, not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What the profile says of a capability; with status unknown-secret, ``secrets`` must resolve first."""

    name: str
    status: Offer
    reason: str = ""
    secrets: tuple[str, ...] = ()
    option: str = ""


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is. ``kind``: env, file or secretsmanager; ``name``: the variable, path or secret id."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


class Section:
    """One section of a profile, read by attribute."""

    __slots__ = ("_name", "_values")

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self._name, self._values = name, values

    def __getattr__(self, key: str) -> Any:
        try:
            return self._values[key]
        except KeyError:
            known = ", ".join(self._values)
            raise AttributeError(f"the profile has no {self._name}.{key}; it has {known}") from None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Validated values: ``profile.get("shop.url")``, or by attribute, ``profile.shop.url``.

    ``origins`` tells where a value came from when that is not the profile's own file.
    """

    name: str
    live: bool
    protected: bool
    source: str
    schema: Schema = field(repr=False)
    values: Mapping[str, Any]
    environ: Mapping[str, str] = field(repr=False, default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, source: str, schema: Schema, environ: Mapping[str, str]) -> Profile:
        """Parse the TOML of a profile and apply its overrides from ``environ``.

        ProfileError naming ``source``, key and allowed values for an unknown section or key and for a bad
        value. Whether required values are there is asked later, by :meth:`check_complete`.
        """
        top = load_toml(text, source, ProfileError)
        defaults = {key: entry.default for key, entry in schema.fields.items()}
        profile = cls(
            name=read_name(top),
            live=top.boolean("live"),
            protected=top.boolean("protected", False),
            source=source,
            schema=schema,
            values=defaults | read_values(top, schema),
            # Only the variables that the schema names: the profile is shown and passed on.
            environ={env: environ[env] for env in variables(schema) if env in environ},
        )
        return profile._overridden()

    def overlaid(self, overlay: Mapping[str, Any], source: str) -> Profile:
        """Return the profile with an overlay's values, validated like a file's.

        ``overlay`` has the shape of the TOML; ``source`` names it in errors. Overriding variables win.
        """
        top = Table(overlay, source=source, error=ProfileError)
        values = read_values(top, self.schema)
        merged = replace(
            self,
            name=read_name(top, self.name),
            live=top.boolean("live", self.live),
            protected=top.boolean("protected", self.protected),
            values={**self.values, **values},
            origins={**self.origins, **dict.fromkeys(values, source)},
        )
        return merged._overridden()

    def get(self, key: str) -> Any:
        """Return a value by its dotted name; ProfileError when the schema has no such field."""
        if key not in self.values:
            raise ProfileError("unknown field", where=f"{self.source}: {key}", allowed=", ".join(self.values))
        return self.values[key]

    def __getattr__(self, section: str) -> Section:
        values = self.__dict__.get("values", {})
        prefix = f"{section}."
        members = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
        if not members:
            raise AttributeError(f"the profile has no section {section!r}")
        return Section(section, MappingProxyType(members))

    def where(self, key: str) -> str:
        """Return where a value came from, for people: file or variable, and key."""
        return f"{self.origins.get(key, self.source)}: {key}"

    def secret_ref(self, key: str) -> SecretRef | None:
        """Return where a secret is, None where it is not offered; ProfileError for another field."""
        value = self.get(key)
        if self.schema.fields[key].type != "secret":
            raise ProfileError(
                "not a secret", where=f"{self.source}: {key}", allowed="a field of type secret"
            )
        kind, _, name = value.partition(":")
        return SecretRef(kind, name) if value else None

    def check_secret(self, key: str, value: str) -> None:
        """Refuse a secret from a variable or a file that does not have its field's format; ProfileError."""
        if self.schema.fields[key].format != "p256-pem":
            return
        problem = p256_problem(value)
        if problem:
            raise ProfileError(
                f"{self.secret_ref(key)} {problem}",
                where=self.where(key),
                allowed="a P-256 private key in PEM (PKCS#8 or SEC1), not encrypted",
                action="openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            )

    def capability(self, name: str) -> Capability:
        """Return what the profile says of a capability; ProfileError when the schema does not know it."""
        rule = self.schema.capabilities.get(name)
        if rule is None:
            raise ProfileError(
                f"unknown capability {name!r}",
                where=self.schema.source,
                allowed=", ".join(self.schema.capabilities),
            )
        if rule.reachable and not self.values[rule.reachable]:
            return self._absent(name, f"{self.where(rule.reachable)} is false")
        for need in rule.needs:
            if not self.values[need]:
                return self._absent(name, f"{self.where(need)} is empty")
        if rule.option and self.protected:
            return self._absent(name, f"{self.where('protected')} is true")
        secrets = tuple(need for need in rule.needs if self.schema.fields[need].type == "secret")
        status = Offer.UNKNOWN_SECRET if secrets else Offer.OFFERED
        return Capability(name=name, status=status, secrets=secrets, option=rule.option)

    def check_complete(self) -> None:
        """Refuse a profile that lacks a required value; ProfileError. Asked once the overlay is in place."""
        for key, entry in self.schema.fields.items():
            if entry.required and self.values[key] == "":
                variable = f", or set {entry.env}" if entry.env else ""
                raise ProfileError(
                    "missing",
                    where=self.where(key),
                    allowed=what_is_accepted(entry),
                    action=f"add it to [{key.partition('.')[0]}]{variable}",
                )

    def _absent(self, name: str, reason: str) -> Capability:
        return Capability(name=name, status=Offer.ABSENT, reason=reason)

    def _overridden(self) -> Profile:
        """Apply the overriding variables on top of everything else."""
        values, origins, built_in = dict(self.values), dict(self.origins), {}
        for key, (variable, text) in overrides(self.schema, self.environ).items():
            origins[key] = f"environment variable {variable}"
            if key in self.schema.fields:
                values[key] = read_variable(self.schema.fields[key], text, f"{origins[key]}: {key}")
            else:
                built_in[key] = read_built_in(key, text, f"{origins[key]}: {key}")
        return replace(self, values=MappingProxyType(values), origins=MappingProxyType(origins), **built_in)
