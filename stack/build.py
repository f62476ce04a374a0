"""The identity of the platform's build: it changes when, and only when, the platform's own files do."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

# Freeside's API and its worker are one image; the others come from repositories of their own.
IMAGES = {"worker": "freeside"}
INHERITED = "STACK_SOURCES_DIGEST"
SOURCES = {".py", ".sql", ".toml"}


@cache
def sources_digest() -> str:
    """Return the digest of the platform's files; a child takes its parent's, whatever is edited meanwhile."""
    inherited = os.environ.get(INHERITED)
    if inherited:
        return inherited
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*")):
        if path.suffix in SOURCES:
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def build_sha(service: str) -> str:
    """Return the 40 hex digits that stand for the commit from which an image was built."""
    text = f"{IMAGES.get(service, service)} {sources_digest()}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
