"""The alarms that contract section 4 asks for: what each must watch, and whether one does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .addresses import route_to
from .monitoring import ABOVE, ABOVE_OR_AT, BELOW, BELOW_OR_AT, SIGNS, Metric, MetricAlarm, mute
from .names import Names
from .reader import AwsReader


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
        return f"{SIGNS[comparison]} {low:g}" + (f" to {high:g}" if high != low else "")


#: A share of what there is: 60 to 90 percent.
PERCENT = {ABOVE: (60.0, 90.0), ABOVE_OR_AT: (60.0, 90.0)}
#: Nothing left of something that there is one of.
NONE_LEFT = {BELOW: (1.0, 1.0), BELOW_OR_AT: (0.0, 0.0)}


def at_most(limit: float) -> dict[str, tuple[float, float]]:
    """More than a threshold that is not above the limit."""
    return {ABOVE: (0.0, limit), ABOVE_OR_AT: (1.0, limit + 1)}


def watching(alarms: Iterable[MetricAlarm], metric: Metric) -> list[MetricAlarm]:
    """The alarms on exactly this metric, alone."""
    return [alarm for alarm in alarms if alarm.metrics == (metric,) and alarm.statistic]


def near(alarms: Iterable[MetricAlarm], watch: Watch) -> list[MetricAlarm]:
    """The alarms that are named after the same service and watch the same metric of something else."""
    kind = (watch.metric.namespace, watch.metric.name)
    return [
        alarm
        for alarm in alarms
        for watched in alarm.metrics[:1]
        if (watched.namespace, watched.name) == kind and watched != watch.metric and watch.of in alarm.name
    ]


def shortcomings(alarm: MetricAlarm, watch: Watch, topic: str) -> list[str]:
    """Why an alarm on the right metric would not do what it is for."""
    reasons = mute(alarm, topic)
    bounds = watch.accepts.get(alarm.comparison)
    if bounds is None:
        reasons.append(f"it fires on {alarm.condition}, accepted is {watch.condition}")
    elif alarm.threshold is None or not bounds[0] <= alarm.threshold <= bounds[1]:
        reasons.append(f"its condition is {alarm.condition}, accepted is {watch.condition}")
    if watch.statistic and alarm.statistic != watch.statistic:
        reasons.append(f"it looks at {alarm.statistic}, wanted is {watch.statistic}")
    return reasons


def judged(alarms: Sequence[MetricAlarm], watch: Watch, topic: str) -> tuple[MetricAlarm | None, str]:
    """The alarm that does what the watch asks for, or None and why no alarm does."""
    found = watching(alarms, watch.metric)
    rejected = []
    for alarm in found:
        reasons = shortcomings(alarm, watch, topic)
        if not reasons:
            return alarm, ""
        rejected.append(f"{alarm.name}: {'; '.join(reasons)}")
    if not found:
        rejected = [f"no alarm watches {watch.metric}"]
        rejected += [f"{alarm.name} watches {alarm.metrics[0]}" for alarm in near(alarms, watch)[:2]]
    return None, "; ".join(rejected)


#: Behind the load balancer: its count of healthy hosts shows whether any task is left.
BALANCED = ("api", "dixie")
KINDS = ("health", "cpu", "memory")
REQUIRED = (*(f"{name}-{kind}" for name in ("api", "finn", "dixie") for kind in KINDS), "rds-connections")
FURTHER = tuple(f"{name}-{kind}" for name in ("worker", "pgbouncer") for kind in KINDS)
APPLICATION = ("invoke-latency", "jwt-validation", "conservation")
_UTILIZATION = {"cpu": "CPUUtilization", "memory": "MemoryUtilization"}


def watch_for(name: str, aws: AwsReader, budget: Mapping[str, Any]) -> Watch:
    """What the alarm of this name must watch, with the dimensions of what really runs.

    `budget` is the plan's connection budget. AssertionError when that which is to be watched does not exist.
    """
    if name in APPLICATION:
        return _application(name, aws.names)
    if name == "rds-connections":
        assert aws.has_database(), f"there is no database instance {aws.names.database}"
        metric = Metric.of("AWS/RDS", "DatabaseConnections", {"DBInstanceIdentifier": aws.names.database})
        return Watch(metric, at_most(budget["total"]), of="rds")
    service, _, kind = name.rpartition("-")
    if kind == "health" and service in BALANCED:
        route = route_to(aws.routes(), aws.service(service).target_groups)
        assert route, f"no load balancer sends requests to {service}: it has no healthy hosts to count"
        return Watch(
            Metric.of("AWS/ApplicationELB", "HealthyHostCount", route.dimensions), NONE_LEFT, of=service
        )
    aws.service(service)
    own = {"ClusterName": aws.names.cluster, "ServiceName": aws.names.full(service)}
    if kind == "health":
        return Watch(Metric.of("ECS/ContainerInsights", "RunningTaskCount", own), NONE_LEFT, of=service)
    return Watch(Metric.of("AWS/ECS", _UTILIZATION[kind], own), PERCENT, of=service)


def _application(name: str, names: Names) -> Watch:
    if name == "invoke-latency":
        return Watch(Metric.of(names.app_metrics, "InvokeLatencyMs", {}), at_most(10_000), statistic="p99")
    if name == "jwt-validation":
        return Watch(Metric.of(names.app_metrics, "JwtValidationFailedCount", {}), at_most(5))
    return Watch(Metric.of(names.app_metrics, "ConservationViolationCount", {}), at_most(0))
