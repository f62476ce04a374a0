"""Whether the security groups let services through to each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .checkout import Examined, Finding
from .definitions import Definitions, ports
from .identities import items, referenced, thing
from .terraform import Body, Configuration
from .values import Value, boolean, flat, hidden, is_known, number, text

GROUP = "aws_security_group"
_ANYWHERE = {"0.0.0.0/0", "::/0"}


def reached(
    configuration: Configuration, defined: Definitions, ways: Mapping[str, Collection[str]]
) -> tuple[int, Examined]:
    """Return how many ways there are, and those that security groups do not let through.

    `ways` are by a service, or `database`, the services that it must let in on each of its ports. A group
    without a rule lets nothing out: Terraform removes the one that AWS makes.
    """
    result, network, count = Examined(), _Network(configuration), 0
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
    for to, callers in ways.items():
        for caller in callers:
            if to in groups and caller in groups:  # that one is not there is said elsewhere
                for port in sorted(open_[to]):
                    count += 1
                    network.examine(result, (caller, groups[caller]), (to, groups[to]), port)
    return count, result


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
        """Record that a caller cannot reach a port: out of its own groups, and into those of the other."""
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
        rules: list[Body] = [*group.blocks(direction)]
        rules += [rule for rule, goes in self._rules if goes == direction and _holder(rule) == key]
        found = {_lets_through(rule, key, wanted, port) for rule in rules}
        return True if True in found else None if None in found else False


def _holder(rule: Body) -> str:
    held = rule.attribute("security_group_id")
    return thing(held, GROUP).key if held is not None else ""


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
    # A range of addresses may be those of a group's tasks.
    ranges = any("/" in text(flat(each)) for each in parties) or any(
        rule.attribute(name) is not None for name in ("prefix_list_ids", "prefix_list_id")
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
