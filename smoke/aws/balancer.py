"""Load balancers: where they route each host's requests, with which certificate and to which targets.

Also how target groups check tasks' health, and the results.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from smoke.source.infrastructure.connections import mistaken

from .account import AwsAccount, at_once
from .ecs import EcsService
from .names import Names

#: The port of a public host's URL without a port.
HTTPS = 443
#: Text between a host and any other port.
AT_PORT = " on port "
#: A certificate that expires within this time counts as expiring.
CERTIFICATE_DAYS = 14
_NO_GROUP, _NO_CERTIFICATE = ("TargetGroupNotFound",), ("ResourceNotFoundException",)
#: ACM's states of a renewal that does not continue by itself.
_NOT_RENEWED = ("FAILED", "PENDING_VALIDATION")
#: In place of a target group: the load balancer answers itself.
FIXED = "the balancer's own answer"


@dataclass(frozen=True, slots=True)
class BalancerRoute:
    """A target group (its ARN) behind a balancer (its ARN), or FIXED for none, reached by these hosts.

    A host may be a pattern. `conditions` are the rule's, as AWS describes them; of a listener's matching
    rules, the one with the lowest `rank` decides. `port` differs from 443 only if the listener serves TLS to
    the public on another port; `expiring` says what is wrong with the listener's certificate for some hosts;
    `proved` are the names on all its certificates. If it `verifies`, it refuses callers without a client
    certificate; `listens` is its listener's port.
    """

    target_group: str
    balancer: str
    hosts: tuple[str, ...]
    rank: float = math.inf
    listener: str = ""
    conditions: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)
    port: int = HTTPS
    expiring: Mapping[str, str] = field(default_factory=dict)
    proved: tuple[str, ...] = ()
    verifies: bool = False
    listens: int = HTTPS

    def proves(self, host: str) -> bool:
        """Whether its listener's certificate covers a host; a star there matches one label."""
        host, found = host.lower(), [each.lower() for each in self.proved]
        return bool({"*", host, f"*.{host.partition('.')[2]}"} & {*found})

    def serves(self, host: str) -> bool:
        """Whether one of its hosts, or a host pattern, matches this one."""
        return any(fnmatchcase(host, each.lower()) for each in self.hosts)

    @property
    def addresses(self) -> list[str]:
        """The addresses of the hosts: with the port, unless it is 443."""
        return [host if self.port == HTTPS else f"{host}{AT_PORT}{self.port}" for host in self.hosts]

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


def describe_balancers(account: AwsAccount) -> dict[str, Mapping[str, Any]]:
    """Every load balancer of the account and region as AWS describes it, by ARN."""
    found = account.pages("elbv2", "describe_load_balancers", "LoadBalancers")
    return {each["LoadBalancerArn"]: each for each in found}


def read_routes(account: AwsAccount, names: Names, groups: Iterable[str] = ()) -> list[BalancerRoute]:
    """The routes of the platform's balancers: those with its name, and others in front of its target groups.

    A default route serves the hosts of its listener's certificate that no rule matches.
    """
    shared = {arn for found in at_once(lambda group: _before(account, group), groups) for arn in found}
    schemes = {
        arn: each.get("Scheme")
        for arn, each in describe_balancers(account).items()
        if each["LoadBalancerName"].startswith(f"{names.prefix}-") or arn in shared
    }
    listeners = [
        listener for found in at_once(lambda arn: listeners_of(account, arn), schemes) for listener in found
    ]
    rules = at_once(lambda each: rules_of(account, each), listeners)
    certified = at_once(lambda each: _certified(account, each), listeners)
    return [
        replace(
            route,
            port=port_of(listener, schemes[listener["LoadBalancerArn"]]),
            expiring=expiring,
            proved=tuple(hosts),
            listens=int(listener.get("Port", HTTPS)),
            verifies=listener.get("MutualAuthentication", {}).get("Mode") == "verify",
        )
        for listener, found, hosts in zip(listeners, rules, certified, strict=True)
        for expiring in [{name: why for name, why in hosts.items() if why}]
        for route in routes_of(found, listener["LoadBalancerArn"], hosts, listener)
    ]


def _before(account: AwsAccount, group: str) -> list[str]:
    """The balancers in front of a target group."""
    found = account.find("elbv2", "describe_target_groups", _NO_GROUP, TargetGroupArns=[group])
    return [arn for each in (found or {}).get("TargetGroups", ()) for arn in each.get("LoadBalancerArns", ())]


def port_of(listener: Mapping[str, Any], scheme: str | None) -> int:
    """The port on which a listener serves TLS to the public; 443 for all other listeners."""
    public = scheme == "internet-facing" and listener.get("Protocol") in ("HTTPS", "TLS")
    return int(listener.get("Port", HTTPS)) if public else HTTPS


def routes_to(routes: Iterable[BalancerRoute], target_groups: Sequence[str]) -> list[BalancerRoute]:
    """The routes to any of the target groups, the one with the most hosts first."""
    found = [route for route in routes if route.target_group in target_groups]
    return sorted(found, key=lambda route: -len(route.hosts))


def routes_of(
    rules: Sequence[Mapping[str, Any]],
    balancer: str,
    certified: Iterable[str],
    listener: Mapping[str, Any] = MappingProxyType({}),
) -> list[BalancerRoute]:
    """The routes of one listener; `certified` are the names on its certificate."""
    hosts = [_hosts(rule) for rule in rules]
    # a rule with further conditions leaves requests that do not match to the default
    alone = [len(rule.get("Conditions", ())) == 1 for rule in rules]
    taken = {host for found, exclusive in zip(hosts, alone, strict=True) if exclusive for host in found}
    left = tuple(name for name in certified if not any(fnmatchcase(name, each.lower()) for each in taken))
    return [
        BalancerRoute(
            group,
            balancer,
            left if rule.get("IsDefault") else tuple(found or _any_host(rule)),
            rank=int(rule["Priority"]) if str(rule.get("Priority", "")).isdigit() else math.inf,
            listener=str(rule.get("RuleArn", "")).rpartition("/")[0],
            conditions=tuple(rule.get("Conditions", ())),
        )
        for rule, found in zip(rules, hosts, strict=True)
        for group in _groups(rule, listener)
    ]


def listeners_of(account: AwsAccount, balancer: str) -> list[Any]:
    """The listeners of a balancer."""
    return account.pages("elbv2", "describe_listeners", "Listeners", LoadBalancerArn=balancer)


def rules_of(account: AwsAccount, listener: Mapping[str, Any]) -> list[Any]:
    """The rules of a listener."""
    return account.pages("elbv2", "describe_rules", "Rules", ListenerArn=listener["ListenerArn"])


def _certified(account: AwsAccount, listener: Mapping[str, Any]) -> dict[str, str]:
    """The names on a listener's certificates, each with what is wrong with its certificate.

    A certificate from outside ACM may have any name, and so may one behind a listener that passes TLS
    through. If a good certificate has the same name, nothing is wrong.
    """
    passes = (listener.get("Protocol"), listener.get("Port")) == ("TCP", HTTPS)
    names = {"*": ""} if passes else _on(account, listener.get("Certificates", ()))
    if passes or not names:
        return names
    others = account.pages(
        "elbv2",
        "describe_listener_certificates",
        "Certificates",
        absent=("InvalidAction",),  # a custom endpoint may not know it
        ListenerArn=listener["ListenerArn"],
    )
    own = {each["CertificateArn"] for each in listener.get("Certificates", ())}
    further = _on(account, [each for each in others if each["CertificateArn"] not in own])
    good = [name for name, why in further.items() if not why]
    return {
        name: "" if any(fnmatchcase(name, each) or fnmatchcase(each, name) for each in good) else why
        for name, why in {**further, **names}.items()
    }


def _on(account: AwsAccount, certificates: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for each in certificates:
        if ":acm:" not in each["CertificateArn"]:
            names["*"] = ""
            continue
        described = account.find(
            "acm",
            "describe_certificate",
            ("ResourceNotFoundException",),
            CertificateArn=each["CertificateArn"],
        )
        if described is None:
            names["*"] = "does not exist"
            continue
        certificate, why = described["Certificate"], expiring_of(described["Certificate"])
        found = [certificate["DomainName"], *certificate.get("SubjectAlternativeNames", ())]
        names |= dict.fromkeys(found, why)
    return names


def expiring_of(certificate: Mapping[str, Any], now: datetime | None = None) -> str:
    """Why a certificate from DescribeCertificate expires in two weeks or is not renewed; empty if neither."""
    status, ends = certificate.get("Status", "ISSUED"), certificate.get("NotAfter")
    if status != "ISSUED":
        return f"is {status}"
    renewal = certificate.get("RenewalSummary", {}).get("RenewalStatus")
    if renewal in _NOT_RENEWED:
        return f"is not renewed: {renewal}"
    soon = (now or datetime.now(UTC)) + timedelta(days=CERTIFICATE_DAYS)
    return f"ends on {ends:%Y-%m-%d}" if ends and ends < soon else ""


def _hosts(rule: Mapping[str, Any]) -> list[str]:
    return [
        host
        for condition in rule.get("Conditions", ())
        if condition.get("Field") == "host-header"
        for host in condition.get("HostHeaderConfig", {}).get("Values") or condition.get("Values", ())
    ]


def _any_host(rule: Mapping[str, Any]) -> list[str]:
    """A host described by a regular expression may be any host."""
    return ["*" for each in rule.get("Conditions", ()) if each.get("HostHeaderConfig", {}).get("RegexValues")]


def _turns_away(redirect: Mapping[str, Any], listener: Mapping[str, Any]) -> bool:
    """Whether a redirect of an HTTPS listener leads to itself, to plain HTTP or to an unusual port."""
    protocol, port = redirect.get("Protocol", "#{protocol}"), str(redirect.get("Port", "#{port}"))
    usual = protocol != "HTTP" and port == str(HTTPS) and listener.get("Port") != HTTPS
    return listener.get("Protocol") == "HTTPS" and not usual


def _groups(rule: Mapping[str, Any], listener: Mapping[str, Any]) -> list[str]:
    """The target groups that a rule sends anything to; one of weight 0 waits for the next deployment.

    FIXED stands for an answer of the balancer itself, a login, or a redirect to another path or host, to
    plain HTTP, or back to where the call came from.
    """
    found = []
    hosts = _hosts(rule)
    for action in rule.get("Actions", ()):
        weighted = action.get("ForwardConfig", {}).get("TargetGroups", ())
        named = [action["TargetGroupArn"]] if action.get("TargetGroupArn") else []
        found += [each["TargetGroupArn"] for each in weighted if each.get("Weight", 1)] or named
        elsewhere = action.get("RedirectConfig", {}).get("Host", "#{host}")
        leaves = "#{host}" not in elsewhere and elsewhere not in hosts
        leaves |= action.get("RedirectConfig", {}).get("Path", "/#{path}") != "/#{path}"
        leaves |= action.get("Type") == "redirect" and _turns_away(action.get("RedirectConfig", {}), listener)
        asks = any(
            action[how].get("OnUnauthenticatedRequest", "authenticate") != "allow"
            for how in ("AuthenticateOidcConfig", "AuthenticateCognitoConfig")
            if how in action
        )
        found += [FIXED] if action.get("Type") == "fixed-response" or leaves or asks else []
    return found


#: States of a target that gets requests; "unavailable" means that health checks are off.
_SERVING = ("healthy", "unavailable")
_PORT = re.compile(r":\d+$")
_IPV4 = re.compile(r"\d+(?:\.\d+){3}")


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """A target group: port and path of its health check, and the states of its targets.

    The port is 0 if it uses each target's own port, the path empty if it only connects; `codes` are the
    statuses that count as healthy, such as `200-299`. It `speaks` a version of HTTP, and `forwards` by a
    protocol.
    """

    name: str
    port: int
    path: str
    targets: Mapping[str, str]
    codes: str = ""
    arn: str = ""
    speaks: str = ""
    forwards: str = ""

    def mistaken(
        self, service: str, ports: Collection[int], health: str, *, plain: bool = False
    ) -> Iterator[str]:
        """What is wrong with how it checks a service that listens on `ports`, with the health route `health`.

        A `plain` service has no TLS on any of these ports.
        """
        yield from mistaken(
            self.name, service, ports, health, port=self.port, path=self.path, codes=self.codes
        )
        if self.speaks == "GRPC":
            yield f"{self.name} forwards only gRPC, but {service} speaks JSON over HTTP"
        if self.forwards in ("HTTPS", "TLS") and plain:
            yield f"{self.name} forwards by {self.forwards}, but {service} listens without TLS"


def idle(groups: Sequence[TargetGroup]) -> str:
    """Why no target of any of the groups gets requests; empty if one does, or if there is no group."""
    states = {target: state for group in groups for target, state in group.targets.items()}
    if not groups or any(state.partition(" ")[0] in _SERVING for state in states.values()):
        return ""
    seen = ", ".join(f"{target} is {state}" for target, state in states.items()) or "it has none"
    return f"no target of {' or '.join(group.name for group in groups)} is healthy: {seen}"


def crowded(
    groups: Sequence[TargetGroup],
    services: Iterable[EcsService],
    addresses: Callable[[str], Collection[str] | None] = lambda _: None,
) -> str:
    """A target group with more active targets than its services run tasks, or with other targets.

    `addresses` are those of a service's tasks, None if they have none of their own. During a deployment, or
    while a service scales, targets come and go and prove nothing.
    """
    every = [*services]
    for group in groups:
        users = [each for each in every if group.arn in each.target_groups]
        running = sum(each.running for each in users)
        moving = any(map(_is_moving, users))
        serving = [name for name, state in group.targets.items() if state.partition(" ")[0] in _SERVING]
        # a task with its own address may be registered with several ports
        tasks = {name if name.startswith("i-") else _PORT.sub("", name) for name in serving}
        if running and not moving and len(tasks) > running:
            return f"{group.name} has {len(tasks)} targets and {running} tasks: {', '.join(sorted(serving))}"
        if running and not moving and (others := strange(tasks, [addresses(each.name) for each in users])):
            return f"{group.name} sends requests to {others}, which none of its tasks has as its address"
    return ""


def ailing(groups: Iterable[TargetGroup], services: Iterable[EcsService]) -> str:
    """The targets that fail their health checks although their services do not change; empty if none does."""
    moving = any(map(_is_moving, services))
    failing = [
        f"{target} of {group.name} is {state}"
        for group in groups
        for target, state in group.targets.items()
        if state.partition(" ")[0] == "unhealthy" and not moving
    ]
    return " and ".join(failing)


def _is_moving(service: EcsService) -> bool:
    return not service.is_settled or service.running != service.desired


def strange(seen: Iterable[str], addresses: Iterable[Collection[str] | None]) -> str:
    """The IPv4 addresses that no task has; none if tasks may have other addresses."""
    held = [*addresses]
    if None in held:
        return ""
    own = {one for each in held for one in each or ()}
    return " and ".join(sorted(each for each in {*seen} - own if _IPV4.fullmatch(each)))


def read_target_groups(account: AwsAccount, arns: Iterable[str]) -> list[TargetGroup]:
    """Target groups by their ARNs; one that does not exist is left out."""

    def read(arn: str) -> TargetGroup | None:
        found = account.find("elbv2", "describe_target_groups", _NO_GROUP, TargetGroupArns=[arn])
        targets = account.find("elbv2", "describe_target_health", _NO_GROUP, TargetGroupArn=arn)
        if found is None or targets is None:
            return None
        return target_group_of(found["TargetGroups"][0], targets["TargetHealthDescriptions"])

    return [group for group in at_once(read, dict.fromkeys(arns)) if group is not None]


def target_group_of(described: Mapping[str, Any], targets: Sequence[Mapping[str, Any]]) -> TargetGroup:
    """A target group from DescribeTargetGroups and DescribeTargetHealth."""
    port = str(described.get("HealthCheckPort", ""))
    asks = str(described.get("HealthCheckProtocol", "")).startswith("HTTP")
    return TargetGroup(
        name=described["TargetGroupName"],
        port=int(port) if port.isdecimal() else 0,
        path=described.get("HealthCheckPath", "") if asks else "",
        targets={
            f"{each['Target']['Id']}:{each['Target'].get('Port', '')}".rstrip(":"): " ".join(
                filter(None, [each["TargetHealth"]["State"], each["TargetHealth"].get("Reason")])
            )
            for each in targets
        },
        codes=described.get("Matcher", {}).get("HttpCode", "") if asks else "",
        arn=described.get("TargetGroupArn", ""),
        speaks=described.get("ProtocolVersion", ""),
        forwards=described.get("Protocol", ""),
    )
