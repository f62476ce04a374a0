"""The one pattern language for check ids, fault ids and goals.

``*`` matches any run of characters and ``?`` one character. Everything else is literal, the brackets of
parametrised ids included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache


def matches(pattern: str, text: str) -> bool:
    """Tell whether the pattern matches the complete text."""
    return _compiled(pattern).fullmatch(text) is not None


def matching(patterns: Iterable[str], ids: Iterable[str]) -> list[str]:
    """Return the ids that at least one of the patterns matches, in their order."""
    wanted = list(patterns)
    return [each for each in ids if any(matches(pattern, each) for pattern in wanted)]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
