"""Which rule of a listener decides on a call, and where that sends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from ipaddress import collapse_addresses, ip_network
from typing import Any

from .balancer import FIXED, BalancerRoute
from .firewall import PublicCall

#: What every program sends, whatever its value.
_ALWAYS = ("user-agent",)


def diverted(
    routes: Sequence[BalancerRoute],
    calls: Iterable[PublicCall],
    own: Sequence[str],
    others: Collection[str],
    is_idle: Callable[[str], bool] = lambda _: False,
) -> tuple[BalancerRoute, PublicCall] | None:
    """The first of the calls that a listener takes from its target groups, and the route by which it does.

    That leads to those of others, to one that `is_idle`, or to the balancer's own answer. It may be one of
    the same rule, which shares the requests between several target groups.
    """
    ranked = sorted(routes, key=lambda each: each.rank)
    for call in calls:
        mine = [each for each in routes if each.target_group in own and each.serves(call.host)]
        for listener in dict.fromkeys(each.listener for each in mine):
            found = [(each, fits(each.conditions, call)) for each in ranked if each.listener == listener]
            decides = min((each.rank for each, fit in found if fit), default=-math.inf)
            if any(each.rank < decides and fit is None and each.target_group in own for each, fit in found):
                continue  # whoever stands before the balancer may make its calls fit
            for each, fit in found:
                foreign = fit and each.rank == decides and each.target_group not in own
                if foreign and (each.target_group in {*others, FIXED} or is_idle(each.target_group)):
                    return each, call
    return None


def fits(conditions: Iterable[Mapping[str, Any]], call: PublicCall) -> bool | None:
    """Whether a rule with these conditions takes a call, whoever makes it; None where the caller decides."""
    found = [_fits(each, call) for each in conditions]
    return False if False in found else None if None in found else True


def _fits(condition: Mapping[str, Any], call: PublicCall) -> bool | None:
    field = condition.get("Field", "")
    told: Mapping[str, Any] = condition.get(_CONFIGS.get(field, ""), {})
    patterns: Sequence[Any] = told.get("Values") or condition.get("Values", ())
    if field == "source-ip":
        return _is_everybody(patterns) or None
    name = told.get("HttpHeaderName", "").lower()
    of = {
        "host-header": call.host.lower(),
        "path-pattern": call.path,
        "http-request-method": call.method,
        "http-header": _headers(call).get(name),
    }.get(field)
    if of is None:  # a header that callers may send, or what is not known of a call
        return True if name in _ALWAYS and "*" in patterns else None
    lowered = field in ("host-header", "http-header")
    hit = any(_is_like(of, each.lower() if lowered else each) for each in patterns)
    return hit or (None if told.get("RegexValues") else False)


_CONFIGS = {
    "host-header": "HostHeaderConfig",
    "path-pattern": "PathPatternConfig",
    "http-request-method": "HttpRequestMethodConfig",
    "http-header": "HttpHeaderConfig",
    "source-ip": "SourceIpConfig",
}


def _headers(call: PublicCall) -> dict[str, str]:
    """The headers of a call that are known, in small letters."""
    known = {"host": call.host.lower()}
    known |= {"authorization": "bearer x"} if call.authorized else {}
    return known | ({"content-type": "application/json"} if call.method == "POST" else {})


def _is_like(text: str, pattern: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _is_everybody(ranges: Iterable[str]) -> bool:
    """Whether ranges of addresses together are all of IPv4."""
    found = [each for each in (ip_network(one, strict=False) for one in ranges) if each.version == 4]
    return any(each.prefixlen == 0 for each in collapse_addresses(found))
