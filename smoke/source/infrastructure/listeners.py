"""The rules of a load balancer's listeners: what each takes, in which order, and where it leads."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from smoke.source.checkout import Finding
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Body, Resource
from smoke.source.terraform.references import items, referenced
from smoke.source.terraform.values import Value, flat, is_known, number, text

from .iam import fits

Action = tuple[Body, Resource | None]


@dataclass(frozen=True, slots=True)
class ListenerRule:
    """A rule of a listener, its rank, infinite where it is not known, and the groups that it leads to."""

    resource: Resource
    listener: str
    rank: float
    groups: tuple[str, ...]

    @classmethod
    def of(cls, rule: Resource) -> ListenerRule:
        """Read a rule; one of which the files do not say to which groups it leads leads nowhere."""
        listener, priority = rule.attribute("listener_arn"), rule.attribute("priority")
        rank = number(flat(priority)) if priority is not None else None
        found = [referenced(value) for action in rule.blocks("action") for value in _targets(action)]
        groups = tuple(group.address for group in found if group is not None)
        return cls(
            rule,
            text(flat(listener)) if listener is not None else "",
            math.inf if rank is None else rank,
            groups if len(groups) == len(found) else (),
        )


def patterns(rule: Body, kind: str) -> list[str]:
    """The values of a rule's conditions of one kind; hosts in lower case, as they are compared."""
    return [
        text(flat(value)).lower() if kind == "host_header" else text(flat(value))
        for condition in rule.blocks("condition")
        for block in condition.blocks(kind)
        for value in items(block.attribute("values"))
    ]


def takes(rule: Body, host: str, path: str) -> bool:
    """Whether a rule takes a path of a host, by its conditions alone; False where it has others as well."""
    hosts, paths = patterns(rule, "host_header"), patterns(rule, "path_pattern")
    return (
        not _has_others(rule)
        and (not hosts or any(fits(host, pattern) for pattern in hosts))
        and (not paths or any(fits(path, pattern) for pattern in paths))
    )


def _has_others(rule: Body) -> bool:
    """Whether a rule has conditions other than on hosts and paths, or of these what is not read."""
    kinds = [patterns(rule, kind) for kind in ("host_header", "path_pattern")]
    return len(rule.blocks("condition")) > sum(map(bool, kinds))


def unclear(configuration: Configuration) -> Iterator[Value]:
    """The hosts of rules that are not known, or are regular expressions, and the kinds of unknown actions."""
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
    """The target groups that an action forwards to, or may; one of weight 0 is given nothing."""
    for value in _targets(action):
        yield from items(value)


def _targets(action: Body, *, idle: bool = False) -> Iterator[Value]:
    """The targets of an action, those of weight 0 only where `idle` says so."""
    if text(action.attribute("type")) != "forward":
        return
    targets = [action.attribute("target_group_arn")]
    for forward in action.blocks("forward"):
        for group in forward.blocks("target_group"):
            weight = group.attribute("weight")
            if idle or weight is None or number(flat(weight)) != 0 or action.drifts:
                targets.append(group.attribute("arn"))
    yield from (each for each in targets if each is not None)


def actions(configuration: Configuration) -> list[Action]:
    """What all listeners and their rules do, each with its listener."""
    found: list[Action] = [
        (action, listener)
        for listener in configuration.of_type("aws_lb_listener")
        for action in listener.blocks("default_action")
    ]
    return found + [
        (action, _refers(rule, "listener_arn"))
        for rule in configuration.of_type("aws_lb_listener_rule")
        for action in rule.blocks("action")
    ]


def balancers(configuration: Configuration, group: Resource) -> list[Resource] | None:
    """The load balancers that a target group is of, of whatever weight; None where the files do not say."""
    if configuration.receivers(group):
        return None
    found: list[Resource] = []
    for action, at in actions(configuration):
        kind = action.attribute("type")
        if kind is not None and not is_known(kind):
            return None
        to = [referenced(value) for target in _targets(action, idle=True) for value in items(target)]
        if group.address not in [each.address for each in to if each is not None]:
            if None in to:
                return None
            continue
        balancer = _refers(at, "load_balancer_arn") if at is not None else None
        if balancer is None or balancer.block.type == "data":
            return None
        found.append(balancer)
    return found


def answered(
    configuration: Configuration, host: str, paths: Collection[str], own: Collection[str],
    defaults: Collection[str],
) -> Iterator[Finding]:  # fmt: skip
    """Return what answers for a path of a service in the balancer itself, sends it off, or asks for a login.

    `own` are the service's target groups, `defaults` the listeners that lead to one by default.
    """
    rules = [each for each in configuration.of_type("aws_lb_listener_rule") if not each.uncertain]
    for rule in rules:
        said, first = _said(rule, host), ListenerRule.of(rule)
        arn = rule.attribute("listener_arn")
        at = referenced(arn) if arn is not None else None
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
    """What sends a client of a path to a login before it leads to a service: its first rule, or none.

    One listener that leads there without a login is enough, or a rule that may, such as one on a header.
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
    value = body.attribute(name)
    return referenced(value) if value is not None else None


def _is_on(rule: Resource, listener: Resource) -> bool:
    at = _refers(rule, "listener_arn")
    return at is not None and at.address == listener.address


def _asks_for_a_login(action: Body) -> bool:
    """Whether an action turns away a client that has not logged in at a provider of identities."""
    said = text(action.attribute("type")) if not action.uncertain else ""
    blocks = action.blocks(said.replace("-", "_")) if said.startswith("authenticate-") else []
    others = (block.attribute("on_unauthenticated_request") for block in blocks)
    return any(other is None or (is_known(other) and text(flat(other)) != "allow") for other in others)


def divided(
    configuration: Configuration, owners: Mapping[str, Collection[str]], name: str, host: str, path: str
) -> Iterator[Finding]:
    """Return the rules for a service's host that send a part of its requests to another service.

    `owners` are the services by their target groups.
    """
    for rule in configuration.of_type("aws_lb_listener_rule"):
        to = [owners.get(group, (name,)) for group in ListenerRule.of(rule).groups]
        others = sorted({other for each in to if name not in each for other in each})
        if takes(rule, host, path) and others and any(name in each for each in to):
            yield rule.finding(f"{rule.address} sends a part of {host} to {' and '.join(others)}")


def _said(rule: Resource, host: str) -> str:
    """How a rule answers by itself; empty where it leads on, or to the same host."""
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
