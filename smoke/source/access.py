"""What policies of IAM and security groups allow: one evaluator of each, for AWS and for Terraform.

`smoke/aws` reads statements and rules from AWS, `infrastructure` from files. An answer is None if what is
known does not decide.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from types import MappingProxyType
from typing import Any

from .rules import all_of, is_like

#: A policy variable, such as `${aws:PrincipalTag/team}`, or a part of a value that the files do not say.
VARIABLE = re.compile(r"\$\{[^}]*\}")
#: A request's context: values by lower-case condition key, none if it lacks the key. Others: unknown.
Context = Mapping[str, Sequence[str]]
Statements = Sequence[Mapping[str, Any]]
_OPERATOR = re.compile(
    r"(?i)(?P<any>foranyvalue:)?(?P<kind>string|arn|bool|date|null|(?=(?:not)?ip))(?P<not>not)?"
    r"(?P<how>equals|like|equalsignorecase|ipaddress|(?:less|greater)than(?:equals)?)?(?P<ifexists>ifexists)?"
)
_NOW = "aws:currenttime"


def names(statement: Mapping[str, Any], key: str, value: str) -> bool | None:
    """Whether a statement's Action or Resource, or its Not form, covers a value; None if variables decide."""
    if key in statement:
        return _matches(statement[key], key, value)
    if f"Not{key}" not in statement:
        return False
    found = _matches(statement[f"Not{key}"], key, value)
    return None if found is None else not found


def covers(statement: Mapping[str, Any], key: str, value: str) -> bool:
    """Whether a statement's Action or Resource, or its Not form, covers a value: a variable may be any."""
    found = names(statement, key, value)
    return key in statement if found is None else found


def _matches(patterns: Any, key: str, value: str) -> bool | None:
    listed = listed_in(patterns)
    if key == "Action":  # actions are case-insensitive, resources are not
        value, listed = value.lower(), [each.lower() for each in listed]
    if any(is_like(value, each) for each in listed if not VARIABLE.search(each)):
        return True
    return None if any(is_like(value, VARIABLE.sub("*", each)) for each in listed) else False


def listed_in(value: Any) -> list[str]:
    """A policy's value, one or a list of several, as texts."""
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


def met(statement: Mapping[str, Any], context: Context) -> bool | None:
    """Whether the conditions of a statement hold for a request; None if its context does not decide."""
    return all_of([
        _holds(_OPERATOR.fullmatch(operator), listed_in(value), context, key)
        for operator, keys in (statement.get("Condition") or {}).items()
        for key, value in keys.items()
    ])  # fmt: skip


def permitted(statements: Statements, context: Context) -> bool:
    """Whether statements about one request allow it, and none certainly denies it."""
    denied = any(
        each.get("Effect") == "Deny" and met(each, context) and not VARIABLE.search(str(each.get("Resource")))
        for each in statements
    )
    allowing = (each for each in statements if each.get("Effect") == "Allow")
    return not denied and any(met(each, context) is not False for each in allowing)


def allows(
    statements: Statements,
    action: str,
    resource: str,
    context: Context = MappingProxyType({}),
) -> bool:
    """Whether policies allow an action; unknown conditions count as met in an Allow, and as unmet in a Deny.

    Conditions that the `context` of the request decides are known. Variables count like unknown conditions:
    their values are known only when the role acts.
    """
    hit = [
        each for each in statements if covers(each, "Action", action) and covers(each, "Resource", resource)
    ]
    return permitted(hit, context)


def _holds(operator: re.Match[str] | None, named: Sequence[str], context: Context, key: str) -> bool | None:
    values = [key] if key.lower() == _NOW else context.get(key.lower())
    if operator is None or values is None:
        return None
    kind, negated = operator["kind"].lower(), bool(operator["not"])
    if kind == "null":
        return ([each.lower() for each in named] == ["true"]) is (not values)
    if not values:  # the key is absent
        return bool(operator["ifexists"]) or (negated and not operator["any"])
    each = [_compares(kind, (operator["how"] or "").lower(), value, named) for value in values]
    if None in each or len({*each}) > 1:
        return None
    return each[0] is not negated


def _compares(kind: str, how: str, value: str, named: Sequence[str]) -> bool | None:
    """Whether a value is one of those listed; for a date, whether it is before or after one."""
    if kind == "date":
        return _dated(how, named)
    if how == "ipaddress":
        return None
    patterns = [each for each in named if not VARIABLE.search(each)]
    if how == "equalsignorecase" or kind == "bool":
        value, patterns = value.lower(), [each.lower() for each in patterns]
    # only "like" has wildcards in strings; an ARN has them always
    exact = kind == "string" and how != "like"
    found = value in patterns if exact else any(is_like(value, each) for each in patterns)
    return found or (False if len(patterns) == len(named) else None)  # a variable's value is unknown


def _dated(how: str, named: Sequence[str]) -> bool | None:
    """Whether now is before or after one of some dates."""
    try:
        dates = [datetime.fromisoformat(each) for each in named]
    except ValueError:
        return None
    now = datetime.now(UTC)
    ends = [each if each.tzinfo else each.replace(tzinfo=UTC) for each in dates]
    if not how.startswith(("less", "greater")):
        return None
    return any(now < each if how.startswith("less") else now > each for each in ends)


Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class GroupRule:
    """One rule of a security group: a protocol, its ports, and whom it admits; None is what is not known.

    It admits security `groups`, address `ranges`, and perhaps `others`, such as those of a prefix list.
    """

    protocol: str | None
    low: float | None
    high: float | None
    groups: Collection[str] = ()
    ranges: Sequence[Network] = ()
    others: bool = False

    def covers(self, port: float) -> bool | None:
        """Whether it applies to a TCP port."""
        if self.protocol in ("-1", "all", None):
            return None if self.protocol is None else True
        if self.protocol not in ("tcp", "6"):
            return False
        return None if self.low is None or self.high is None else self.low <= port <= self.high

    def admits(self, groups: Collection[str], own: Collection[Network] = ()) -> bool | None:
        """Whether it admits a party, by one of its groups or by all of its `own` address ranges.

        None if it names others, or some of the party's addresses, which may include those of its tasks.
        """
        if any(each in groups for each in self.groups):
            return True
        within = [any(_holds_range(one, each) for one in self.ranges) for each in own]
        versions = {each.version for each in own} or {4, 6}
        anywhere = any(one.prefixlen == 0 and one.version in versions for one in self.ranges)
        if anywhere or (within and all(within)):
            return True
        touched = not own or any(
            one.version == each.version and one.overlaps(each) for one in self.ranges for each in own
        )
        return None if self.others or (self.ranges and touched) else False

    def lets(self, port: float, groups: Collection[str], own: Collection[Network] = ()) -> bool | None:
        """Whether it lets a party reach a TCP port, or be reached there."""
        return all_of((self.covers(port), self.admits(groups, own)))


#: Parties to which only the platform itself may connect.
PRIVATE = ("database", "pgbouncer")


def admit_everyone(rules: Iterable[GroupRule], port: float) -> bool:
    """Whether rules together certainly admit every address, of IPv4 or of IPv6, to a TCP port."""
    ranges = [one for rule in rules if rule.covers(port) for one in rule.ranges]
    old = collapse_addresses(one for one in ranges if isinstance(one, IPv4Network))
    new = collapse_addresses(one for one in ranges if isinstance(one, IPv6Network))
    return any(one.prefixlen == 0 for one in old) or any(one.prefixlen == 0 for one in new)


def _holds_range(one: Network, own: Network) -> bool:
    return one.version == own.version and own.subnet_of(one)  # type: ignore[arg-type]  # they are of one version


def network_in(text: str) -> Network | None:
    """The address range that a text writes; None if it writes none."""
    try:
        return ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None
