"""The names that contract section 4 gives to things in AWS, image tags included."""

import hashlib
import os
from functools import cache
from pathlib import Path

REGION = "us-east-1"
PREFIX = "arrakis-staging"
ACCOUNT = "000000000000"
# The services that hold a signing key of their own.
SIGNERS = ("freeside", "finn", "dixie")
# The emulator accepts any credentials; these name their purpose.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "embedded-platform",
    "AWS_SECRET_ACCESS_KEY": "embedded-platform-emulator-only",
    "AWS_DEFAULT_REGION": REGION,
}
# Freeside's API and its worker are one image; the others come from repositories of their own.
IMAGES = {"worker": "freeside"}
SOURCES_DIGEST = "STACK_SOURCES_DIGEST"
SOURCE_SUFFIXES = {".py", ".sql", ".toml"}


def secret_id(service: str) -> str:
    """Return the Secrets Manager id of a service's signing key."""
    return f"{PREFIX}/{service}/es256-private-key"


def build_sha(service: str) -> str:
    """Return the 40 hex digits that stand for the commit from which an image was built.

    They change when, and only when, the platform's own files do.
    """
    text = f"{IMAGES.get(service, service)} {sources_digest()}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@cache
def sources_digest() -> str:
    """Return the digest of the platform's files; a child takes its parent's, whatever is edited meanwhile."""
    inherited = os.environ.get(SOURCES_DIGEST)
    if inherited:
        return inherited
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*")):
        if path.suffix in SOURCE_SUFFIXES:
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
