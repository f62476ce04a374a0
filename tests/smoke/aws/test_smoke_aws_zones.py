"""Which of an account's zones answers for a host, and where its records lead."""

from typing import Any

import pytest
from pytest_readiness import SetupError

from smoke.aws.zones import Zone, answering, leads, unplaced
from tests.smoke.aws.fakes import scripted

HOST = "api.x.example"


def to(name: str, *values: str, kind: str = "A", **more: Any) -> dict[str, Any]:
    return {"Name": f"{name}.", "Type": kind, "ResourceRecords": [{"Value": each} for each in values], **more}


def zone(id: str, name: str, *records: dict[str, Any], servers: str = "") -> Zone:  # noqa: A002  # as Route 53
    return Zone(id, name, False, [to(name, f"{servers or id}.ns.", kind="NS"), *records])


PARENT, LEADING = zone("1", "x.example"), zone("1", "x.example", to(HOST, "2.NS", kind="NS"))
CHILD, COPY = zone("2", HOST), zone("3", HOST)


@pytest.mark.parametrize(
    ("zones", "answers"),
    [
        ([PARENT], "1"),
        ([], ""),
        ([PARENT, zone("4", "x.example")], "14"),
        ([LEADING, CHILD], "2"),
        ([COPY, LEADING, CHILD], "2"),
        ([LEADING, COPY], ""),  # another account's
        ([PARENT, CHILD], "12"),
        ([LEADING], ""),
        ([CHILD], "2"),
    ],
)
def test_which_zone_answers_for_a_host(zones: list[Zone], answers: str) -> None:
    assert "".join(each.id for each in answering(zones, HOST)) == answers


@pytest.mark.parametrize(
    ("records", "ends"),
    [
        ([to(HOST, "10.0.0.1")], ["10.0.0.1"]),
        ([to(HOST, "1.ns", kind="NS")], []),
        (
            [to(HOST, "10.0.0.1", Failover="PRIMARY"), to(HOST, "10.0.0.2", Failover="SECONDARY")],
            ["10.0.0.1"],
        ),
        ([to(HOST, "10.0.0.1", Weight=1), to(HOST, "10.0.0.2", Weight=0)], ["10.0.0.1"]),
        ([to(HOST, "10.0.0.1", Weight=0)], ["10.0.0.1"]),
        ([to(HOST, "10.0.0.2", Failover="SECONDARY")], ["10.0.0.2"]),
        ([to(f"www.{HOST}", "10.0.0.1")], []),
        ([to(r"\052.x.example", "10.0.0.1")], ["10.0.0.1"]),
        ([to("*.x.example", "10.0.0.1"), to(HOST, "v", kind="TXT")], []),
        ([to("*.x.example", "10.0.0.1"), to(f"www.{HOST}", "10.0.0.2")], []),
        ([to(HOST, "w.x.example", kind="CNAME"), to("w.x.example", "10.0.0.1")], ["10.0.0.1"]),
        ([to(HOST, "w.x.example", kind="CNAME")], ["w.x.example"]),
        ([to(HOST, HOST, kind="CNAME")], [HOST]),
    ],
)
def test_where_records_lead(records: list[dict[str, Any]], ends: list[str]) -> None:
    account, _ = scripted(
        list_hosted_zones=lambda **_: {"HostedZones": [{"Name": "x.example.", "Id": "Z1"}]},
        list_resource_record_sets=lambda **_: {"ResourceRecordSets": records},
    )
    assert leads(account, HOST) == ends


@pytest.mark.parametrize(
    ("other", "differ"), [([], False), ([to(HOST, "10.0.0.1")], False), ([to(HOST, "10.0.0.2")], True)]
)
def test_zones_of_one_name_may_not_differ(other: list[dict[str, Any]], differ: bool) -> None:
    records = {"Z1": [to(HOST, "10.0.0.1")], "Z2": other}
    account, _ = scripted(
        list_hosted_zones=lambda **_: {
            "HostedZones": [{"Name": "x.example.", "Id": each} for each in records]
        },
        list_resource_record_sets=lambda HostedZoneId: {"ResourceRecordSets": records[HostedZoneId]},
    )
    if differ:
        with pytest.raises(SetupError, match=f"where {HOST} leads: the zones Z1 and Z2 differ"):
            leads(account, HOST)
    else:
        assert leads(account, HOST) == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("places", "why"),
    [
        ([], ""),
        ([None], ""),
        ([{"CountryCode": "DE"}, {"CountryCode": "*"}], ""),
        ([{"CountryCode": "DE"}], "its records answer only callers in DE"),
        ([{"ContinentCode": "EU"}, {"CountryCode": "DE"}], "its records answer only callers in DE and EU"),
        ([{"ContinentCode": each} for each in ("AF", "AN", "AS", "EU", "NA", "OC", "SA")], ""),
    ],
)
def test_callers_everywhere_get_an_address(places: list[Any], why: str) -> None:
    records = [to(HOST, "10.0.0.1", **({"GeoLocation": each} if each else {})) for each in places]
    account, _ = scripted(
        list_hosted_zones=lambda **_: {"HostedZones": [{"Name": "x.example.", "Id": "Z1"}]},
        list_resource_record_sets=lambda **_: {"ResourceRecordSets": records},
    )
    assert unplaced(account, HOST) == why
