"""What Cloud Map says: which name a service is registered under, and what a name resolves to."""

from __future__ import annotations

from collections.abc import Iterable

from .account import Account, at_once
from .names import Names

_ABSENT = ("NamespaceNotFound", "ServiceNotFound", "InstanceNotFound")


def resolve(account: Account, names: Names, host: str) -> list[str]:
    """The addresses of a name in the platform's namespace, `IP:PORT` or `IP`; none when it is unknown."""
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
        address = attributes.get("AWS_INSTANCE_IPV4") or attributes.get("AWS_INSTANCE_IPV6")
        if address and instance.get("HealthStatus") != "UNHEALTHY":
            port = attributes.get("AWS_INSTANCE_PORT")
            found.append(f"{address}:{port}" if port else address)
    return found


def read_registered(account: Account, registries: Iterable[str]) -> dict[str, str]:
    """The full host name of each registry, by its ARN."""
    wanted = list(dict.fromkeys(registries))
    if not wanted:
        return {}
    told = at_once(lambda arn: _registry(account, arn), wanted)
    namespaces = {
        each["Id"]: each["Name"]
        for each in account.pages("servicediscovery", "list_namespaces", "Namespaces")
    }
    return {
        arn: f"{service['Name']}.{namespaces.get(_namespace(service), '?')}"
        for arn, service in zip(wanted, told, strict=True)
    }


def _registry(account: Account, arn: str) -> dict[str, object]:
    found: dict[str, object] = account.ask("servicediscovery", "get_service", Id=arn.rpartition("/")[2])[
        "Service"
    ]
    return found


def _namespace(service: dict[str, object]) -> object:
    dns = service.get("DnsConfig")
    return service.get("NamespaceId") or (dns.get("NamespaceId") if isinstance(dns, dict) else None)
