"""How requests pass through the network: the rules of listeners, and security groups."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from smoke.source.access import PRIVATE, GroupRule, admit_everyone, network_in
from smoke.source.checkout import Examined, Finding
from smoke.source.rules import any_of, is_like
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Body, Resource
from smoke.source.terraform.hcl import Place
from smoke.source.terraform.references import declared, items, referenced, thing
from smoke.source.terraform.values import Value, boolean, flat, hidden, is_known, number, text

from .definitions import Definition, Definitions, ports

Action = tuple[Body, Resource | None]


@dataclass(frozen=True, slots=True)
class ListenerRule:
    """A listener's rule, its rank (infinite if unknown), and the groups to which it forwards."""

    resource: Resource
    listener: str
    rank: float
    groups: tuple[str, ...]

    @classmethod
    def of(cls, rule: Resource) -> ListenerRule:
        """Read a rule; it has no groups if the files do not say them."""
        listener, priority = rule.attribute("listener_arn"), rule.attribute("priority")
        rank = number(priority)
        found = [referenced(value) for action in rule.blocks("action") for value in _targets(action)]
        groups = tuple(group.address for group in found if group is not None)
        return cls(
            rule,
            text(listener),
            math.inf if rank is None else rank,
            groups if len(groups) == len(found) else (),
        )


def patterns(rule: Body, kind: str) -> list[str]:
    """The values of a rule's conditions of one kind; hosts in lower case, as they are compared."""
    return [
        text(value).lower() if kind == "host_header" else text(value)
        for condition in rule.blocks("condition")
        for block in condition.blocks(kind)
        for value in items(block.attribute("values"))
    ]


def takes(rule: Body, host: str, path: str) -> bool:
    """Whether a rule matches a host's path only by host and path conditions; False if it has others."""
    hosts, paths = patterns(rule, "host_header"), patterns(rule, "path_pattern")
    return (
        not _has_others(rule)
        and (not hosts or any(is_like(host, pattern) for pattern in hosts))
        and (not paths or any(is_like(path, pattern) for pattern in paths))
    )


def _has_others(rule: Body) -> bool:
    """Whether a rule has other conditions than on hosts and paths, or unsupported forms of these."""
    kinds = [patterns(rule, kind) for kind in ("host_header", "path_pattern")]
    return len(rule.blocks("condition")) > sum(map(bool, kinds))


def unclear(configuration: Configuration) -> Iterator[Value]:
    """Rules' hosts that are unknown or regular expressions, and the kinds of unknown actions."""
    rules = configuration.of_type("aws_lb_listener_rule")
    for rule in rules:
        for condition in rule.blocks("condition"):
            for block in condition.blocks("host_header"):
                yield from items(block.attribute("regex_values"))
                yield from (value for value in items(block.attribute("values")) if not is_known(value))
    actions = [action for rule in rules for action in rule.blocks("action")]
    for listener in configuration.of_type("aws_lb_listener"):
        actions += listener.blocks("default_action")
    kinds = (action.attribute("type") for action in actions)
    yield from (kind for kind in kinds if kind is not None and not is_known(kind))


def forwards(action: Body) -> Iterator[Value]:
    """The target groups to which an action forwards, or may; one of weight 0 gets nothing."""
    for value in _targets(action):
        yield from items(value)


def _targets(action: Body, *, idle: bool = False) -> Iterator[Value]:
    """The targets of an action; those of weight 0 only if `idle`."""
    if text(action.attribute("type")) != "forward":
        return
    targets = [action.attribute("target_group_arn")]
    for forward in action.blocks("forward"):
        for group in forward.blocks("target_group"):
            weight = group.attribute("weight")
            if idle or weight is None or number(weight) != 0 or action.drifts:
                targets.append(group.attribute("arn"))
    yield from (each for each in targets if each is not None)


def by_default(configuration: Configuration) -> list[Action]:
    """The default actions of all listeners, each with its listener."""
    listeners = configuration.of_type("aws_lb_listener")
    return [(action, each) for each in listeners for action in each.blocks("default_action")]


def actions(configuration: Configuration) -> list[Action]:
    """The actions of all listeners and their rules, each with its listener."""
    return by_default(configuration) + [
        (action, _refers(rule, "listener_arn"))
        for rule in configuration.of_type("aws_lb_listener_rule")
        for action in rule.blocks("action")
    ]


def balancers(configuration: Configuration, group: Resource) -> list[Resource] | None:
    """The load balancers of a target group, at any weight; None if the files do not say."""
    if configuration.receivers(group):
        return None
    found: list[Resource] = []
    for action, at in actions(configuration):
        if (kind := action.attribute("type")) is not None and not is_known(kind):
            return None
        to = [referenced(value) for target in _targets(action, idle=True) for value in items(target)]
        if group.address not in [each.address for each in to if each is not None]:
            if None in to:
                return None
            continue
        balancer = declared(at.attribute("load_balancer_arn")) if at is not None else None
        if balancer is None:
            return None
        found.append(balancer)
    return found


def answered(
    configuration: Configuration, host: str, paths: Collection[str], own: Collection[str],
    defaults: Collection[str],
) -> Iterator[Finding]:  # fmt: skip
    """Return rules that answer a service's path in the balancer, redirect it, or demand a login.

    `own` are the service's target groups, `defaults` the listeners that forward to one by default.
    """
    rules = [each for each in configuration.of_type("aws_lb_listener_rule") if not each.uncertain]
    for rule in rules:
        said, first = _said(rule, host), ListenerRule.of(rule)
        at = referenced(rule.attribute("listener_arn"))
        if not said or at is None or first.rank == math.inf:
            continue
        for path in paths:
            beside = [ListenerRule.of(each) for each in rules if takes(each, host, path)]
            ranks = [one.rank for one in beside if one.listener == first.listener and {*one.groups} & {*own}]
            meant = bool(ranks) or at.address in defaults
            if takes(rule, host, path) and meant and all(first.rank < each < math.inf for each in ranks):
                yield rule.finding(f"{rule.address} answers {host}{path} itself{said} instead of a service")
                break
    yield from _guarded(configuration, rules, host, paths, own)


def _guarded(
    configuration: Configuration, rules: Sequence[Resource], host: str, paths: Collection[str],
    own: Collection[str],
) -> Iterator[Finding]:  # fmt: skip
    """The first rule that sends a path's clients to a login, if every path to the service does.

    One listener without a login is enough, or a rule that may lack it, such as one on a header.
    """
    every = configuration.of_type("aws_lb_listener_rule")
    may = [rule for rule in every if rule.uncertain or _has_others(rule)]
    may = [rule for rule in may if not any(map(_asks_for_a_login, rule.blocks("action")))]
    for path in paths:
        guards: list[Resource | None] = []
        for listener in configuration.of_type("aws_lb_listener"):
            taking = [ListenerRule.of(rule) for rule in rules if takes(rule, host, path)]
            taking = [each for each in taking if _is_on(each.resource, listener)]
            first = min(taking, key=lambda each: each.rank, default=None)
            by = first.resource if first is not None else listener
            done = by.blocks("action" if first is not None else "default_action")
            leads = {group.address for action in done for value in forwards(action)
                     if (group := referenced(value)) is not None}  # fmt: skip
            ranked = first is None or first.rank < math.inf
            ranked = ranked and not any(_is_on(rule, listener) for rule in may)
            asks = ranked and any(map(_asks_for_a_login, done)) and not by.uncertain
            guards += [by if asks else None] * bool(leads & {*own})
        if guards and guards[0] is not None and None not in guards:
            what = f"{guards[0].address} asks for a login at {host}{path}, but users send a token there"
            yield guards[0].finding(what)
            return


def _refers(body: Body, name: str) -> Resource | None:
    return referenced(body.attribute(name))


def _is_on(rule: Resource, listener: Resource) -> bool:
    at = _refers(rule, "listener_arn")
    return at is not None and at.address == listener.address


def _asks_for_a_login(action: Body) -> bool:
    """Whether an action turns away clients that have not logged in at an identity provider."""
    said = text(action.attribute("type")) if not action.uncertain else ""
    blocks = action.blocks(said.replace("-", "_")) if said.startswith("authenticate-") else []
    others = (block.attribute("on_unauthenticated_request") for block in blocks)
    return any(other is None or (is_known(other) and text(other) != "allow") for other in others)


def divided(
    configuration: Configuration, owners: Mapping[str, Collection[str]], name: str, host: str, path: str
) -> Iterator[Finding]:
    """Return the rules for a service's host that forward some of its requests to another service.

    `owners` are the services by their target groups.
    """
    for rule in configuration.of_type("aws_lb_listener_rule"):
        to = [owners.get(group, (name,)) for group in ListenerRule.of(rule).groups]
        others = sorted({other for each in to if name not in each for other in each})
        if takes(rule, host, path) and others and any(name in each for each in to):
            yield rule.finding(f"{rule.address} sends a part of {host} to {' and '.join(others)}")


def _said(rule: Resource, host: str) -> str:
    """How a rule itself answers; empty if it forwards, or redirects to the same host."""
    done = [text(action.attribute("type")) for action in rule.blocks("action")]
    if done == ["fixed-response"]:
        return " with a fixed response"
    elsewhere = [
        flat(to)
        for action in rule.blocks("action")
        for redirect in action.blocks("redirect")
        if (to := redirect.attribute("host")) is not None and is_known(to)
    ]
    if done == ["redirect"] and elsewhere and text(elsewhere[0]).lower() not in (host.lower(), "#{host}"):
        return f" with a redirect to {text(elsewhere[0])}"
    return ""


GROUP = "aws_security_group"


def reached(
    configuration: Configuration, defined: Definitions, ways: Mapping[str, Collection[str]]
) -> tuple[int, Examined]:
    """Return how many connections there are, those that security groups block, and parties open to everyone.

    `ways` maps a service, or `database`, to the services that it must let in on one of its ports. A group
    without a rule lets nothing out: Terraform removes AWS's default rule.
    """
    result, network, count = Examined(), _Network(configuration), 0
    groups, open_ = _parties(configuration, defined)
    for to, callers in ways.items():
        for caller in callers:
            if to in groups and caller in groups:  # a missing one is reported elsewhere
                tried = [Examined() for _ in open_[to]]
                for each_try, port in zip(tried, sorted(open_[to]), strict=True):
                    count += 1
                    network.examine(each_try, (caller, groups[caller]), (to, groups[to]), port)
                if all(one.findings or one.not_examined for one in tried):  # a sidecar's port may be closed
                    result.findings.extend(each for one in tried for each in one.findings)
                    result.not_examined.extend(each for one in tried for each in one.not_examined)
    for each in defined.definitions:
        for balancer, port in _through(configuration, each):
            outer = list(items(balancer.attribute("security_groups")))
            if outer:  # otherwise the files do not say which
                count += 1
                network.examine(result, (balancer.address, outer), (each.name, groups[each.name]), port)
    for name in PRIVATE:
        result.findings.extend(network.unguarded(name, groups.get(name, []), open_.get(name, ())))
    return count, result


def _parties(
    configuration: Configuration, defined: Definitions
) -> tuple[dict[str, list[Value]], dict[str, set[float]]]:
    """The security groups and ports of the services and the database, by name."""
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
    """The balancers that forward to a service, and the container ports that they use."""
    for block in each.service.blocks("load_balancer") if each.service is not None else ():
        group, wanted = _refers(block, "target_group_arn"), block.attribute("container_port")
        port = number(wanted)
        if group is not None and port:
            found = {one.address: one for one in balancers(configuration, group) or ()}
            yield from ((one, port) for one in found.values())


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
        """Record if a caller cannot reach a port: its groups do not let it out, or the other's not in."""
        for direction, own, other in (("ingress", to, caller), ("egress", caller, to)):
            ways = [self._lets(group, direction, other[1], port) for group in own[1]]
            if True in ways:
                continue
            if direction == "ingress":
                what = f"no security group of {own[0]} lets {other[0]} in on port {port:g}"
            else:
                what = f"no security group of {own[0]} lets it out to {other[0]} on port {port:g}"
            if None in ways or not own[1]:
                place = own[1][0].at if own[1] else Place("", 0)
                result.not_examined.append(place.finding(f"whether {what}"))
            else:
                about = ("security", "network", own[0], other[0])
                self._configuration.lacks(result, what, about, own[1][0].at.finding(what))

    def unguarded(self, name: str, groups: Iterable[Value], ports: Iterable[float]) -> Iterator[Finding]:
        """Yield the ports on which a party's groups, by rules that certainly exist, let everyone in."""
        for own in groups:
            key, group = thing(own, GROUP).key, declared(own, GROUP)
            beside: list[Body] = [
                rule for rule, goes in self._rules if goes == "ingress" and _holds(rule, key)
            ]
            rules = [*beside, *(group.blocks("ingress") if group is not None else ())]
            certain = [_rule(rule, key) for rule in rules if not (rule.uncertain or rule.drifts)]
            called = group.address if group is not None else text(own)
            for port in sorted(ports):
                if admit_everyone(certain, port):
                    yield own.at.finding(f"{called} of {name} lets everyone in on port {port:g}")

    def _lets(self, own: Value, direction: str, others: list[Value], port: float) -> bool | None:
        """Whether a group has a rule for a port and one of these groups; None if the files do not say."""
        group = declared(own, GROUP)
        if group is None:
            return None
        key, wanted = thing(own, GROUP).key, {thing(each, GROUP).key for each in others}
        if group.attribute(direction) is not None:  # rules as a list, which are rare and not supported
            return None
        found = {_lets_through(rule, key, wanted, port) for rule in group.blocks(direction)}
        for rule, goes in self._rules:
            held = _holds(rule, key) if direction in goes or "${" in goes else False
            if held is not False:
                through = _lets_through(rule, key, wanted, port)
                found.add(None if through and not (held and goes == direction) else through)
        if found and not all(map(_is_plain, others)):
            found.add(None)  # this may be the other side of a rule
        return any_of(found)


def _is_plain(group: Value) -> bool:
    """Whether the files say which group this is: one that they create, or one that they name."""
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
    """Whether a rule is for a port and one of these groups; None if the files do not say."""
    through = _rule(rule, own).lets(port, wanted)
    return None if through and rule.uncertain else through


def _rule(rule: Body, own: str) -> GroupRule:
    """A rule of the group `own`. A network, or a value that the files do not say, may be anybody's."""
    parties = [each for name in _PARTIES for each in items(rule.attribute(name))]
    ranges = [network_in(text(each)) for each in parties]
    by_reference = [of for each in parties if (of := referenced(each)) is not None]
    protocol = rule.attribute("protocol") or rule.attribute("ip_protocol")
    return GroupRule(
        text(protocol).lower() if is_known(protocol) else None,
        number(rule.attribute("from_port")),
        number(rule.attribute("to_port")),
        {thing(each, GROUP).key for each in parties} | ({own} if boolean(rule.attribute("self")) else set()),
        [each for each in ranges if each is not None],
        others=any(of.type != GROUP for of in by_reference)
        or any("/" in text(each) or hidden(each) for each in parties)
        or any(rule.attribute(name) is not None for name in ("prefix_list_ids", "prefix_list_id")),
    )


#: Resources for one rule of a group, with the rule's direction.
_RULES = {
    "aws_security_group_rule": "",
    "aws_vpc_security_group_ingress_rule": "ingress",
    "aws_vpc_security_group_egress_rule": "egress",
}
#: Attributes that name the other side of a rule.
_PARTIES = (
    "source_security_group_id", "referenced_security_group_id", "security_groups", "cidr_blocks",
    "ipv6_cidr_blocks", "cidr_ipv4", "cidr_ipv6",
)  # fmt: skip
