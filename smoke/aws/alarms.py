"""Alarms: what each must watch, whether one does, and whether it could ever fire. Calls nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALARM, INSUFFICIENT = "ALARM", "INSUFFICIENT_DATA"
ABOVE, ABOVE_OR_AT = "GreaterThanThreshold", "GreaterThanOrEqualToThreshold"
BELOW, BELOW_OR_AT = "LessThanThreshold", "LessThanOrEqualToThreshold"
_SIGNS = {ABOVE: ">", ABOVE_OR_AT: ">=", BELOW: "<", BELOW_OR_AT: "<="}
#: Actions of these services steer capacity; such an alarm is in ALARM as part of its work.
_STEERING = (":autoscaling:", ":application-autoscaling:", ":automate:")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its exact dimensions, in the order of their names."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Mapping[str, str]) -> Metric:
        """A metric with dimensions in any order."""
        return cls(namespace, name, tuple(sorted(dimensions.items())))

    def __str__(self) -> str:
        of = ", ".join(f"{name}={value}" for name, value in self.dimensions)
        return f"{self.namespace} {self.name}" + (f" of {of}" if of else "")


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm as it is set. `metrics` are all that feed it; metric math has several, or none of its own."""

    name: str
    state: str
    metrics: tuple[Metric, ...]
    statistic: str
    comparison: str
    threshold: float | None
    enabled: bool
    actions: tuple[str, ...]

    @property
    def steers(self) -> bool:
        """Whether it only scales something, and tells nobody."""
        return bool(self.actions) and all(any(part in each for part in _STEERING) for each in self.actions)

    @property
    def condition(self) -> str:
        """The condition in words."""
        limit = "no fixed threshold" if self.threshold is None else f"{self.threshold:g}"
        return f"{self.statistic or 'expression'} {_SIGNS.get(self.comparison, self.comparison)} {limit}"


@dataclass(frozen=True, slots=True)
class Watch:
    """What some alarm must watch, and by which comparisons with thresholds of which range it may fire.

    `of` is the service, by which a person would name such an alarm.
    """

    metric: Metric
    accepts: Mapping[str, tuple[float, float]]
    statistic: str = ""
    of: str = ""

    @property
    def condition(self) -> str:
        """What is accepted, in words; the strict comparison stands for both."""
        comparison, (low, high) = next(iter(self.accepts.items()))
        return f"{_SIGNS[comparison]} {low:g}" + (f" to {high:g}" if high != low else "")


#: A share of what there is: 60 to 90 percent.
PERCENT = {ABOVE: (60.0, 90.0), ABOVE_OR_AT: (60.0, 90.0)}
#: Nothing left of something that there is one of.
NONE_LEFT = {BELOW: (1.0, 1.0), BELOW_OR_AT: (0.0, 0.0)}


def at_most(limit: float) -> dict[str, tuple[float, float]]:
    """More than a threshold that is not above the limit."""
    return {ABOVE: (0.0, limit), ABOVE_OR_AT: (1.0, limit + 1)}


def alarm_of(told: Mapping[str, Any]) -> Alarm:
    """An alarm as DescribeAlarms tells it."""
    parts = [
        (stat["Metric"]["Namespace"], stat["Metric"]["MetricName"], stat["Metric"].get("Dimensions", ()))
        for stat in (each.get("MetricStat") for each in told.get("Metrics", ()))
        if stat
    ]
    if told.get("MetricName"):
        parts = [(told["Namespace"], told["MetricName"], told.get("Dimensions", ()))]
    threshold = told.get("Threshold")
    return Alarm(
        name=told["AlarmName"],
        state=told["StateValue"],
        metrics=tuple(
            Metric.of(namespace, name, {each["Name"]: each["Value"] for each in dimensions})
            for namespace, name, dimensions in parts
        ),
        statistic=told.get("ExtendedStatistic") or told.get("Statistic") or "",
        comparison=told.get("ComparisonOperator", ""),
        threshold=None if threshold is None else float(threshold),
        enabled=bool(told.get("ActionsEnabled")),
        actions=tuple(told.get("AlarmActions", ())),
    )


def watching(alarms: Iterable[Alarm], metric: Metric) -> list[Alarm]:
    """The alarms on exactly this metric, alone."""
    return [alarm for alarm in alarms if alarm.metrics == (metric,) and alarm.statistic]


def near(alarms: Iterable[Alarm], watch: Watch) -> list[Alarm]:
    """The alarms that are named after the same service and watch the same metric of something else."""
    kind = (watch.metric.namespace, watch.metric.name)
    return [
        alarm
        for alarm in alarms
        for watched in alarm.metrics[:1]
        if (watched.namespace, watched.name) == kind and watched != watch.metric and watch.of in alarm.name
    ]


def mute(alarm: Alarm, topic: str) -> list[str]:
    """Why nobody would hear of an alarm. `topic` is the name of the topic that it must notify."""
    told = []
    if not alarm.enabled:
        told.append("its actions are switched off")
    if not alarm.actions:
        told.append("it has no target")
    elif not any(action.rpartition(":")[2] == topic for action in alarm.actions):
        told.append(f"it notifies {', '.join(alarm.actions)} and not {topic}")
    return told


def shortcomings(alarm: Alarm, watch: Watch, topic: str) -> list[str]:
    """Why an alarm on the right metric would not do what it is for."""
    told = mute(alarm, topic)
    bounds = watch.accepts.get(alarm.comparison)
    if bounds is None:
        told.append(f"it fires on {alarm.condition}, accepted is {watch.condition}")
    elif alarm.threshold is None or not bounds[0] <= alarm.threshold <= bounds[1]:
        told.append(f"its condition is {alarm.condition}, accepted is {watch.condition}")
    if watch.statistic and alarm.statistic != watch.statistic:
        told.append(f"it looks at {alarm.statistic}, wanted is {watch.statistic}")
    return told


def judged(alarms: Sequence[Alarm], watch: Watch, topic: str) -> tuple[Alarm | None, str]:
    """The alarm that does what the watch asks for, or None and why there is none."""
    found = watching(alarms, watch.metric)
    told = []
    for alarm in found:
        reasons = shortcomings(alarm, watch, topic)
        if not reasons:
            return alarm, ""
        told.append(f"{alarm.name}: {'; '.join(reasons)}")
    if not found:
        told = [f"no alarm watches {watch.metric}"]
        told += [f"{alarm.name} watches {alarm.metrics[0]}" for alarm in near(alarms, watch)[:2]]
    return None, "; ".join(told)


def is_health(alarm: Alarm) -> bool:
    """Whether it tells that nothing of a service is left."""
    return any(metric.name in {"HealthyHostCount", "RunningTaskCount"} for metric in alarm.metrics)


def is_conservation(alarm: Alarm) -> bool:
    """Whether it tells that money was not conserved."""
    return any("conservation" in metric.name.lower() for metric in alarm.metrics)


#: What a metric needs that a filter of the logs makes.
DEFAULT_VALUE = "if a log metric filter feeds it, give the filter a default value of 0"


def unfed(alarms: Iterable[Alarm], fed: Mapping[Metric, int]) -> list[str]:
    """The alarms with a metric that has no datapoint, and what to do; `fed` counts each metric's fresh ones.

    Namespaces of AWS begin with `AWS/` or `ECS/`; any other is fed by the platform, with what a filter of its
    logs counts: without a default value such a filter says nothing while nothing happens.
    """
    return [
        f"{alarm.name}: no datapoint of {metric}"
        + ("" if metric.namespace.startswith(("AWS/", "ECS/")) else f" ({DEFAULT_VALUE})")
        for alarm in alarms
        for metric in alarm.metrics
        if not fed.get(metric)
    ]
