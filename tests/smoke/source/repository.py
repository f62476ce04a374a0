"""Small git repositories for the tests, made without the caller's git settings."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from smoke.source.checkout import Checkout

_ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_NAME": "A" for role in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{role}_EMAIL": "a@localhost" for role in ("AUTHOR", "COMMITTER")},
}


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=directory, env=_ENVIRON, capture_output=True, text=True, check=True
    )
    return done.stdout


def repository(directory: Path, files: Mapping[str, str | bytes]) -> Checkout:
    """Make a repository of one commit."""
    directory.mkdir(parents=True, exist_ok=True)
    git(directory, "init", "--quiet", "--template=", "--initial-branch=main")
    commit(directory, files, "first")
    return Checkout.at(str(directory))


def commit(directory: Path, files: Mapping[str, str | bytes | None], message: str) -> str:
    """Write files (None removes one), commit them, and return the commit's id."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    git(directory, "add", "--all", "--force")
    git(directory, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(directory, "rev-parse", "HEAD").strip()
