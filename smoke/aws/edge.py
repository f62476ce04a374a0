"""Whether a public host's requests come through: where its record leads, and what its balancer does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from smoke.source.checkout import Examined, Finding

from .account import AwsAccount
from .balancer import FIXED, HTTPS, BalancerRoute, listeners_of, routes_of, rules_of
from .firewall import PublicCall, read_web_acl, refused
from .forwarding import fits
from .fronts import is_balancer, is_fronted
from .reader import AwsReader

#: A stream may be silent for so long between two of its comments (contract 1.4).
SILENT_S = 15
_PUBLIC = "internet-facing"


def hindered(
    aws: AwsReader,
    routes: Iterable[BalancerRoute],
    ends: Sequence[str],
    calls: Iterable[PublicCall],
) -> Examined:
    """What keeps a host's requests from its balancers, or its answers from those who asked.

    `routes` are those of the host, `ends` where its record leads, `calls` those that it is to answer.
    """
    found, asked, result = [*routes], [*calls], Examined()
    used = {arn: each for arn, each in aws.balancers().items() if arn in {one.balancer for one in found}}
    why: list[str] = []
    for arn, described in used.items():
        name, state = described["LoadBalancerName"], described.get("State", {}).get("Code", "active")
        why += [] if state == "active" else [f"{name} is {state}"]
        if described.get("Type") == "application":
            why += result.attempt(lambda: idle_for(aws.account, arn, name)) or []  # noqa: B023
            acl = result.attempt(lambda: read_web_acl(aws.account, arn))  # noqa: B023
            why += refused(acl, asked) if acl else []
    if not is_fronted(ends):
        asking = [each.listener.rpartition("/")[2] for each in found if each.verifies]
        why += [f"its listener {each} asks callers for certificates" for each in dict.fromkeys(asking)]
        why += astray([*used.values()], [*aws.balancers().values()], ends, aws.account.region)
        others = [each for arn, each in aws.balancers().items() if arn not in used and _is_led(each, ends)]
        for each in others if used and asked else ():
            why += result.attempt(lambda: unanswered(aws, each, asked)) or []  # noqa: B023
    result.findings.extend(Finding("", 0, each) for each in dict.fromkeys(why))
    return result


def idle_for(account: AwsAccount, arn: str, name: str) -> list[str]:
    """Whether a balancer ends what is silent before a stream has to say anything."""
    told = account.ask("elbv2", "describe_load_balancer_attributes", LoadBalancerArn=arn)["Attributes"]
    seconds = {each["Key"]: each.get("Value", "") for each in told}.get("idle_timeout.timeout_seconds", "")
    if not seconds.isdecimal() or int(seconds) >= SILENT_S:
        return []
    return [f"{name} closes connections idle for {seconds} s, but a stream may be silent for {SILENT_S} s"]


def astray(
    used: Sequence[Mapping[str, Any]], every: Sequence[Mapping[str, Any]], ends: Sequence[str], region: str
) -> Iterator[str]:
    """How a record that leads straight to a balancer misses the public.

    One of another account may lead to an internal balancer here, not to a public one.
    """
    known = {_name(each["DNSName"]): each for each in every}
    for end in {_name(each): None for each in ends if is_balancer(each) and f".{region}." in f".{each}"}:
        if end in known and known[end].get("Scheme") == "internal":
            yield f"its DNS record points to {known[end]['LoadBalancerName']}, which is internal"
        elif end not in known and any(each.get("Scheme") == _PUBLIC for each in used):
            yield f"its DNS record points to {end}, which is no load balancer of this account"


def unanswered(aws: AwsReader, balancer: Mapping[str, Any], calls: Sequence[PublicCall]) -> list[str]:
    """Whether a balancer to which a record leads has nothing behind it, which might pass calls on."""
    arn, led = balancer["LoadBalancerArn"], f"its record leads to {balancer['LoadBalancerName']}, which"
    listeners = listeners_of(aws.account, arn)
    if not any(each.get("Port") == HTTPS for each in listeners):
        return [f"{led} has no listener on port {HTTPS}"]
    rules = [rules_of(aws.account, each) for each in listeners if each.get("Port") == HTTPS]
    ranked = sorted(
        (route for each in rules for route in routes_of(each, arn, ())), key=lambda route: route.rank
    )
    for call in calls:
        found = [(each, fits(each.conditions, call)) for each in ranked]
        decides = min((each.rank for each, fit in found if fit), default=-math.inf)
        ends = {each.target_group for each, fit in found if each.rank <= decides and fit is not False}
        if ends and all(each == FIXED or aws.is_idle(each) for each in ends):
            return [f"{led} has nothing behind it for {call.method} {call.path}"]
    return []


def _is_led(balancer: Mapping[str, Any], ends: Sequence[str]) -> bool:
    """Whether a record leads to a balancer for the public that reads what it forwards."""
    public = (balancer.get("Scheme"), balancer.get("Type")) == (_PUBLIC, "application")
    return public and _name(balancer["DNSName"]) in {_name(each) for each in ends}


def _name(written: str) -> str:
    return written.lower().rstrip(".").removeprefix("dualstack.")
