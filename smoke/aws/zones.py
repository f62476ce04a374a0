"""Zones of Route 53: the records of this environment, and which of several zones answers for a host."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .account import AwsAccount, at_once
from .names import HOSTS, SERVICES, Names

Record = Mapping[str, Any]
#: The kinds of records that lead to something.
ADDRESSES = ("A", "AAAA", "CNAME")


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and all of its records, as Route 53 has them."""

    id: str
    name: str
    private: bool
    records: Sequence[Record] = ()

    def of(self, host: str, *kinds: str) -> list[Record]:
        """Its records of a host, of some kinds or of all."""
        return [
            each for each in self.records if named(each) == host and (not kinds or each.get("Type") in kinds)
        ]


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
    """The records of this environment in the account's zones: each one's name, and what it leads to.

    They are those of its hosts, below these, in its namespace, and those with a service's name and its own as
    labels.
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


def answering(zones: Sequence[Zone], host: str) -> Zone | None:
    """The one of public zones that the internet is led to for a host; None where they do not say which.

    A zone leads on by records of kind NS, below which its own records are not seen. One to which no other
    leads may be left over.
    """
    led = min((each.name for each in zones), key=len, default="")
    found, seen = [each for each in zones if each.name == led], 0
    while len(found) == 1:
        (zone,) = found
        seen += 1
        cuts = [each for each in zone.records if each.get("Type") == "NS" and named(each) != zone.name]
        cuts = [each for each in cuts if is_below(host, named(each))]
        if not cuts:
            return zone if seen == len({each.name for each in zones}) else None
        cut = min(cuts, key=lambda each: len(named(each)))
        servers = {*map(_server, values_of(cut))}
        below = [each for each in zones if each.name == named(cut)]
        found = [
            each
            for each in below
            if servers & {_server(one) for record in each.of(each.name, "NS") for one in values_of(record)}
        ]
    return None


def _server(written: str) -> str:
    return written.lower().rstrip(".")


def named(record: Record) -> str:
    """The name of a record."""
    return str(record["Name"]).rstrip(".")


def values_of(record: Record) -> list[str]:
    """What a Route 53 record points to."""
    listed = [each["Value"] for each in record.get("ResourceRecords", ())]
    return [*listed, *filter(None, [record.get("AliasTarget", {}).get("DNSName")])]


def is_below(name: str, zone: str) -> bool:
    """Whether a name is a zone's, or is below it."""
    return f".{name}".endswith(f".{zone}")
