"""Digests: one canonical form of JSON, one hash, for the ledger's chain and for what a run was made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date, time
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Encode a JSON value in its one canonical form: sorted keys, no spaces, UTF-8; times as ISO 8601.

    ValueError for NaN and infinities, TypeError for what JSON cannot hold.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
    )
    return text.encode()


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value's canonical form, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def suite_digest(files: Mapping[str, bytes]) -> str:
    """Return one SHA-256 over a suite's files (path -> content), independent of their order."""
    return digest({path: hashlib.sha256(content).hexdigest() for path, content in files.items()})


def _plain(value: object) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")
