"""The history of full runs: append-only, hash-chained, one ledger for each environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import LedgerError
from .chain import Ledger, Verification
from .file import FileLedger
from .s3 import S3Ledger

__all__ = ["Ledger", "Verification", "open_ledger", "read_history"]

SCHEMES = "file:PATH, s3://BUCKET/PREFIX"


def open_ledger(url: str, rootdir: Path, environment: str = "") -> Ledger:
    """Return the ledger at a URL. Nothing is read or created yet; LedgerError for another scheme.

    ``{env}`` in the URL stands for the environment, and a relative path starts at ``rootdir``.
    """
    target = url.replace("{env}", environment)
    if target.startswith("file:") and target != "file:":
        return FileLedger(rootdir / target.removeprefix("file:").removeprefix("//"))
    if target.startswith("s3://") and target != "s3://":
        bucket, _, prefix = target.removeprefix("s3://").partition("/")
        return S3Ledger(bucket, prefix)
    raise LedgerError(f"{url!r} is not a ledger", where="ledger url", allowed=SCHEMES)


def read_history(url: str, rootdir: Path, environments: Iterable[str]) -> Mapping[str, list[dict[str, Any]]]:
    """Return the entries of each environment, newest last, [] where it has none; LedgerError when broken."""
    return {
        name: [
            entry
            for entry in open_ledger(url, rootdir, name).entries()
            if entry.get("environment", name) == name
        ]
        for name in environments
    }
