"""How subnets are connected: the routes out of tasks' subnets, and the network ACLs between two subnets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

from smoke.source.access import Network
from smoke.source.checkout import Examined

from .account import AwsAccount
from .ecs import IN_ECR, TaskDefinition
from .reader import AwsReader

Described = Mapping[str, Any]
_FILTERED_AT_ONCE = 200
#: Source ports that every system uses.
_CALLERS = (32768, 45000, 60999)
_TCP = ("-1", "6")
_PUBLIC_TLS = 443
_IPV4 = 4
_WORLD = (ip_network("0.0.0.0/0"),)
_WORKING = ("available", "pending")
#: What VPC Block Public Access allows a subnet that it excludes, and the mode that also bars NAT gateways.
_BOTH_WAYS, _OUT, _BARRED = "allow-bidirectional", "allow-egress", "block-bidirectional"
#: The answer of a custom endpoint that does not implement it.
_UNKNOWN = ("InvalidAction",)
#: Endpoints needed to pull an ECR image.
_PULLING = ("ecr.api", "ecr.dkr", "s3")


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet: its network's id, the number of its free addresses, its ranges, and the account that owns it.

    Endpoints and NAT gateways of another account's network are not described.
    """

    vpc: str
    left: int
    ranges: tuple[Network, ...]
    owner: str = ""


def read_subnets(account: AwsAccount, ids: Iterable[str]) -> dict[str, Subnet]:
    """Subnets by id, without those that do not exist."""
    return {
        each["SubnetId"]: Subnet(
            each.get("VpcId", ""),
            int(each.get("AvailableIpAddressCount", 1)),
            tuple(_ranges(each)),
            each.get("OwnerId", ""),
        )
        for each in filtered(account, "describe_subnets", "Subnets", "subnet-id", ids)
    }


def own_subnets(aws: AwsReader) -> Mapping[str, Subnet]:
    """The subnets of all services, by their ids."""
    wanted = {one for each in aws.services().values() for one in each.subnets}
    return aws.once("subnets", lambda: read_subnets(aws.account, wanted))


def filtered(
    account: AwsAccount, method: str, result: str, name: str, ids: Iterable[str]
) -> Iterator[Described]:
    """EC2's descriptions of these ids."""
    wanted = sorted({*ids})
    for at in range(0, len(wanted), _FILTERED_AT_ONCE):
        batch = wanted[at : at + _FILTERED_AT_ONCE]
        found = account.pages("ec2", method, result, Filters=[{"Name": name, "Values": batch}])
        yield from (each for each in found if each[f"{result[:-1].removeprefix('Security')}Id"] in batch)


def _ranges(subnet: Described) -> Iterator[Network]:
    written = [subnet.get("CidrBlock", "")]
    written += [each.get("Ipv6CidrBlock", "") for each in subnet.get("Ipv6CidrBlockAssociationSet", ())]
    yield from (ip_network(each, strict=False) for each in written if each)


def _of_networks(account: AwsAccount, method: str, result: str, networks: Iterable[str]) -> list[Described]:
    """EC2's descriptions of things in these networks."""
    wanted = sorted({*networks})
    by = "Filter" if result == "NatGateways" else "Filters"
    of: dict[str, Any] = {by: [{"Name": "vpc-id", "Values": wanted}]}
    found = account.pages("ec2", method, result, **of) if wanted else ()
    return [each for each in found if each.get("VpcId") in wanted]


def _of_subnet(described: Iterable[Described], subnet: str, network: str, main: str) -> Described | None:
    """The route table or ACL of a subnet: its own, else the network's default."""
    own, common = None, None
    for each in described:
        for associated in each.get("Associations", ()):
            own = each if associated.get("SubnetId") == subnet else own
            common = each if each["VpcId"] == network and associated.get(main) else common
        common = each if each["VpcId"] == network and each.get(main) else common
    return own or common


@dataclass(frozen=True, slots=True)
class AccessLists:
    """The network ACLs of subnets, and the subnets' address ranges."""

    lists: Sequence[Described] = ()
    subnets: Mapping[str, Subnet] = field(default_factory=dict)

    @classmethod
    def read(cls, account: AwsAccount, ids: Iterable[str]) -> AccessLists:
        """Read the ACLs of these subnets."""
        subnets = read_subnets(account, ids)
        networks = {each.vpc for each in subnets.values() if each.vpc}
        return cls(_of_networks(account, "describe_network_acls", "NetworkAcls", networks), subnets)

    def closed(self, callers: Collection[str], to: Collection[str], ports: Collection[int]) -> str:
        """What blocks all calls from one subnet to another on these ports; empty if nothing is known to.

        Within one subnet, ACLs do not apply.
        """
        pairs = [(one, other) for one in sorted({*callers}) for other in sorted({*to}) if one != other]
        for one, other in pairs:
            there, back = self._ranges(other), self._ranges(one)
            found = [
                (one, True, there, ports),
                (other, False, back, ports),
                (other, True, back, _CALLERS),
                (one, False, there, _CALLERS),
            ]
            for subnet, out, ranges, used in found:
                if used and ranges and self._denies(subnet, ranges, used, out=out):
                    return f"{self._named(subnet)} blocks everything {'to' if out else 'from'} {ranges[0]}"
        return ""

    def closed_to_world(self, subnets: Iterable[str], *, calling: bool = False) -> str:
        """What blocks all of the internet from subnets on port 443; empty if nothing is known to.

        With `calling`, what blocks calls from the subnets to port 443 of the internet.
        """
        for subnet in subnets:
            for out, ports in ((calling, (_PUBLIC_TLS,)), (not calling, _CALLERS)):
                if self._denies(subnet, _WORLD, ports, out=out):
                    return f"{self._named(subnet)} blocks everything {'to' if out else 'from'} the internet"
        return ""

    def _ranges(self, subnet: str) -> tuple[Network, ...]:
        return self.subnets[subnet].ranges if subnet in self.subnets else ()

    def _list(self, subnet: str) -> Described | None:
        network = self.subnets[subnet].vpc if subnet in self.subnets else ""
        return _of_subnet(self.lists, subnet, network, "IsDefault")

    def _named(self, subnet: str) -> str:
        found = self._list(subnet)
        return f"{(found or {}).get('NetworkAclId')} of {subnet}"

    def _denies(self, subnet: str, ranges: Sequence[Network], ports: Collection[int], *, out: bool) -> bool:
        """Whether a subnet's ACL is known to deny each of these ports to all of these ranges."""
        found = self._list(subnet)
        if found is None:
            return False
        entries = sorted(found.get("Entries", ()), key=lambda each: int(each["RuleNumber"]))
        own = [each for each in entries if bool(each.get("Egress")) is out]
        return all(_first(own, one, port) == "deny" for one in ranges for port in ports)


def _first(entries: Iterable[Described], own: Network, port: int) -> str:
    """The action of the first entry for a port and a range; an entry for part of it may allow that part."""
    for each in entries:
        ports = each.get("PortRange") or {}
        written = each.get("CidrBlock") or each.get("Ipv6CidrBlock") or ""
        one = ip_network(written, strict=False) if written else None
        if str(each.get("Protocol")) not in _TCP or one is None or one.version != own.version:
            continue
        if not int(ports.get("From", 0)) <= port <= int(ports.get("To", 65535)):
            continue
        if one.supernet_of(own):  # type: ignore[arg-type]  # they are of one version
            return str(each.get("RuleAction"))
        inside = own.prefixlen == 0 and one.is_private  # no part of the internet
        if one.overlaps(own) and each.get("RuleAction") == "allow" and not inside:
            return "allow"
    return "deny"


@dataclass(frozen=True, slots=True)
class WaysOut:
    """The routes, NAT gateways and endpoints of networks, and their subnets."""

    subnets: Mapping[str, Subnet] = field(default_factory=dict)
    tables: Sequence[Described] = ()
    gateways: Mapping[str, Described] = field(default_factory=dict)
    endpoints: Sequence[Described] = ()
    barred: str = ""
    excluded: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def routed(cls, account: AwsAccount, subnets: Mapping[str, Subnet]) -> WaysOut:
        """Only the routes of these subnets' networks."""
        networks = {each.vpc for each in subnets.values() if each.vpc}
        return cls(subnets, _of_networks(account, "describe_route_tables", "RouteTables", networks))

    def with_barred(self, account: AwsAccount) -> WaysOut:
        """The same ways with what VPC Block Public Access bars."""
        answer = account.find("ec2", "describe_vpc_block_public_access_options", _UNKNOWN) or {}
        mode = answer.get("VpcBlockPublicAccessOptions", {}).get("InternetGatewayBlockMode", "off")
        if mode == "off":
            return self
        listed = account.ask("ec2", "describe_vpc_block_public_access_exclusions")
        excluded = {
            each["ResourceArn"].rpartition("/")[2]: each["InternetGatewayExclusionMode"]
            for each in listed["VpcBlockPublicAccessExclusions"]
            if each["State"] == "create-complete" or each["State"].startswith("update-")
        }
        return replace(self, barred=mode, excluded=excluded)

    def shut(self, subnet: str, *, public: bool, needed: Collection[str]) -> str | None:
        """Why a task in a subnet does not reach what it needs; empty if it may, None if unclear.

        `public` tasks have a public address.
        """
        found = self._table(subnet)
        if found is None:
            return None
        why = self._no_way_out(found, subnet, public=public)
        if why is None or not why:
            return why
        lacking = [each for each in needed if not self.offers(each, subnet)]
        return f"{why}, and no VPC endpoint reaches {' or '.join(lacking)}" if lacking else ""

    def unreached(self, subnet: str) -> str:
        """Why the internet does not reach a subnet; empty if nothing is known to block it."""
        found = self._table(subnet)
        wide = [each for each in (found or {}).get("Routes", ()) if _is_wide(each)]
        if found is not None and self._barred(subnet, found["VpcId"], _BOTH_WAYS):
            return f"VPC Block Public Access is {self.barred} for {subnet}"
        leading = [each for each in wide if each.get("State") != "blackhole" and not each.get("NatGatewayId")]
        if found is None or leading:
            return ""
        return f"{found['RouteTableId']} of {subnet} has no route to an internet gateway"

    def leads_straight_out(self, subnet: str) -> bool:
        """Whether a subnet's routes lead only to the internet: another network may have endpoints of AWS."""
        table = self._table(subnet)
        return table is not None and all(
            each.get("NatGatewayId") or str(each.get("GatewayId", "")).startswith("igw-")
            for each in table.get("Routes", ())
            if not _stays(each)
        )

    def _table(self, subnet: str) -> Described | None:
        network = self.subnets[subnet].vpc if subnet in self.subnets else ""
        return _of_subnet(self.tables, subnet, network, "Main")

    def _barred(self, subnet: str, network: str, *enough: str) -> bool:
        """Whether VPC Block Public Access applies to a subnet: neither it nor its network is excluded."""
        excluded = {self.excluded.get(each) for each in (subnet, network)}
        return bool(self.barred) and not excluded & {*enough}

    def _no_way_out(self, table: Described, subnet: str, *, public: bool) -> str | None:
        leaving = [each for each in table.get("Routes", ()) if not _stays(each)]
        shut = self._barred(subnet, table["VpcId"], _BOTH_WAYS, _OUT)
        whys = [self._fails(each, public=public, shut=shut) for each in leaving if _is_wide(each)]
        if "" in whys:
            return ""
        if any(not _is_wide(each) and each.get("State") != "blackhole" for each in leaving):
            return None  # what it needs may be there
        return next(iter(whys), f"{table['RouteTableId']} has no route out")

    def _fails(self, route: Described, *, public: bool, shut: bool) -> str:
        """Why a default route does not work; empty if nothing is known to be wrong with it.

        If it is `shut`, VPC Block Public Access keeps its subnet from internet gateways.
        """
        nat, gateway = route.get("NatGatewayId", ""), route.get("GatewayId", "")
        if route.get("State") == "blackhole":
            return f"its route out leads to {nat or gateway or 'a target'}, which is gone"
        if gateway.startswith("igw-") and not public and "DestinationIpv6CidrBlock" not in route:
            return f"its route out leads to {gateway}, and it has no public address"
        if gateway.startswith("igw-") and shut:
            return f"VPC Block Public Access is {self.barred}"
        if not nat:
            return ""
        # another account's is not described; if it is deleted, the route is a blackhole
        described = self.gateways.get(nat, {})
        if described.get("State", "available") not in _WORKING:
            return f"its route out leads to {nat}, which is {described['State']}"
        if not described or described.get("ConnectivityType") == "private":
            return ""
        place = described.get("SubnetId", "")
        if self.barred == _BARRED and self._barred(place, described["VpcId"], _BOTH_WAYS, _OUT):
            return f"its route out leads to {nat}, and VPC Block Public Access is {self.barred}"
        own = self._table(place)
        further = [each for each in (own or {}).get("Routes", ()) if _is_wide(each)]
        if own is not None and all(each.get("State") == "blackhole" for each in further):
            return f"its route out leads to {nat}, whose own subnet has no route out"
        return ""

    def takes(self, endpoint: Described, subnet: str) -> bool:
        """Whether calls from a subnet go to an endpoint, even if there is a route out."""
        if subnet not in self.subnets or str(endpoint.get("State", "")).lower() not in _WORKING:
            return False
        if endpoint.get("VpcEndpointType") == "Gateway":
            return (self._table(subnet) or {}).get("RouteTableId") in endpoint.get("RouteTableIds", ())
        named = bool(endpoint.get("PrivateDnsEnabled"))
        return named and endpoint["VpcId"] == self.subnets[subnet].vpc

    def contain(self, ranges: Iterable[str]) -> bool:
        """Whether all ranges are inside the networks."""
        local = [route for table in self.tables for route in table.get("Routes", ())]
        own = [
            ip_network(written, strict=False)
            for each in local
            if each.get("GatewayId") == "local"
            if (written := each.get("DestinationCidrBlock") or each.get("DestinationIpv6CidrBlock"))
        ]
        wanted = [ip_network(each, strict=False) for each in ranges]
        return all(
            any(one.version == each.version and one.supernet_of(each) for one in own)  # type: ignore[arg-type]
            for each in wanted
        )

    def offers(self, service: str, subnet: str) -> bool:
        """Whether a subnet can use an endpoint of an AWS service, by the end of its name."""
        network, table = self.subnets[subnet].vpc, (self._table(subnet) or {}).get("RouteTableId")
        return any(
            each["VpcId"] == network
            and (each.get("VpcEndpointType") != "Gateway" or table in each.get("RouteTableIds", ()))
            and each["ServiceName"].endswith(f".{service}")
            and str(each.get("State", "")).lower() in _WORKING
            for each in self.endpoints
        )


def _stays(route: Described) -> bool:
    """Whether a route stays in its network or goes to an endpoint."""
    to_endpoint = "DestinationPrefixListId" in route and route.get("GatewayId", "").startswith("vpce-")
    return route.get("GatewayId") == "local" or to_endpoint


def _is_wide(route: Described) -> bool:
    """Whether a route covers all addresses, half of them, or a prefix list that may contain them."""
    written = route.get("DestinationCidrBlock") or route.get("DestinationIpv6CidrBlock") or ""
    halves = written.rpartition("/")[2] in ("0", "1")
    return not _stays(route) and (halves or "DestinationPrefixListId" in route)


def read_ways(aws: AwsReader) -> WaysOut:
    """The routes out of the networks of all services."""
    return aws.once("ways", lambda: _read_ways(aws))


def _read_ways(aws: AwsReader) -> WaysOut:
    routed = WaysOut.routed(aws.account, own_subnets(aws)).with_barred(aws.account)
    networks = {each.vpc for each in routed.subnets.values() if each.vpc}
    nats = _of_networks(aws.account, "describe_nat_gateways", "NatGateways", networks)
    return replace(
        routed,
        gateways={each["NatGatewayId"]: each for each in nats},
        endpoints=_of_networks(aws.account, "describe_vpc_endpoints", "VpcEndpoints", networks),
    )


def kept_in(aws: AwsReader) -> Examined:
    """Whether a task on Fargate reaches its registry, its logs and its secrets from each of its subnets."""
    services = {name: each for name, each in aws.services().items() if each.subnets}
    owners, account, result = aws.definitions(), aws.cluster().split(":")[4], Examined()
    subnets, ways = own_subnets(aws), read_ways(aws)
    lists = result.attempt(AccessLists.read, aws.account, subnets) or AccessLists()
    started = {name: each for name, each in owners.items() if name in services and each.fargate}
    for name, definition in started.items():
        for one in [each for each in services[name].subnets if each in subnets]:
            needed = needed_by(definition)
            why = ways.shut(one, public=services[name].public, needed=needed)
            plain = all(each.version == _IPV4 for each in subnets[one].ranges) and ways.leads_straight_out(
                one
            )
            if why == "" and plain and not all(ways.offers(each, one) for each in needed):
                why = lists.closed_to_world([one], calling=True)
            if why is None or (why and subnets[one].owner not in ("", account)):
                result.unclear(f"whether {name} reaches its registry from {one}")
            elif why:
                result.wrong(f"{name} cannot start again in {one}: {why}")
    return result


def needed_by(definition: TaskDefinition, elsewhere: Sequence[str] = ("the internet",)) -> list[str]:
    """The AWS services that a task calls when it starts, by the ends of their endpoints' names.

    `elsewhere` stands for registries other than ECR.
    """
    found: dict[str, None] = {}
    for box in definition.containers:
        found |= dict.fromkeys(_PULLING if IN_ECR.fullmatch(box.image) else elsewhere)
        found |= dict.fromkeys(["logs"] if box.log_group else ())
        given = [":secretsmanager:" in each for each in box.references]
        found |= dict.fromkeys("secretsmanager" if each else "ssm" for each in given)
    return [*found]


def roomless(aws: AwsReader) -> Examined:
    """Return the services whose next task may get a deleted subnet, or find no free address in any."""
    services = {name: each for name, each in aws.services().items() if each.subnets}
    found = own_subnets(aws)
    result = Examined()
    for name, each in services.items():
        gone = [one for one in each.subnets if one not in found]
        if gone or not any(found[one].left for one in each.subnets):
            why = f"there is no {' or '.join(gone)} among" if gone else "no free address is left in"
            what = f"{name} cannot start again: {why} its subnets {', '.join(each.subnets)}"
            result.wrong(what)
    return result
