"""The identity of the platform's build: it changes when, and only when, the platform's own files do."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

# Freeside's API and its worker are one image; the others come from repositories of their own.
IMAGES = {"worker": "freeside"}
SOURCES = {".py", ".sql", ".toml"}


@cache
def build_sha(service: str) -> str:
    """Return the 40 hex digits that stand for the commit from which an image was built."""
    digest = hashlib.sha1(IMAGES.get(service, service).encode(), usedforsecurity=False)
    root = Path(__file__).parent
    for path in sorted(root.rglob("*")):
        if path.suffix in SOURCES:
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
