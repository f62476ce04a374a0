"""What a health report says of its parts, whatever its own status is. Pure functions over plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

#: What a part says in its `status`, in lower case: it is well, or it is not. Other words are not understood.
WELL = re.compile(
    "healthy|ok|ready|up|pass|passed|passing|running|active|available|connected|operational|serving|alive"
    "|live|green|true|disabled|not_configured"
)
ILL = re.compile(
    "degraded|unhealthy|unreachable|down|unknown|error|failed|failing|fail|unavailable|not_ready"
    "|disconnected|critical|warning|warn|stale|red|yellow|false|timeout"
)


def parts_amiss(report: Mapping[str, Any], rules: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What parts of a health report say that they must not, and what they say that is not understood.

    A rule is what the profile says of a path. Without one, each `status` below the top must be a word for
    being well.
    """
    said = dict(_said(report))
    amiss: list[str] = []
    unread: list[str] = []
    for path, word in said.items():
        rule = next((rule for pattern, rule in rules.items() if _matches(pattern, path)), None)
        if rule is not None:
            if rule != "*" and word not in rule.lower().split("|"):
                amiss.append(f"{path} is {word}, not {rule}")
        elif path.endswith(".status") and not WELL.fullmatch(word):
            (amiss if ILL.fullmatch(word) else unread).append(f"{path} is {word}")
    missing = [path for path in rules if not any(_matches(path, each) for each in said)]
    amiss += [f"{path} is missing, not {rules[path]}" for path in missing if "*" not in path + rules[path]]
    return amiss, unread


def _said(part: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every plain value of a report by its dotted path, in lower case."""
    if isinstance(part, Mapping | list):
        steps = part.items() if isinstance(part, Mapping) else enumerate(part)
        for step, value in steps:
            yield from _said(value, f"{path}.{step}" if path else str(step))
    else:
        yield path, (part if isinstance(part, str) else json.dumps(part)).lower()


def _matches(pattern: str, path: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", r"[^.]+"), path) is not None
