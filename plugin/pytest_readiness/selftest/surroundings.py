"""The environment in which the suite is run: the user's, without what would lead it elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..profile.schema import DIRECTORY, SCHEMA_NAME, Schema

_SCHEMA = Path(DIRECTORY) / SCHEMA_NAME
#: Options for the user's own runs.
_PYTEST = frozenset({"PYTEST_ADDOPTS"})


def environment(root: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment without pytest's options and the variables that override a profile.

    A variable that is set for some other environment would send the suite, and the faults' requests, there.
    Raises ProfileError when the schema of the profiles is malformed.
    """
    path = root / _SCHEMA
    overriding: set[str] = set()
    if path.is_file():
        schema = Schema.parse(path.read_text(encoding="utf-8"), _SCHEMA.as_posix())
        overriding = {field.env for field in schema.fields.values()} | set(schema.overrides.values())
    return {name: value for name, value in environ.items() if name not in overriding | _PYTEST}
