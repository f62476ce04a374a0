"""Route 53 zones: their records, which zone answers for a host, where it leads, and what tasks resolve."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

from pytest_readiness import SetupError

from smoke.source.checkout import Examined
from smoke.source.infrastructure.entrances import only_in

from .account import AwsAccount, at_once
from .names import BUILDS, HOSTS, SERVICES, Names
from .reader import AwsReader
from .subnets import own_subnets

Record = Mapping[str, Any]
#: Types of records that point to something.
ADDRESSES = ("A", "AAAA", "CNAME")


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and all of its records, as Route 53 describes them."""

    id: str
    name: str
    private: bool
    records: Sequence[Record] = ()

    def of(self, host: str, *kinds: str) -> list[Record]:
        """Its records for a host, of some types or of all: those with its name, else a wildcard's."""
        name = self._found(host)
        return [
            each for each in self.records if named(each) == name and (not kinds or each.get("Type") in kinds)
        ]

    def _found(self, host: str) -> str:
        """The name whose records answer for a host; a wildcard applies only below existing names."""
        names, above = {named(each) for each in self.records}, host
        while above not in ("", self.name) and not any(is_below(one, above) for one in names):
            above = above.partition(".")[2]
        return host if above == host else f"*.{above}"


def list_zones(account: AwsAccount) -> list[Zone]:
    """The account's zones, without their records."""
    return [
        Zone(each["Id"], each["Name"].rstrip("."), bool(each.get("Config", {}).get("PrivateZone")))
        for each in account.pages("route53", "list_hosted_zones", "HostedZones")
    ]


def read_zones(account: AwsAccount, zones: Iterable[Zone]) -> list[Zone]:
    """Zones with their records."""

    def read(zone: Zone) -> Zone:
        listed = account.pages(
            "route53", "list_resource_record_sets", "ResourceRecordSets", HostedZoneId=zone.id
        )
        return Zone(zone.id, zone.name, zone.private, listed)

    return at_once(read, zones)


def read_records(account: AwsAccount, names: Names, hosts: Collection[str]) -> list[tuple[str, str]]:
    """This environment's records in the account's zones: names, and where they point.

    These are records at or below its hosts and its namespace, or with the names of a service and of the
    environment as labels.
    """
    own, label = (*hosts, names.namespace), names.prefix.rpartition("-")[2]
    near = [zone for zone in list_zones(account) if any(is_below(host, zone.name) for host in own)]
    return [
        (name, value)
        for zone in read_zones(account, near)
        for record in zone.records
        for name in [named(record)]
        for labels in [{*name.split(".")}]
        if (label in labels and labels & {*SERVICES, *HOSTS}) or any(is_below(name, host) for host in own)
        for value in values_of(record)
    ]


def answering(zones: Sequence[Zone], host: str) -> Sequence[Zone]:
    """The public zone to which the internet is delegated for a host; several if it is unclear which.

    None where it is another account's. A zone delegates with NS records, below which its own records are not
    visible. A zone to which no other one delegates may be unused.
    """
    led = min((each.name for each in zones), key=len, default="")
    found, seen = [each for each in zones if each.name == led], 0
    while len(found) == 1:
        (zone,) = found
        seen += 1
        cuts = [each for each in zone.records if each.get("Type") == "NS" and named(each) != zone.name]
        cuts = [each for each in cuts if is_below(host, named(each))]
        if not cuts:
            return found if seen == len({each.name for each in zones}) else zones
        cut = min(cuts, key=lambda each: len(named(each)))
        servers = {*map(_server, values_of(cut))}
        below = [each for each in zones if each.name == named(cut)]
        found = [
            each
            for each in below
            if servers & {_server(one) for record in each.of(each.name, "NS") for one in values_of(record)}
        ]
    return found


def _server(written: str) -> str:
    return written.lower().rstrip(".")


def named(record: Record) -> str:
    """The name of a record; Route 53 escapes the star of a wildcard."""
    return str(record["Name"]).rstrip(".").replace(r"\052", "*")


def values_of(record: Record) -> list[str]:
    """What a Route 53 record points to."""
    listed = [each["Value"] for each in record.get("ResourceRecords", ())]
    return [*listed, *filter(None, [record.get("AliasTarget", {}).get("DNSName")])]


def is_below(name: str, zone: str) -> bool:
    """Whether a name is a zone's own name or below it."""
    return f".{name}".endswith(f".{zone}")


#: A name or an address; values of other records look different.
_LEADS = re.compile(r"[\w.-]+\.[\w-]+\.?|[0-9a-fA-F:]*:[0-9a-fA-F:]+")


def leads(account: AwsAccount, host: str) -> list[str]:
    """Where the account's records of a public host point the public; nowhere if another account has its zone.

    A record that points to another name in the account is followed. SetupError if several zones may answer
    and differ.
    """
    return _led(account, [each for each in list_zones(account) if not each.private], host, ())


def _led(account: AwsAccount, every: Sequence[Zone], host: str, before: Sequence[str]) -> list[str]:
    zones = answering(read_zones(account, [each for each in every if is_below(host, each.name)]), host)
    # another check reports a host without any record
    answers = {tuple(sorted(_ends(_well(account, each.of(host, *ADDRESSES))))): each.id for each in zones}
    answers = {ends: zone for ends, zone in answers.items() if ends or len(zones) == 1}
    if len(answers) > 1:
        named = " and ".join(sorted(answers.values()))
        raise SetupError(f"where {host} leads: the zones {named} differ, and either may answer")
    found: list[str] = []
    for end in next(iter(answers), ()):
        name = end.lower().rstrip(".")
        further = [] if name in before else _led(account, every, name, (*before, name))
        found += further or [end]
    return found


def _well(account: AwsAccount, records: Sequence[Record]) -> Sequence[Record]:
    """The records that Route 53 gives out: those whose health check does not fail, else all."""
    failing = [
        each for each in records if each.get("HealthCheckId") and _fails(account, each["HealthCheckId"])
    ]
    return [each for each in records if each not in failing] or records


def _fails(account: AwsAccount, check: str) -> bool:
    """Whether a health check fails: all of Route 53's checkers say so, or, inverted, none of them does.

    Of one that AWS computes from an alarm or from others, no checker says anything.
    """
    of = {"HealthCheckId": check}
    found = account.find("route53", "get_health_check", _NO_CHECK, **of) if check else None
    config = (found or {}).get("HealthCheck", {}).get("HealthCheckConfig", {})
    if not config or config.get("Type") in _COMPUTED:
        return False
    inverted = bool(config.get("Inverted"))
    if config.get("Disabled"):  # counts as healthy
        return inverted
    answer = account.find("route53", "get_health_check_status", _NO_CHECK, **of)
    reports = [each.get("StatusReport", {}) for each in (answer or {}).get("HealthCheckObservations", ())]
    # a new check's have no status yet
    seen = [each["Status"].startswith("Success") for each in reports if each.get("Status")]
    return bool(seen) and (all(seen) if inverted else not any(seen))


_NO_CHECK = ("NoSuchHealthCheck",)
_COMPUTED = ("CALCULATED", "CLOUDWATCH_METRIC", "RECOVERY_CONTROL")


def _ends(records: Sequence[Record]) -> Iterator[str]:
    """Where records of one host point its callers.

    Without records of weight 0, unless all weights are 0, and without failover records beside another one.
    """
    found = [each for each in records if each.get("Failover") != "SECONDARY"] or records
    weights = {each["Weight"] for each in found if "Weight" in each}
    used = [each for each in found if each.get("Weight", 1) or not any(weights)]
    yield from (value for each in used for value in values_of(each) if _LEADS.fullmatch(value))


def misled(account: AwsAccount, host: str) -> Examined:
    """Why callers of a public host get no address, one of a spare, or one that they do not trust.

    Only the last is said of a host that several zones may answer for.
    """
    result = Examined()
    zones = result.attempt(_public, account, host) or []
    found = answering(zones, host)
    records = found[0].of(host, *ADDRESSES) if len(found) == 1 else ()
    # without an A record, callers that have only IPv4 get no address
    reached = [each for each in records if each["Type"] != "AAAA"] or records
    looks = [partial(_replaced, account, records), partial(unplaced, reached)]
    looks += [partial(_unproved, account, zones, each) for each in found]
    for each in looks:
        if why := result.attempt(each):
            result.wrong(why)
    return result


def _replaced(account: AwsAccount, records: Sequence[Record]) -> str:
    """Why callers get the spare of failover records, unless it points where the main one does."""
    main, spare = ([one for one in records if one.get("Failover") == of] for of in ("PRIMARY", "SECONDARY"))
    if not main or not spare or {*map(_content, _well(account, records))} & {*map(_content, main)}:
        return ""
    check = main[0]["HealthCheckId"]
    return f"Route 53 answers with its SECONDARY record: the health check {check} of the PRIMARY fails"


def _content(record: Record) -> str:
    return " ".join(values_of(record))


def unplaced(records: Sequence[Record]) -> str:
    """Why callers in some places get no address from a host's records; empty if all do."""
    callers = only_in(
        place for each in records for place in each.get("GeoLocation", {"CountryCode": "*"}).values()
    )
    return f"its records answer only callers in {callers}" if callers else ""


def _public(account: AwsAccount, host: str) -> list[Zone]:
    """The public zones above a host, with their records."""
    return read_zones(
        account, [each for each in list_zones(account) if not each.private and is_below(host, each.name)]
    )


#: The state of a zone that Route 53 signs, and those in which it cannot sign until somebody intervenes.
_SIGNS, _UNSIGNED = "SIGNING", ("ACTION_NEEDED", "INTERNAL_FAILURE")


def _unproved(account: AwsAccount, zones: Sequence[Zone], zone: Zone) -> str:
    """Why resolvers that validate DNSSEC refuse a zone's answers; empty if nothing is known.

    A zone above it, one of these, may have the digest of a key with which it does not sign.
    """
    state, keys = _signing(account, zone)
    states = [each["Status"] for each in keys]
    broken = state == _SIGNS and "ACTIVE" not in states and {*states} & {*_UNSIGNED}
    if state in _UNSIGNED or broken:
        return f"Route 53 cannot sign the zone {zone.name}: {' '.join([state, *states])}"
    above = [(each, each.of(zone.name, "DS")) for each in zones if each.name != zone.name]
    # resolvers ignore the digests in a zone that is not signed
    trusted = [held for each, held in above if held and _signing(account, each)[0] == _SIGNS]
    digests = [value for held in trusted for each in held for value in values_of(each)]
    signs = [one.get("DSRecord", "") for one in keys if one["Status"] == "ACTIVE" and state == _SIGNS]
    if state and digests and not any(_is_of(digest, one) for digest in digests for one in signs):
        return f"the zone above {zone.name} has the digest of a key with which {zone.name} does not sign"
    return ""


def _signing(account: AwsAccount, zone: Zone) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """Whether Route 53 signs a zone, and its keys; empty if it does not say."""
    answer = account.find("route53", "get_dnssec", _NO_SIGNING, HostedZoneId=zone.id) or {}
    return answer.get("Status", {}).get("ServeSignature", ""), answer.get("KeySigningKeys", ())


def _is_of(digest: str, key: str) -> bool:
    """Whether two DS records may be of one key: Route 53 tells only its SHA-256 digest."""
    here, there = digest.upper().split(), key.upper().split()  # tag, algorithm, kind of digest, digest
    return "".join(here[3:]) == "".join(there[3:]) if here[2:3] == there[2:3] else here[:1] == there[:1]


#: The last one is the answer of a custom endpoint that does not implement it.
_NO_SIGNING = ("InvalidArgument", "NoSuchHostedZone", "InvalidInput")


def unresolved(aws: AwsReader, host: str) -> str:
    """Why tasks do not find a host of the private zone; empty if they do.

    SetupError if only a Route 53 profile may show them the zone.
    """
    name = f"{host}.{aws.names.namespace}"
    why = aws.once("unresolved", lambda: _unresolved(aws)) or _unrecorded(aws, host, name)
    return f"{name} {why}" if why else ""


def _unrecorded(aws: AwsReader, host: str, name: str) -> str:
    """Why the private zones of the tasks' networks have no address of a host; empty if they may.

    Of several private zones, the one with the longest name answers.
    """
    inside = {each.vpc for each in own_subnets(aws).values()}
    every = aws.once("zones", lambda: list_zones(aws.account))
    private = [each for each in every if each.private and is_below(name, each.name)]
    for zone in [each for each in private if len(each.name) > len(aws.names.namespace)]:
        answer = aws.account.ask("route53", "get_hosted_zone", Id=zone.id)
        if inside & {each["VPCId"] for each in answer.get("VPCs", ())} and not _records(aws, zone, name):
            return f"is answered by the private zone {zone.name}, which has no address for it"
    owner = aws.services().get(BUILDS.get(host, host))
    held = [aws.registries().get(each) for each in owner.registries] if owner and not owner.aliases else []
    kinds = [each.records for each in held if each and each.name == name]
    if not kinds or {*ADDRESSES} & {one for each in kinds for one in each}:
        return ""
    if any(_records(aws, zone, name) for zone in private):
        return ""
    created = " and ".join(sorted(one for each in kinds for one in each))
    which = f"only {created}" if created else "no"
    return f"has no address in DNS: its Cloud Map service creates {which} records"


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
#: The answer of a custom endpoint that does not implement them.
_UNKNOWN = ("400", "404", "InvalidAction")


def _unanswered(account: AwsAccount, network: str) -> str:
    """Why no name of a private zone resolves in a network."""
    for name in ("DnsSupport", "DnsHostnames"):
        answer = account.ask("ec2", "describe_vpc_attribute", VpcId=network, Attribute=f"enable{name}")
        if not answer.get(f"Enable{name}", {}).get("Value", True):
            return f"does not resolve in {network}: its attribute enable{name} is off"
    own: Mapping[str, Any] = next(iter(account.ask("ec2", "describe_vpcs", VpcIds=[network])["Vpcs"]), {})
    by = own.get("DhcpOptionsId", _NO_SET)
    found = (
        account.find("ec2", "describe_dhcp_options", _NO_OPTIONS, DhcpOptionsIds=[by])
        if by != _NO_SET
        else None
    )
    within = [ip_network(each["CidrBlock"]) for each in own.get("CidrBlockAssociationSet", ())]
    servers = [
        value["Value"]
        for each in (found or {}).get("DhcpOptions", ())
        for option in each["DhcpConfigurations"]
        if option["Key"] == "domain-name-servers"
        for value in option["Values"]
    ]
    # a server with a private address, or one of the network's own, may forward to that of the network
    numbers = [ip_address(each) for each in servers if _IPV4.fullmatch(each)]
    public = [each for each in numbers if each.is_global and not any(each in one for one in within)]
    if servers and len(public) == len(servers):
        asked = " and ".join(map(str, public))
        return f"does not resolve in {network}: its DHCP options name {asked}, which know no private zone"
    return ""


#: The id of a network without DHCP options.
_NO_SET = "default"
_NO_OPTIONS = ("InvalidDhcpOptionID.NotFound", "InvalidDhcpOptionsID.NotFound")
_IPV4 = re.compile(r"\d+(?:\.\d+){3}")
