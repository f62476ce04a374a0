"""A call's path from the internet to a service: CloudFront, WAF and the load balancer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from ipaddress import collapse_addresses, ip_network
from typing import Any

from smoke.source.checkout import Examined, Finding

from .account import AwsAccount
from .balancer import FIXED, HTTPS, BalancerRoute, listeners_of, routes_of, rules_of
from .reader import AwsReader
from .zones import leads

_NO_ACL = ("WAFNonexistentItemException",)
#: Text transformations that leave the calls of the contract as they are.
_HARMLESS = ("NONE", "LOWERCASE", "URL_DECODE", "NORMALIZE_PATH", "COMPRESS_WHITE_SPACE")
#: WAF actions that a program cannot pass: a block, and a question to a person or a browser.
_REFUSING = ("Block", "Captcha", "Challenge")


@dataclass(frozen=True, slots=True)
class PublicCall:
    """What is known about a call; if it is `authorized`, its header has a credential.

    `query` are the names and values of its query string; `size` is that of its body in bytes, 0 if unknown,
    and `most` the largest that it may have. Its answer may be `streamed`.
    """

    method: str
    path: str
    host: str
    authorized: bool = False
    query: tuple[tuple[str, str], ...] = ()
    size: int = 0
    most: int = 0
    streamed: bool = False


def read_web_acl(account: AwsAccount, resource: str) -> Mapping[str, Any] | None:
    """The web ACL in front of a balancer; None if there is none."""
    found = account.find("wafv2", "get_web_acl_for_resource", _NO_ACL, ResourceArn=resource)
    return (found or {}).get("WebACL")


def refused(acl: Mapping[str, Any], calls: Sequence[PublicCall]) -> Iterator[str]:
    """Which rules of a web ACL refuse which calls; one about unknown parts of a call may let it through."""
    found: dict[str, list[str]] = {}
    for call in calls:
        if by := _refused_by(acl, call):
            found.setdefault(by, []).append(f"{call.method} {call.path}")
        elif call.most and (by := _refused_by(acl, replace(call, size=call.most))):
            found.setdefault(by, []).append(f"{call.method} {call.path} of {call.most} bytes")
    for by, hit in found.items():
        yield f"{by} of {acl.get('Name')} (WAF) refuses {' and '.join(hit)}"


def _refused_by(acl: Mapping[str, Any], call: PublicCall) -> str:
    for rule in sorted(acl.get("Rules", ()), key=lambda each: int(each["Priority"])):
        (action,) = rule.get("Action") or ("",)  # a rule group decides by itself
        hit = _matches(rule.get("Statement", {}), call)
        if action == "Allow" and hit is not False:
            return ""
        if action in _REFUSING and hit:
            return f"the rule {rule.get('Name')}"
    return "the default action" if "Block" in acl.get("DefaultAction", {}) else ""


def _matches(statement: Mapping[str, Any], call: PublicCall) -> bool | None:
    """Whether a call matches a statement; None if what is known about the call does not decide."""
    ((kind, about),) = statement.items() if len(statement) == 1 else [("", {})]
    if kind == "NotStatement":
        found = _matches(about["Statement"], call)
        return None if found is None else not found
    if kind in ("AndStatement", "OrStatement"):
        parts = [_matches(each, call) for each in about["Statements"]]
        decisive = kind == "OrStatement"
        return decisive if decisive in parts else None if None in parts else not decisive
    if kind == "SizeConstraintStatement":
        return _is_sized(about, call.size)
    of = _compared(about, call)
    if of is None:
        return None
    if kind == "RegexMatchStatement":
        return re.search(about["RegexString"], of) is not None
    return _POSITIONS[about["PositionalConstraint"]](of, _text(about["SearchString"]))


def _is_sized(about: Mapping[str, Any], size: int) -> bool | None:
    """Whether a body's size fits a statement; of a larger body, WAF sees at least the first bytes."""
    body = about.get("FieldToMatch", {}).get("Body")
    plain = all(each["Type"] == "NONE" for each in about.get("TextTransformations", ()))
    if body is None or not size or not plain or about["ComparisonOperator"] not in ("GT", "GE"):
        return None
    if size > _SEEN_BYTES and body.get("OversizeHandling", _SEES) != _SEES:
        return bool(body["OversizeHandling"] == "MATCH")
    fits = min(size, _SEEN_BYTES) - (about["ComparisonOperator"] == "GT") >= about["Size"]
    return fits or (None if size > _SEEN_BYTES else False)


_SEEN_BYTES, _SEES = 8192, "CONTINUE"
_POSITIONS: Mapping[str, Callable[[str, str], bool]] = {
    "EXACTLY": lambda of, text: of == text,
    "STARTS_WITH": lambda of, text: of.startswith(text),
    "ENDS_WITH": lambda of, text: of.endswith(text),
    "CONTAINS": lambda of, text: text in of,
    "CONTAINS_WORD": lambda of, text: re.search(rf"(?<!\w){re.escape(text)}(?!\w)", of) is not None,
}


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _compared(about: Mapping[str, Any], call: PublicCall) -> str | None:
    """The part of a call that a statement compares; None if it compares another part."""
    if not {"RegexString", "SearchString"} & about.keys():
        return None
    if any(each["Type"] not in _HARMLESS for each in about.get("TextTransformations", ())):
        return None
    field = about.get("FieldToMatch", {})
    lowered = any(each["Type"] == "LOWERCASE" for each in about.get("TextTransformations", ()))
    query = "&".join(map("=".join, call.query))
    parts = {"UriPath": call.path, "Method": call.method, "QueryString": query}
    header = field.get("SingleHeader", {}).get("Name", "").lower()
    found = call.host if header == "host" else next((parts[each] for each in field if each in parts), None)
    return found.lower() if found and lowered else found


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
    return False if False in found else None if None in found else True


def _fits(condition: Mapping[str, Any], call: PublicCall) -> bool | None:
    field = condition.get("Field", "")
    told: Mapping[str, Any] = condition.get(_CONFIGS.get(field, ""), {})
    patterns: Sequence[Any] = told.get("Values") or condition.get("Values", ())
    if field == "source-ip":
        return _is_everybody(patterns) or None
    if field == "query-string":
        return any(_has(call, each) for each in patterns)
    name = told.get("HttpHeaderName", "").lower()
    of = {
        "host-header": call.host.lower(),
        "path-pattern": call.path,
        "http-request-method": call.method,
        "http-header": _headers(call).get(name),
    }.get(field)
    if of is None:  # a header that callers may send, or an unknown part of a call
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
    "query-string": "QueryStringConfig",
}


def _has(call: PublicCall, pair: Mapping[str, str]) -> bool:
    """Whether a call's query has a pair like this one; without a key, any key matches."""
    key, value = pair.get("Key", "*").lower(), pair.get("Value", "*").lower()
    return any(_is_like(name.lower(), key) and _is_like(of.lower(), value) for name, of in call.query)


def _headers(call: PublicCall) -> dict[str, str]:
    """The known headers of a call, in lower case."""
    known = {"host": call.host.lower()}
    known |= {"authorization": "bearer x"} if call.authorized else {}
    return known | ({"content-type": "application/json"} if call.method == "POST" else {})


def _is_like(text: str, pattern: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _is_everybody(ranges: Iterable[str]) -> bool:
    """Whether address ranges together cover all of IPv4."""
    found = [each for each in (ip_network(one, strict=False) for one in ranges) if each.version == 4]
    return any(each.prefixlen == 0 for each in collapse_addresses(found))


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
        told = account.ask("cloudfront", "list_distributions", **marker)["DistributionList"]
        found += told.get("Items", ())
        if not told.get("IsTruncated"):
            break
        marker = {"Marker": told["NextMarker"]}
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
    origins: Sequence[str] = (),
) -> Examined:
    """What keeps a host's requests from its balancers, or its answers from the callers.

    `routes` are the host's, `ends` where its record points, `calls` those that it must answer; `origins` are
    where the proxy in front of the balancers sends them.
    """
    found, asked, result = [*routes], [*calls], Examined()
    used = {arn: each for arn, each in aws.balancers().items() if arn in {one.balancer for one in found}}
    why: list[str] = []
    for arn, described in used.items():
        name, state = described["LoadBalancerName"], described.get("State", {}).get("Code", "active")
        why += [] if state == "active" else [f"{name} is {state}"]
        if described.get("Type") == "application":
            if any(each.streamed for each in asked):
                why += result.attempt(lambda: idle_for(aws.account, arn, name)) or []  # noqa: B023
            acl = result.attempt(lambda: read_web_acl(aws.account, arn))  # noqa: B023
            why += refused(acl, asked) if acl else []
    every = [*aws.balancers().values()]
    for origin in origins:
        led = result.attempt(lambda: leads(aws.account, origin)) or [origin]  # noqa: B023
        why += astray([*used.values()], every, led, aws.account.region, "origin in CloudFront")
    if not is_fronted(ends):
        asking = [each.listener.rpartition("/")[2] for each in found if each.verifies]
        why += [f"its listener {each} asks callers for certificates" for each in dict.fromkeys(asking)]
        why += astray([*used.values()], every, ends, aws.account.region)
        others = [each for arn, each in aws.balancers().items() if arn not in used and _is_led(each, ends)]
        for each in others if used and asked else ():
            why += result.attempt(lambda: unanswered(aws, each, asked)) or []  # noqa: B023
    result.findings.extend(Finding("", 0, each) for each in dict.fromkeys(why))
    return result


def idle_for(account: AwsAccount, arn: str, name: str) -> list[str]:
    """Whether a balancer closes silent connections before a stream has to send anything."""
    told = account.ask("elbv2", "describe_load_balancer_attributes", LoadBalancerArn=arn)["Attributes"]
    seconds = {each["Key"]: each.get("Value", "") for each in told}.get("idle_timeout.timeout_seconds", "")
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
            yield f"its {what} points to {end}, which is no load balancer of this account"


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
