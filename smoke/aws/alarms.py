"""CloudWatch alarms: what each one watches, whom it notifies, and whether it works."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from smoke.source.rules import (
    APPLICATION,
    HEALTH_METRICS,
    PARTS,
    UTILIZATION_METRICS,
    Firing,
    Need,
    RuleUnread,
    alarms_in,
    faults,
    goes_off_with,
    may_go_off,
)

from .account import AwsAccount
from .names import Names

ALARM, INSUFFICIENT = "ALARM", "INSUFFICIENT_DATA"
#: Actions of these services change capacity; such an alarm is in ALARM as part of normal operation.
_STEERING = (":autoscaling:", ":application-autoscaling:", ":automate:")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its exact dimensions, sorted by name; a `unit` selects only its own datapoints."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()
    unit: str = ""

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Mapping[str, str], unit: str = "") -> Metric:
        """A metric with dimensions in any order."""
        return cls(namespace, name, tuple(sorted(dimensions.items())), unit)

    def __str__(self) -> str:
        of = ", ".join(f"{name}={value}" for name, value in self.dimensions)
        unit = f" in {self.unit}" if self.unit else ""
        return f"{self.namespace} {self.name}{unit}" + (f" of {of}" if of else "")


@dataclass(frozen=True, slots=True)
class Notifier:
    """The notifications and the state of an alarm of either kind."""

    name: str
    state: str
    arn: str
    enabled: bool
    actions: tuple[str, ...]

    @property
    def steers(self) -> bool:
        """Whether it only triggers scaling and notifies nobody."""
        return bool(self.actions) and all(any(part in each for part in _STEERING) for each in self.actions)

    def mute(self, topic: str) -> list[str]:
        """Why it would not notify the topic of this name, in its own account and region."""
        if not self.enabled:
            return ["its actions are disabled"]
        if not self.actions:
            return ["it has no target"]
        wanted = self.topic(topic)
        return [] if wanted in self.actions else [f"it notifies {', '.join(self.actions)}, not {wanted}"]

    def topic(self, name: str) -> str:
        """The ARN of a topic beside the alarm."""
        _, partition, _, region, account, *_ = [*self.arn.split(":"), "", "", "", ""]
        return f"arn:{partition}:sns:{region}:{account}:{name}"


@dataclass(frozen=True, slots=True)
class CompositeAlarm(Notifier):
    """An alarm on the states of others. Another alarm, its `suppressor`, may have it `suppressed` now."""

    rule: str = ""
    suppressor: str = ""
    suppressed: bool = False

    def mute(self, topic: str) -> list[str]:
        """It also sends no notification while another alarm suppresses its actions."""
        held = [f"its actions are suppressed by {self.suppressor}"] if self.suppressed else []
        return held or Notifier.mute(self, topic)

    @property
    def alarms(self) -> set[str]:
        """The alarms that its rule names; empty if the rule is not understood."""
        try:
            return {each.rpartition(":alarm:")[2] for each in alarms_in(self.rule)}
        except RuleUnread:
            return set()


@dataclass(frozen=True, slots=True)
class MetricAlarm(Notifier):
    """An alarm's configuration. `metrics` are all its inputs; an `expression` computes a value from them.

    `through` are the composite alarms that fire whenever it does, `unread` those that may. It may ignore
    periods with few values; if it `fails`, CloudWatch cannot evaluate it. `routed` are the event rules that
    notify the topic of it instead; `unseen` says why they cannot be read. A `flat` one has no queries.
    """

    metrics: tuple[Metric, ...] = ()
    firing: Firing = field(default_factory=Firing)
    expression: str = ""
    through: tuple[CompositeAlarm, ...] = ()
    unread: tuple[CompositeAlarm, ...] = ()
    ignores_few: bool = False
    fails: bool = False
    routed: tuple[str, ...] = ()
    unseen: str = ""
    flat: bool = field(default=False, compare=False)

    @property
    def condition(self) -> str:
        """The condition in words."""
        return self.firing.condition

    @property
    def unclear(self) -> list[str]:
        """What may make it notify, but is not understood or not read."""
        read = [f"the rule {each.rule} of {each.name}" for each in self.unread]
        return [*read, self.unseen] if self.unseen else read

    def mute(self, topic: str) -> list[str]:
        """An event rule needs no action of the alarm, neither set nor enabled."""
        return [] if self.routed else Notifier.mute(self, topic)

    def notifiers(self, topic: str) -> list[Notifier]:
        """The alarm itself and the composite alarms, if they notify the topic."""
        return [each for each in (self, *self.through) if not each.mute(topic)]

    def silent(self, topic: str) -> list[str]:
        """Why neither it nor a composite alarm sends a notification."""
        if self.notifiers(topic):
            return []
        also = [f"{each.name}, which fires with it: {each.mute(topic)[0]}" for each in self.through]
        return [*self.mute(topic), *also]


def alarm_of(described: Mapping[str, Any]) -> MetricAlarm:
    """A metric alarm from DescribeAlarms; one metric query is the same as the flat form."""
    arn = described.get("AlarmArn", "")
    queries = described.get("Metrics", ())
    stats = [(each, each["MetricStat"]) for each in queries if each.get("MetricStat")]
    parts = [_metric(stat["Metric"], stat.get("Unit"), each, arn) for each, stat in stats]
    statistic = described.get("ExtendedStatistic") or described.get("Statistic") or ""
    period, unit, expression = described.get("Period"), described.get("Unit"), ""
    comparison, threshold = described.get("ComparisonOperator", ""), described.get("Threshold")
    missing, filled = described.get("TreatMissingData") or "missing", _filled(queries)
    if described.get("MetricName"):
        parts = [_metric(described, unit, {}, arn)]
    elif len(stats) == 1 and (len(queries) == 1 or filled is not None):
        only = stats[0][1]
        statistic, period, unit = only["Stat"], only["Period"], only.get("Unit")
        if filled is not None and threshold is not None:
            fires = _FIRES[comparison](filled, float(threshold))
            missing = "breaching" if fires else "notBreaching"
    else:
        written = [each["Expression"] for each in queries if each.get("Expression")]
        expression = " and ".join(written) or "a query of another kind"
    place = Notifier("", "", arn, enabled=True, actions=())
    return MetricAlarm(
        **_notifier(described),
        metrics=tuple(parts),
        firing=Firing(
            statistic=statistic,
            comparison=comparison,
            threshold=None if threshold is None else float(threshold),
            unit=unit or "",
            period=int(period or 0),
            periods=int(described.get("EvaluationPeriods") or 0),
            datapoints=int(described.get("DatapointsToAlarm") or 0),
            missing=missing,
            reports_absence=any(
                each.startswith(place.topic("")) for each in described.get("InsufficientDataActions", ())
            ),
        ),
        expression=expression,
        ignores_few=described.get("EvaluateLowSampleCountPercentile") == "ignore",
        fails=described.get("EvaluationState") == "EVALUATION_ERROR",
        flat=bool(described.get("MetricName")),
    )


#: An expression that replaces a metric's missing datapoints by a number.
_FILL = re.compile(r"\s*FILL\(\s*(\w+)\s*,\s*(-?\d+(?:\.\d+)?)\s*\)\s*")
_FIRES = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


def _filled(queries: Sequence[Mapping[str, Any]]) -> float | None:
    """The number that replaces missing datapoints; None unless they are one metric and its `FILL`."""
    computed = [each for each in queries if each.get("Expression") and each.get("ReturnData", True)]
    written = [_FILL.fullmatch(each["Expression"]) for each in computed]
    (found,) = written if len(written) == 1 and len(queries) == len(written) + 1 else (None,)
    ids = {each["Id"] for each in queries if each.get("MetricStat")}
    return float(found[2]) if found and found[1] in ids else None


def composite_of(described: Mapping[str, Any], ringing: Collection[str] = ()) -> CompositeAlarm:
    """A composite alarm from DescribeAlarms; `ringing` are the names of the alarms in ALARM."""
    by = described.get("ActionsSuppressor", "").rpartition(":alarm:")[2]
    held = described.get("ActionsSuppressedBy") in ("Alarm", "ExtensionPeriod") or by in ringing
    return CompositeAlarm(
        **_notifier(described), rule=described["AlarmRule"], suppressor=by or "an alarm", suppressed=held
    )


def _notifier(described: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": described["AlarmName"],
        "state": described["StateValue"],
        "arn": described.get("AlarmArn", ""),
        "enabled": bool(described.get("ActionsEnabled")),
        "actions": tuple(described.get("AlarmActions", ())),
    }


def _metric(described: Mapping[str, Any], unit: str | None, query: Mapping[str, Any], arn: str) -> Metric:
    """A metric; an account other than the alarm's is one more dimension."""
    dimensions = {each["Name"]: each["Value"] for each in described.get("Dimensions", ())}
    account = query.get("AccountId", "")
    if account and f":{account}:alarm:" not in arn:
        dimensions["AccountId"] = account
    return Metric.of(described["Namespace"], described["MetricName"], dimensions, unit or "")


def linked(alarms: Iterable[MetricAlarm], composites: Sequence[CompositeAlarm]) -> list[MetricAlarm]:
    """The alarms with the composite alarms that fire with them, over any number of steps."""
    return [_linked(alarm, composites) for alarm in alarms]


def _linked(alarm: MetricAlarm, composites: Sequence[CompositeAlarm]) -> MetricAlarm:
    through: list[CompositeAlarm] = []
    unread: list[CompositeAlarm] = []
    names = [{alarm.name, alarm.arn}]
    for name in names:  # grows
        for each in composites:
            if each in through or each in unread:
                continue
            try:
                if goes_off_with(each.rule, name):
                    through.append(each)
                    names.append({each.name, each.arn})
            except RuleUnread:
                if any(reference and reference in each.rule for reference in name):
                    unread.append(each)
    # one that is suppressed by an alarm that fires with it never notifies
    firing = {one for name in names for one in name}
    through = [replace(each, suppressed=each.suppressed or each.suppressor in firing) for each in through]
    return replace(alarm, through=tuple(through), unread=tuple(unread)) if through or unread else alarm


def hollow(composites: Iterable[CompositeAlarm], known: Collection[str], topic: str) -> list[str]:
    """Composite alarms that would notify the topic but can never fire, because they name a missing alarm."""
    found = []
    for each in composites:
        try:
            dead = not each.mute(topic) and not may_go_off(each.rule, known)
        except RuleUnread:
            continue  # reported elsewhere
        gone = ", ".join(sorted(each.alarms - {*known}))
        if dead:
            found.append(f"{each.name}: {f'there is no alarm {gone}' if gone else 'its rule is never true'}")
    return found


def read_alarms(
    account: AwsAccount, names: Names
) -> tuple[list[MetricAlarm], list[CompositeAlarm], frozenset[str]]:
    """The platform's alarms, and the names of all alarms.

    The platform's alarms have its prefix, watch something with it, or are composed of such alarms.
    """
    described = account.pages(
        "cloudwatch",
        "describe_alarms",
        "MetricAlarms",
        "CompositeAlarms",
        AlarmTypes=["MetricAlarm", "CompositeAlarm"],
        PaginationConfig={"PageSize": 100},
    )
    ringing = {each["AlarmName"] for each in described if each["StateValue"] == ALARM}
    composites = [composite_of(each, ringing) for each in described if "AlarmRule" in each]
    metric = [alarm_of(each) for each in described if "AlarmRule" not in each]
    found = linked([each for each in metric if _is_of(each, names)], composites)
    children = {each.name for alarm in found for each in (*alarm.through, *alarm.unread)}
    prefix = f"{names.prefix}-"
    own = [each for each in composites if each.name in children or each.name.startswith(prefix)]
    return found, own, frozenset(each["AlarmName"] for each in described)


def _is_of(alarm: MetricAlarm, names: Names) -> bool:
    if alarm.name.startswith(f"{names.prefix}-"):
        return True
    own = re.compile(rf"(^|/){re.escape(names.prefix)}-")
    return any(
        metric.namespace.startswith(f"{names.prefix}/") or any(own.search(of) for _, of in metric.dimensions)
        for metric in alarm.metrics
    )


def is_health(alarm: MetricAlarm) -> bool:
    """Whether it watches that a service has a healthy task."""
    return any((metric.namespace, metric.name) in HEALTH_METRICS for metric in alarm.metrics)


#: The metrics that contract section 4 names, and those from which an alarm may compute them.
NAMED = {name for _, name in HEALTH_METRICS} | {*UTILIZATION_METRICS.values(), *APPLICATION}
NAMED |= {"DatabaseConnections"} | {part for parts in PARTS.values() for part in parts}


def is_named(alarm: MetricAlarm) -> bool:
    """Whether an alarm watches a metric that the contract names.

    Other alarms may notify anybody, and may wait for a first datapoint, such as for an error that has never
    happened.
    """
    if alarm.metrics:
        return any(metric.name in NAMED for metric in alarm.metrics)
    written = alarm.expression
    return not _NAMES_METRICS.search(written) or any(re.search(rf"\b{name}\b", written) for name in NAMED)


def is_conservation(alarm: MetricAlarm) -> bool:
    """Whether it watches the conservation of money."""
    return any("conservation" in metric.name.lower() for metric in alarm.metrics)


@dataclass(frozen=True, slots=True)
class Watch:
    """What an alarm must watch, one of these metrics, and how it must be set.

    `of` is the service that such an alarm would be named after; `within` is the plan's time. `unreached` are
    the service's target groups, as dimensions, to which no load balancer forwards; `unpublished` are metrics
    without data, because the cluster's Container Insights are off.
    """

    metrics: tuple[Metric, ...]
    need: Need
    within: Mapping[str, int]
    of: str = ""
    unreached: frozenset[str] = frozenset()
    unpublished: frozenset[Metric] = frozenset()

    def __str__(self) -> str:
        return " or ".join(map(str, self.metrics))


def watching(alarms: Iterable[MetricAlarm], watch: Watch) -> list[MetricAlarm]:
    """The alarms on exactly this metric only, without an expression."""
    return [
        alarm
        for alarm in alarms
        if not alarm.expression and replace(alarm.metrics[0], unit="") in watch.metrics
    ]


def near(alarms: Iterable[MetricAlarm], watch: Watch) -> list[MetricAlarm]:
    """The alarms that are named after the same service and watch the same metric of something else."""
    kinds = {(metric.namespace, metric.name) for metric in watch.metrics}
    return [
        alarm
        for alarm in alarms
        for watched in alarm.metrics[:1]
        if (watched.namespace, watched.name) in kinds
        and replace(watched, unit="") not in watch.metrics
        and watch.of in alarm.name
    ]


#: Queries that find metrics by their CloudWatch names; PromQL uses others.
_NAMES_METRICS = re.compile("SELECT|SEARCH")


def may_watch(alarms: Iterable[MetricAlarm], watch: Watch) -> list[MetricAlarm]:
    """The alarms that compute with this metric or its parts, or with metrics found by its name."""
    names = {metric.name for metric in watch.metrics}
    parts = {(part, each.dimensions) for each in watch.metrics for part in PARTS.get(each.name, ())}
    return [
        alarm
        for alarm in alarms
        if alarm.expression
        and (
            any(
                replace(metric, unit="") in watch.metrics or (metric.name, metric.dimensions) in parts
                for metric in alarm.metrics
            )
            or any(re.search(rf"\b{name}\b", alarm.expression) for name in names)
            or (not alarm.metrics and not _NAMES_METRICS.search(alarm.expression) and watch.of in alarm.name)
        )
    ]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The alarm that satisfies the watch, or why none does, and what could not be read."""

    good: MetricAlarm | None
    why: str = ""
    unread: tuple[str, ...] = ()


def judged(alarms: Sequence[MetricAlarm], watch: Watch, topic: str) -> Judgement:
    """Judge all alarms that may satisfy the watch."""
    found = watching(alarms, watch)
    rejected, unread = [], []
    for alarm in found:
        wrong = faults(alarm.firing, watch.need, watch.within)
        if replace(alarm.metrics[0], unit="") in watch.unpublished:
            wrong.append("Container Insights is disabled in its cluster, so the metric does not exist")
        silent = alarm.silent(topic)
        if not wrong and not silent:
            return Judgement(alarm)
        if not wrong:
            unread += alarm.unclear
        rejected.append(f"{alarm.name}: {'; '.join([*silent, *wrong])}")
    unread += [f"{alarm.name}, which computes {alarm.expression}" for alarm in may_watch(alarms, watch)]
    if not found:
        rejected = [
            f"{alarm.name} watches a target group that no load balancer forwards to"
            for alarm in alarms
            if any(value in watch.unreached for metric in alarm.metrics for _, value in metric.dimensions)
        ]
        rejected += [f"no alarm watches {watch}"]
        rejected += [f"{alarm.name} watches {alarm.metrics[0]}" for alarm in near(alarms, watch)[:2]]
    return Judgement(None, "; ".join(rejected), tuple(unread))
