"""Rules that apply to both AWS and Terraform: independent definitions, and alarms.

`smoke/aws` reads what runs, the rest of `smoke/source` reads Terraform. The rules say what each definition
must have and must not share with another one, when an alarm fires, what prevents that, and which alarms fire
with it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from smoke.source.checkout import Finding

FAMILY, EXECUTION_ROLE, TASK_ROLE = "task family", "execution role", "task role"
NETWORK, LOGS, SECRET = "security group", "log group", "secret"
#: Required parts of each service; a task without a service has no network of its own.
REQUIRED = (FAMILY, EXECUTION_ROLE, NETWORK, LOGS)
#: Things that two definitions must not share, besides secrets.
OWN = (*REQUIRED, TASK_ROLE)


@dataclass(frozen=True, slots=True)
class Use:
    """`owner`, a service or a one-shot task, uses a thing; kind and identity identify the thing.

    `name` is its name for people, for a secret its path; `path` and `line` are its place in a file, if any.
    `why` says what hides the identity, if the files do not determine it.
    """

    kind: str
    identity: str
    owner: str
    name: str
    how: str = "uses"
    path: str = ""
    line: int = 0
    why: str = ""

    def finding(self, what: str) -> Finding:
        """Return a finding where the use is written."""
        return Finding(self.path, self.line, what)


@dataclass(frozen=True, slots=True)
class Ownership:
    """The group of services of each owner; an owner that the plan does not list is its own group."""

    groups: Mapping[str, Sequence[str]]

    def of(self, owner: str) -> str:
        """The group of a service or task."""
        return next((group for group, members in self.groups.items() if owner in members), owner)

    def of_secret(self, name: str) -> str | None:
        """The group that a part of a secret's path names; None for a secret of no single group."""
        parts = name.split("/")
        return next((group for group in self.groups if group in parts), None)

    def lacks(self, group: str, uses: Sequence[Use], required: Mapping[str, Collection[str]]) -> list[str]:
        """Return required things that a group lacks. `required` are kinds of things by service or task."""
        lacking = []
        for member in self.groups[group]:
            kinds = {use.kind for use in uses if use.owner == member}
            if member in required and not kinds:
                lacking.append(f"{member} of {group} is not defined")
                continue
            lacking += [f"{member} has no {kind}" for kind in required.get(member, ()) if kind not in kinds]
        secrets = [use for use in uses if use.kind == SECRET and self.of(use.owner) == group]
        if not any(self.of_secret(use.name) == group for use in secrets):
            lacking.append(f"{group} has no secret of its own")
        return lacking

    def shared(self, uses: Sequence[Use], kinds: Iterable[str]) -> dict[str, list[Finding]]:
        """Return by group the things of these kinds that it shares with, or takes from, another, each once.

        A secret belongs to the group in its path, even if that group does not use it; a secret of no single
        group does not count here.
        """
        found: dict[str, list[Finding]] = defaultdict(list)
        for kind, users in _by_thing(uses, kinds):
            owner = self.of_secret(users[0].name) if kind == SECRET else None
            groups = {self.of(use.owner) for use in users}
            if kind != SECRET and len(groups) > 1:
                owners = " and ".join(sorted({use.owner for use in users}))
                finding = placed(users, f"{owners} share the {kind} {users[0].name}")
            elif owner and groups - {owner}:
                others = [use for use in users if self.of(use.owner) != owner]
                how = {use.owner: use.how for use in sorted(others, key=lambda use: use.how)}
                taken = " and ".join(f"{user} {how[user]}" for user in sorted(how))
                finding = placed(others, f"{taken} the secret {users[0].name} of {owner}")
                groups.add(owner)
            else:
                continue
            for group in groups:
                found[group].append(finding)
        return {group: sorted(findings) for group, findings in found.items()}

    def communal(self, uses: Sequence[Use]) -> list[Finding]:
        """Return the secrets of no single group that several groups use."""
        found = []
        for _, users in _by_thing(uses, [SECRET]):
            groups = sorted({self.of(use.owner) for use in users})
            if self.of_secret(users[0].name) is None and len(groups) > 1:
                found.append(placed(users, f"the secret {users[0].name} serves {' and '.join(groups)}"))
        return sorted(found)

    def crowded(self, uses: Sequence[Use], services: Collection[str], kinds: Iterable[str]) -> list[Finding]:
        """Return the things that several services share, even within one group.

        A one-shot task belongs to the services of its group: it may share with one of them, and with the
        other tasks of its group.
        """
        found = []
        for kind, users in _by_thing(uses, kinds):
            owners = {use.owner for use in users}
            running = owners & {*services}
            alone = {self.of(owner) for owner in owners - running} - {self.of(owner) for owner in running}
            if len(running) + len(alone) > 1:
                what = f"{' and '.join(sorted(owners))} share the {kind} {users[0].name}"
                found.append(placed(users, what))
        return sorted(found)

    def unclear(self, uses: Sequence[Use], kinds: Iterable[str]) -> list[Finding]:
        """Return the uses of these kinds whose thing the files leave open."""
        wanted = set(kinds)
        return sorted({
            use.finding(f"the {use.kind} of {use.owner}: {use.why}")
            for use in uses
            if use.why and use.kind in wanted
        })  # fmt: skip


#: Names of environments in prefixes.
ENVIRONMENTS = (
    "prod|prd|production|live|stg|stag|stage|staging|preprod|preview|uat|qa|test|dev|development|sandbox|demo"
)


def elsewhere(uses: Iterable[Use], prefix: str) -> list[Finding]:
    """Return the uses of another environment's things: named like `prefix` except for its last word.

    A prefix that does not end in an environment does not say how others are named.
    """
    stem, _, own = prefix.rpartition("-")
    if not stem or not re.fullmatch(ENVIRONMENTS, own):
        return []
    other = re.compile(rf"(?:.*/)?{re.escape(stem)}-(?!{re.escape(own)}\b)({ENVIRONMENTS})\b.*")
    return sorted({
        use.finding(f"{use.owner} {use.how} the {use.kind} {use.name}, which belongs to another environment")
        for use in uses
        if other.fullmatch(use.name)
    })  # fmt: skip


def of_another(text: str, prefix: str) -> str:
    """The name from another environment than this `prefix`'s in a text that has none of this one."""
    stem, _, own = prefix.rpartition("-")
    if prefix in text or not stem or not re.fullmatch(ENVIRONMENTS, own):
        return ""
    found = re.search(rf"(?<![\w-]){re.escape(stem)}-({ENVIRONMENTS})\b[\w/-]*", text)
    return found[0] if found else ""


def placed(users: Sequence[Use], what: str) -> Finding:
    """Return a finding at the first of several uses that names the places of the others."""
    places = sorted({(use.path, use.line) for use in users if use.path})
    others = ", ".join(f"{path}:{line}" for path, line in places[1:])
    path, line = places[0] if places else ("", 0)
    return Finding(path, line, f"{what} (also {others})" if others else what)


def _by_thing(uses: Sequence[Use], kinds: Iterable[str]) -> list[tuple[str, list[Use]]]:
    wanted = set(kinds)
    found: dict[tuple[str, str], list[Use]] = defaultdict(list)
    for use in uses:
        if use.kind in wanted:
            found[use.kind, use.identity].append(use)
    return [(kind, users) for (kind, _), users in found.items()]


def any_of(found: Collection[bool | None]) -> bool | None:
    """Whether one of several things holds; None if those that are unknown decide."""
    return True if True in found else None if None in found else False


def all_of(found: Collection[bool | None]) -> bool | None:
    """Whether all of several things hold; None if those that are unknown decide."""
    return False if False in found else None if None in found else True


def is_like(value: str, pattern: str) -> bool:
    """Whether a value matches a pattern of AWS: `*` and `?` are its only wildcards."""
    return fnmatchcase(value, pattern.replace("[", "[[]"))


ABOVE, ABOVE_OR_AT = "GreaterThanThreshold", "GreaterThanOrEqualToThreshold"
BELOW, BELOW_OR_AT = "LessThanThreshold", "LessThanOrEqualToThreshold"
SIGNS = {ABOVE: ">", ABOVE_OR_AT: ">=", BELOW: "<", BELOW_OR_AT: "<="}
#: The metrics that are watched are published once a minute.
RESOLUTION_S = 60


@dataclass(frozen=True, slots=True)
class Firing:
    """When an alarm fires: on `datapoints` of `periods` periods (0: all of them) of `period` seconds each.

    A period or number of periods of 0 is not set. `reports_absence`: missing data also notifies somebody.
    """

    statistic: str = ""
    comparison: str = ""
    threshold: float | None = None
    unit: str = ""
    period: int = 0
    periods: int = 0
    datapoints: int = 0
    missing: str = "missing"
    reports_absence: bool = False

    @property
    def condition(self) -> str:
        """The condition in words."""
        limit = "no fixed threshold" if self.threshold is None else f"{self.threshold:g}"
        return f"{self.statistic or 'expression'} {SIGNS.get(self.comparison, self.comparison)} {limit}"


@dataclass(frozen=True, slots=True)
class Need:
    """The required settings of an alarm.

    `accepts` maps a comparison to the lowest and the highest threshold, the strict one first; `unit` is the
    metric's, empty if the platform itself publishes it. `absence`: without running tasks there is no data.
    """

    accepts: Mapping[str, tuple[float, float]]
    statistics: tuple[str, ...]
    unit: str = ""
    absence: bool = False

    @property
    def condition(self) -> str:
        """The accepted condition in words; the strict comparison represents both."""
        comparison, (low, high) = next(iter(self.accepts.items()))
        return f"{SIGNS[comparison]} {low:g}" + (f" to {high:g}" if high != low else "")


def at_most(limit: float, low: float = 0) -> dict[str, tuple[float, float]]:
    """Fires above a threshold that is at most the limit."""
    return {ABOVE: (low, limit), ABOVE_OR_AT: (low + 1, limit + 1)}


#: None left of a thing that should exist once.
HEALTH = Need(
    {BELOW: (1.0, 1.0), BELOW_OR_AT: (0.0, 0.0)}, ("Average", "Minimum", "Maximum"), "Count", absence=True
)
#: A share: 60 to 90 percent. A percentile of `p9` means 90 or more.
UTILIZATION = Need({ABOVE: (60.0, 90.0), ABOVE_OR_AT: (60.0, 90.0)}, ("Average", "Maximum", "p9"), "Percent")
#: The platform's own metrics. For events that must never happen, the maximum also shows them.
APPLICATION = {
    # no model answers below 60 ms: such a limit is in seconds
    "InvokeLatencyMs": Need(at_most(10_000, low=60), ("p99",)),
    "JwtValidationFailedCount": Need(at_most(5), ("Sum",)),
    "ConservationViolationCount": Need(at_most(0), ("Sum", "Maximum")),
}


def connections(limit: float) -> Need:
    """The required settings of an alarm on database connections: it fires above at most this many."""
    return Need(at_most(limit, low=1), ("Average", "Maximum"), "Count")


#: Metrics that show whether anything of a service is left; one of them is enough.
HEALTH_METRICS = {
    ("AWS/ApplicationELB", "HealthyHostCount"),
    ("AWS/NetworkELB", "HealthyHostCount"),
    ("ECS/ContainerInsights", "RunningTaskCount"),
}
#: Metrics from which an alarm may compute such a figure.
PARTS = {
    "CPUUtilization": ("CpuUtilized", "CpuReserved"),
    "MemoryUtilization": ("MemoryUtilized", "MemoryReserved"),
    "RunningTaskCount": ("DesiredTaskCount", "PendingTaskCount"),
    "HealthyHostCount": ("UnHealthyHostCount",),
}
UTILIZATION_METRICS = {"cpu": "CPUUtilization", "memory": "MemoryUtilization"}
#: A service's metrics that alarms must watch.
KINDS = ("health", *UTILIZATION_METRICS)


def faults(firing: Firing, need: Need, within: Mapping[str, int], unread: Collection[str] = ()) -> list[str]:
    """Why an alarm would not fire where and when it should.

    `within` is the plan's time in seconds: `health_s` for things that must not be absent, otherwise
    `others_s`. A rule that needs a field of `unread` is left out.
    """
    limit = within["health_s" if need.absence else "others_s"]
    found = [rule(firing, need, limit) for fields, rule in _RULES if not fields & {*unread}]
    return [why for why in found if why]


def _condition(firing: Firing, need: Need, _: int) -> str:
    bounds = need.accepts.get(firing.comparison)
    if bounds is None:
        return f"it fires on {firing.condition}, expected {need.condition}"
    if firing.threshold is None or not bounds[0] <= firing.threshold <= bounds[1]:
        return f"its condition is {firing.condition}, expected {need.condition}"
    return ""


def _statistic(firing: Firing, need: Need, _: int) -> str:
    if any(_fits(firing.statistic, each) for each in need.statistics):
        return ""
    wanted = " or ".join("a percentile from p90" if each == "p9" else each for each in need.statistics)
    return f"its statistic is {firing.statistic or 'no statistic'}, expected {wanted}"


def _fits(statistic: str, wanted: str) -> bool:
    return statistic == wanted or (wanted == "p9" and re.fullmatch(r"p9\d(\.\d+)?", statistic) is not None)


def _unit(firing: Firing, need: Need, _: int) -> str:
    if need.unit and firing.unit not in ("", need.unit):
        return f"its unit is {firing.unit}, but the metric's is {need.unit}: no datapoint matches"
    return ""


def _time(firing: Firing, need: Need, limit: int) -> str:
    if not firing.period or not firing.periods:
        return ""
    if firing.datapoints > firing.periods:
        return f"it needs {firing.datapoints} breaching datapoints out of {firing.periods}"
    if need.unit and firing.period % RESOLUTION_S:
        return f"its period is {firing.period} s, but the metric has one datapoint a minute"
    seconds = firing.period * (firing.datapoints or firing.periods)
    return f"it fires after {seconds} s, but the plan allows {limit} s" if seconds > limit else ""


def _absence(firing: Firing, need: Need, _: int) -> str:
    if not need.absence or firing.missing == "breaching":
        return ""
    if firing.missing == "missing" and firing.reports_absence:
        return ""
    return f"it treats missing data as {firing.missing}: where nothing runs there is no data"


_RULES: tuple[tuple[set[str], Callable[[Firing, Need, int], str]], ...] = (
    ({"comparison", "threshold"}, _condition),
    ({"statistic"}, _statistic),
    ({"unit"}, _unit),
    ({"period", "periods", "datapoints"}, _time),
    ({"missing"}, _absence),
)


class RuleUnread(ValueError):
    """A composite alarm's rule is not understood."""


def goes_off_with(rule: str, alarm: Collection[str]) -> bool:
    """Whether a composite alarm fires whenever one alarm does, in any state of the others.

    `alarm` are the ways to refer to it: its name and its ARN. Raises RuleUnread.
    """
    return _Rule(rule, alarm).holds() is True


def may_go_off(rule: str, known: Collection[str]) -> bool:
    """Whether a composite alarm goes off in any state of the alarms that are there. Raises RuleUnread."""
    return _Rule(rule, (), known).holds() is not False


def alarms_in(rule: str) -> set[str]:
    """The names and ARNs in a composite alarm's rule. Raises RuleUnread."""
    reader = _Rule(rule, ())
    reader.holds()
    return reader.named


_STATES = ("ALARM", "OK", "INSUFFICIENT_DATA")
#: CloudWatch itself accepts fewer.
_DEPTH = 100
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[(),]|[^\s(),"]+')


class _Rule:
    """Evaluates a rule in three values; None if other alarms decide."""

    def __init__(self, rule: str, alarm: Collection[str], known: Collection[str] | None = None) -> None:
        self._tokens: Iterator[str] = iter(_TOKEN.findall(rule))
        self._next = next(self._tokens, "")
        self._alarm = alarm
        self._known = known
        self._depth = 0
        self.named: set[str] = set()

    def holds(self) -> bool | None:
        found = self._either()
        if self._next:
            raise RuleUnread(f"unexpected {self._next}")
        return found

    def _either(self) -> bool | None:
        found = [self._both()]
        while self._next == "OR":
            self._take()
            found.append(self._both())
        return any_of(found)

    def _both(self) -> bool | None:
        found = [self._one()]
        while self._next == "AND":
            self._take()
            found.append(self._one())
        return all_of(found)

    def _one(self) -> bool | None:
        word = self._take()
        if word in ("NOT", "("):
            self._depth += 1
            if self._depth > _DEPTH:
                raise RuleUnread(f"nested deeper than {_DEPTH}")
            found = self._one() if word == "NOT" else self._either()
            self._depth -= 1
            if word == "NOT":
                return None if found is None else not found
            self._take(")")
            return found
        if word in ("TRUE", "FALSE"):
            return word == "TRUE"
        if word not in _STATES:
            raise RuleUnread(f"unexpected {word or 'end'}")
        self._take("(")
        name = re.sub(r"\\(.)", r"\1", self._take().strip('"'))
        self._take(")")
        self.named.add(name)
        if self._known is not None and name.rpartition(":alarm:")[2] not in self._known:
            return False  # a deleted alarm is in no state
        return word == "ALARM" if name in self._alarm else None

    def _take(self, wanted: str = "") -> str:
        found, self._next = self._next, next(self._tokens, "")
        if wanted and found != wanted:
            raise RuleUnread(f"unexpected {found or 'end'}, not {wanted}")
        return found
