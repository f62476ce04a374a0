"""Networks of the account: which security groups let whom in and out, and where tasks find room and names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

from pytest_readiness import SetupError

from smoke.source.checkout import Examined, Finding

from .account import AwsAccount, at_once
from .names import BUILDS, HOSTS, resolve
from .reader import AwsReader
from .subnets import AccessLists, Network, filtered, own_subnets
from .zones import ADDRESSES, Zone, is_below, list_zones, read_zones

DATABASE = "database"
#: Parties that only the platform itself may connect to.
PRIVATE = (DATABASE, "pgbouncer")
_ANYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Party:
    """Who calls or is called: its security groups, the ranges of its addresses, where it listens, and is."""

    name: str
    groups: tuple[str, ...]
    ranges: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()
    subnets: tuple[str, ...] = ()


def read_groups(account: AwsAccount, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Security groups as EC2 describes them, by their ids; one that does not exist is left out."""
    found = filtered(account, "describe_security_groups", "SecurityGroups", "group-id", ids)
    return {each["GroupId"]: each for each in found}


def lets(rules: Iterable[Mapping[str, Any]], other: Party, port: int) -> bool | None:
    """Whether rules of a group, as EC2 describes them, are for a port and for another party.

    None where they name a list of ranges, or some of the party's addresses: those of its tasks may be in it.
    """
    found = [_lets(each, other) for each in rules if covers_port(each, port)]
    return True if True in found else None if None in found else False


def covers_port(rule: Mapping[str, Any], port: int) -> bool:
    """Whether a rule is for a port."""
    protocol = str(rule.get("IpProtocol", ""))
    if protocol not in ("-1", "tcp", "6"):
        return False
    return protocol == "-1" or int(rule.get("FromPort", 0)) <= port <= int(rule.get("ToPort", 65535))


def _lets(rule: Mapping[str, Any], other: Party) -> bool | None:
    if any(each.get("GroupId") in other.groups for each in rule.get("UserIdGroupPairs", ())):
        return True
    ranges = [ip_network(each, strict=False) for each in ranges_of(rule)]
    within = [any(_holds(one, own) for one in ranges) for own in other.ranges]
    if any(one.prefixlen == 0 for one in ranges) or (within and all(within)):
        return True
    touched = not other.ranges or any(
        one.version == own.version and one.overlaps(own) for one in ranges for own in other.ranges
    )
    return None if rule.get("PrefixListIds") or (ranges and touched) else False


def _holds(one: Network, own: Network) -> bool:
    return one.version == own.version and own.subnet_of(one)  # type: ignore[arg-type]  # they are of one version


def ranges_of(rule: Mapping[str, Any]) -> list[str]:
    """The ranges of addresses that a rule is for."""
    ranges = [each["CidrIp"] for each in rule.get("IpRanges", ())]
    return ranges + [each["CidrIpv6"] for each in rule.get("Ipv6Ranges", ())]


def _names(rule: Mapping[str, Any]) -> bool:
    """Whether a rule is for anybody."""
    return bool(ranges_of(rule) or rule.get("UserIdGroupPairs") or rule.get("PrefixListIds"))


def is_open(group: Mapping[str, Any], ports: Iterable[int]) -> bool:
    """Whether a group admits everybody on one of these ports."""
    return any(
        one in _ANYWHERE
        for port in ports
        for rule in group.get("IpPermissions", ())
        if covers_port(rule, port)
        for one in ranges_of(rule)
    )


@dataclass(frozen=True, slots=True)
class Reachability:
    """Who must let whom in, and the security groups and network ACLs that say whether they do."""

    groups: Mapping[str, Mapping[str, Any]]
    lists: AccessLists = field(default_factory=AccessLists)
    examined: Examined = field(default_factory=Examined)

    def examine(self, caller: Party, to: Party) -> None:
        """Record that a caller reaches no port of another party: out of its own groups, and into those."""
        ports = sorted(to.ports)
        if why := self.lists.closed(caller.subnets, to.subnets, ports):
            self.examined.findings.append(Finding("", 0, f"{caller.name} does not reach {to.name}: {why}"))
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

    def include(self, other: Examined) -> None:
        """Record what was examined elsewhere."""
        self.examined.findings.extend(other.findings)
        self.examined.not_examined.extend(other.not_examined)

    def admit(self, public: Party, ports: Collection[int]) -> None:
        """Record that a public load balancer admits nobody on any of its ports."""
        held = [self.groups[each] for each in public.groups if each in self.groups]
        rules = [rule for each in held for rule in each.get("IpPermissions", ()) if _names(rule)]
        why = self.lists.closed_to_world(public.subnets)
        if held and not any(covers_port(rule, port) for rule in rules for port in ports):
            why = why or f"no security group lets anybody in on port {' or '.join(map(str, sorted(ports)))}"
        if why:
            self.examined.findings.append(Finding("", 0, f"the public does not reach {public.name}: {why}"))

    def guard(self, party: Party) -> None:
        """Record that a party admits everybody."""
        self.examined.findings.extend(
            Finding("", 0, f"{each} of {party.name} lets anybody in on port {' or '.join(map(str, ports))}")
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
    within = [each for one in every for each in one.subnets]
    if (lists := ways.examined.attempt(lambda: AccessLists.read(aws.account, within))) is not None:
        ways = replace(ways, lists=lists)
    for to, callers in reach.items():
        aliased = _is_aliased(aws, to)
        for caller in callers if to in parties else ():
            public = hosts.get(to, "")
            if caller in parties and not _goes_round(aws, caller, to, public, aliased=aliased):
                count += 1
                if to == DATABASE:
                    ways.include(_to_database(aws, parties[caller], parties[to], ways))
                else:
                    ways.examine(parties[caller], parties[to])
    for arn, balancer in balancers.items():
        count += _through(aws, arn, balancer, parties, ways)
    for name in PRIVATE:
        if name in parties:
            ways.guard(parties[name])
    return count, ways.examined


def _through(
    aws: AwsReader, arn: str, balancer: Party, parties: Mapping[str, Party], ways: Reachability
) -> int:
    """Examine the ways from the public to a balancer and on to its targets; return how many these are."""
    routes, count = [route for route in aws.routes() if route.balancer == arn], 0
    for name in parties if balancer.groups else ():
        own = aws.services()[name].target_groups if name in aws.services() else ()
        if any(route.target_group in own for route in routes):
            count += 1
            ways.examine(balancer, parties[name])
    if aws.balancers()[arn].get("Scheme") == "internet-facing":
        ways.admit(balancer, {route.listens for route in routes})
    return count


def _to_database(aws: AwsReader, caller: Party, database: Party, ways: Reachability) -> Examined:
    """Examine the way to the database, and where it is closed, those through RDS's proxies.

    Whether a service uses one may be said in a secret only.
    """
    straight = Reachability(ways.groups, ways.lists)
    straight.examine(caller, database)
    if not straight.examined.findings:
        return straight.examined
    told = straight.examined.attempt(lambda: aws.account.pages("rds", "describe_db_proxies", "DBProxies"))
    for each in told or ():
        groups = tuple(each.get("VpcSecurityGroupIds", ()))
        proxy = Party(each["DBProxyName"], groups, (), database.ports, tuple(each.get("VpcSubnetIds", ())))
        way = Reachability({**straight.groups, **read_groups(aws.account, groups)}, straight.lists)
        way.examine(caller, proxy)
        way.examine(proxy, database)
        if not way.examined.findings:
            return way.examined
    return straight.examined


def _parties(aws: AwsReader) -> dict[str, Party]:
    """The services that tell where they listen, and the database, by name."""
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
    """The balancers that forward to the services, by their ARNs; one of TCP may have no security group."""
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
    """Whether a caller asks what stands before the other: a balancer, a mesh, a proxy, the public's way."""
    told = [value for box in aws.definition(caller).containers for value in box.environment.values()]
    if to == DATABASE:
        return any(".proxy-" in each for each in told)
    inside = f"{_INSIDE.get(to, to)}.{aws.names.namespace}"
    from_outside = any(public in each for each in told) and not any(inside in each for each in told)
    return aliased or bool(aws.service(to).aliases) or bool(public and from_outside)


def _is_aliased(aws: AwsReader, service: str) -> bool:
    """Whether a service's name in the private zone is an alias, for example of a load balancer."""
    host = _INSIDE.get(service, service)
    addresses = resolve(aws.account, aws.names, host) if host in HOSTS else []
    return any(re.search("[g-zG-Z]", each) for each in addresses)


#: By a service, its name in the private zone, where that is another.
_INSIDE = {service: host for host, service in BUILDS.items()}
_POSTGRES = 5432


def roomless(aws: AwsReader) -> Examined:
    """Return the services whose next task has no subnet, or no address in any of them."""
    services = {name: each for name, each in aws.services().items() if each.subnets}
    found = own_subnets(aws)
    result = Examined()
    for name, each in services.items():
        left = [found[one].left for one in each.subnets if one in found]
        if not left or not any(left):
            why = "no free address is left in" if left else "AWS has none of"
            what = f"{name} cannot start again: {why} its subnets {', '.join(each.subnets)}"
            result.findings.append(Finding("", 0, what))
    return result


def unresolved(aws: AwsReader, host: str) -> str:
    """Why tasks do not find a host of the private zone; empty if they do.

    SetupError where only a profile of Route 53 may show them the zone.
    """
    name = f"{host}.{aws.names.namespace}"
    why = aws.once("unresolved", lambda: _unresolved(aws)) or _unrecorded(aws, host, name)
    return f"{name} {why}" if why else ""


def _unrecorded(aws: AwsReader, host: str, name: str) -> str:
    """Why the private zones of the tasks' networks have no address of a host; empty if they may.

    Of several private zones, that with the longest name answers.
    """
    inside = {each.vpc for each in own_subnets(aws).values()}
    every = aws.once("zones", lambda: list_zones(aws.account))
    private = [each for each in every if each.private and is_below(name, each.name)]
    for zone in [each for each in private if len(each.name) > len(aws.names.namespace)]:
        told = aws.account.ask("route53", "get_hosted_zone", Id=zone.id)
        if inside & {each["VPCId"] for each in told.get("VPCs", ())} and not _records(aws, zone, name):
            return f"is for the private zone {zone.name} to answer, which has no address of it"
    owner = aws.services().get(BUILDS.get(host, host))
    held = [aws.registries().get(each) for each in owner.registries] if owner and not owner.aliases else []
    kinds = [each.records for each in held if each and each.name == name]
    if not kinds or {*ADDRESSES} & {one for each in kinds for one in each}:
        return ""
    if any(_records(aws, zone, name) for zone in private):
        return ""
    put = " and ".join(sorted(one for each in kinds for one in each)) or "nothing"
    return f"has no address in DNS: its entry in Cloud Map puts {put} there"


def _records(aws: AwsReader, zone: Zone, name: str) -> bool:
    (read,) = read_zones(aws.account, [zone])
    return bool(read.of(name, *ADDRESSES))


def _unresolved(aws: AwsReader) -> str:
    spaces = [
        each["Properties"]["DnsProperties"]["HostedZoneId"]
        for each in aws.account.pages("servicediscovery", "list_namespaces", "Namespaces")
        if each["Name"] == aws.names.namespace and each.get("Type") == "DNS_PRIVATE"
    ]
    inside = {each.vpc for each in own_subnets(aws).values()}
    if not spaces or not inside:
        return ""
    zones = at_once(lambda zone: aws.account.ask("route53", "get_hosted_zone", Id=zone), spaces)
    reached = {each["VPCId"] for zone in zones for each in zone.get("VPCs", ())}
    if inside & reached:
        return next(filter(None, (_unanswered(aws.account, each) for each in sorted(inside & reached))), "")
    for each in sorted(inside):
        if found := aws.account.pages(*_PROFILES, absent=_UNKNOWN, ResourceId=each):
            profile = found[0].get("ProfileId")
            raise SetupError(
                f"not examined: whether the Route 53 profile {profile} associates the zone with {each}"
            )
    return (
        f"belongs to {' and '.join(sorted(reached)) or 'no network'}, "
        f"but the tasks run in {' and '.join(sorted(inside))}"
    )


_PROFILES = ("route53profiles", "list_profile_associations", "ProfileAssociations")
#: How an endpoint of one's own answers that does not know them.
_UNKNOWN = ("400", "404", "InvalidAction")


def _unanswered(account: AwsAccount, network: str) -> str:
    """Why no name of a private zone resolves in a network."""
    for name in ("DnsSupport", "DnsHostnames"):
        told = account.ask("ec2", "describe_vpc_attribute", VpcId=network, Attribute=f"enable{name}")
        if not told.get(f"Enable{name}", {}).get("Value", True):
            return f"does not resolve in {network}: its attribute enable{name} is off"
    return ""
