"""Which of an account's zones answers for a host, and where its records lead."""

from typing import Any

import pytest
from pytest_readiness import SetupError

from smoke.aws.zones import Zone, answering, leads, misled
from tests.smoke.aws.fakes import raising, scripted

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
    assert whys(told(records)) == [why] * bool(why)
    # an IPv6 address helps nobody who has only IPv4
    records.append({**to(HOST, "2001:db8::1"), "Type": "AAAA"})
    assert whys(told(records)) == [why] * bool(why)


def whys(account: Any) -> list[str]:
    """What is wrong with the answers for the host; everything can be read."""
    found = misled(account, HOST)
    assert not found.not_examined
    return [each.what for each in found.findings]


def test_what_cannot_be_read_hides_nothing_else() -> None:
    placed = to(HOST, "10.0.0.1", GeoLocation={"CountryCode": "DE"})
    found = misled(told([placed], get_dnssec=raising("AccessDenied")), HOST)
    assert [each.what for each in found.findings] == ["its records answer only callers in DE"]
    assert len(found.not_examined) == 1


def told(records: list[Any], above: list[Any] | None = None, **answers: Any) -> Any:
    """An account with a zone of these records, and perhaps one above it."""
    zones = {"Z1": ("x.example.", records), **({"Z0": ("example.", above)} if above else {})}
    listed = [{"Name": name, "Id": each} for each, (name, _) in zones.items()]
    account, _ = scripted(
        list_hosted_zones=lambda **_: {"HostedZones": listed},
        list_resource_record_sets=lambda HostedZoneId, **_: {"ResourceRecordSets": zones[HostedZoneId][1]},
        **{"get_dnssec": raising("InvalidInput"), **answers},
    )
    return account


OTHER_KEY = "the zone above x.example has the digest of a key with which"
UP, DOWN = "Success: HTTP Status Code 200, OK", "Failure: Connection timed out."


@pytest.mark.parametrize(
    ("config", "seen", "spare"),
    [
        ({}, [UP, UP], False),
        ({}, [UP, DOWN], False),
        ({}, [DOWN, DOWN], True),
        ({}, [], False),
        ({}, ["", ""], False),  # a new check
        ({}, ["", DOWN], True),
        ({"Inverted": True}, [DOWN], False),
        ({"Inverted": True}, [UP], True),
        ({"Disabled": True}, [DOWN], False),
        ({"Disabled": True, "Inverted": True}, [DOWN], True),
        ({"Type": "CLOUDWATCH_METRIC"}, [], False),
        (None, [DOWN], False),
    ],
)
def test_a_record_whose_health_check_fails_is_not_given_out(
    config: dict[str, Any] | None, seen: list[str], spare: bool
) -> None:
    main = to(HOST, "10.0.0.1", Failover="PRIMARY", HealthCheckId="h")
    records = [main, to(HOST, "10.0.0.2", Failover="SECONDARY")]
    observed = [{"StatusReport": {"Status": each}} for each in seen]
    check = {"HealthCheck": {"HealthCheckConfig": {"Type": "HTTPS", **(config or {})}}}
    account = told(
        records,
        get_health_check=raising("NoSuchHealthCheck") if config is None else lambda **_: check,
        get_health_check_status=lambda **_: {"HealthCheckObservations": observed},
    )
    assert leads(account, HOST) == ["10.0.0.2" if spare else "10.0.0.1"]
    assert (
        whys(account)
        == ["Route 53 answers with its SECONDARY record: the health check h of the PRIMARY fails"] * spare
    )


def test_a_spare_that_leads_to_the_same_balancer_is_as_good() -> None:
    main = to(HOST, "10.0.0.1", Failover="PRIMARY", HealthCheckId="h")
    check = {"HealthCheck": {"HealthCheckConfig": {"Type": "HTTPS", "Disabled": True, "Inverted": True}}}
    account = told([main, to(HOST, "10.0.0.1", Failover="SECONDARY")], get_health_check=lambda **_: check)
    assert whys(account) == []


@pytest.mark.parametrize(
    ("state", "keys", "digests", "why"),
    [
        ("NOT_SIGNING", [], [], ""),
        ("SIGNING", ["ACTIVE"], [], ""),
        ("SIGNING", ["ACTIVE"], ["1 13 2 AB"], ""),
        ("SIGNING", ["INACTIVE", "ACTIVE"], ["1 13 2 AB"], ""),
        ("ACTION_NEEDED", ["ACTIVE"], [], "Route 53 cannot sign the zone x.example: ACTION_NEEDED ACTIVE"),
        ("SIGNING", ["ACTION_NEEDED"], [], "Route 53 cannot sign the zone x.example: SIGNING ACTION_NEEDED"),
        ("NOT_SIGNING", [], ["1 13 2 AB"], OTHER_KEY),
        ("SIGNING", ["ACTIVE"], ["1 13 2 CD"], OTHER_KEY),
        ("SIGNING", ["ACTIVE", "ACTION_NEEDED"], ["1 13 2 AB"], ""),  # one key is enough
        ("NOT_SIGNING", ["ACTION_NEEDED"], [], ""),  # the key of a zone that is no longer signed
        ("SIGNING", ["ACTIVE"], ["1 13 4 EFEF"], ""),  # a SHA-384 digest of the key
        ("SIGNING", ["ACTIVE"], ["1 13 2 A B"], ""),
        (
            "SIGNING",
            ["ACTIVE"],
            ["2 13 4 EFEF"],
            OTHER_KEY,
        ),
        ("", [], ["1 13 2 AB"], ""),  # an endpoint that does not tell
    ],
)
def test_resolvers_trust_a_zone(state: str, keys: list[str], digests: list[str], why: str) -> None:
    servers = [{"Value": "ns-1.example.org."}]
    cut = {"Name": "x.example.", "Type": "NS", "ResourceRecords": servers}
    above = [cut, {**cut, "Type": "DS", "ResourceRecords": [{"Value": each} for each in digests]}]
    listed = [{"Name": "k", "Status": each, "DSRecord": "1 13 2 ab"} for each in keys]
    signing = {"Status": {"ServeSignature": state}, "KeySigningKeys": listed}
    signed = {"Status": {"ServeSignature": "SIGNING"}}

    def get_dnssec(HostedZoneId: str) -> Any:
        return signed if HostedZoneId == "Z0" else signing if state else {}

    account = told([cut, to(HOST, "10.0.0.1")], above, get_dnssec=get_dnssec)
    found = whys(account)
    assert len(found) == bool(why)
    assert why in "".join(found)
    signed["Status"]["ServeSignature"] = "NOT_SIGNING"  # nobody looks for the signatures below it
    assert whys(account) == [each for each in found if "cannot sign" in each]
