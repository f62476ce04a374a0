"""Whether services are found where the contract says: under their names, and behind the load balancer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from smoke.source.checkout import Examined, Finding
from smoke.source.rules import is_like
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Body, Resource
from smoke.source.terraform.references import declared, items, referenced
from smoke.source.terraform.values import Value, boolean, is_known, known_text, number, text

from .definitions import Definition, Definitions, containers, plainly, ports
from .entrances import HTTPS, entered, fronted, open_to_the_public, recorded
from .network import ListenerRule, answered, by_default, divided, forwards, patterns, takes, unclear

_TARGETS = "aws_lb_target_group"
#: The status of a healthy service.
OK = 200
#: A URL with which a container asks itself: its port and its path.
OF_ITSELF = re.compile(
    r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\])(?::([0-9]+))?(/[^\s\"'?#|;&)]*)?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A service's address in the contract.

    `host` is its name in the private zone `zone`, both empty if it has none; `public` the host name that the
    balancer routes to it; `health` the path of its health report, `port` its port, 0 for any; `paths` the
    paths that users request there.
    """

    host: str = ""
    zone: str = ""
    public: str = ""
    health: str = ""
    port: int = 0
    paths: tuple[str, ...] = ()


def connected(
    configuration: Configuration, defined: Definitions, addresses: Mapping[str, Address]
) -> Examined:
    """Return why services are not found at their addresses, by service name."""
    result = Examined()
    owners = _owners(defined)
    for each in defined.definitions:
        if each.service is None or not each.tasks:
            continue
        if each.service.attribute("cluster") is None:
            result.findings.append(each.service.finding(f"{each.name} is not in a cluster of the files"))
        # empty if the files do not say all of them
        listening = ports(each) if all(map(_numbered, each.tasks)) else {}
        for balanced in each.service.blocks("load_balancer"):
            _balanced(result, each, balanced, listening, addresses.get(each.name, Address()))
        address = addresses.get(each.name)
        if address is not None and address.health:
            _asked_by_itself(result, each, address, {port for one in listening.values() for port in one})
        if address is not None and address.host:
            _registered(configuration, result, each, address)
            _listens(result, each, address)
        if address is not None and address.public:
            _public(configuration, result, each, address)
            result.findings.extend(divided(configuration, owners, each.name, address.public, address.health))
    return result


def _owners(defined: Definitions) -> dict[str, set[str]]:
    """The services of each target group."""
    owners: dict[str, set[str]] = {}
    for each in defined.definitions:
        for value in _groups(each):
            if (group := referenced(value)) is not None:
                owners.setdefault(group.address, set()).add(each.name)
    return owners


def _groups(each: Definition) -> Iterator[Value]:
    """The target groups of a service, including those to which a deployment moves its tasks."""
    for block in each.service.blocks("load_balancer") if each.service is not None else ():
        yield from items(block.attribute("target_group_arn"))
        for other in block.blocks("advanced_configuration"):
            yield from items(other.attribute("alternate_target_group_arn"))


def _balanced(
    result: Examined, each: Definition, block: Body,
    listening: Mapping[str, Collection[float]], address: Address,
) -> None:  # fmt: skip
    name, port = block.attribute("container_name"), block.attribute("container_port")
    wanted = number(port)
    if listening and is_known(name) and text(name) not in listening:
        result.findings.append(block.finding(f"{each.name} has no container {text(name)}", name))
    elif listening and is_known(name) and wanted is not None and wanted not in listening[text(name)]:
        result.findings.append(block.finding(f"{text(name)} does not listen on port {wanted:g}", port))
    for value in items(block.attribute("target_group_arn")):
        group = declared(value, _TARGETS)
        if group is None:
            result.not_examined.append(
                block.finding(f"the target group of {each.name}: {text(value)}", value)
            )
            continue
        kind = group.attribute("target_type")
        own = {text(task.attribute("network_mode")) for task in each.tasks} == {"awsvpc"}
        if own and (kind is None or (is_known(kind) and text(kind) != "ip")):
            what = f"{group.address} does not accept IP targets, but awsvpc tasks need them"
            result.findings.append(group.finding(what, kind))
        _checked(result, group, each, listening if own else {}, address)  # else a host maps other ports
        result.findings.extend(_encrypted(group, each))


def _numbered(task: Resource) -> bool:
    """Whether the files say the name of each container of a task, and each port as a number."""
    read, unread = containers(task)
    names = [name for each in read if (name := each.entries.get("name")) is not None]
    mapped = [one for each in read for one in items(each.entries.get("portMappings"))]
    numbers = [number(port) for each in read for port in each.ports]
    return not unread and all(map(is_known, names)) and len(numbers) >= len(mapped) and None not in numbers


def _checked(
    result: Examined, group: Resource, each: Definition, listening: Mapping[str, Collection[float]],
    address: Address,
) -> None:  # fmt: skip
    """A target group must check health on the service's port and health path."""
    checks = group.blocks("health_check")
    ports = {port for held in listening.values() for port in held}
    wrong = partial(mistaken, group.address, each.name, ports, address.health)
    for check in checks:
        at = check.attribute("port")
        result.findings.extend(check.finding(what, at) for what in wrong(port=number(at) or 0))
    paths = [check.attribute("path") for check in checks if not _connects(check)]
    if not checks and not _connects(group):
        paths = [None]
    for path in paths:
        asked = text(path) if path is not None else "/"
        found = wrong(path="" if "${" in asked else asked)
        result.findings.extend(group.finding(what, path) for what in found)
    for check in checks if not _connects(group) else ():
        codes = check.attribute("matcher")
        result.findings.extend(check.finding(what, codes) for what in wrong(codes=known_text(codes)))


def mistaken(
    group: str, service: str, ports: Collection[float], health: str,
    *, port: float = 0, path: str = "", codes: str = "",
) -> Iterator[str]:  # fmt: skip
    """What is wrong with a target group's health check of a service with these ports and health route.

    Whatever is 0 or empty is not known, or not compared.
    """
    if port and ports and port not in ports:
        listening = " and ".join(f"{each:g}" for each in sorted(ports))
        yield f"{group} checks health on port {port:g}, but {service} listens on {listening}"
    if path and health and path.partition("?")[0] != health:
        yield f"{group} checks health at {path}, but {service} reports it at {health}"
    if codes and accepted(codes, OK) is False:
        yield f"{group} expects {codes} from healthy targets, but {service} answers {OK}"


def _encrypted(group: Resource, each: Definition) -> Iterator[Finding]:
    """A target group, or its check, that speaks TLS to a service whose own health check uses plain HTTP."""
    for block in (group, *group.blocks("health_check")) if plainly(each) else ():
        protocol = block.attribute("protocol")
        if protocol is not None and text(protocol) in ("HTTPS", "TLS"):
            what = f"{group.address} speaks {text(protocol)} to {each.name}, which speaks plain HTTP"
            yield block.finding(what, protocol)


def accepted(codes: str, status: int) -> bool | None:
    """Whether a list such as `200-299,301` has a status; None for statuses of gRPC."""
    ranges = [part.partition("-") for part in codes.replace(" ", "").split(",")]
    bounds = [(low, high or low) for low, _, high in ranges]
    if not all(len(each) == 3 and each.isdecimal() for pair in bounds for each in pair):
        return None
    return any(int(low) <= status <= int(high) for low, high in bounds)


def _listens(result: Examined, each: Definition, address: Address) -> None:
    """A service in the private zone must listen on the port that the others use."""
    assert each.service is not None
    mapped = [(container.task, port) for container in each.containers for port in container.ports]
    found = [number(port) for _, port in mapped]
    if address.port and found and None not in found and address.port not in found:
        listening = " and ".join(f"{port:g}" for port in found if port is not None)
        what = f"{each.name} listens on port {listening}, but the services use {address.port}"
        result.findings.append(mapped[0][0].finding(what, mapped[0][1]))


def _asked_by_itself(
    result: Examined, each: Definition, address: Address, listening: Collection[float]
) -> None:
    """A container's own check of the service's health must use a port on which the service listens."""
    for container, word in ((one, word) for one in each.containers for word in one.checks):
        for port, path in OF_ITSELF.findall(text(word)):
            if path == address.health and listening and float(port or 80) not in listening:
                what = f"a container of {each.name} checks its health on port {port or 80}"
                at = " and ".join(f"{one:g}" for one in sorted(listening))
                result.findings.append(container.finding(f"{what}, but it listens on {at}", word))


def _connects(block: Body) -> bool:
    """Whether a target group, or its check, does not speak HTTP and so only connects."""
    protocol = block.attribute("protocol")
    return protocol is not None and not text(protocol).startswith("HTTP")


def _registered(configuration: Configuration, result: Examined, each: Definition, address: Address) -> None:
    """A service must be registered under its name in the private zone."""
    assert each.service is not None
    names = []
    for block in each.service.blocks("service_registries"):
        for value in items(block.attribute("registry_arn")):
            registry = referenced(value)
            name = registry.attribute("name") if registry is not None else None
            zones = [
                referenced(zone)
                for dns in (registry.blocks("dns_config") if registry is not None else ())
                for zone in items(dns.attribute("namespace_id"))
            ]
            zone = next((one.attribute("name") for one in zones if one is not None), None)
            result.findings.extend(_unaddressed(registry, each) if registry is not None else ())
            result.findings.extend(_outside(configuration, zones, each))
            if name is None or zone is None:
                result.not_examined.append(
                    block.finding(f"the registry of {each.name}: {text(value)}", value)
                )
                return
            names.append(f"{text(name)}.{text(zone)}")
    wanted = f"{address.host}.{address.zone}"
    if wanted not in names and not any("${" in name or " or " in name for name in names):
        said = f"as {', '.join(names)}" if names else "under no name"
        what = f"{each.name} is found {said}, not as {wanted}"
        if names:
            result.findings.append(each.service.finding(what))
        else:
            configuration.lacks(result, what, (each.name,), each.service.finding(""))


def _outside(
    configuration: Configuration, zones: Iterable[Resource | None], each: Definition
) -> Iterator[Finding]:
    """A private zone that is not associated with the service's network."""
    if each.service is None or configuration.of_type("aws_route53_zone_association"):
        return
    groups = [referenced(group) for block in each.service.blocks("network_configuration")
              for group in items(block.attribute("security_groups"))]  # fmt: skip
    own = {_network(one.attribute("vpc_id")) for one in groups if one is not None}
    for zone in filter(None, zones):
        vpc = zone.attribute("vpc")
        kind, name = _network(vpc)
        if kind and own and all(other[0] == kind and other[1] != name for other in own):
            yield zone.finding(
                f"{zone.address} is not in the network of {each.name}, where its names do not resolve", vpc
            )


def _network(value: Value | None) -> tuple[str, str]:
    """How the files name a network, and its name; empty if they leave it open."""
    if value is None:
        return "", ""
    of = referenced(value)
    if of is not None:
        return ("made", of.address) if of.type == "aws_vpc" and of.block.type == "resource" else ("", "")
    return ("named", text(value)) if is_known(value) else ("", "")


def _unaddressed(registry: Resource, each: Definition) -> Iterator[Finding]:
    """A name that nothing resolves: the zone has its ports, but no address."""
    records = [record for dns in registry.blocks("dns_config") for record in dns.blocks("dns_records")]
    kinds = [kind for record in records for kind in items(record.attribute("type"))]
    if {*map(text, kinds)} == {"SRV"}:
        what = f"{registry.address} gives {each.name} no address: its records are SRV"
        yield registry.finding(what, kinds[0])


def _public(configuration: Configuration, result: Examined, each: Definition, address: Address) -> None:
    """The load balancer must route the requests for a public host name to a service."""
    assert each.service is not None
    groups = list(_groups(each))
    own = {group.address for value in groups if (group := referenced(value)) is not None}
    named: list[tuple[Body, Resource | None]] = []
    of_any: list[tuple[Body, Resource | None]] = []
    for rule in configuration.of_type("aws_lb_listener_rule"):
        paths = patterns(rule, "path_pattern")
        of_hosts = any(condition.blocks("host_header") for condition in rule.blocks("condition"))
        asked = not paths or any(is_like(address.health, path) or "${" in path for path in paths)
        if asked and (
            not of_hosts or any(is_like(address.public, host) for host in patterns(rule, "host_header"))
        ):
            listener = rule.attribute("listener_arn")
            kept = named if of_hosts else of_any
            kept += [(action, referenced(listener)) for action in rule.blocks("action")]
    default = by_default(configuration)
    _diverted(configuration, result, each, address, own)
    defaults = {at.address for value, at in _ways(default) if at is not None and _leads_to(value, own)}
    result.findings.extend(answered(configuration, address.public, address.paths, own, defaults))
    ways = _ways(named or default)
    if not any(_leads_to(value, own) for value, _ in ways):
        ways += [(value, at) for value, at in _ways(of_any) if _leads_to(value, own)]
    leading = [at for value, at in ways if _leads_to(value, own)]
    if leading:
        leading += [at for value, at in _ways(default) if _leads_to(value, own)]
        _at_its_port(configuration, result, each, address, leading)
        if not fronted(configuration, address.public):
            to_it = [way for way in (*ways, *_ways(default)) if _leads_to(way[0], own)]
            for found in dict.fromkeys(entered(configuration, address.public, to_it)):
                configuration.lacks(result, found.what, ("",), found)  # any module may have the balancer
            to = [group for value in groups if (group := referenced(value)) is not None]
            result.findings.extend(recorded(configuration, each.name, address.public, to))
        result.findings.extend(open_to_the_public(configuration, each.name, address.public, leading))
    elif open_ := [
        *(value for value in (*groups, *(value for value, _ in ways)) if referenced(value) is None),
        *unclear(configuration),
    ]:
        result.not_examined.append(
            each.service.finding(f"where {address.public} leads: {text(open_[0])}", open_[0])
        )
    else:
        what = f"no load balancer sends {address.public} to {each.name}"
        configuration.lacks(
            result, what, (each.name, "alb", "balancer", "listener"), each.service.finding("")
        )


def _ways(actions: Iterable[tuple[Body, Resource | None]]) -> list[tuple[Value, Resource | None]]:
    """The target groups to which actions forward, each with its listener."""
    return [(value, at) for action, at in actions for value in forwards(action)]


def _leads_to(value: Value, own: Collection[str]) -> bool:
    group = referenced(value)
    return group is not None and group.address in own


def _at_its_port(
    configuration: Configuration, result: Examined, each: Definition, address: Address,
    listeners: Sequence[Resource | None],
) -> None:  # fmt: skip
    """A public host is an https URL without a port, so one of its listeners must be on 443."""
    elsewhere = [_elsewhere(listener) for listener in listeners]
    if None in elsewhere or fronted(configuration, address.public):
        return
    at = next(listener for listener in listeners if listener is not None)
    what = f"{at.address} serves {address.public} for {each.name} on port {elsewhere[0]:g}, not on {HTTPS}"
    configuration.lacks(result, what, ("cdn", "cloudfront", "gateway"), at.finding("", at.attribute("port")))


def _elsewhere(listener: Resource | None) -> float | None:
    """The port of a listener that serves TLS to the public on another port than 443."""
    if listener is None or text(listener.attribute("protocol")) not in ("HTTPS", "TLS"):
        return None
    balancer = referenced(listener.attribute("load_balancer_arn"))
    internal = balancer.attribute("internal") if balancer is not None else None
    at = number(listener.attribute("port"))
    return None if at == HTTPS or (internal is not None and boolean(internal) is not False) else at


def _diverted(
    configuration: Configuration, result: Examined, each: Definition, address: Address, own: Collection[str]
) -> None:
    """No earlier rule of its listener may route the health path of a public host elsewhere."""
    fitting = [
        ListenerRule.of(rule)
        for rule in configuration.of_type("aws_lb_listener_rule")
        if takes(rule, address.public, address.health)
    ]
    for first in fitting:
        later = [rule for rule in fitting if rule.listener == first.listener and rule.rank > first.rank]
        if (
            first.groups
            and not {*first.groups} & {*own}
            and any({*rule.groups} & {*own} for rule in later)
            and patterns(first.resource, "path_pattern")
        ):
            what = f"{first.resource.address} sends {address.public}{address.health} to {first.groups[0]}"
            result.findings.append(first.resource.finding(f"{what}, not to {each.name}"))
