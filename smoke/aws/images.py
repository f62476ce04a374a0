"""What an image's name says of the build that runs."""

from __future__ import annotations

import re

SHA = re.compile(r"[0-9a-f]{7,40}")
_VERSION = re.compile(r"v?\d+(\.\d+)+([.-][\w.-]+)?")


def tag_of(image: str) -> str:
    """The tag of an image; empty where it has none."""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2]


def repository_of(image: str) -> str:
    """The image's repository: neither registry nor tag nor digest."""
    name = image.partition("@")[0]
    head, slash, rest = name.partition("/")
    # what comes first is a registry when it looks like a host
    path = rest if slash and ("." in head or ":" in head) else name
    folder, slash, last = path.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"


def is_commit(image: str) -> bool:
    """Whether the tag is a git sha: anything else can come to mean another build."""
    return SHA.fullmatch(tag_of(image)) is not None


def is_pinned(image: str) -> bool:
    """Whether somebody else's image is one release for ever: a version, a commit or a digest."""
    return "@sha256:" in image or is_commit(image) or _VERSION.fullmatch(tag_of(image)) is not None


def agree(tag: str, build: str) -> bool:
    """Whether a tag and a build are the same commit: one is a prefix of the other."""
    return bool(tag and build) and (build.startswith(tag) or tag.startswith(build))
