"""Security groups: whom they let in and out, between tasks and databases, and on the way to AWS itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_network
from typing import Any

from smoke.source.access import PRIVATE, GroupRule, Network, admit_everyone, allows
from smoke.source.checkout import Examined
from smoke.source.rules import any_of

from .account import AwsAccount
from .ecs import IN_ECR, TaskDefinition
from .edge import is_straight
from .names import BUILDS, HOSTS, resolve
from .policies import PULL_TOKEN, READ, statements_of
from .reader import AwsReader, secret_of
from .subnets import AccessLists, WaysOut, filtered, needed_by, own_subnets, read_ways

DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Party:
    """A caller or callee: its security groups, address ranges, ports and subnets."""

    name: str
    groups: tuple[str, ...]
    ranges: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()
    subnets: tuple[str, ...] = ()


def read_groups(account: AwsAccount, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Security groups as EC2 describes them, by id, without those that do not exist."""
    found = filtered(account, "describe_security_groups", "SecurityGroups", "group-id", ids)
    return {each["GroupId"]: each for each in found}


def lets(rules: Iterable[Mapping[str, Any]], other: Party, port: int) -> bool | None:
    """Whether a group's rules, as EC2 describes them, apply to a port and another party."""
    return any_of([rule_of(each).lets(port, other.groups, other.ranges) for each in rules])


def covers_port(rule: Mapping[str, Any], port: int) -> bool:
    """Whether a rule applies to a port."""
    return rule_of(rule).covers(port) is True


def rule_of(rule: Mapping[str, Any]) -> GroupRule:
    """A rule as EC2 describes it."""
    return GroupRule(
        str(rule.get("IpProtocol", "")),
        int(rule.get("FromPort", 0)),
        int(rule.get("ToPort", 65535)),
        [each["GroupId"] for each in rule.get("UserIdGroupPairs", ()) if "GroupId" in each],
        [ip_network(each, strict=False) for each in ranges_of(rule)],
        others=bool(rule.get("PrefixListIds")),
    )


def ranges_of(rule: Mapping[str, Any]) -> list[str]:
    """The address ranges of a rule."""
    ranges = [each["CidrIp"] for each in rule.get("IpRanges", ())]
    return ranges + [each["CidrIpv6"] for each in rule.get("Ipv6Ranges", ())]


def _names(rule: Mapping[str, Any]) -> bool:
    """Whether a rule applies to everybody."""
    return bool(ranges_of(rule) or rule.get("UserIdGroupPairs") or rule.get("PrefixListIds"))


def only_inside(rules: Sequence[Mapping[str, Any]], *, dual: bool = True) -> str:
    """Why rules admit no caller from the internet, where no address is private; empty if they may.

    A balancer that is not `dual` has only IPv4 addresses.
    """
    ranges = [ip_network(each, strict=False) for rule in rules for each in ranges_of(rule)]
    outside = [each for each in ranges if not each.is_private and (dual or each.version == 4)]
    if outside or any(rule.get("PrefixListIds") for rule in rules):
        return ""
    sources = " and ".join(map(str, ranges)) or "other groups"
    return f"its security groups let in only {sources}"


@dataclass(frozen=True, slots=True)
class Reachability:
    """Which parties must reach which, and whether security groups, network ACLs and routes allow it."""

    groups: Mapping[str, Mapping[str, Any]]
    lists: AccessLists = field(default_factory=AccessLists)
    routes: WaysOut = field(default_factory=WaysOut)
    examined: Examined = field(default_factory=Examined)

    def examine(self, caller: Party, to: Party) -> None:
        """Record if a caller reaches no port of another party, out of its own groups and into the other's."""
        ports = sorted(to.ports)
        if why := self.lists.closed(caller.subnets, to.subnets, ports):
            self.examined.wrong(f"{caller.name} does not reach {to.name}: {why}")
        for direction, own, other in (("IpPermissions", to, caller), ("IpPermissionsEgress", caller, to)):
            held = [self.groups[each] for each in own.groups if each in self.groups]
            found = [lets(each.get(direction, ()), other, port) for each in held for port in ports]
            if True in found:
                continue
            on = f"port {' or '.join(map(str, ports))}"
            if direction == "IpPermissions":
                what = f"no security group of {own.name} lets {other.name} in on {on}"
            else:
                what = f"no security group of {own.name} lets it out to {other.name} on {on}"
            # tasks without security groups use those of their instance, which are not read
            if None in found or not held or not ports or not other.groups:
                self.examined.unclear(f"whether {what}")
            else:
                self.examined.wrong(f"{what} ({', '.join(own.groups)})")

    def admit(
        self,
        public: Party,
        ports: Collection[int],
        straight: Sequence[Callable[[], bool | None]],
        *,
        dual: bool,
    ) -> None:
        """Record a public load balancer that accepts no caller on its ports; a `dual` one has IPv6 addresses.

        Callers of each host come `straight` from the internet, or through a proxy that needs no route from
        there, such as Global Accelerator or CloudFront's VPC origins; None if it is unclear which.
        """
        barred = f"the public does not reach {public.name}"
        held = [self.groups[each] for each in public.groups if each in self.groups]
        rules = [rule for each in held for rule in each.get("IpPermissions", ()) if _names(rule)]
        if held and not any(covers_port(rule, port) for rule in rules for port in ports):
            why = f"no security group lets anyone in on port {' or '.join(map(str, sorted(ports)))}"
            self.examined.wrong(f"{barred}: {why}")
            return
        covering = [rule for rule in rules if any(covers_port(rule, port) for port in ports)]
        why = only_inside(covering, dual=dual)
        # a balancer without security groups lets everybody in
        why = why if held else ""
        why = why or self.lists.closed_to_world(public.subnets)
        why = why or next(filter(None, map(self.routes.unreached, public.subnets)), "")
        ways = [self.examined.attempt(each) for each in straight] if why else []
        if True in ways:
            self.examined.wrong(f"{barred}: {why}")
        elif None in ways:
            unclear = f"whether the public reaches {public.name}, perhaps through a proxy: {why}"
            self.examined.unclear(unclear)

    def guard(self, party: Party) -> None:
        """Record if a party admits everybody."""
        for each in party.groups:
            rules = [rule_of(one) for one in self.groups.get(each, {}).get("IpPermissions", ())]
            for port in sorted(party.ports):
                if admit_everyone(rules, port):
                    self.examined.wrong(f"{each} of {party.name} lets everyone in on port {port}")


def reached(
    aws: AwsReader, reach: Mapping[str, Collection[str]], hosts: Mapping[str, str]
) -> tuple[int, Examined]:
    """Return how many paths there are, and those that the security groups in use block.

    `reach` maps a service, or `database`, to the services that it must let in on one of its ports; `hosts`
    are the public host names, with which one service may also call another.
    """
    parties, balancers = _parties(aws), _balancers(aws)
    every = [*parties.values(), *balancers.values()]
    ways, count = Reachability(read_groups(aws.account, [each for one in every for each in one.groups])), 0
    within = [each for one in every for each in one.subnets]
    if (lists := ways.examined.attempt(AccessLists.read, aws.account, within)) is not None:
        ways = replace(ways, lists=lists)
    if (routes := ways.examined.attempt(WaysOut.routed, aws.account, ways.lists.subnets)) is not None:
        barred = ways.examined.attempt(routes.with_barred, aws.account)
        ways = replace(ways, routes=barred or routes)
    for to, callers in reach.items():
        aliased = _is_aliased(aws, to)
        for caller in callers if to in parties else ():
            public = hosts.get(to, "")
            if caller in parties and not _goes_round(aws, caller, to, public, aliased=aliased):
                count += 1
                if to == DATABASE:
                    ways.examined.include(_to_database(aws, parties[caller], parties[to], ways))
                else:
                    ways.examine(parties[caller], parties[to])
    for arn, balancer in balancers.items():
        count += _through(aws, arn, balancer, parties, ways, hosts)
    for name in PRIVATE:
        if name in parties:
            ways.guard(parties[name])
    return count, ways.examined


def _through(
    aws: AwsReader,
    arn: str,
    balancer: Party,
    parties: Mapping[str, Party],
    ways: Reachability,
    hosts: Mapping[str, str],
) -> int:
    """Examine the paths from the public to a balancer and on to its targets; return their number.

    Only a balancer of public `hosts` has to be reached.
    """
    routes, count = [route for route in aws.routes() if route.balancer == arn], 0
    for name in parties if balancer.groups else ():
        own = aws.services()[name].target_groups if name in aws.services() else ()
        if any(route.target_group in own for route in routes):
            count += 1
            ways.examine(balancer, parties[name])
    led = [host for host in hosts.values() if any(route.serves(host) for route in routes)]
    if led and aws.balancers()[arn].get("Scheme") == "internet-facing":
        straight = [partial(is_straight, aws, arn, host) for host in led]
        dual = aws.balancers()[arn].get("IpAddressType") != "ipv4"
        ways.admit(balancer, {route.listens for route in routes}, straight, dual=dual)
    return count


def _to_database(aws: AwsReader, caller: Party, database: Party, ways: Reachability) -> Examined:
    """Examine the path to the database, and if that is closed, those through RDS proxies.

    Whether a service uses a proxy may be visible only in a secret.
    """
    straight = Reachability(ways.groups, ways.lists)
    straight.examine(caller, database)
    if not straight.examined.findings:
        return straight.examined
    proxies = straight.examined.attempt(aws.account.pages, "rds", "describe_db_proxies", "DBProxies")
    for each in [one for one in proxies or () if one.get("Status", _WORKING[0]) in _WORKING]:
        groups = tuple(each.get("VpcSecurityGroupIds", ()))
        proxy = Party(each["DBProxyName"], groups, (), database.ports, tuple(each.get("VpcSubnetIds", ())))
        way = Reachability({**straight.groups, **read_groups(aws.account, groups)}, straight.lists)
        way.examine(caller, proxy)
        way.examine(proxy, database)
        if not way.examined.findings:
            return way.examined
    return straight.examined


def _parties(aws: AwsReader) -> dict[str, Party]:
    """The services with known ports, and the database, by name."""
    tasks, services = aws.definitions(), aws.services()
    subnets = own_subnets(aws)
    found = {
        name: Party(
            name,
            services[name].security_groups,
            tuple(one for each in services[name].subnets if each in subnets for one in subnets[each].ranges),
            frozenset(port for box in task.containers for port in box.ports),
            services[name].subnets,
        )
        for name, task in tasks.items()
    }
    instances = aws.instances()
    if instances:
        held = [each for one in instances for each in one.get("VpcSecurityGroups", ())]
        groups = [each["VpcSecurityGroupId"] for each in held]
        ports = {int(one.get("Endpoint", {}).get("Port", _POSTGRES)) for one in instances}
        held = [each for one in instances for each in one.get("DBSubnetGroup", {}).get("Subnets", ())]
        places = tuple(dict.fromkeys(each["SubnetIdentifier"] for each in held))
        found[DATABASE] = Party(
            DATABASE, tuple(dict.fromkeys(groups)), ports=frozenset(ports), subnets=places
        )
    return found


def _balancers(aws: AwsReader) -> dict[str, Party]:
    """The balancers that forward to the services, by ARN; a TCP one may have no security group."""
    wanted = {route.balancer for route in aws.routes()}
    return {
        arn: Party(
            each["LoadBalancerName"],
            tuple(each.get("SecurityGroups", ())),
            subnets=tuple(one["SubnetId"] for one in each.get("AvailabilityZones", ()) if "SubnetId" in one),
        )
        for arn, each in aws.balancers().items()
        if arn in wanted
    }


def _goes_round(aws: AwsReader, caller: str, to: str, public: str, *, aliased: bool) -> bool:
    """Whether a caller goes through something in front: a balancer, a mesh, a proxy, the public path."""
    values = [value for box in aws.definition(caller).containers for value in box.environment.values()]
    if to == DATABASE:
        return any(".proxy-" in each for each in values)
    inside = f"{_INSIDE.get(to, to)}.{aws.names.namespace}"
    from_outside = any(public in each for each in values) and not any(inside in each for each in values)
    return aliased or bool(aws.service(to).aliases) or bool(public and from_outside)


def _is_aliased(aws: AwsReader, service: str) -> bool:
    """Whether a service's name in the private zone is an alias, for example of a load balancer."""
    host = _INSIDE.get(service, service)
    addresses = resolve(aws.account, aws.names, host) if host in HOSTS else []
    return any(re.search("[g-zG-Z]", each) for each in addresses)


#: Service -> its name in the private zone, if different.
_INSIDE = {service: host for host, service in BUILDS.items()}
_POSTGRES = 5432
#: States of an RDS proxy in which it forwards connections.
_WORKING = ("available", "modifying", "reactivating")


_TLS = 443
#: The bucket from which ECR serves the layers of images.
_LAYERS = "arn:aws:s3:::prod-{}-starport-layer-bucket/x"


def kept_from_aws(aws: AwsReader) -> Examined:
    """Whether a Fargate task reaches the AWS services that it needs: out of its groups, through endpoints."""
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
        for why in whys:
            result.wrong(f"{name} cannot start again: {why}")
    return result


def _shut_in(
    party: Party,
    task: TaskDefinition,
    ways: WaysOut,
    places: Sequence[str],
    groups: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Whether no security group lets a task out to AWS or to its VPC endpoints."""
    held = [groups[each] for each in party.groups if each in groups]
    rules = [rule for each in held for rule in each.get("IpPermissionsEgress", ())]
    rules = [rule for rule in rules if covers_port(rule, _TLS)]
    # endpoints may be in a connected network
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
    """Why an endpoint blocks a task's calls. With private DNS it gets all of them, even with a route out."""
    used = [each for each in needed_by(task) if endpoint["ServiceName"].endswith(f".{region}.{each}")]
    if not used or not any(ways.takes(endpoint, one) for one in places):
        return
    named = f"{endpoint['VpcEndpointId']}, the endpoint of {used[0]},"
    held = [groups[each["GroupId"]] for each in endpoint.get("Groups", ()) if each["GroupId"] in groups]
    if held and not {True, None} & {lets(each.get("IpPermissions", ()), party, _TLS) for each in held}:
        yield f"{named} does not let it in on port {_TLS}"
    # other principals are not known to belong to somebody else
    statements = [
        each
        for each in statements_of(endpoint.get("PolicyDocument") or "")
        if each.get("Effect") == "Allow" or each.get("Principal") in ("*", {"AWS": "*"})
    ]
    for action, resource in _asked(used[0], task, region) if statements else ():
        if not allows(statements, action, resource):
            yield f"{named} has a policy that does not let it {action}"
            return


def _asked(service: str, task: TaskDefinition, region: str) -> Iterator[tuple[str, str]]:
    """A task's calls to an AWS service when it starts: actions, each with its resource."""
    if service == "ecr.api":
        yield PULL_TOKEN, "*"
    elif service == "s3" and any(IN_ECR.fullmatch(box.image) for box in task.containers):
        yield "s3:GetObject", _LAYERS.format(region)
    elif service == "secretsmanager":
        given = [secret_of(each) for box in task.containers for each in box.references]
        yield from ((READ, each) for each in given if ":secretsmanager:" in each)
