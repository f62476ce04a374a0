"""The history of full runs: append-only, hash-chained, one ledger for each environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import LedgerError
from .chain import Ledger, Verification, refuse_broken
from .file import FileLedger

__all__ = ["Ledger", "Verification", "open_ledger", "read_history", "refuse_broken"]

SCHEMES = "file:PATH, s3://BUCKET/PREFIX"


def open_ledger(url: str, rootdir: Path, environment: str = "") -> Ledger:
    """Return the ledger at a URL. Nothing is read or created yet; LedgerError for another scheme.

    ``{env}`` in the URL stands for the environment, and a relative path starts at ``rootdir``.
    """
    target = url.replace("{env}", environment)
    if target.startswith("file:") and target != "file:":
        return FileLedger(rootdir / target.removeprefix("file:").removeprefix("//"))
    if target.startswith("s3://") and target != "s3://":
        from .s3 import S3Ledger

        bucket, _, prefix = target.removeprefix("s3://").partition("/")
        return S3Ledger(bucket, prefix)
    raise LedgerError(f"{url!r} is not a ledger", where="ledger url", allowed=SCHEMES)


def read_history(
    ledger: Ledger,
    environment: str,
    is_enough: Callable[[Sequence[Mapping[str, Any]]], bool] = lambda _: False,
    first: int = 10,
) -> list[dict[str, Any]]:
    """Return the newest entries of an environment, newest last; LedgerError when they are broken.

    The newest ``first`` are read, then more until ``is_enough`` accepts those found, or all.
    """
    count = first
    while True:
        found = ledger.recent(count)
        own = [entry for entry in found if entry.get("environment", environment) == environment]
        if len(found) < count or is_enough(own):
            return own
        count *= 4
