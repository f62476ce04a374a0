"""Whether services are found: under the contract's names, in the private zone, behind the load balancer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from .checkout import Examined
from .definitions import Definition, Definitions, ports
from .iam import fits
from .identities import items, referenced
from .terraform import Body, Configuration
from .values import Value, flat, is_known, number, text

_TARGETS = "aws_lb_target_group"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the contract says that a service is found.

    `host` is its name in the private zone `zone`, both empty where it has none; `public` the host name that
    the balancer sends to it; `health` the path of its health report.
    """

    host: str = ""
    zone: str = ""
    public: str = ""
    health: str = ""


def connected(
    configuration: Configuration, defined: Definitions, addresses: Mapping[str, Address]
) -> Examined:
    """Return what keeps services from being found at their addresses, by the names of the services."""
    result = Examined()
    for each in defined.definitions:
        if each.service is None or not each.tasks:
            continue
        if each.service.attribute("cluster") is None:
            result.findings.append(each.service.finding(f"{each.name} is in no cluster of the files"))
        listening = ports(each)
        for balanced in each.service.blocks("load_balancer"):
            _balanced(configuration, result, each, balanced, listening, addresses.get(each.name, Address()))
        address = addresses.get(each.name)
        if address is not None and address.host:
            _registered(configuration, result, each, address)
        if address is not None and address.public:
            _public(configuration, result, each, address)
    return result


def _balanced(
    configuration: Configuration, result: Examined, each: Definition, block: Body,
    listening: Mapping[str, Collection[float]], address: Address,
) -> None:  # fmt: skip
    name, port = block.attribute("container_name"), block.attribute("container_port")
    wanted = number(flat(port)) if port is not None else None
    if name is not None and is_known(name) and text(flat(name)) not in listening:
        result.findings.append(block.finding(f"{each.name} has no container {text(flat(name))}", name))
    elif (
        name is not None
        and is_known(name)
        and wanted is not None
        and wanted not in listening[text(flat(name))]
    ):
        result.findings.append(block.finding(f"{text(flat(name))} does not listen on port {wanted:g}", port))
    for value in items(block.attribute("target_group_arn")):
        group = referenced(value)
        if group is None or group.type != _TARGETS or group.block.type == "data":
            result.not_examined.append(
                block.finding(f"the target group of {each.name}: {text(value)}", value)
            )
            continue
        kind = group.attribute("target_type")
        if kind is None or (is_known(kind) and text(flat(kind)) != "ip"):
            what = f"{group.address} does not take IP addresses, all that a task of awsvpc has"
            result.findings.append(group.finding(what, kind))
        checks = group.blocks("health_check")
        paths = [check.attribute("path") for check in checks if not _connects(check)]
        if not checks and not _connects(group):
            paths = [None]
        for path in paths:
            asked = text(flat(path)) if path is not None else "/"
            if address.health and "${" not in asked and asked.partition("?")[0] != address.health:
                what = f"{group.address} asks {asked} for health, {each.name} reports it at {address.health}"
                result.findings.append(group.finding(what, path))


def _connects(block: Body) -> bool:
    """Whether a target group, or its check, speaks no HTTP: health is then that a connection is taken."""
    protocol = block.attribute("protocol")
    return protocol is not None and not text(flat(protocol)).startswith("HTTP")


def _registered(configuration: Configuration, result: Examined, each: Definition, address: Address) -> None:
    """A service is found by its name in the private zone."""
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
            if name is None or zone is None:
                result.not_examined.append(
                    block.finding(f"the registry of {each.name}: {text(value)}", value)
                )
                return
            names.append(f"{text(flat(name))}.{text(flat(zone))}")
    wanted = f"{address.host}.{address.zone}"
    if wanted not in names and not any("${" in name for name in names):
        said = f"as {', '.join(names)}" if names else "under no name"
        what = f"{each.name} is found {said}, not as {wanted}"
        if names:
            result.findings.append(each.service.finding(what))
        else:
            configuration.lacks(result, what, (each.name,), each.service.finding(""))


def _public(configuration: Configuration, result: Examined, each: Definition, address: Address) -> None:
    """The load balancer sends the requests for a public host name to a service."""
    assert each.service is not None
    own = {
        group.address
        for block in each.service.blocks("load_balancer")
        for value in items(block.attribute("target_group_arn"))
        if (group := referenced(value)) is not None
    }
    named: list[Body] = []
    for rule in configuration.of_type("aws_lb_listener_rule"):
        hosts = {
            text(flat(value))
            for condition in rule.blocks("condition")
            for header in condition.blocks("host_header")
            for value in items(header.attribute("values"))
        }
        if any(fits(address.public, host) for host in hosts):
            named += rule.blocks("action")
    named = named or [
        action
        for listener in configuration.of_type("aws_lb_listener")
        for action in listener.blocks("default_action")
    ]
    ways = [value for action in named for value in _forwards(action)]
    if any((group := referenced(value)) is not None and group.address in own for value in ways):
        return
    if any(referenced(value) is None for value in ways):
        result.not_examined.append(
            each.service.finding(f"where {address.public} leads: {text(ways[0])}", ways[0])
        )
    else:
        what = f"no load balancer sends {address.public} to {each.name}"
        configuration.lacks(
            result, what, (each.name, "alb", "balancer", "listener"), each.service.finding("")
        )


def _forwards(action: Body) -> Iterator[Value]:
    if text(action.attribute("type")) != "forward":
        return
    yield from items(action.attribute("target_group_arn"))
    for forward in action.blocks("forward"):
        for group in forward.blocks("target_group"):
            yield from items(group.attribute("arn"))


def named(configuration: Configuration, names: Mapping[str, Collection[str]]) -> Examined:
    """Return the names, by type of resource, that the contract gives and no resource has."""
    result = Examined()
    for type_, wanted in names.items():
        attribute = _NAMED.get(type_, "name")
        held = [(each, each.attribute(attribute)) for each in configuration.of_type(type_)]
        known = {text(flat(value)) for _, value in held if value is not None}
        for name in sorted({*wanted} - known):
            open_ = [each for each, value in held if value is not None and not is_known(value)]
            what = f"no {type_} is called {name}"
            if open_:
                result.not_examined.append(open_[0].finding(f"{what}, unless {open_[0].address} is"))
            else:
                configuration.lacks(result, what, (name, type_))
    return result


#: The attribute that is a resource's name in AWS, where that is not `name`.
_NAMED = {
    "aws_ecs_task_definition": "family",
    "aws_cloudwatch_dashboard": "dashboard_name",
    "aws_db_instance": "identifier",
}
