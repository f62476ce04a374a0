"""The alarms of contract section 4, and the metrics that feed them, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stack.aws.definitions import APP_METRICS, CLUSTER, DATABASE, SERVICES
from stack.aws.names import PREFIX

Dimensions = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Metric:
    """A metric with its exact dimensions and the value that a healthy platform publishes."""

    namespace: str
    name: str
    dimensions: Dimensions
    healthy: float

    def series(self) -> dict[str, Any]:
        """Return what the feeder publishes."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "dimensions": dict(self.dimensions),
            "value": self.healthy,
        }


@dataclass(frozen=True)
class Alarm:
    """An alarm on a metric: `statistic comparison threshold` over `periods` periods of `period` seconds."""

    name: str
    metric: Metric
    statistic: str
    comparison: str
    threshold: float
    period: int = 60
    periods: int = 1
    missing: str = "notBreaching"

    def request(self, topic_arn: str) -> dict[str, Any]:
        """Return the arguments of PutMetricAlarm."""
        kind = "ExtendedStatistic" if self.statistic.startswith("p") else "Statistic"
        return {
            "AlarmName": self.name,
            "Namespace": self.metric.namespace,
            "MetricName": self.metric.name,
            "Dimensions": [{"Name": name, "Value": value} for name, value in self.metric.dimensions],
            kind: self.statistic,
            "ComparisonOperator": self.comparison,
            "Threshold": self.threshold,
            "Period": self.period,
            "EvaluationPeriods": self.periods,
            "TreatMissingData": self.missing,
            "ActionsEnabled": True,
            "AlarmActions": [topic_arn],
            "OKActions": [topic_arn],
        }


ABOVE, BELOW = "GreaterThanThreshold", "LessThanThreshold"


def all_alarms(targets: dict[str, tuple[str, str]]) -> list[Alarm]:
    """Return every alarm; `targets` maps a balanced service to its (TargetGroup, LoadBalancer) dimensions."""
    found = [alarm for service in SERVICES for alarm in _of_service(service.name, targets)]
    connections = Metric("AWS/RDS", "DatabaseConnections", (("DBInstanceIdentifier", DATABASE),), 21)
    latency = Metric(APP_METRICS, "InvokeLatencyMs", (), 420)
    refused = Metric(APP_METRICS, "JwtValidationFailedCount", (), 0)
    violations = Metric(APP_METRICS, "ConservationViolationCount", (), 0)
    return [
        *found,
        Alarm(f"{PREFIX}-rds-connections-high", connections, "Maximum", ABOVE, 70, 300, 2),
        Alarm(f"{PREFIX}-invoke-latency-p99", latency, "p99", ABOVE, 10_000, 300),
        Alarm(f"{PREFIX}-jwt-log-validation-failures", refused, "Sum", ABOVE, 5, 300),
        Alarm(f"{PREFIX}-conservation-log-violation", violations, "Sum", ABOVE, 0, 300),
    ]


def _of_service(name: str, targets: dict[str, tuple[str, str]]) -> list[Alarm]:
    own = (("ClusterName", CLUSTER), ("ServiceName", f"{PREFIX}-{name}"))
    cpu = Metric("AWS/ECS", "CPUUtilization", own, 12)
    memory = Metric("AWS/ECS", "MemoryUtilization", own, 38)
    found = [
        Alarm(f"{PREFIX}-{name}-cpu-high", cpu, "Average", ABOVE, 80, 300, 2, "missing"),
        Alarm(f"{PREFIX}-{name}-memory-high", memory, "Average", ABOVE, 80, 300, 2, "missing"),
    ]
    if name in targets:
        group, balancer = targets[name]
        hosts = Metric(
            "AWS/ApplicationELB", "HealthyHostCount", (("TargetGroup", group), ("LoadBalancer", balancer)), 1
        )
        found.append(
            Alarm(f"{PREFIX}-{name}-health-check-failure", hosts, "Minimum", BELOW, 1, missing="breaching")
        )
    else:
        tasks = Metric("ECS/ContainerInsights", "RunningTaskCount", own, 1)
        found.append(Alarm(f"{PREFIX}-{name}-task-count", tasks, "Minimum", BELOW, 1, missing="breaching"))
    return found
