"""A call's path from the internet to a service: CloudFront and the load balancer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from smoke.source.checkout import Examined
from smoke.source.infrastructure.entrances import is_everybody
from smoke.source.rules import all_of, is_like

from .account import AwsAccount
from .balancer import FIXED, HTTPS, BalancerRoute, listeners_of, routes_of, rules_of
from .reader import AwsReader
from .waf import PublicCall, read_global_acl, read_web_acl, refused
from .zones import leads

#: Headers that every program sends, with any value.
_ALWAYS = ("user-agent",)


def diverted(
    routes: Sequence[BalancerRoute],
    calls: Iterable[PublicCall],
    own: Sequence[str],
    others: Collection[str],
    is_idle: Callable[[str], bool] = lambda _: False,
) -> tuple[BalancerRoute, PublicCall] | None:
    """The first call that a listener routes past its target groups, with the route that does so.

    The route leads to the target groups of others, to one that `is_idle`, or to the balancer's own answer. It
    may belong to the same rule, if that shares requests between several target groups.
    """
    ranked = sorted(routes, key=lambda each: each.rank)
    for call in calls:
        mine = [each for each in routes if each.target_group in own and each.serves(call.host)]
        for listener in dict.fromkeys(each.listener for each in mine):
            found = [(each, fits(each.conditions, call)) for each in ranked if each.listener == listener]
            decides = min((each.rank for each, fit in found if fit), default=-math.inf)
            if any(each.rank < decides and fit is None and each.target_group in own for each, fit in found):
                continue  # a proxy before the balancer may change calls so that they match
            for each, fit in found:
                foreign = fit and each.rank == decides and each.target_group not in own
                if foreign and (each.target_group in {*others, FIXED} or is_idle(each.target_group)):
                    return each, call
    return None


def fits(conditions: Iterable[Mapping[str, Any]], call: PublicCall) -> bool | None:
    """Whether a rule with these conditions matches a call; None if that depends on the caller."""
    found = [_fits(each, call) for each in conditions]
    return all_of(found)


def _fits(condition: Mapping[str, Any], call: PublicCall) -> bool | None:
    field = condition.get("Field", "")
    config: Mapping[str, Any] = condition.get(_CONFIGS.get(field, ""), {})
    patterns: Sequence[Any] = config.get("Values") or condition.get("Values", ())
    if field == "source-ip":
        return is_everybody(patterns) or None
    if field == "query-string":
        return any(_has(call, each) for each in patterns)
    name = config.get("HttpHeaderName", "").lower()
    of = {
        "host-header": call.host.lower(),
        "path-pattern": call.path,
        "http-request-method": call.method,
        "http-header": _headers(call).get(name),
    }.get(field)
    if of is None:  # a header that callers may send, or an unknown part of a call
        return True if name in _ALWAYS and "*" in patterns else None
    lowered = field in ("host-header", "http-header")
    hit = any(is_like(of, each.lower() if lowered else each) for each in patterns)
    return hit or (None if config.get("RegexValues") else False)


_CONFIGS = {
    "host-header": "HostHeaderConfig", "path-pattern": "PathPatternConfig",
    "http-request-method": "HttpRequestMethodConfig", "http-header": "HttpHeaderConfig",
    "source-ip": "SourceIpConfig", "query-string": "QueryStringConfig",
}  # fmt: skip


def _has(call: PublicCall, pair: Mapping[str, str]) -> bool:
    """Whether a call's query has a pair like this one; without a key, any key matches."""
    key, value = pair.get("Key", "*").lower(), pair.get("Value", "*").lower()
    return any(is_like(name.lower(), key) and is_like(of.lower(), value) for name, of in call.query)


def _headers(call: PublicCall) -> dict[str, str]:
    """The known headers of a call, in lower case."""
    known = {"host": call.host.lower()}
    known |= {"authorization": "bearer x"} if call.authorized else {}
    return known | ({"content-type": "application/json"} if call.method == "POST" else {})


_BALANCER = re.compile(r"(?i)\.elb\.(?:[a-z0-9-]+\.)?amazonaws\.com(?:\.cn)?\.?$")
_ADDRESS = re.compile(r"[0-9.]+|[0-9a-fA-F:]*:[0-9a-fA-F:]+")
_CLOUDFRONT = re.compile(r"(?i)\.cloudfront\.(?:net|cn)\.?$")
#: CloudFront's own policies that cache answers for all callers.
_KEEPING = ("658327ea-f89d-4fab-a63d-7e88639e58f6", "b2884449-e4de-46a7-ac36-70bc7f1ddd6d")


def is_balancer(end: str) -> bool:
    """Whether a record points to a balancer."""
    return _BALANCER.search(end) is not None


def is_fronted(ends: Iterable[str]) -> bool:
    """Whether something is in front of the balancer, which may send requests to any of its ports."""
    return any(not is_balancer(each) and not _ADDRESS.fullmatch(each) for each in ends)


def is_straight(aws: AwsReader, balancer: str, host: str) -> bool | None:
    """Whether a host's record points to a balancer itself (its ARN); None if that is unclear.

    An address may be the balancer's, or that of something in front.
    """
    ends = leads(aws.account, host)
    if _name(aws.balancers()[balancer]["DNSName"]) in map(_name, ends):
        return True
    return None if not ends or any(map(_ADDRESS.fullmatch, ends)) else False


def by_cloudfront(ends: Iterable[str]) -> bool:
    """Whether CloudFront is in front of it."""
    return any(_CLOUDFRONT.search(each) for each in ends)


def read_distributions(account: AwsAccount, host: str) -> list[Mapping[str, Any]]:
    """The CloudFront distributions for a host."""
    found: list[Mapping[str, Any]] = []
    marker: dict[str, str] = {}
    while True:
        page = account.ask("cloudfront", "list_distributions", **marker)["DistributionList"]
        found += page.get("Items", ())
        if not page.get("IsTruncated"):
            break
        marker = {"Marker": page["NextMarker"]}
    return [
        each for each in found
        if any(fnmatchcase(host, alias.lower()) for alias in each.get("Aliases", {}).get("Items", ()))
    ]  # fmt: skip


def unserved(distribution: Mapping[str, Any], calls: Collection[PublicCall]) -> Iterator[str]:
    """How a distribution blocks calls."""
    name = distribution.get("Id", "CloudFront")
    if distribution.get("Enabled") is False:
        yield f"the CloudFront distribution {name} is disabled"
    for call in calls:
        behaviour = _behaviour(distribution, call.path)
        allowed = behaviour.get("AllowedMethods", {}).get("Items", ("GET", "HEAD"))
        if call.method not in allowed:
            yield f"the CloudFront distribution {name} does not allow {call.method} {call.path}"
        elif call.authorized and call.method == "GET" and _keeps(behaviour):
            yield f"the CloudFront distribution {name} caches answers of {call.path} for all callers"
        elif call.authorized and call.method == "GET" and _removes(behaviour):
            yield f"the CloudFront distribution {name} removes the credentials of GET {call.path}"
    for each in _used(distribution, [call for call in calls if call.streamed]):
        how = each.get("CustomOriginConfig") or each.get("VpcOriginConfig") or {}
        seconds = how.get("OriginReadTimeout", SILENT_S)
        if seconds < SILENT_S:
            within = f"waits {seconds} s for an origin"
            yield f"the CloudFront distribution {name} {within}, but a stream may be silent for {SILENT_S} s"


def origins(distribution: Mapping[str, Any], calls: Iterable[PublicCall]) -> list[str]:
    """Where a distribution sends calls on the internet; without origins inside a VPC."""
    used = _used(distribution, calls)
    return [each["DomainName"] for each in used if "VpcOriginConfig" not in each]


def _used(distribution: Mapping[str, Any], calls: Iterable[PublicCall]) -> list[Mapping[str, Any]]:
    """The origins to which a distribution sends calls."""
    used = {_behaviour(distribution, call.path).get("TargetOriginId") for call in calls}
    return [each for each in distribution.get("Origins", {}).get("Items", ()) if each["Id"] in used]


def _behaviour(distribution: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """A distribution's behaviour for a path: the first that matches, else the default."""
    others: Sequence[Mapping[str, Any]] = distribution.get("CacheBehaviors", {}).get("Items", ())
    default: Mapping[str, Any] = distribution.get("DefaultCacheBehavior", {})
    fitting = (each for each in others if fnmatchcase(path, "/" + each["PathPattern"].lstrip("/")))
    return next(fitting, default)


def _keeps(behaviour: Mapping[str, Any]) -> bool:
    """Whether answers are cached although their headers do not allow it; custom policies are not read."""
    if "CachePolicyId" in behaviour:
        return behaviour["CachePolicyId"] in _KEEPING
    headers = behaviour.get("ForwardedValues", {}).get("Headers", {}).get("Items", ())
    by_caller = {each.lower() for each in headers} & {"authorization", "*"}
    return not by_caller and (behaviour.get("MinTTL", 0) > 0 or behaviour.get("DefaultTTL", 0) > 0)


def _removes(behaviour: Mapping[str, Any]) -> bool:
    """Whether the Authorization header of a GET is removed; functions and custom policies are not read."""
    changed = [behaviour.get(each, {}).get("Quantity") for each in ("FunctionAssociations", _FUNCTIONS)]
    if any(changed) or behaviour.get("OriginRequestPolicyId"):
        return False
    if "CachePolicyId" in behaviour:
        return behaviour["CachePolicyId"] in (*_KEEPING, _KEEPS_NOTHING)
    headers = behaviour.get("ForwardedValues", {}).get("Headers", {}).get("Items", ())
    return "ForwardedValues" in behaviour and not {each.lower() for each in headers} & {"authorization", "*"}


_FUNCTIONS = "LambdaFunctionAssociations"
#: CloudFront's own policy that caches nothing.
_KEEPS_NOTHING = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
#: The longest silence of a stream between two comments (contract 1.4).
SILENT_S = 15
_PUBLIC = "internet-facing"


def hindered(
    aws: AwsReader,
    routes: Iterable[BalancerRoute],
    ends: Sequence[str],
    calls: Iterable[PublicCall],
    before: Sequence[Mapping[str, Any]] = (),
) -> Examined:
    """What keeps a host's requests from its balancers, or its answers from the callers.

    `routes` are the host's, `ends` where its record points, `calls` those that it must answer; `before` are
    the CloudFront distributions in front of the balancers.
    """
    found, asked, result = [*routes], [*calls], Examined()
    used = {arn: each for arn, each in aws.balancers().items() if arn in {one.balancer for one in found}}
    why: list[str] = []
    for arn, described in used.items():
        name, state = described["LoadBalancerName"], described.get("State", {}).get("Code", "active")
        why += [] if state == "active" else [f"{name} is {state}"]
        if described.get("Type") == "application":
            if any(each.streamed for each in asked):
                why += result.attempt(idle_for, aws.account, arn, name) or []
            acl = result.attempt(read_web_acl, aws.account, arn)
            why += refused(acl, asked) if acl else []
    every = [*aws.balancers().values()]
    for each in before:
        acl = result.attempt(read_global_acl, aws.account, each.get("WebACLId", ""))
        why += refused(acl, asked) if acl else []
    for origin in [one for each in before for one in origins(each, asked)]:
        led = result.attempt(leads, aws.account, origin) or [origin]
        why += astray([*used.values()], every, led, aws.account.region, "origin in CloudFront")
    if not is_fronted(ends):
        asking = [each.listener.rpartition("/")[2] for each in found if each.verifies]
        why += [f"its listener {each} asks callers for certificates" for each in dict.fromkeys(asking)]
        why += astray([*used.values()], every, ends, aws.account.region)
        others = [each for arn, each in aws.balancers().items() if arn not in used and _is_led(each, ends)]
        for each in others if used and asked else ():
            why += result.attempt(unanswered, aws, each, asked) or []
    for what in dict.fromkeys(why):
        result.wrong(what)
    return result


def idle_for(account: AwsAccount, arn: str, name: str) -> list[str]:
    """Whether a balancer closes silent connections before a stream has to send anything."""
    given = account.ask("elbv2", "describe_load_balancer_attributes", LoadBalancerArn=arn)["Attributes"]
    seconds = {each["Key"]: each.get("Value", "") for each in given}.get("idle_timeout.timeout_seconds", "")
    if not seconds.isdecimal() or int(seconds) >= SILENT_S:
        return []
    return [f"{name} closes connections idle for {seconds} s, but a stream may be silent for {SILENT_S} s"]


def astray(
    used: Sequence[Mapping[str, Any]],
    every: Sequence[Mapping[str, Any]],
    ends: Sequence[str],
    region: str,
    what: str = "DNS record",
) -> Iterator[str]:
    """How a record, or `what` else points directly to a balancer, fails to reach the public.

    Another account's record may point to an internal balancer here, not to a public one.
    """
    known = {_name(each["DNSName"]): each for each in every}
    for end in {_name(each): None for each in ends if is_balancer(each) and f".{region}." in f".{each}"}:
        if end in known and known[end].get("Scheme") == "internal":
            yield f"its {what} points to {known[end]['LoadBalancerName']}, which is internal"
        elif end not in known and any(each.get("Scheme") == _PUBLIC for each in used):
            yield f"its {what} points to {end}, which is not a load balancer of this account"


def unanswered(aws: AwsReader, balancer: Mapping[str, Any], calls: Sequence[PublicCall]) -> list[str]:
    """Whether a balancer to which a record points has nothing behind it that could serve the calls."""
    arn, led = balancer["LoadBalancerArn"], f"its record leads to {balancer['LoadBalancerName']}, which"
    listeners = listeners_of(aws.account, arn)
    if not any(each.get("Port") == HTTPS for each in listeners):
        return [f"{led} has no listener on port {HTTPS}"]
    at = [(rules_of(aws.account, each), each) for each in listeners if each.get("Port") == HTTPS]
    ranked = sorted(
        (route for rules, each in at for route in routes_of(rules, arn, (), each)),
        key=lambda route: route.rank,
    )
    for call in calls:
        found = [(each, fits(each.conditions, call)) for each in ranked]
        decides = min((each.rank for each, fit in found if fit), default=-math.inf)
        ends = {each.target_group for each, fit in found if each.rank <= decides and fit is not False}
        if ends and all(each == FIXED or aws.is_idle(each) for each in ends):
            return [f"{led} has nothing behind it for {call.method} {call.path}"]
    return []


def _is_led(balancer: Mapping[str, Any], ends: Sequence[str]) -> bool:
    """Whether a record points to a public balancer that forwards by HTTP."""
    public = (balancer.get("Scheme"), balancer.get("Type")) == (_PUBLIC, "application")
    return public and _name(balancer["DNSName"]) in {_name(each) for each in ends}


def _name(written: str) -> str:
    return written.lower().rstrip(".").removeprefix("dualstack.")
