"""The environment of a run: its profile file, what a hook adds to it, and access to its secrets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ProfileError
from .profile import Profile
from .schema import DIRECTORY, SCHEMA_NAME, Schema
from .secrets import Vault


class Environment:
    """The fixture ``environment``: a frozen profile (``environment.api.url``) that can resolve secrets."""

    def __init__(self, profile: Profile, vault: Vault) -> None:
        self._profile = profile
        self._vault = vault

    @property
    def profile(self) -> Profile:
        """The validated profile itself."""
        return self._profile

    def secret(self, key: str) -> str:
        """Return the value of a secret such as ``auth.key``; SetupError says what to do if there is none."""
        return self._vault.value(key)

    def hide(self, name: str, value: str) -> None:
        """Keep a further live secret, such as one that a check made itself, out of all reports."""
        self._vault.hide(name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._profile, name)

    def __repr__(self) -> str:
        return f"Environment({self._profile.name!r})"


def load_schema(root: Path) -> Schema:
    """Read ``environments/schema.toml``; ProfileError when it is missing or malformed."""
    path = root / DIRECTORY / SCHEMA_NAME
    return Schema.parse(
        _read(path, f"{DIRECTORY}/{SCHEMA_NAME}", "a schema of the profiles"), f"{DIRECTORY}/{SCHEMA_NAME}"
    )


def load_profile(root: Path, invocation: Path, asked: str, schema: Schema) -> Profile:
    """Read the profile that ``--env`` asks for: a name under ``environments/``, or a path to a ``.toml``."""
    if asked.endswith(".toml"):
        path = invocation / asked
        source = asked
    else:
        path = root / DIRECTORY / f"{asked}.toml"
        source = f"{DIRECTORY}/{asked}.toml"
        if asked not in names(root):
            raise ProfileError(
                f"unknown environment {asked!r}",
                where="--env",
                allowed=f"{', '.join(names(root)) or 'none yet'}, or a path that ends in .toml",
                action=f"choose one, or write {source}",
            )
    return Profile.parse(_read(path, source, "a profile"), source, schema, os.environ)


def names(root: Path) -> list[str]:
    """Return the names of all profiles under ``environments/``."""
    return sorted(path.stem for path in (root / DIRECTORY).glob("*.toml") if path.name != SCHEMA_NAME)


def known_profiles(root: Path, schema: Schema, environ: Mapping[str, str]) -> list[Profile]:
    """Return all profiles under ``environments/``; one that cannot be read is left out."""
    found = []
    for name in names(root):
        source = f"{DIRECTORY}/{name}.toml"
        with contextlib.suppress(ProfileError):
            found.append(Profile.parse(_read(root / source, source, "a profile"), source, schema, environ))
    return found


def _read(path: Path, source: str, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "not UTF-8"
        raise ProfileError(
            f"cannot be read: {reason}",
            where=source,
            allowed=f"{what} in TOML",
            action="correct the path or the file",
        ) from problem
