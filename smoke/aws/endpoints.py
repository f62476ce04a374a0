"""What stands between a task that starts and AWS: its security groups, and the endpoints of its network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smoke.source.checkout import Examined, Finding

from .ecs import IN_ECR, TaskDefinition
from .network import Party, covers_port, lets, ranges_of, read_groups
from .policies import PULL_TOKEN, READ, allows, statements_of
from .reader import AwsReader, secret_of
from .subnets import WaysOut, needed_by, own_subnets, read_ways

_TLS = 443
#: From where ECR serves the layers of images.
_LAYERS = "arn:aws:s3:::prod-{}-starport-layer-bucket/x"


def kept_from_aws(aws: AwsReader) -> Examined:
    """Whether a task on Fargate may call what it needs of AWS: out of its groups, and through endpoints."""
    services, subnets, result = aws.services(), own_subnets(aws), Examined()
    tasks = {name: each for name, each in aws.definitions().items() if name in services and each.fargate}
    ways = read_ways(aws)
    used = [each for name in tasks for each in services[name].security_groups]
    used += [each["GroupId"] for one in ways.endpoints for each in one.get("Groups", ())]
    groups = read_groups(aws.account, used)
    for name, task in tasks.items():
        places = [each for each in services[name].subnets if each in subnets]
        ranges = tuple(one for each in places for one in subnets[each].ranges)
        party = Party(name, services[name].security_groups, ranges)
        whys = [*_shut_in(party, task, ways, places, groups)]
        for each in ways.endpoints:
            whys += _closed(each, party, task, ways, places, groups, aws.account.region)
        result.findings.extend(Finding("", 0, f"{name} cannot start again: {why}") for why in whys)
    return result


def _shut_in(
    party: Party,
    task: TaskDefinition,
    ways: WaysOut,
    places: Sequence[str],
    groups: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Whether no security group lets a task out to AWS, nor to the endpoints that stand for it."""
    held = [groups[each] for each in party.groups if each in groups]
    rules = [rule for each in held for rule in each.get("IpPermissionsEgress", ())]
    rules = [rule for rule in rules if covers_port(rule, _TLS)]
    # endpoints may be in a network with which this one is connected
    peers = [
        each.get("VpcPeeringConnectionId") for rule in rules for each in rule.get("UserIdGroupPairs", ())
    ]
    outside = any(peers) or any(
        rule.get("PrefixListIds") or not ways.contain(ranges_of(rule)) for rule in rules
    )
    inside = any(ranges_of(rule) or rule.get("UserIdGroupPairs") for rule in rules)
    lacking = [
        each
        for each in needed_by(task, elsewhere=())
        if not (inside and all(ways.offers(each, one) for one in places))
    ]
    if held and places and not outside and lacking:
        yield f"no security group of it lets it out on port {_TLS} to {' or '.join(lacking)}"


def _closed(
    endpoint: Mapping[str, Any],
    party: Party,
    task: TaskDefinition,
    ways: WaysOut,
    places: Sequence[str],
    groups: Mapping[str, Mapping[str, Any]],
    region: str,
) -> Iterator[str]:
    """Why an endpoint does not take what a task asks. One with private names takes it all, way out or not."""
    used = [each for each in needed_by(task) if endpoint["ServiceName"].endswith(f".{region}.{each}")]
    if not used or not any(ways.takes(endpoint, one) for one in places):
        return
    named = f"{endpoint['VpcEndpointId']}, the endpoint of {used[0]},"
    held = [groups[each["GroupId"]] for each in endpoint.get("Groups", ()) if each["GroupId"] in groups]
    if held and not {True, None} & {lets(each.get("IpPermissions", ()), party, _TLS) for each in held}:
        yield f"{named} does not let it in on port {_TLS}"
    # of whom else it speaks is not known to be another's
    told = [
        each
        for each in statements_of(endpoint.get("PolicyDocument") or "")
        if each.get("Effect") == "Allow" or each.get("Principal") in ("*", {"AWS": "*"})
    ]
    for action, resource in _asked(used[0], task, region) if told else ():
        if not allows(told, action, resource):
            yield f"{named} has a policy that does not let it {action}"
            return


def _asked(service: str, task: TaskDefinition, region: str) -> Iterator[tuple[str, str]]:
    """What a task asks of a service when it starts: actions, each with its resource."""
    if service == "ecr.api":
        yield PULL_TOKEN, "*"
    elif service == "s3" and any(IN_ECR.fullmatch(box.image) for box in task.containers):
        yield "s3:GetObject", _LAYERS.format(region)
    elif service == "secretsmanager":
        given = [secret_of(each) for box in task.containers for each in box.secrets.values()]
        yield from ((READ, each) for each in given if ":secretsmanager:" in each)
