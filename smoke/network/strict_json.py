"""JSON as strict readers agree on it (RFC 8259, RFC 7493): nothing that two of them read differently."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

MAX_DEPTH = 64
_LONGEST_INTEGER = 20
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class NotStrict(ValueError):
    """No JSON, or JSON that two readers could read differently; says what was met."""


def strict_json(body: bytes | str) -> Any:
    """The value of a body in UTF-8. Raises NotStrict.

    Refused are a name that comes twice, NaN, an integer beyond 64 bits, a number beyond a double, half of a
    surrogate pair, and a depth that would exhaust the reader's stack.
    """
    try:
        text = body if isinstance(body, str) else body.decode()
        value = json.loads(
            text,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_number,
            object_pairs_hook=_members,
        )
    except UnicodeDecodeError as error:
        raise NotStrict(f"a byte that is not UTF-8 at position {error.start}") from None
    except RecursionError:
        raise NotStrict(f"a value nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise NotStrict(f"none: {error.msg} at position {error.pos} of {len(text)}") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise NotStrict(f"a value nested deeper than {MAX_DEPTH} levels")
    if "\\u" in text and _HALF_PAIR.search(json.dumps(value, ensure_ascii=False)):
        raise NotStrict("half of a surrogate pair")
    return value


def _constant(name: str) -> NoReturn:
    raise NotStrict(f"the constant {name}")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER or not -(2**63) <= int(digits) < 2**63:
        raise NotStrict(f"an integer of {len(digits.lstrip('-'))} digits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NotStrict(f"a number beyond a double: {digits[:40]}")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise NotStrict(f"the name {twice[:40]!r} twice")
    return members


def _depth(value: Any) -> int:
    """How deep arrays and objects are nested; goes level by level, so that no depth exhausts it."""
    depth, level = 0, [value]
    while level:
        depth += 1
        holders = [member for member in level if isinstance(member, dict | list)]
        level = [member for held in holders for member in (held.values() if isinstance(held, dict) else held)]
    return depth
