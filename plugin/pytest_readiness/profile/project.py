"""The files of a project: its launch plan, the schema of its environments, and their profiles."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import PlanError, ProfileError, ReadinessError
from ..core.plan import PLAN_NAME, Plan
from .profile import Profile
from .schema import DIRECTORY, SCHEMA_NAME, Schema


def find_plan(directory: Path) -> Path | None:
    """Return the launch plan in a directory or the nearest of its parents, None where there is none."""
    plans = (at / PLAN_NAME for at in (directory, *directory.parents))
    return next((plan for plan in plans if plan.is_file()), None)


def read_plan(path: Path) -> Plan:
    """Read and validate a launch plan; PlanError naming what is wrong with it."""
    return Plan.parse(_read(path, path.name, "a plan", PlanError), path.name)


def load_schema(root: Path) -> Schema:
    """Read ``environments/schema.toml``; ProfileError when it is missing or malformed."""
    source = f"{DIRECTORY}/{SCHEMA_NAME}"
    if not (root / source).exists():
        raise ProfileError(
            "missing",
            where=source,
            allowed="the settings of all profiles, as [section.NAME.KEY] tables",
            action=f"create {source}; an empty file will do until a check needs a setting",
        )
    return Schema.parse(_read(root / source, source, "a schema of the profiles"), source)


def load_profile(root: Path, invocation: Path, asked: str, schema: Schema) -> Profile:
    """Read the profile that ``--env`` asks for: a name under ``environments/``, or a path to a ``.toml``."""
    if asked.endswith(".toml"):
        path = invocation / asked
        source = asked
    else:
        path = root / DIRECTORY / f"{asked}.toml"
        source = f"{DIRECTORY}/{asked}.toml"
        if asked not in profile_names(root):
            raise ProfileError(
                f"unknown environment {asked!r}",
                where="--env",
                allowed=f"{', '.join(profile_names(root)) or 'none yet'}, or a path that ends in .toml",
                action=f"choose one, or write {source}",
            )
    return Profile.parse(_read(path, source, "a profile"), source, schema, os.environ)


def profile_names(root: Path) -> list[str]:
    """Return the names of all profiles under ``environments/``."""
    return sorted(path.stem for path in (root / DIRECTORY).glob("*.toml") if path.name != SCHEMA_NAME)


def known_profiles(root: Path, schema: Schema, environ: Mapping[str, str]) -> list[Profile]:
    """Return all profiles under ``environments/``; one that cannot be read is left out."""
    found = []
    for name in profile_names(root):
        source = f"{DIRECTORY}/{name}.toml"
        with contextlib.suppress(ProfileError):
            found.append(Profile.parse(_read(root / source, source, "a profile"), source, schema, environ))
    return found


def _read(path: Path, source: str, what: str, error: type[ReadinessError] = ProfileError) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "not UTF-8"
        raise error(
            f"cannot be read: {reason}",
            where=source,
            allowed=f"{what} in TOML",
            action="correct the path or the file",
        ) from problem
