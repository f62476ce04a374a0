"""What things are called: names of contract section 4, hosts of a load balancer, names in Cloud Map."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from .account import AwsAccount, at_once

SERVICES = ("api", "worker", "finn", "dixie", "pgbouncer")
#: Services whose image the platform does not build: a release tag of its vendor pins it, and a pull-through
#: cache may fetch it again.
FOREIGN = ("pgbouncer",)
#: Which service's image a build runs; the worker has no health route that could name its build.
BUILDS = {"freeside": "api", "finn": "finn", "dixie": "dixie"}
#: The ports by which services know each other (contract 2 to 4).
PORTS = {"finn": 3000, "dixie": 3001, "pgbouncer": 6432}
#: What a service's task has in its environment: Dixie writes to its database, and needs no NATS (contract 3).
SETTINGS = {"dixie": {"NATS_OPTIONAL": "true"}}
#: What else a service's task has to say, where it says it: the pooling of contract section 4.
IF_SET = {**SETTINGS, "pgbouncer": {"POOL_MODE": "transaction"}}
#: What Cloud Map resolves.
HOSTS = ("freeside", "finn", "dixie", "pgbouncer")
#: Where the URL of a public host leads: it names no port.
HTTPS = 443
#: A certificate that ends before is about to.
CERTIFICATE_DAYS = 14
DASHBOARDS = ("overview", "service-health")
#: The one-shot task definitions, and the service whose deployment each one comes before.
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
        """What the names of all log groups begin with."""
        return f"/ecs/{self.prefix}/"

    @property
    def app_metrics(self) -> str:
        """The namespace of the platform's own metrics."""
        return f"{self.prefix}/AppMetrics"

    def full(self, short: str) -> str:
        """The full name of a service, family, dashboard or alarm."""
        return f"{self.prefix}-{short}"

    def short(self, full: str) -> str:
        """A full name without the prefix; a foreign name as it is."""
        return full.removeprefix(f"{self.prefix}-")


#: In place of a target group: the balancer answers by itself.
FIXED = "the balancer's own answer"


@dataclass(frozen=True, slots=True)
class BalancerRoute:
    """A target group (its ARN) behind a balancer (its ARN), or FIXED for none, reached by these hosts.

    A host may be a pattern. `paths` are those of the rule, if it has any; of a listener's rules that fit, the
    one with the lowest `rank` decides. `port` is another than that of https only where it serves TLS to the
    public, `expiring` says what is wrong with the listener's certificate for some hosts.
    """

    target_group: str
    balancer: str
    hosts: tuple[str, ...]
    paths: tuple[str, ...] = ()
    rank: float = math.inf
    listener: str = ""
    rule: str = ""
    port: int = HTTPS
    expiring: Mapping[str, str] = field(default_factory=dict)

    def serves(self, host: str) -> bool:
        """Whether one of its hosts is this one, or a pattern of it."""
        return any(fnmatchcase(host, each.lower()) for each in self.hosts)

    @property
    def addresses(self) -> list[str]:
        """What the hosts are reached by: on another port than that of https, not by their names alone."""
        return [host if self.port == HTTPS else f"{host} on port {self.port}" for host in self.hosts]

    @property
    def dimensions(self) -> dict[str, str]:
        """The dimensions of the metrics that the balancer publishes for the target group."""
        return {
            "TargetGroup": self.target_group.rpartition(":")[2],
            "LoadBalancer": self.balancer.partition(":loadbalancer/")[2],
        }

    @property
    def namespace(self) -> str:
        """The namespace of those metrics."""
        return "AWS/NetworkELB" if ":loadbalancer/net/" in self.balancer else "AWS/ApplicationELB"


def read_routes(account: AwsAccount, names: Names, groups: Iterable[str] = ()) -> list[BalancerRoute]:
    """The routes of the platform's balancers: those of its name, and of others before the target groups.

    A default route takes the hosts of its listener's certificate that no rule takes.
    """
    shared = {arn for found in at_once(lambda group: _before(account, group), groups) for arn in found}
    schemes = {
        each["LoadBalancerArn"]: each.get("Scheme")
        for each in account.pages("elbv2", "describe_load_balancers", "LoadBalancers")
        if each["LoadBalancerName"].startswith(f"{names.prefix}-") or each["LoadBalancerArn"] in shared
    }
    listeners = [
        listener for found in at_once(lambda arn: _listeners(account, arn), schemes) for listener in found
    ]
    rules = at_once(lambda each: _rules(account, each), listeners)
    certified = at_once(lambda each: _certified(account, each), listeners)
    return [
        replace(route, port=port_of(listener, schemes[listener["LoadBalancerArn"]]), expiring=expiring)
        for listener, found, hosts in zip(listeners, rules, certified, strict=True)
        for expiring in [{name: why for name, why in hosts.items() if why}]
        for route in routes_of(found, listener["LoadBalancerArn"], hosts)
    ]


def _before(account: AwsAccount, group: str) -> list[str]:
    """The balancers that a target group names."""
    found = account.find("elbv2", "describe_target_groups", ("TargetGroupNotFound",), TargetGroupArns=[group])
    return [arn for each in (found or {}).get("TargetGroups", ()) for arn in each.get("LoadBalancerArns", ())]


def port_of(listener: Mapping[str, Any], scheme: str | None) -> int:
    """The port on which a listener serves TLS to the public; that of https for all other listeners."""
    public = scheme == "internet-facing" and listener.get("Protocol") in ("HTTPS", "TLS")
    return int(listener.get("Port", HTTPS)) if public else HTTPS


def routes_to(routes: Iterable[BalancerRoute], target_groups: Sequence[str]) -> list[BalancerRoute]:
    """The routes to any of the target groups, the one with the most hosts first."""
    found = [route for route in routes if route.target_group in target_groups]
    return sorted(found, key=lambda route: -len(route.hosts))


def routes_of(
    rules: Sequence[Mapping[str, Any]], balancer: str, certified: Iterable[str]
) -> list[BalancerRoute]:
    """The routes of one listener; `certified` are the names on its certificate."""
    hosts = [_hosts(rule) for rule in rules]
    taken = {host for found in hosts for host in found}
    left = tuple(name for name in certified if not any(fnmatchcase(name, each.lower()) for each in taken))
    return [
        BalancerRoute(group, balancer, left if rule.get("IsDefault") else tuple(found), *_precedence(rule))
        for rule, found in zip(rules, hosts, strict=True)
        for group in _groups(rule)
    ]


def _listeners(account: AwsAccount, balancer: str) -> list[Any]:
    return account.pages("elbv2", "describe_listeners", "Listeners", LoadBalancerArn=balancer)


def _rules(account: AwsAccount, listener: Mapping[str, Any]) -> list[Any]:
    return account.pages("elbv2", "describe_rules", "Rules", ListenerArn=listener["ListenerArn"])


def _certified(account: AwsAccount, listener: Mapping[str, Any]) -> dict[str, str]:
    """The names on a listener's certificate, each with what is wrong with that.

    One that is not ACM's may have any name.
    """
    names: dict[str, str] = {}
    for each in listener.get("Certificates", ()):
        if ":acm:" not in each["CertificateArn"]:
            names["*"] = ""
            continue
        described = account.ask("acm", "describe_certificate", CertificateArn=each["CertificateArn"])
        certificate, why = described["Certificate"], expiring_of(described["Certificate"])
        found = [certificate["DomainName"], *certificate.get("SubjectAlternativeNames", ())]
        names |= dict.fromkeys(found, why)
    return names


def expiring_of(certificate: Mapping[str, Any], now: datetime | None = None) -> str:
    """Why a certificate from DescribeCertificate lasts no two weeks; empty where it does."""
    status, ends = certificate.get("Status", "ISSUED"), certificate.get("NotAfter")
    if status != "ISSUED":
        return f"is {status}"
    soon = (now or datetime.now(UTC)) + timedelta(days=CERTIFICATE_DAYS)
    return f"ends on {ends:%Y-%m-%d}" if ends and ends < soon else ""


def _hosts(rule: Mapping[str, Any]) -> list[str]:
    return [
        host
        for condition in rule.get("Conditions", ())
        if condition.get("Field") == "host-header"
        for host in condition.get("HostHeaderConfig", {}).get("Values") or condition.get("Values", ())
    ]


def _precedence(rule: Mapping[str, Any]) -> tuple[tuple[str, ...], float, str, str]:
    """The paths that a rule takes, empty for all, its rank, the last where more must fit; its listener.

    And what the rule itself is known by.
    """
    conditions = {each.get("Field"): each for each in rule.get("Conditions", ())}
    paths = conditions.get("path-pattern", {})
    patterns = tuple(paths.get("PathPatternConfig", {}).get("Values") or paths.get("Values", ()))
    priority, arn = str(rule.get("Priority", "")), str(rule.get("RuleArn", ""))
    is_last = not priority.isdigit() or not conditions.keys() <= {"host-header", "path-pattern"}
    return patterns, math.inf if is_last else int(priority), arn.rpartition("/")[0], arn


def diverted(
    routes: Sequence[BalancerRoute], host: str, path: str, own: Sequence[str], others: Collection[str]
) -> BalancerRoute | None:
    """The route that takes a path of a host from its target groups to those of others, or answers it.

    It may be one of the same rule, which shares the requests between several target groups.
    """
    return next(
        (
            taking
            for route in routes
            if route.target_group in own and route.serves(host)
            for taking in routes
            if taking.listener == route.listener
            if taking.rank < route.rank or taking.rule == route.rule
            if taking.target_group in {*others, FIXED} and (not taking.hosts or taking.serves(host))
            if not taking.paths or any(fnmatchcase(path, pattern) for pattern in taking.paths)
        ),
        None,
    )


def _groups(rule: Mapping[str, Any]) -> list[str]:
    """The target groups that a rule sends anything to: one of weight 0 waits for the next deployment.

    FIXED is one of them where the balancer answers by itself, has people log in, or sends the rule's hosts to
    another one.
    """
    found = []
    hosts = _hosts(rule)
    for action in rule.get("Actions", ()):
        weighted = action.get("ForwardConfig", {}).get("TargetGroups", ())
        named = [action["TargetGroupArn"]] if action.get("TargetGroupArn") else []
        found += [each["TargetGroupArn"] for each in weighted if each.get("Weight", 1)] or named
        elsewhere = action.get("RedirectConfig", {}).get("Host", "#{host}")
        leaves = bool(hosts) and "#{host}" not in elsewhere and elsewhere not in hosts
        asks = any(
            action[how].get("OnUnauthenticatedRequest", "authenticate") != "allow"
            for how in ("AuthenticateOidcConfig", "AuthenticateCognitoConfig")
            if how in action
        )
        found += [FIXED] if action.get("Type") == "fixed-response" or leaves or asks else []
    return found


#: What an instance may be reached by, a balancer's name among it.
_ADDRESSES = ("AWS_INSTANCE_IPV4", "AWS_INSTANCE_IPV6", "AWS_INSTANCE_CNAME", "AWS_ALIAS_DNS_NAME")
_ABSENT = ("NamespaceNotFound", "ServiceNotFound", "InstanceNotFound")


def resolve(account: AwsAccount, names: Names, host: str) -> list[str]:
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
        address = next((attributes[name] for name in _ADDRESSES if attributes.get(name)), "")
        if address and instance.get("HealthStatus") != "UNHEALTHY":
            port = attributes.get("AWS_INSTANCE_PORT")
            found.append(f"{address}:{port}" if port else address)
    return found


def read_records(account: AwsAccount, names: Names, hosts: Collection[str]) -> list[tuple[str, str]]:
    """The records of this environment in the account's zones: each one's name, and what it leads to.

    They are those of its hosts, below these, in its namespace, and those with its name as a label.
    """
    zones = account.pages("route53", "list_hosted_zones", "HostedZones")
    near = [
        each["Id"]
        for each in zones
        for zone in [each["Name"].rstrip(".")]
        if any(_is_below(name, zone) for name in (*hosts, names.namespace))
    ]
    listed = at_once(
        lambda zone: account.pages(
            "route53", "list_resource_record_sets", "ResourceRecordSets", HostedZoneId=zone
        ),
        near,
    )
    label = names.prefix.rpartition("-")[2]
    return [
        (name, value)
        for records in listed
        for record in records
        for name in [record["Name"].rstrip(".")]
        if label in name.split(".") or any(_is_below(name, host) for host in (*hosts, names.namespace))
        for value in (
            *(each["Value"] for each in record.get("ResourceRecords", ())),
            *filter(None, [record.get("AliasTarget", {}).get("DNSName")]),
        )
    ]


def _is_below(name: str, zone: str) -> bool:
    return f".{name}".endswith(f".{zone}")


def read_secret_names(account: AwsAccount, names: Names) -> list[str]:
    """The names of the platform's secrets, without those that are marked for deletion."""
    own = [{"Key": "name", "Values": [f"{names.prefix}/"]}]
    listed = account.pages("secretsmanager", "list_secrets", "SecretList", Filters=own)
    return [each["Name"] for each in listed]


def read_registered(account: AwsAccount, registries: Iterable[str]) -> dict[str, str]:
    """The full host name of each registry, by its ARN."""
    wanted = list(dict.fromkeys(registries))
    if not wanted:
        return {}
    described = at_once(lambda arn: _registry(account, arn), wanted)
    namespaces = {
        each["Id"]: each["Name"]
        for each in account.pages("servicediscovery", "list_namespaces", "Namespaces")
    }
    return {
        arn: f"{service['Name']}.{namespaces.get(_namespace(service), '?')}"
        for arn, service in zip(wanted, described, strict=True)
    }


def _registry(account: AwsAccount, arn: str) -> dict[str, object]:
    found: dict[str, object] = account.ask("servicediscovery", "get_service", Id=arn.rpartition("/")[2])[
        "Service"
    ]
    return found


def _namespace(service: dict[str, object]) -> object:
    dns = service.get("DnsConfig")
    return service.get("NamespaceId") or (dns.get("NamespaceId") if isinstance(dns, dict) else None)
