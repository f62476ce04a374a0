"""The model itself as a file that other programs read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def render(model: Mapping[str, Any]) -> str:
    """Return the model as indented JSON, keys in the model's order.

    Numbers that JSON does not know (NaN, infinities) become text, so that every parser can read the file.
    Raises TypeError for a value that is not plain data.
    """
    try:
        return _text(model)
    except (ValueError, TypeError):  # seldom, and walking the whole model first takes as long as writing it
        return _text(_portable(model))


def _text(model: object) -> str:
    return json.dumps(model, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _portable(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _portable(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_portable(item) for item in value]
    return value
