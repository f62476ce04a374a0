"""The names of contract section 4, in Cloud Map, and of secrets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .account import AwsAccount, at_once

SERVICES = ("api", "worker", "finn", "dixie", "pgbouncer")
#: Services with a third party's image: a release tag of its vendor pins it, and a pull-through cache may
#: fetch it again.
FOREIGN = ("pgbouncer",)
#: The service whose build an image belongs to; the worker has no health route that could report its build.
BUILDS = {"freeside": "api", "finn": "finn", "dixie": "dixie"}
#: The ports on which services call each other (contract 2 to 4).
PORTS = {"finn": 3000, "dixie": 3001, "pgbouncer": 6432}
#: Required environment variables of a service's task: Dixie writes to its database, and needs no NATS
#: (contract 3).
SETTINGS = {"dixie": {"NATS_OPTIONAL": "true"}}
#: Values of variables that a service's task need not set: the pooling of contract section 4.
IF_SET = {**SETTINGS, "pgbouncer": {"POOL_MODE": "transaction"}}
#: Names that Cloud Map resolves.
HOSTS = ("freeside", "finn", "dixie", "pgbouncer")
DASHBOARDS = ("overview", "service-health")
#: The one-shot task definitions, each with the service that is deployed after it.
MIGRATIONS = {"freeside-migration": "api", "dixie-migration": "dixie"}


@dataclass(frozen=True, slots=True)
class Names:
    """Full names, made from the profile's prefix."""

    prefix: str

    @property
    def cluster(self) -> str:
        """The ECS cluster."""
        return f"{self.prefix}-cluster"

    @property
    def namespace(self) -> str:
        """The namespace in Cloud Map."""
        return f"{self.prefix}.local"

    @property
    def topic(self) -> str:
        """The topic that alarms notify."""
        return f"{self.prefix}-alerts"

    @property
    def database(self) -> str:
        """The database instance."""
        return f"{self.prefix}-postgres"

    @property
    def logs(self) -> str:
        """The prefix of all log groups' names."""
        return f"/ecs/{self.prefix}/"

    @property
    def app_metrics(self) -> str:
        """The namespace of the platform's own metrics."""
        return f"{self.prefix}/AppMetrics"

    def full(self, short: str) -> str:
        """The full name of a service, family, dashboard or alarm."""
        return f"{self.prefix}-{short}"

    def short(self, full: str) -> str:
        """A full name without the prefix; any other name unchanged."""
        return full.removeprefix(f"{self.prefix}-")


#: Attributes with an instance's address, or a balancer's name.
_ADDRESSES = ("AWS_INSTANCE_IPV4", "AWS_INSTANCE_IPV6", "AWS_INSTANCE_CNAME", "AWS_ALIAS_DNS_NAME")
_ABSENT = ("NamespaceNotFound", "ServiceNotFound", "InstanceNotFound")


def resolve(account: AwsAccount, names: Names, host: str) -> list[str]:
    """The addresses of a name in the platform's namespace, `IP:PORT` or `IP`; none if it is unknown."""
    answer = account.find(
        "servicediscovery",
        "discover_instances",
        _ABSENT,
        NamespaceName=names.namespace,
        ServiceName=host,
        HealthStatus="ALL",
    )
    found = []
    for instance in answer["Instances"] if answer else ():
        attributes = instance["Attributes"]
        address = next((attributes[name] for name in _ADDRESSES if attributes.get(name)), "")
        if address and instance.get("HealthStatus") != "UNHEALTHY":
            port = attributes.get("AWS_INSTANCE_PORT")
            found.append(f"{address}:{port}" if port else address)
    return found


def read_secret_names(account: AwsAccount, names: Names) -> list[str]:
    """The names of the platform's secrets, without those marked for deletion."""
    own = [{"Key": "name", "Values": [f"{names.prefix}/"]}]
    listed = account.pages("secretsmanager", "list_secrets", "SecretList", Filters=own)
    return [each["Name"] for each in listed]


@dataclass(frozen=True, slots=True)
class Registry:
    """A Cloud Map entry: its full host name, and the types of its DNS records.

    `kept_s` is how long callers may keep its addresses, in seconds.
    """

    name: str
    records: frozenset[str] = frozenset()
    kept_s: int = 0


def read_registries(account: AwsAccount, arns: Iterable[str]) -> dict[str, Registry]:
    """Cloud Map entries by ARN; a missing one has its ARN as name."""
    wanted = list(dict.fromkeys(arns))
    if not wanted:
        return {}
    described = at_once(lambda arn: _entry(account, arn), wanted)
    spaces = account.pages("servicediscovery", "list_namespaces", "Namespaces")
    names = {each["Id"]: each["Name"] for each in spaces}
    return {
        arn: _registry(entry, names) if entry else Registry(f"{arn} (gone)")
        for arn, entry in zip(wanted, described, strict=True)
    }


def _entry(account: AwsAccount, arn: str) -> dict[str, Any] | None:
    absent = ("ServiceNotFound",)
    found = account.find("servicediscovery", "get_service", absent, Id=arn.rpartition("/")[2])
    return None if found is None else found["Service"]


def _registry(entry: Mapping[str, Any], namespaces: Mapping[str, str]) -> Registry:
    dns = entry.get("DnsConfig") or {}
    space = namespaces.get(entry.get("NamespaceId") or dns.get("NamespaceId", ""), "?")
    records = dns.get("DnsRecords", ())
    kept = [int(each.get("TTL", 0)) for each in records if each["Type"] in ("A", "AAAA")]
    return Registry(
        f"{entry['Name']}.{space}", frozenset(each["Type"] for each in records), max(kept, default=0)
    )
