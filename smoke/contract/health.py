"""Reads a health report's parts and times, independently of its own status."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import combinations
from typing import Any

from .exchange import Exchange
from .schemas import route_key

#: Health reports closer together than this say nothing about the pace of their uptime, s.
APART_S = 2.0
#: Allowed difference between an uptime (perhaps in whole seconds) and the runner's clock between two reports,
#: s.
PACE_S = 1.5


def clocks_in(exchange: Exchange) -> dict[str, float]:
    """A health report's times, in their units: since its service started, and when it was made."""
    route = route_key(exchange.service, exchange.method, exchange.path)
    if exchange.status != 200 or route is None or not route[2].endswith("/health"):
        return {}
    report = exchange.document if isinstance(exchange.document, dict) else {}
    if exchange.service == "dixie":
        said = {"uptime": report.get("uptime_seconds"), "timestamp": _seconds(report.get("timestamp"))}
    else:  # the contract does not define this timestamp: it may be the build's
        said = {"uptime": report.get("uptime")}
    return {name: float(value) for name, value in said.items() if type(value) in (int, float)}


def _seconds(moment: Any) -> Any:
    """RFC 3339 as epoch seconds; anything else unchanged."""
    if isinstance(moment, str):
        with suppress(ValueError):
            return datetime.fromisoformat(moment.upper()).timestamp()
    return moment


#: Units per second that an uptime may count in: the contract defines one only for Dixie, the same as for its
#: time.
PER_SECOND = {"dixie": (1,), "finn": (1, 1000), "freeside": (1, 1000)}


def uptime_amiss(readings: Sequence[tuple[float, float]], per_second: Sequence[int] = (1,)) -> str:
    """How an uptime, or a time, does not follow the clock, or that too little is known; empty if it does.

    ``readings`` are (time in s, value) in order. A service may have restarted since the first one, and behind
    a load balancer each reading may come from a different task.
    """
    if not readings:
        return "no health report says it"
    (began, first), (now, last) = readings[0], readings[-1]
    if now - began < APART_S:
        return f"all {len(readings)} reports are within {now - began:.1f} s"
    if len({uptime for _, uptime in readings}) == 1:
        return f"it stands still: {last:g} in all {len(readings)} reports within {now - began:.0f} s"
    pairs = ((later[0] - each[0], later[1] - each[1]) for each, later in combinations(readings, 2))
    follows = (
        abs(by - grown / each) <= PACE_S for by, grown in pairs if by >= APART_S for each in per_second
    )
    if last <= now - began or any(follows):
        return ""
    return f"it went from {first:g} to {last:g} within {now - began:.0f} s"


#: Words in a part's `status`, in lower case: healthy, or not. Other words are not understood.
WELL = re.compile(
    "healthy|ok|ready|up|pass|passed|passing|running|active|available|connected|operational|serving|alive"
    "|live|green|true|disabled|not_configured"
)
ILL = re.compile(
    "degraded|unhealthy|unreachable|down|unknown|error|failed|failing|fail|unavailable|not_ready"
    "|disconnected|critical|warning|warn|stale|red|yellow|false|timeout"
)


def parts_amiss(report: Mapping[str, Any], rules: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The values in a health report that are wrong, and those that are not understood.

    The profile may have a rule for a path. Without one, each `status` below the top must be a word for
    healthy.
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
