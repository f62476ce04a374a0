"""The database: its state, its capacity, and the variables that lead to it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smoke.aws.databases import astray, describe_databases, misfits, states_of
from tests.smoke.aws.fakes import raising, refusal, scripted


def test_the_state_of_a_database() -> None:
    assert states_of([{"DBInstanceStatus": "stopped"}], "d") == {"d": "stopped"}
    assert states_of([{}], "d") == {"d": ""}
    account, _ = scripted(describe_db_instances=lambda **_: {"DBInstances": []})
    assert describe_databases(account, "d") == []


@pytest.mark.parametrize(
    ("told", "limit", "why"),
    [
        ({}, "", []),
        ({"ReadReplicaSourceDBInstanceIdentifier": "e"}, "", ["d is a replica of e and accepts no writes"]),
        ({"DBParameterGroups": [{"DBParameterGroupName": "default.postgres15"}]}, "60", []),
        ({"DBParameterGroups": [{"DBParameterGroupName": "own"}]}, "85", []),
        ({"DBParameterGroups": [{"DBParameterGroupName": "own"}]}, "", []),
        ({"DBParameterGroups": [{"DBParameterGroupName": "own"}]}, "LEAST({DBInstanceClassMemory/9})", []),
        ({"DBParameterGroups": [{"DBParameterGroupName": "own"}]}, "LEAST({DBInstanceClassMemory/9},90)", []),
        ({"DBParameterGroups": [{"DBParameterGroupName": "own"}]}, "LEAST(GREATEST({Memory},20,30),90)", []),
        ({"DBParameterGroups": [{"DBParameterGroupName": "own"}]}, "LEAST({DBInstanceClassMemory/9},90, 40)",
         ["d allows 40 connections, set by own, but the budget is 85"]),
        ({"DBParameterGroups": [{"DBParameterGroupName": "own"}]}, "60",
         ["d allows 60 connections, set by own, but the budget is 85"]),
    ],
)  # fmt: skip
def test_a_database_takes_writes_and_connections(told: dict[str, Any], limit: str, why: list[str]) -> None:
    value = {"ParameterName": "max_connections", "ParameterValue": limit}
    account, _ = scripted(describe_db_parameters=lambda **_: {"Parameters": [value] if limit else []})
    found = misfits(account, [{"DBInstanceIdentifier": "d", **told}], 85)
    assert [each.what for each in found.findings] == why
    assert found.not_examined == []


@pytest.mark.parametrize(
    ("value", "waits", "wrong", "unread"),
    [("1", False, 1, 0), ("on", False, 1, 0), ("0", False, 0, 0), ("0", True, 0, 1)],
)
def test_what_the_parameters_of_a_database_say(value: str, waits: bool, wrong: int, unread: int) -> None:
    told = {"default_transaction_read_only": value, "max_connections": "200"}
    listed = [{"ParameterName": name, "ParameterValue": of} for name, of in told.items()]
    account, _ = scripted(describe_db_parameters=lambda **_: {"Parameters": listed})
    status = "pending-reboot" if waits else "in-sync"
    group = {"DBParameterGroupName": "own", "ParameterApplyStatus": status}
    found = misfits(account, [{"DBInstanceIdentifier": "d", "DBParameterGroups": [group]}], 85)
    assert (len(found.findings), len(found.not_examined)) == (wrong, unread)


@pytest.mark.parametrize(
    ("key", "state", "lost"),
    [("", "", False), ("key-1", "Enabled", False), ("key-1", "Disabled", True), ("key-1", None, True)],
)
def test_a_database_has_its_key(key: str, state: str | None, lost: bool) -> None:
    told = {"KeyMetadata": {"Arn": "arn:aws:kms:us-east-1:1:key/1", "KeyState": state}}
    account, _ = scripted(
        describe_key=(lambda **_: told) if state else raising("NotFoundException"),
        get_key_policy=lambda **_: {"Policy": "{}"},
    )
    found = misfits(account, [{"DBInstanceIdentifier": "d", "KmsKeyId": key}], 85)
    assert ["d is encrypted with key-1, which" in each.what for each in found.findings] == [True] * lost


def test_a_cluster_of_the_databases_name_has_its_instances() -> None:
    def described(cluster: str, name: str) -> dict[str, str]:
        return {"DBClusterIdentifier": cluster, "DBInstanceIdentifier": name, "DBInstanceStatus": "available"}

    def describe_db_instances(**asked: Any) -> dict[str, Any]:
        if "DBInstanceIdentifier" in asked:
            raise refusal("DBInstanceNotFound")
        return {"DBInstances": [described("d", "d-1"), described("d", "d-2"), described("other", "x"), {}]}

    account, _ = scripted(describe_db_instances=describe_db_instances)
    found = states_of(describe_databases(account, "d"), "d")
    assert found == {"d-1": "available", "d-2": "available"}


HOST = "d.c0ffee.us-east-1.rds.amazonaws.com"
OWN = {"DBInstanceIdentifier": "d", "Endpoint": {"Address": HOST}}


@pytest.mark.parametrize(
    ("owner", "value", "why"),
    [
        ("pgbouncer", "postgres://u@d.c0ffee.us-east-1.rds.amazonaws.com:5432/x", ""),
        ("api", "gone.c0ffee.us-east-1.rds.amazonaws.com", "not a database of this account"),
        ("api", "gone.dec0de.us-east-1.rds.amazonaws.com", ""),
        ("api", "gone.c0ffee.eu-west-1.rds.amazonaws.com", ""),
        ("api", "e.c0ffee.us-east-1.rds.amazonaws.com", ""),
        ("pgbouncer", "e.c0ffee.us-east-1.rds.amazonaws.com", "not to d"),
        ("pgbouncer", "d.cluster-ro-c0ffee.us-east-1.rds.amazonaws.com", "readers, not to d"),
        ("pgbouncer", "d.c0ffee.us-east-1.rds.amazonaws.com,e.c0ffee.us-east-1.rds.amazonaws.com", ""),
        ("api", "d.cluster-ro-c0ffee.us-east-1.rds.amazonaws.com", ""),
        ("pgbouncer", "p.proxy-c0ffee.us-east-1.rds.amazonaws.com", ""),
        ("pgbouncer", "d.dec0de.us-east-1.rds.amazonaws.com", "d of another account or region, not to d"),
        ("pgbouncer", "d.c0ffee.eu-west-1.rds.amazonaws.com", "d of another account or region, not to d"),
        ("pgbouncer", "d.c0ffee.us-east-1.rds.amazonaws.com,d.dec0de.us-east-1.rds.amazonaws.com", ""),
        ("pgbouncer", "db.example.org", ""),
    ],
)
def test_variables_lead_to_databases_that_are_there(owner: str, value: str, why: str) -> None:
    def describe_db_instances(DBInstanceIdentifier: str) -> dict[str, Any]:  # as botocore names it
        if DBInstanceIdentifier == "gone":
            raise refusal("DBInstanceNotFound")
        return {"DBInstances": [{}]}

    account, _ = scripted(describe_db_instances=describe_db_instances)
    found = "".join(astray(account, [OWN], [(owner, "DB_HOST", value)]))
    assert why in found if why else not found


def test_a_pooler_may_have_reports_from_another_account_beside_its_database() -> None:
    account, _ = scripted()
    given = [
        ("pgbouncer", "DB_HOST", "db.example.org"),
        ("pgbouncer", "REPORTS_HOST", HOST.replace("c0", "de")),
    ]
    assert not [*astray(account, [OWN], given)]


@pytest.mark.parametrize(("days", "ends"), [(400, False), (15, False), (13, True), (-1, True)])
def test_the_certificate_of_a_database_lasts(days: int, ends: bool) -> None:
    account, _ = scripted()
    till = datetime.now(UTC) + timedelta(days=days, hours=1)
    told = {"DBInstanceIdentifier": "d", "CertificateDetails": {"ValidTill": till}}
    found = misfits(account, [told], 85)
    assert ["the certificate of d ends on" in each.what for each in found.findings] == [True] * ends


@pytest.mark.parametrize(("days", "ends"), [(None, False), (400, False), (13, True)])
def test_the_imported_key_of_a_database_lasts(days: int | None, ends: bool) -> None:
    told = {} if days is None else {"ValidTo": datetime.now(UTC) + timedelta(days=days, hours=1)}
    account, _ = scripted(
        describe_key=lambda **_: {"KeyMetadata": {"Arn": "key-1", **told}},
        get_key_policy=lambda **_: {"Policy": "{}"},
    )
    found = misfits(account, [{"DBInstanceIdentifier": "d", "KmsKeyId": "key-1"}], 85)
    assert ["loses its key material on" in each.what for each in found.findings] == [True] * ends


@pytest.mark.parametrize(
    ("group", "forced", "status", "wrong"),
    [
        ("own", "1", "in-sync", True),
        ("own", "1", "pending-reboot", False),
        ("own", "0", "in-sync", False),
        ("default.aurora-postgresql15", "1", "in-sync", False),
    ],
)
def test_a_client_uses_tls_where_the_cluster_requires_it(
    group: str, forced: str, status: str, wrong: bool
) -> None:
    listed = [{"ParameterName": "rds.force_ssl", "ParameterValue": forced}]
    member = {"DBInstanceIdentifier": "d-1", "DBClusterParameterGroupStatus": status}
    cluster = {"DBClusterParameterGroup": group, "DBClusterMembers": [member]}
    account, _ = scripted(
        describe_db_clusters=lambda **_: {"DBClusters": [cluster]},
        describe_db_cluster_parameters=lambda **_: {"Parameters": listed},
        describe_db_parameters=lambda **_: {"Parameters": [{**listed[0], "ParameterValue": "0"}]},
    )
    place = "c0ffee.us-east-1.rds.amazonaws.com"
    instance = {
        "DBInstanceIdentifier": "d-1",
        "DBClusterIdentifier": "d",
        "Endpoint": {"Address": f"d-1.{place}"},
    }
    given = [("dixie", "DATABASE_URL", f"postgres://u@d.cluster-{place}/x?sslmode=disable")]
    assert ["without TLS" in each for each in astray(account, [instance], given)] == [True] * wrong
    allowing = {**instance, "DBParameterGroups": [{"DBParameterGroupName": "own"}]}
    assert [*astray(account, [allowing], given)] == []


@pytest.mark.parametrize(
    ("value", "forced", "wrong"),
    [
        ("postgres://u@d.c0ffee.us-east-1.rds.amazonaws.com/x?sslmode=disable", "1", True),
        ("postgres://u@d.c0ffee.us-east-1.rds.amazonaws.com/x?sslmode=disable", "0", False),
        ("postgres://u@d.c0ffee.us-east-1.rds.amazonaws.com/x?sslmode=require", "1", False),
        ("postgres://u@d.c0ffee.us-east-1.rds.amazonaws.com/x", "1", False),  # the client may use TLS
    ],
)
def test_a_client_uses_tls_where_the_database_requires_it(value: str, forced: str, wrong: bool) -> None:
    listed = [{"ParameterName": "rds.force_ssl", "ParameterValue": forced}]
    account, _ = scripted(describe_db_parameters=lambda **_: {"Parameters": listed})
    instance: dict[str, Any] = {
        "DBInstanceIdentifier": "d",
        "DBParameterGroups": [{"DBParameterGroupName": "own"}],
        "Endpoint": {"Address": "d.c0ffee.us-east-1.rds.amazonaws.com"},
    }
    given = [("dixie", "DATABASE_URL", value)]
    assert ["without TLS" in each for each in astray(account, [instance], given)] == [True] * wrong
    # the parameters of another database, and those that wait for a reboot, say nothing of this one
    other = {**instance, "DBInstanceIdentifier": "e"}
    assert [*astray(account, [{**instance, "DBParameterGroups": []}, other], given)] == []
    instance["DBParameterGroups"][0]["ParameterApplyStatus"] = "pending-reboot"
    assert [*astray(account, [instance], given)] == []


@pytest.mark.parametrize(
    ("variables", "described", "wrong"),
    [
        ({"DB_HOST": HOST, "SERVER_TLS_SSLMODE": "disable"}, {"EngineVersion": "15.10"}, True),
        ({"DB_HOST": HOST, "PGBOUNCER_SERVER_TLS_SSLMODE": "disable"}, {"EngineVersion": "16"}, True),
        ({"PGHOST": HOST, "PGSSLMODE": "disable"}, {"EngineVersion": "17.2"}, True),
        ({"DB_HOST": HOST, "PGSSLMODE": "disable"}, {"EngineVersion": "15.10"}, False),
        ({"DB_HOST": HOST, "SERVER_TLS_SSLMODE": "prefer"}, {"EngineVersion": "15.10"}, False),
        ({"DB_HOST": HOST, "SERVER_TLS_SSLMODE": "disable"}, {"EngineVersion": "14.9"}, False),
        (
            {"DB_HOST": HOST, "SERVER_TLS_SSLMODE": "disable"},
            {"EngineVersion": "15.3", "Engine": "mysql"},
            False,
        ),
        ({"CACHE_HOST": HOST, "SERVER_TLS_SSLMODE": "disable"}, {"EngineVersion": "15.10"}, False),
    ],
)
def test_a_variable_of_its_own_may_turn_off_tls(
    variables: dict[str, str], described: dict[str, str], wrong: bool
) -> None:
    account, _ = scripted(describe_db_parameters=lambda **_: {"Parameters": []})
    instance = {**OWN, "Engine": "postgres", **described}
    given = [("pgbouncer", *each) for each in variables.items()]
    assert ["without TLS" in each for each in astray(account, [instance], given)] == [True] * wrong
