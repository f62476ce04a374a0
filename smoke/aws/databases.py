"""The database: its state, its parameters, and the variables of tasks that lead to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from smoke.source.checkout import Examined
from smoke.source.infrastructure.databases import DATABASE_TLS, LIBPQ, OF_SERVER, TLS_SINCE

from .account import AwsAccount
from .policies import Key, read_key

#: States of a database instance in which it accepts no connections until somebody intervenes.
DATABASE_IS_DOWN = (
    "stopped",
    "stopping",
    "deleting",
    "failed",
    "storage-full",
    "incompatible-parameters",
    "insufficient-capacity",
    "inaccessible-encryption-credentials",
    "inaccessible-encryption-credentials-recoverable",
    "incompatible-network",
    "incompatible-restore",
    "restore-error",
)


_ABSENT = ("DBInstanceNotFound", "DBInstanceNotFoundFault")
_NO_CLUSTER = ("DBClusterNotFoundFault", "DBClusterNotFound")
_POOLER, _OF_READERS = "pgbouncer", "cluster-ro-"


def describe_databases(account: AwsAccount, name: str) -> list[Mapping[str, Any]]:
    """The database instance of this name, or each one of the cluster of this name, as RDS describes them."""
    answer = account.find("rds", "describe_db_instances", _ABSENT, DBInstanceIdentifier=name)
    if answer is not None and answer["DBInstances"]:
        return [answer["DBInstances"][0]]
    every = account.pages("rds", "describe_db_instances", "DBInstances")
    return [each for each in every if each.get("DBClusterIdentifier") == name]


def states_of(instances: Iterable[Mapping[str, Any]], name: str) -> dict[str, str]:
    """The state of each database instance; an instance without a name gets this name."""
    return {
        each.get("DBInstanceIdentifier", name): str(each.get("DBInstanceStatus", "")) for each in instances
    }


def misfits(account: AwsAccount, instances: Iterable[Mapping[str, Any]], connections: int) -> Examined:
    """The database instances that accept no writes, or fewer connections than this, or lose their key.

    Limits that RDS computes from the instance's size are not evaluated. Those that wait for a reboot are not
    examined.
    """
    result = Examined()
    for each in instances:
        name = each.get("DBInstanceIdentifier", "")
        if source := each.get("ReadReplicaSourceDBInstanceIdentifier"):
            result.wrong(f"{name} is a replica of {source} and accepts no writes")
        ends = each.get("CertificateDetails", {}).get("ValidTill")
        if ends and ends < datetime.now(UTC) + _CERTIFIED_FOR:
            result.wrong(f"the certificate of {name} ends on {ends:%Y-%m-%d}")
        if key := each.get("KmsKeyId"):
            place = each.get("DBInstanceArn", "").split(":")[3:5]
            found = result.attempt(read_key, account, key, place)
            if found and (lost := found.unusable or ending(found)):
                result.wrong(f"{name} is encrypted with {key}, which {lost}")
        held = {one["DBParameterGroupName"]: one for one in each.get("DBParameterGroups", ())}
        for group, values in _parameters(account, each).items():
            limit = _most(values.get("max_connections", ""))
            if limit is not None and held[group].get("ParameterApplyStatus") == "pending-reboot":
                what = f"whether {name} allows {connections} connections"
                result.unclear(f"{what}: {group} takes effect only after a reboot")
            elif limit is not None and limit < connections:
                why = f"{name} allows {limit} connections, set by {group}, but the budget is {connections}"
                result.wrong(why)
            if values.get("default_transaction_read_only", "").lower() in ("1", "on", "true", "yes"):
                why = f"{name} accepts no writes: {group} sets default_transaction_read_only"
                result.wrong(why)
    return result


def _parameters(account: AwsAccount, instance: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What an instance's own parameter groups set, by their names."""
    groups = [each["DBParameterGroupName"] for each in instance.get("DBParameterGroups", ())]
    return {
        group: {
            one["ParameterName"]: one.get("ParameterValue", "")
            for one in account.pages(
                "rds", "describe_db_parameters", "Parameters", DBParameterGroupName=group, Source="user"
            )
        }
        for group in groups
        if not group.startswith("default.")
    }


def ending(key: Key) -> str:
    """Whether a key loses its imported key material during the launch; empty if it does not."""
    soon = key.ends and key.ends < datetime.now(UTC) + _CERTIFIED_FOR
    return f"loses its key material on {key.ends:%Y-%m-%d}" if soon else ""


#: A database whose certificate ends sooner is restarted or refuses connections during the launch.
_CERTIFIED_FOR = timedelta(days=14)


def _most(limit: str) -> int | None:
    """The upper limit of a parameter, such as `LEAST({DBInstanceClassMemory/9531392},40)`."""
    least = re.fullmatch(r"LEAST\((.*)\)", limit.strip())
    # an inner GREATEST({DBInstanceClassMemory/9531392},20) may exceed its number
    parts = re.sub(r"\w+\([^()]*\)", "", least[1] if least else limit).split(",")
    numbers = [int(each) for each in parts if each.strip().isdecimal()]
    return min(numbers, default=None)


#: The host of an instance: its name, and the part that all instances of an account's region share.
_HOST = re.compile(
    r"(?<![\w.-])([a-z][a-z0-9-]*)\.((?:cluster-|cluster-ro-)?)([a-z0-9]+\.[a-z0-9-]+\.rds\.amazonaws\.com(?:\.cn)?)"
)


#: The names by which a host leads to an instance: its own, and its cluster's.
_NAMES = ("DBInstanceIdentifier", "DBClusterIdentifier")


def _forces_tls(account: AwsAccount, instance: Mapping[str, Any]) -> bool:
    """Whether an instance refuses connections without TLS by a parameter that is in force.

    Its own parameter counts before its cluster's, and both before the default of its version.
    """
    groups = {one["DBParameterGroupName"]: one for one in instance.get("DBParameterGroups", ())}
    own = [
        values["rds.force_ssl"] == "1" and groups[name].get("ParameterApplyStatus") != "pending-reboot"
        for name, values in _parameters(account, instance).items()
        if "rds.force_ssl" in values
    ]
    if own or instance.get("DBClusterIdentifier"):
        return any(own) if own else _cluster_forces_tls(account, instance)
    major = str(instance.get("EngineVersion", "")).partition(".")[0]
    return instance.get("Engine") == "postgres" and major.isdecimal() and int(major) >= TLS_SINCE


def _cluster_forces_tls(account: AwsAccount, instance: Mapping[str, Any]) -> bool:
    """Whether an instance's cluster has this parameter in a group of its own, in force for the instance."""
    named = instance["DBClusterIdentifier"]
    answer = account.find("rds", "describe_db_clusters", _NO_CLUSTER, DBClusterIdentifier=named)
    return any(
        one["ParameterName"] == "rds.force_ssl" and one.get("ParameterValue") == "1"
        for cluster in (answer or {}).get("DBClusters", ())
        if not (group := cluster.get("DBClusterParameterGroup", "default.")).startswith("default.")
        if not any(
            member["DBInstanceIdentifier"] == instance.get("DBInstanceIdentifier")
            and member.get("DBClusterParameterGroupStatus") == "pending-reboot"
            for member in cluster.get("DBClusterMembers", ())
        )
        for one in account.pages(
            "rds", "describe_db_cluster_parameters", "Parameters",
            DBClusterParameterGroupName=group, Source="user",
        )
    )  # fmt: skip


def _modes(variable: str) -> Sequence[str]:
    """The variables that may turn off TLS for the database in a variable; libpq has its own."""
    host, mode = LIBPQ
    return [*(DATABASE_TLS if OF_SERVER.fullmatch(variable) else ()), *([mode] if variable == host else ())]


def astray(
    account: AwsAccount, instances: Sequence[Mapping[str, Any]], given: Iterable[tuple[str, str, str]]
) -> Iterator[str]:
    """Variables that point to missing databases of this account, and a pooler that points to another one.

    `given` are owners, variables and values. Hosts of other accounts and regions are not looked up, but
    the variable for a pooler's own database must not have one.
    """
    given = [*given]
    plain = {(owner, variable) for owner, variable, value in given if value == "disable"}
    hosts = [_HOST.fullmatch(each.get("Endpoint", {}).get("Address", "")) for each in instances]
    places = {each[3] for each in hosts if each}
    known = {each.get(of, "") for each in instances for of in _NAMES}
    pooled: dict[str, bool] = {}
    for owner, variable, value in given:
        for name, kind, place in _HOST.findall(value):
            written, writes = f"{variable} of {owner} leads to {name}", kind != _OF_READERS
            if place not in places:
                if owner == _POOLER and places and OF_SERVER.fullmatch(variable):
                    pooled[f"{written} of another account or region"] = False
                continue
            named = [each for each in instances if name in (each.get(of) for of in _NAMES)]
            openly = any((owner, each) in plain for each in _modes(variable))
            if (openly or "sslmode=disable" in value) and any(_forces_tls(account, each) for each in named):
                yield f"{written} without TLS, which it refuses: its parameter rds.force_ssl is 1"
            if owner == _POOLER:
                pooled[written if writes else f"{written}'s readers"] = writes and name in known
            if kind or name in known:
                continue
            if account.find("rds", "describe_db_instances", _ABSENT, DBInstanceIdentifier=name) is None:
                yield f"{written}, which is not a database of this account"
    if pooled and not any(pooled.values()):
        yield f"{' and '.join(pooled)}, not to {' or '.join(sorted(filter(None, known)))}"
