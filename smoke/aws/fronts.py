"""What stands before a load balancer: where the record of a host leads, and what CloudFront lets through."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from .account import AwsAccount
from .firewall import PublicCall
from .zones import ADDRESSES, answering, is_below, list_zones, read_zones, values_of

#: What a name or an address may be; other records than those that lead somewhere have other values.
_LEADS = re.compile(r"[\w.-]+\.[\w-]+\.?|[0-9a-fA-F:]*:[0-9a-fA-F:]+")
_BALANCER = re.compile(r"(?i)\.elb\.(?:[a-z0-9-]+\.)?amazonaws\.com(?:\.cn)?\.?$")
_ADDRESS = re.compile(r"[0-9.]+|[0-9a-fA-F:]*:[0-9a-fA-F:]+")
_CLOUDFRONT = re.compile(r"(?i)\.cloudfront\.(?:net|cn)\.?$")
#: CloudFront's own policies that keep answers, whoever asked for them.
_KEEPING = ("658327ea-f89d-4fab-a63d-7e88639e58f6", "b2884449-e4de-46a7-ac36-70bc7f1ddd6d")


def leads(account: AwsAccount, host: str) -> list[str]:
    """Where the account's records of a public host lead for the public; nowhere when its zone is another's.

    Nobody is sent where a record of weight 0 leads, unless all weights are 0, nor where one for a failure
    leads while there is none.
    """
    near = [each for each in list_zones(account) if not each.private and is_below(host, each.name)]
    zone = answering(read_zones(account, near), host)
    found = (
        [each for each in zone.of(host, *ADDRESSES) if each.get("Failover") != "SECONDARY"] if zone else []
    )
    weights = {each["Weight"] for each in found if "Weight" in each}
    used = [each for each in found if each.get("Weight", 1) or not any(weights)]
    return [value for each in used for value in values_of(each) if _LEADS.fullmatch(value)]


def is_balancer(end: str) -> bool:
    """Whether a record leads to a balancer."""
    return _BALANCER.search(end) is not None


def is_fronted(ends: Iterable[str]) -> bool:
    """Whether something stands before the balancer: it takes a host's requests to any port of that."""
    return any(not is_balancer(each) and not _ADDRESS.fullmatch(each) for each in ends)


def by_cloudfront(ends: Iterable[str]) -> bool:
    """Whether CloudFront is what stands there."""
    return any(_CLOUDFRONT.search(each) for each in ends)


def read_distributions(account: AwsAccount, host: str) -> list[Mapping[str, Any]]:
    """The distributions of CloudFront that take a host."""
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


def unserved(distribution: Mapping[str, Any], calls: Iterable[PublicCall]) -> Iterator[str]:
    """How a distribution hinders calls."""
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


def _behaviour(distribution: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """What a distribution does with a path: the first of its behaviours that fits, else the default."""
    others: Sequence[Mapping[str, Any]] = distribution.get("CacheBehaviors", {}).get("Items", ())
    default: Mapping[str, Any] = distribution.get("DefaultCacheBehavior", {})
    fitting = (each for each in others if fnmatchcase(path, "/" + each["PathPattern"].lstrip("/")))
    return next(fitting, default)


def _keeps(behaviour: Mapping[str, Any]) -> bool:
    """Whether answers are kept although they do not say so; what a policy of one's own says is not read."""
    if "CachePolicyId" in behaviour:
        return behaviour["CachePolicyId"] in _KEEPING
    headers = behaviour.get("ForwardedValues", {}).get("Headers", {}).get("Items", ())
    by_caller = {each.lower() for each in headers} & {"authorization", "*"}
    return not by_caller and (behaviour.get("MinTTL", 0) > 0 or behaviour.get("DefaultTTL", 0) > 0)
