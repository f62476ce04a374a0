"""Which of an account's zones answers for a host, and where its records lead."""

from typing import Any

import pytest

from smoke.aws.edge import leads
from smoke.aws.zones import Zone, answering
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
        ([], None),
        ([PARENT, zone("4", "x.example")], None),
        ([LEADING, CHILD], "2"),
        ([COPY, LEADING, CHILD], "2"),
        ([LEADING, COPY], None),  # another account's
        ([PARENT, CHILD], None),
        ([LEADING], None),
        ([CHILD], "2"),
    ],
)
def test_which_zone_answers_for_a_host(zones: list[Zone], answers: str | None) -> None:
    found = answering(zones, HOST)
    assert (found.id if found else None) == answers


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
        ([to(f"www.{HOST}", "10.0.0.1")], []),
    ],
)
def test_where_records_lead(records: list[dict[str, Any]], ends: list[str]) -> None:
    account, _ = scripted(
        list_hosted_zones=lambda **_: {"HostedZones": [{"Name": "x.example.", "Id": "Z1"}]},
        list_resource_record_sets=lambda **_: {"ResourceRecordSets": records},
    )
    assert leads(account, HOST) == ends
