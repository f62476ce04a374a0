"""What a run was made of and where it ran: the suite's digest, the CI's address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..core.formats import suite_digest

_LEFT_OUT = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


def digest_of(suite: Path) -> str:
    """Return the digest of all files under the suite's directory, caches and hidden files left out."""
    return suite_digest(
        {
            path.relative_to(suite).as_posix(): path.read_bytes()
            for path in sorted(suite.rglob("*"))
            if path.is_file() and not _is_left_out(path.relative_to(suite))
        }
    )


def runner(environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the CI job that runs this, "" when it is not in a CI that tells."""
    if environ.get("GITHUB_RUN_ID"):
        parts = (environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", ""), "actions/runs")
        return "/".join((*parts, environ["GITHUB_RUN_ID"]))
    return environ.get("CI_JOB_URL") or environ.get("BUILD_URL") or ""


def _is_left_out(path: Path) -> bool:
    return any(part in _LEFT_OUT or part.startswith(".") for part in path.parts)
