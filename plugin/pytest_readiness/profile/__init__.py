"""Environment profiles: their schema, their capabilities, and how their secrets are resolved.

Also finds a project's files: its launch plan, the schema of its environments, and their profiles.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import PlanError, ProfileError, ReadinessError
from ..core.plan import PLAN_NAME, Plan
from ..core.shards import SUFFIX, opened
from .profile import Profile
from .schema import DIRECTORY, SCHEMA_NAME, Schema

DEFAULT_ENVIRONMENT = "local"
#: Maximum bytes of a file that a person writes, and of a record that a run leaves.
LARGEST_FILE, LARGEST_RECORD = 2**20, 2**26


class UnfitFile(OSError):
    """A file that might never end or fill the memory: a pipe, a device, one that is too large."""


def read_file(path: Path, limit: int = LARGEST_FILE) -> str:
    """Return the text of a regular file of at most ``limit`` bytes; otherwise OSError, such as UnfitFile."""
    try:
        # opening a pipe would wait for its writer
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UnfitFile(errno.EINVAL, "not a regular file")
            content = stream.read(limit + 1)  # a file in /proc does not have a size
        if len(content) > limit:
            raise UnfitFile(errno.EFBIG, f"larger than {limit} bytes")
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "not UTF-8") from None
    except ValueError:  # NUL, a lone surrogate
        raise UnfitFile(errno.EINVAL, "not a possible file name") from None


def find_plan(directory: Path) -> Path | None:
    """Return the launch plan in a directory or its nearest parent; None if there is none."""
    plans = (at / PLAN_NAME for at in (directory, *directory.parents))
    return next((plan for plan in plans if plan.is_file()), None)


def read_plan(path: Path) -> Plan:
    """Read and validate a launch plan; PlanError says what is wrong with it."""
    return Plan.parse(_read(path, path.name, "a plan", PlanError), path.name)


def load_schema(root: Path) -> Schema:
    """Read ``environments/schema.toml``; ProfileError if it is missing or malformed."""
    source = f"{DIRECTORY}/{SCHEMA_NAME}"
    with contextlib.suppress(PermissionError):  # said below
        if not (root / source).exists():
            raise ProfileError(
                "missing",
                where=source,
                allowed="the settings of all profiles, as [section.NAME.KEY] tables",
                action=f"create {source}; an empty file will do until a check needs a setting",
            )
    return Schema.parse(_read(root / source, source, "a schema of the profiles"), source)


def load_profile(root: Path, invocation: Path, asked: str, schema: Schema) -> Profile:
    """Read the profile that ``--env`` names: a name under ``environments/``, or a path to a ``.toml``."""
    if asked.endswith(".toml"):
        path = invocation / asked
        source = asked
    else:
        path = root / DIRECTORY / f"{asked}.toml"
        source = f"{DIRECTORY}/{asked}.toml"
        if asked not in profile_names(root):
            raise ProfileError(
                f"unknown environment {asked!r}",
                where="--env" if asked != DEFAULT_ENVIRONMENT else f"--env (default: {DEFAULT_ENVIRONMENT})",
                allowed=f"{', '.join(profile_names(root)) or 'none yet'}, or a path that ends in .toml",
                action=f"choose one, or write {source}",
            )
    profile = Profile.parse(_read(path, source, "a profile"), source, schema, os.environ)
    if source != asked and profile.name != asked and "name" not in profile.origins:
        raise ProfileError(
            f"{profile.name!r} is not the name of the file: runs of {asked} would be counted for that one",
            where=f"{source}: name",
            allowed=repr(asked),
            action=f"correct it, or ask for the file with --env ./{source}",
        )
    return profile


def profile_names(root: Path) -> list[str]:
    """Return the names of all profiles under ``environments/``."""
    return sorted(path.stem for path in (root / DIRECTORY).glob("*.toml") if path.name != SCHEMA_NAME)


def known_profiles(root: Path, schema: Schema, environ: Mapping[str, str]) -> list[Profile]:
    """Return all profiles under ``environments/`` that can be read."""
    found = []
    for name in profile_names(root):
        source = f"{DIRECTORY}/{name}.toml"
        with contextlib.suppress(ProfileError):
            found.append(Profile.parse(_read(root / source, source, "a profile"), source, schema, environ))
    return found


def _read(path: Path, source: str, what: str, error: type[ReadinessError] = ProfileError) -> str:
    try:
        return read_file(path)
    except OSError as problem:
        raise error(
            f"cannot be read: {problem.strerror}",
            where=source,
            allowed=f"{what} in TOML",
            action="correct the path or the file",
        ) from problem


def read_shards(paths: Iterable[Path]) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """Return what shards left, with its place, and what cannot be read; a directory stands for all in it."""
    found: list[tuple[str, dict[str, Any]]] = []
    unread: list[str] = []
    for path in (each for place in paths for each in _shards_in(place)):
        try:
            found.append((str(path), opened(read_file(path, LARGEST_RECORD))))
        except (OSError, ValueError, RecursionError) as problem:
            why = getattr(problem, "strerror", None) or problem
            unread.append(f"{path.name} cannot be read: {why}")
    return found, unread


def _shards_in(path: Path) -> list[Path]:
    return sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
