"""Whether security groups let services reach each other, the database, and balancers their services."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from smoke.source.checkout import Examined, Finding
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Body, Resource
from smoke.source.terraform.references import items, referenced, thing
from smoke.source.terraform.values import Value, boolean, flat, hidden, is_known, number, text

from .definitions import Definition, Definitions, ports
from .listeners import balancers

GROUP = "aws_security_group"
_ANYWHERE = {"0.0.0.0/0", "::/0"}


def reached(
    configuration: Configuration, defined: Definitions, ways: Mapping[str, Collection[str]]
) -> tuple[int, Examined]:
    """Return how many ways there are, and those that security groups do not let through.

    `ways` are by a service, or `database`, the services that it must let in on one of its ports. A group
    without a rule lets nothing out: Terraform removes the one that AWS makes.
    """
    result, network, count = Examined(), _Network(configuration), 0
    groups, open_ = _parties(configuration, defined)
    for to, callers in ways.items():
        for caller in callers:
            if to in groups and caller in groups:  # that one is not there is said elsewhere
                tried = [Examined() for _ in open_[to]]
                for each_try, port in zip(tried, sorted(open_[to]), strict=True):
                    count += 1
                    network.examine(each_try, (caller, groups[caller]), (to, groups[to]), port)
                if all(one.findings or one.not_examined for one in tried):  # that of a sidecar may be shut
                    result.findings.extend(each for one in tried for each in one.findings)
                    result.not_examined.extend(each for one in tried for each in one.not_examined)
    for each in defined.definitions:
        for balancer, port in _through(configuration, each):
            outer = list(items(balancer.attribute("security_groups")))
            if outer:  # else the files do not say which
                count += 1
                network.examine(result, (balancer.address, outer), (each.name, groups[each.name]), port)
    return count, result


def _parties(
    configuration: Configuration, defined: Definitions
) -> tuple[dict[str, list[Value]], dict[str, set[float]]]:
    """The security groups of the services and the database by name, and the ports that these open."""
    groups: dict[str, list[Value]] = {}
    open_: dict[str, set[float]] = {}
    for each in defined.definitions:
        if each.service is not None:
            blocks = each.service.blocks("network_configuration")
            groups[each.name] = [
                value for block in blocks for value in items(block.attribute("security_groups"))
            ]
            open_[each.name] = {port for one in ports(each).values() for port in one}
    for database in configuration.of_type("aws_db_instance"):
        groups["database"] = list(items(database.attribute("vpc_security_group_ids")))
        open_["database"] = {number(database.attribute("port") or Value(5432, database.at)) or 5432}
    return groups, open_


def _through(configuration: Configuration, each: Definition) -> Iterator[tuple[Resource, float]]:
    """The balancers that lead to a service, and the ports of its containers that they ask."""
    for block in each.service.blocks("load_balancer") if each.service is not None else ():
        group, wanted = _refers(block, "target_group_arn"), block.attribute("container_port")
        port = number(flat(wanted)) if wanted is not None else None
        if group is not None and port:
            found = {one.address: one for one in balancers(configuration, group) or ()}
            yield from ((one, port) for one in found.values())


def _refers(body: Body, name: str) -> Resource | None:
    value = body.attribute(name)
    return referenced(value) if value is not None else None


Party = tuple[str, list[Value]]


class _Network:
    """The rules of all security groups."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._rules = [
            (each, direction or text(each.attribute("type")))
            for type_, direction in _RULES.items()
            for each in configuration.of_type(type_)
        ]

    def examine(self, result: Examined, caller: Party, to: Party, port: float) -> None:
        """A caller cannot reach a port: leaving its own groups, or entering those of the other."""
        for direction, own, other in (("ingress", to, caller), ("egress", caller, to)):
            ways = [self._lets(group, direction, other[1], port) for group in own[1]]
            if True in ways:
                continue
            if direction == "ingress":
                what = f"no security group of {own[0]} lets {other[0]} in on port {port:g}"
            else:
                what = f"no security group of {own[0]} lets it out to {other[0]} on port {port:g}"
            place = Finding(own[1][0].at.path, own[1][0].at.line, what) if own[1] else Finding("", 0, what)
            if None in ways or not own[1]:
                result.not_examined.append(Finding(place.path, place.line, f"whether {what}"))
            else:
                self._configuration.lacks(result, what, ("security", "network", own[0], other[0]), place)

    def _lets(self, own: Value, direction: str, others: list[Value], port: float) -> bool | None:
        """Whether a group has a rule for a port and one of some groups; None where the files do not say."""
        group = referenced(own)
        if group is None or group.type != GROUP or group.block.type == "data":
            return None
        key, wanted = thing(own, GROUP).key, {thing(each, GROUP).key for each in others}
        if group.attribute(direction) is not None:  # rules as a list, which is rare and not read
            return None
        found = {_lets_through(rule, key, wanted, port) for rule in group.blocks(direction)}
        for rule, goes in self._rules:
            held = _holds(rule, key) if direction in goes or "${" in goes else False
            if held is not False:
                through = _lets_through(rule, key, wanted, port)
                found.add(None if through and not (held and goes == direction) else through)
        if found and not all(map(_is_plain, others)):
            found.add(None)  # whoever is meant may be the other side of a rule
        return True if True in found else None if None in found else False


def _is_plain(group: Value) -> bool:
    """Whether the files say which group this is: one that they make, or one that they name."""
    of = referenced(group)
    by_tags = of is not None and of.block.type == "data" and of.attribute("name") is None
    return not by_tags and (of is not None or not hidden(group))


def _holds(rule: Body, key: str) -> bool | None:
    """Whether a rule belongs to a group; None if the files do not say."""
    held = list(items(rule.attribute("security_group_id")))
    if [thing(each, GROUP).key for each in held] == [key]:
        return True
    return False if len(held) < 2 and all(map(_is_plain, held)) else None


def _lets_through(rule: Body, own: str, wanted: Collection[str], port: float) -> bool | None:
    """Whether a rule is for a port and for one of some groups; None where the files do not say."""
    fit = _covers_port(rule, port)
    if fit is False:
        return False
    parties = [each for name in _PARTIES for each in items(rule.attribute(name))]
    itself = rule.attribute("self")
    through = (itself is not None and boolean(itself) is True and own in wanted) or any(
        thing(each, GROUP).key in wanted or text(flat(each)) in _ANYWHERE for each in parties
    )
    if through and fit and not rule.uncertain:
        return True
    # A range of addresses, of a network or as it is written, may be those of a group's tasks.
    kinds = [of.type if (of := referenced(each)) is not None else GROUP for each in parties]
    ranges = (
        any("/" in text(flat(each)) for each in parties)
        or {*kinds} - {GROUP}
        or any(rule.attribute(name) is not None for name in ("prefix_list_ids", "prefix_list_id"))
    )
    return None if through or ranges or any(hidden(each) for each in parties) else False


#: Resources that are a rule of a group, and the direction that their type stands for.
_RULES = {
    "aws_security_group_rule": "",
    "aws_vpc_security_group_ingress_rule": "ingress",
    "aws_vpc_security_group_egress_rule": "egress",
}
#: What names the other side of a rule.
_PARTIES = (
    "source_security_group_id", "referenced_security_group_id", "security_groups", "cidr_blocks",
    "ipv6_cidr_blocks", "cidr_ipv4", "cidr_ipv6",
)  # fmt: skip


def _covers_port(rule: Body, port: float) -> bool | None:
    """Whether a rule is for a port of TCP; None where the files do not say."""
    protocol = rule.attribute("protocol") or rule.attribute("ip_protocol")
    if protocol is None or not is_known(protocol):
        return None
    if text(flat(protocol)).lower() in {"-1", "all"}:
        return True
    if text(flat(protocol)).lower() not in {"tcp", "6"}:
        return False
    low, high = rule.attribute("from_port"), rule.attribute("to_port")
    if low is None or high is None or number(flat(low)) is None or number(flat(high)) is None:
        return None
    return (number(flat(low)) or 0) <= port <= (number(flat(high)) or 0)
