"""Networks of the account: which security groups let whom in and out, and where tasks find room and names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from smoke.source.checkout import Examined, Finding

from .account import AwsAccount, at_once
from .monitoring import describe_databases
from .names import BUILDS, HOSTS, resolve
from .reader import AwsReader

DATABASE = "database"
#: Who is nobody's but the platform's own: no one else may connect.
PRIVATE = (DATABASE, "pgbouncer")
_ANYWHERE = ("0.0.0.0/0", "::/0")
_FILTERED_AT_ONCE = 200

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet: its network's id, how many addresses are left in it, and its ranges."""

    vpc: str
    left: int
    ranges: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Party:
    """Who calls or is called: its security groups, the ranges of its addresses, and where it listens."""

    name: str
    groups: tuple[str, ...]
    ranges: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()


def read_subnets(account: AwsAccount, ids: Iterable[str]) -> dict[str, Subnet]:
    """Subnets by their ids; one that does not exist is left out."""
    return {
        each["SubnetId"]: Subnet(
            each.get("VpcId", ""), int(each.get("AvailableIpAddressCount", 1)), tuple(_ranges(each))
        )
        for each in _filtered(account, "describe_subnets", "Subnets", "subnet-id", ids)
    }


def read_groups(account: AwsAccount, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Security groups as EC2 describes them, by their ids; one that does not exist is left out."""
    found = _filtered(account, "describe_security_groups", "SecurityGroups", "group-id", ids)
    return {each["GroupId"]: each for each in found}


def _filtered(
    account: AwsAccount, method: str, result: str, name: str, ids: Iterable[str]
) -> Iterator[Mapping[str, Any]]:
    wanted = sorted({*ids})
    for at in range(0, len(wanted), _FILTERED_AT_ONCE):
        batch = wanted[at : at + _FILTERED_AT_ONCE]
        found = account.pages("ec2", method, result, Filters=[{"Name": name, "Values": batch}])
        yield from (each for each in found if each[f"{result[:-1].removeprefix('Security')}Id"] in batch)


def _ranges(subnet: Mapping[str, Any]) -> Iterator[Network]:
    written = [subnet.get("CidrBlock", "")]
    written += [each.get("Ipv6CidrBlock", "") for each in subnet.get("Ipv6CidrBlockAssociationSet", ())]
    yield from (ip_network(each, strict=False) for each in written if each)


def lets(rules: Iterable[Mapping[str, Any]], other: Party, port: int) -> bool | None:
    """Whether rules of a group, as EC2 describes them, are for a port and for another party.

    None where they name a list of ranges, or some of the party's addresses: those of its tasks may be in it.
    """
    found = [_lets(each, other) for each in rules if _covers(each, port)]
    return True if True in found else None if None in found else False


def _covers(rule: Mapping[str, Any], port: int) -> bool:
    protocol = str(rule.get("IpProtocol", ""))
    if protocol not in ("-1", "tcp", "6"):
        return False
    return protocol == "-1" or int(rule.get("FromPort", 0)) <= port <= int(rule.get("ToPort", 65535))


def _lets(rule: Mapping[str, Any], other: Party) -> bool | None:
    if any(each.get("GroupId") in other.groups for each in rule.get("UserIdGroupPairs", ())):
        return True
    ranges = [ip_network(each, strict=False) for each in _written(rule)]
    within = [any(_holds(one, own) for one in ranges) for own in other.ranges]
    if any(one.prefixlen == 0 for one in ranges) or (within and all(within)):
        return True
    touched = not other.ranges or any(
        one.version == own.version and one.overlaps(own) for one in ranges for own in other.ranges
    )
    return None if rule.get("PrefixListIds") or (ranges and touched) else False


def _holds(one: Network, own: Network) -> bool:
    return one.version == own.version and own.subnet_of(one)  # type: ignore[arg-type]  # they are of one version


def _written(rule: Mapping[str, Any]) -> list[str]:
    ranges = [each["CidrIp"] for each in rule.get("IpRanges", ())]
    return ranges + [each["CidrIpv6"] for each in rule.get("Ipv6Ranges", ())]


def is_open(group: Mapping[str, Any], ports: Iterable[int]) -> bool:
    """Whether a group lets in whoever there is on one of some ports."""
    return any(
        one in _ANYWHERE
        for port in ports
        for rule in group.get("IpPermissions", ())
        if _covers(rule, port)
        for one in _written(rule)
    )


@dataclass(frozen=True, slots=True)
class Reachability:
    """Who must let whom in, and the security groups that say whether they do."""

    groups: Mapping[str, Mapping[str, Any]]
    examined: Examined = field(default_factory=Examined)

    def examine(self, caller: Party, to: Party) -> None:
        """Record that a caller reaches no port of another party: out of its own groups, and into those."""
        ports = sorted(to.ports)
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
            if None in found or not held or not ports:
                self.examined.not_examined.append(Finding("", 0, f"whether {what}"))
            else:
                self.examined.findings.append(Finding("", 0, f"{what} ({', '.join(own.groups)})"))

    def guard(self, party: Party) -> None:
        """Record that a party lets in the world."""
        self.examined.findings.extend(
            Finding("", 0, f"{each} of {party.name} lets in the world on port {' or '.join(map(str, ports))}")
            for ports in [sorted(party.ports)]
            for each in party.groups
            if each in self.groups and is_open(self.groups[each], ports)
        )


def reached(
    aws: AwsReader, reach: Mapping[str, Collection[str]], hosts: Mapping[str, str]
) -> tuple[int, Examined]:
    """Return how many ways there are, and those that the security groups in use do not let through.

    `reach` are by a service, or `database`, the services that it must let in on one of its ports; `hosts` the
    public host names, by which one service may call another, too.
    """
    parties, balancers = _parties(aws), _balancers(aws)
    every = [*parties.values(), *balancers.values()]
    ways, count = Reachability(read_groups(aws.account, [each for one in every for each in one.groups])), 0
    for to, callers in reach.items():
        aliased = _is_aliased(aws, to)
        for caller in callers if to in parties else ():
            public = hosts.get(to, "")
            if caller in parties and not _goes_round(aws, caller, to, public, aliased=aliased):
                count += 1
                ways.examine(parties[caller], parties[to])
    for arn, balancer in balancers.items():
        for name in parties if balancer.groups else ():
            own = aws.services()[name].target_groups if name in aws.services() else ()
            if any(route.balancer == arn and route.target_group in own for route in aws.routes()):
                count += 1
                ways.examine(balancer, parties[name])
    for name in PRIVATE:
        if name in parties:
            ways.guard(parties[name])
    return count, ways.examined


def _parties(aws: AwsReader) -> dict[str, Party]:
    """The services that tell where they listen, and the database, by name."""
    tasks, services = aws.definitions(), aws.services()
    subnets = read_subnets(aws.account, [each for one in services.values() for each in one.subnets])
    found = {
        name: Party(
            name,
            services[name].security_groups,
            tuple(one for each in services[name].subnets if each in subnets for one in subnets[each].ranges),
            frozenset(port for box in task.containers for port in box.ports),
        )
        for name, task in tasks.items()
    }
    instances = describe_databases(aws.account, aws.names.database)
    if instances:
        held = [each for one in instances for each in one.get("VpcSecurityGroups", ())]
        groups = [each["VpcSecurityGroupId"] for each in held]
        ports = {int(one.get("Endpoint", {}).get("Port", _POSTGRES)) for one in instances}
        found[DATABASE] = Party(DATABASE, tuple(dict.fromkeys(groups)), ports=frozenset(ports))
    return found


def _balancers(aws: AwsReader) -> dict[str, Party]:
    """The balancers that forward to the services, by their ARNs; one of TCP may have no security group."""
    wanted = {route.balancer for route in aws.routes()}
    described = aws.account.pages("elbv2", "describe_load_balancers", "LoadBalancers")
    return {
        each["LoadBalancerArn"]: Party(each["LoadBalancerName"], tuple(each.get("SecurityGroups", ())))
        for each in described
        if each["LoadBalancerArn"] in wanted
    }


def _goes_round(aws: AwsReader, caller: str, to: str, public: str, *, aliased: bool) -> bool:
    """Whether a caller asks what stands before the other: a balancer, a mesh, a proxy, the public's way."""
    told = [value for box in aws.definition(caller).containers for value in box.environment.values()]
    if to == DATABASE:
        return any(".proxy-" in each for each in told)
    inside = f"{_INSIDE.get(to, to)}.{aws.names.namespace}"
    from_outside = any(public in each for each in told) and not any(inside in each for each in told)
    return aliased or bool(aws.service(to).aliases) or bool(public and from_outside)


def _is_aliased(aws: AwsReader, service: str) -> bool:
    """Whether a service's name in the private zone leads to another name, such as a balancer's."""
    host = _INSIDE.get(service, service)
    addresses = resolve(aws.account, aws.names, host) if host in HOSTS else []
    return any(re.search("[g-zG-Z]", each) for each in addresses)


#: By a service, its name in the private zone, where that is another.
_INSIDE = {service: host for host, service in BUILDS.items()}
_POSTGRES = 5432


def roomless(aws: AwsReader) -> Examined:
    """Return the services whose next task has no subnet, or no address in any of them."""
    services = {name: each for name, each in aws.services().items() if each.subnets}
    found = read_subnets(aws.account, [each for one in services.values() for each in one.subnets])
    result = Examined()
    for name, each in services.items():
        left = [found[one].left for one in each.subnets if one in found]
        if not left or not any(left):
            why = "no address is left in" if left else "there is none of"
            what = f"{name} never starts again: {why} its subnets {', '.join(each.subnets)}"
            result.findings.append(Finding("", 0, what))
    return result


def unresolved(aws: AwsReader, host: str) -> str:
    """Why tasks do not find a host of the private zone, which is of other networks; empty if they do."""
    spaces = [
        each["Properties"]["DnsProperties"]["HostedZoneId"]
        for each in aws.account.pages("servicediscovery", "list_namespaces", "Namespaces")
        if each["Name"] == aws.names.namespace and each.get("Type") == "DNS_PRIVATE"
    ]
    subnets = {one for each in aws.services().values() for one in each.subnets}
    inside = {each.vpc for each in read_subnets(aws.account, subnets).values()}
    zones = at_once(lambda zone: aws.account.ask("route53", "get_hosted_zone", Id=zone), spaces)
    reached = {each["VPCId"] for zone in zones for each in zone.get("VPCs", ())}
    if not spaces or not inside or inside & reached:
        return ""
    return (
        f"{host}.{aws.names.namespace} is known in {' and '.join(sorted(reached)) or 'no network'}, "
        f"the tasks run in {' and '.join(sorted(inside))}"
    )
