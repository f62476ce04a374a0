"""An environment profile: where a platform is and what it offers. It never contains a secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import CORRECT, ProfileError, together
from ..core.toml import TomlTable, load_toml
from .schema import BUILT_IN, REFERENCE_FORM, SECRET_KINDS, URL_FORM, BadValue, Field, Schema, boolean

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class Offer(StrEnum):
    """Whether an environment offers a capability, as far as its profile alone can tell."""

    OFFERED = "offered"
    ABSENT = "absent"
    UNKNOWN_SECRET = "unknown-secret"  # noqa: S105 - a word, not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What the profile says about a capability; if unknown-secret, ``secrets`` must resolve first."""

    name: str
    status: Offer
    reason: str = ""
    secrets: tuple[str, ...] = ()
    option: str = ""


#: Prefix of an origin that is a variable.
FROM_VARIABLE = "environment variable "


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is. ``kind``: env, file or secretsmanager; ``name``: the variable, path or secret id."""

    kind: str
    name: str

    @classmethod
    def parse(cls, text: str) -> SecretRef:
        """Read a reference such as ``env:NAME``; without a kind it is a path."""
        kind, _, name = text.partition(":")
        return cls(kind, name) if name and kind in SECRET_KINDS else cls("file", text)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


class UnknownSetting(ProfileError):
    """The suite reads a setting that the schema does not have: the suite is at fault, not the runner."""

    failure_class = "CHECK_ERROR"


class ProfileSection:
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

    ``origins`` says where a value came from if not from the profile's own file.
    """

    name: str
    live: bool
    protected: bool
    source: str
    schema: Schema = field(repr=False)
    values: Mapping[str, Any]
    environ: Mapping[str, str] = field(repr=False, default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    #: Values from a file, an overlay or a variable; the others are derived, or defaults.
    given: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str, source: str, schema: Schema, environ: Mapping[str, str]) -> Profile:
        """Parse the TOML of a profile and apply its overrides from ``environ``.

        ProfileError naming ``source``, key and allowed values for an unknown section or key and for a bad
        value. :meth:`check_complete` later checks for required values.
        """
        top = load_toml(text, source, ProfileError, collect=True)
        defaults = {key: entry.default for key, entry in schema.fields.items()}
        values = _read_values(top, schema)
        profile = cls(
            name=_read_name(top),
            live=top.boolean("live"),
            protected=top.boolean("protected", False),
            source=source,
            schema=schema,
            values=defaults | values,
            given=frozenset(values),
            # Only the variables in the schema, because the profile is shown and passed on.
            environ={env: environ[env] for env in _variables(schema) if env in environ},
        )
        return profile._overridden(top)._derived()

    def overlaid(self, overlay: Mapping[str, Any], source: str) -> Profile:
        """Return the profile with an overlay's values, validated like a file's.

        ``overlay`` has the shape of the TOML; ``source`` names it in errors. Overriding variables win.
        """
        top = TomlTable(overlay, source=source, error=ProfileError, mistakes=[])
        values = _read_values(top, self.schema)
        merged = replace(
            self,
            name=_read_name(top, self.name),
            live=top.boolean("live", self.live),
            protected=top.boolean("protected", self.protected),
            values={**self.values, **values},
            origins={**self.origins, **dict.fromkeys(values, source)},
            given=self.given | values.keys(),
        )
        return merged._overridden(top)._derived()

    @property
    def addresses(self) -> dict[str, str]:
        """Scheme, host and port of each URL, by setting; without the path, which may hold an RPC's key."""
        urls = (key for key, field in self.schema.fields.items() if field.type == "url" and self.values[key])
        parts = {key: urlsplit(str(self.values[key])) for key in urls}
        return {key: f"{url.scheme}://{url.netloc.rpartition('@')[2]}" for key, url in parts.items()}

    @property
    def variables(self) -> frozenset[str]:
        """The environment variables that its values and its secrets come from, set or not."""
        secrets = [name for name, entry in self.schema.fields.items() if entry.type == "secret"]
        references = [found for name in secrets if (found := self.secret_ref(name)) is not None]
        origins = [origin for origin in self.origins.values() if origin.startswith(FROM_VARIABLE)]
        return frozenset(
            (
                *(found.name for found in references if found.kind == "env"),
                *(origin.removeprefix(FROM_VARIABLE) for origin in origins),
            )
        )

    def setting_of(self, host: str, port: int | None) -> str:
        """Return the setting that names this host, and the variable that overrides it; "" if none does."""
        texts = {key: self.values[key] for key, field in self.schema.fields.items() if field.type == "string"}
        parts = {key: _parts(text) for key, text in (self.addresses | texts).items()}
        named = {key: at for key, (name, at) in parts.items() if name == host.lower()}
        exact = [key for key, at in named.items() if port in (None, at) or self._has_port(key, port)]
        alone = [key for key, at in named.items() if at is None and len(named) == 1]
        key = next(iter(exact or alone), "")
        return ", from ".join(filter(None, (key, self.origins.get(key, ""))))

    def _has_port(self, key: str, port: int | None) -> bool:
        """Tell whether another setting in the section of ``key`` is this port."""
        section = key.partition(".")[0]
        return any(
            name.startswith(f"{section}.") and str(value) == str(port)
            for name, value in self.values.items()
            if name != key
        )

    def get(self, key: str) -> Any:
        """Return a value by its dotted name; ProfileError if the schema has no such field."""
        if key not in self.values:
            raise UnknownSetting(
                f"unknown field; the schema has {', '.join(self.values)}", where=f"{self.source}: {key}"
            )
        return self.values[key]

    def __getattr__(self, section: str) -> ProfileSection:
        values = self.__dict__.get("values", {})
        prefix = f"{section}."
        members = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
        if not members:
            raise AttributeError(f"the profile has no section {section!r}")
        return ProfileSection(section, MappingProxyType(members))

    def where(self, key: str) -> str:
        """Return where a value came from, for people: file or variable, and key."""
        return f"{self.origins.get(key, self.source)}: {key}"

    def secret_ref(self, key: str) -> SecretRef | None:
        """Return where a secret is, None if it is not offered; ProfileError if it is not a secret."""
        value = self.get(key)
        if self.schema.fields[key].type != "secret":
            raise ProfileError(
                "not a secret", where=f"{self.source}: {key}", allowed="a field of type secret"
            )
        return SecretRef.parse(value) if value else None

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
        """Return what the profile says about a capability; ProfileError if the schema does not define it."""
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
                variable = self.schema.fields[need].env
                unset = f"{self.where(need)} is not set{f', nor is {variable}' if variable else ''}"
                return self._absent(name, unset)
        if rule.option and self.protected:
            return self._absent(name, f"{self.where('protected')} is true")
        secrets = tuple(need for need in rule.needs if self.schema.fields[need].type == "secret")
        status = Offer.UNKNOWN_SECRET if secrets else Offer.OFFERED
        return Capability(name=name, status=status, secrets=secrets, option=rule.option)

    def check_complete(self) -> None:
        """Refuse a profile that lacks a required value; ProfileError. Called after the overlay is applied."""
        missing = [
            ProfileError(
                "missing",
                where=self.where(key),
                allowed=_what_is_accepted(entry),
                action=f"add it to [{key.partition('.')[0]}]"
                + (f", or set {entry.env}" if entry.env else ""),
            )
            for key, entry in self.schema.fields.items()
            if entry.required and self.values[key] == ""
        ]
        if missing:
            raise together(missing)

    def _absent(self, name: str, reason: str) -> Capability:
        return Capability(name=name, status=Offer.ABSENT, reason=reason)

    def _derived(self) -> Profile:
        """Fill in derived values where no value is given, not even an empty one."""
        values, origins = dict(self.values), dict(self.origins)
        given = self.given | _overrides(self.schema, self.environ).keys()
        for key, entry in self.schema.fields.items():
            if entry.derived and key not in given:
                where = f"{self.schema.source}: {key}"
                values[key] = _accepted(entry.derive, self.values, where) or entry.default
                origins[key] = f"derived from {', '.join(entry.sources)}"
        return replace(self, values=MappingProxyType(values), origins=MappingProxyType(origins))

    def _overridden(self, top: TomlTable) -> Profile:
        """Apply the overriding variables on top of ``top``; ProfileError for the mistakes of both at once."""
        values, origins, built_in = dict(self.values), dict(self.origins), {}
        for key, (variable, text) in _overrides(self.schema, self.environ).items():
            origins[key] = f"{FROM_VARIABLE}{variable}"
            where = f"{origins[key]}: {key}"
            action = f"correct {variable}, or unset it to use the profile's value"
            try:
                if key in self.schema.fields:
                    read = self.schema.fields[key].from_environment
                    values[key] = _accepted(_given(read), text, where, action)
                else:
                    read = _name if key == "name" else boolean
                    built_in[key] = _accepted(_given(read), text, where, action)
            except ProfileError as mistake:
                top.add(mistake)
        top.settle()
        return replace(self, values=MappingProxyType(values), origins=MappingProxyType(origins), **built_in)


def _read_name(table: TomlTable, default: str | None = None) -> str:
    """Return the environment's name, which also names its ledger: a-z, digits, dot, dash, underscore."""
    name = table.text("name") if default is None else table.text("name", default)
    try:
        return _name(name)
    except BadValue as bad:
        table.refuse("name", bad.what, allowed=bad.allowed)
    return name


def _name(text: str) -> str:
    """Return a valid name of an environment and its ledger; BadValue for anything else."""
    if not _NAME.fullmatch(text):
        raise BadValue(f"{text!r} is not a valid environment name", "a-z, 0-9, '.', '_' and '-'")
    return text


def _read_values(top: TomlTable, schema: Schema) -> dict[str, Any]:
    """Return a profile's checked values by dotted name; unknown sections and keys are refused."""
    read: dict[str, Any] = {}
    for section in top.data:
        if section in BUILT_IN:
            continue
        if section not in schema.sections:
            top.refuse(section, "unknown section", allowed=", ".join((*BUILT_IN, *schema.sections)))
            continue
        table = top.table(section)
        for key, value in table.data.items():
            name = f"{section}.{key}"
            if name not in schema.fields:
                known = (
                    field.partition(".")[2] for field in schema.fields if field.startswith(f"{section}.")
                )
                table.refuse(key, "unknown key", allowed=", ".join(known))
                continue
            try:
                read[name] = _accepted(schema.fields[name].accept, value, f"{top.source}: {name}")
            except ProfileError as mistake:
                top.add(mistake)
    return read


def _accepted(read: Callable[[Any], Any], value: Any, where: str, action: str = CORRECT) -> Any:
    """Return a value as its field's reader returns it; ProfileError naming ``where`` if it refuses."""
    try:
        return read(value)
    except BadValue as bad:
        raise ProfileError(bad.what, where=where, allowed=bad.allowed, action=action) from None


def _parts(text: str) -> tuple[str, int | None]:
    """Return the host and port in a URL or an address; no port if it does not name one."""
    try:
        url = urlsplit(text if "://" in text else f"//{text}")
        return url.hostname or "", url.port or {"https": 443, "http": 80}.get(url.scheme)
    except ValueError:
        return "", None


def _given(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a reader of variables that refuses an empty one: empty does not mean absent."""

    def read_given(text: str) -> Any:
        if not text.strip():
            raise BadValue("empty", "a value")
        return read(text)

    return read_given


def _what_is_accepted(field: Field) -> str:
    """Say in words what a field accepts."""
    words = {
        "table": "a table of strings", "url": URL_FORM, "secret": REFERENCE_FORM, "bool": "true, false",
        "int": "an integer >= 0",
    }  # fmt: skip
    return ", ".join(field.allowed) or words.get(field.type, "a string")


def _variables(schema: Schema) -> set[str]:
    """Return the names of all variables that can override a value."""
    return {field.env for field in schema.fields.values() if field.env} | set(schema.overrides.values())


def _overrides(schema: Schema, environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the variable that overrides each field, and its content."""
    named = {key: field.env for key, field in schema.fields.items() if field.env} | dict(schema.overrides)
    return {key: (env, environ[env]) for key, env in named.items() if env in environ}


def p256_problem(text: str) -> str:
    """Return why a text is not an unencrypted P-256 private key in PEM, to complete a sentence."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if "-----BEGIN" not in text:
        return "is not PEM"
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except TypeError:
        return "is encrypted"
    except (ValueError, UnsupportedAlgorithm):
        return "is damaged, or is not a private key"
    is_p256 = isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
    return "" if is_p256 else "is not a P-256 key"
