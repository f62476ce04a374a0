"""The model itself as a file that other programs read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def render(model: Mapping[str, Any]) -> str:
    """Return the model as JSON, keys in the model's order: a line for each check, goal or other entry.

    Numbers that JSON does not know (NaN, infinities) become text, so that every parser can read the file.
    Raises TypeError for a value that is not plain data.
    """
    try:
        return _text(model)
    except (ValueError, TypeError):  # rare, and walking the model first takes as long as writing it
        return _text({str(name): _portable(value) for name, value in model.items()})


def _text(model: Mapping[str, Any]) -> str:
    members = (f"  {_line(name)}: {_lines(value)}" for name, value in model.items())
    return "{\n" + ",\n".join(members) + "\n}\n"


def _lines(value: object) -> str:
    if not value or not isinstance(value, list | tuple):
        return _line(value)
    return "[\n" + ",\n".join(f"    {_line(entry)}" for entry in value) + "\n  ]"


def _line(value: object) -> str:
    """Encode without indentation, which Python's own encoder would do many times slower."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _portable(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _portable(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_portable(item) for item in value]
    return value
