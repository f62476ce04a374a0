"""The alarms that contract section 4 asks for, as what each must watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .alarms import NONE_LEFT, PERCENT, Metric, Watch, at_most
from .balancer import route_to
from .names import Names
from .observed import Observed

#: Behind the load balancer: its count of healthy hosts tells whether anything of them is left.
BALANCED = ("api", "dixie")
KINDS = ("health", "cpu", "memory")
REQUIRED = (*(f"{name}-{kind}" for name in ("api", "finn", "dixie") for kind in KINDS), "rds-connections")
FURTHER = tuple(f"{name}-{kind}" for name in ("worker", "pgbouncer") for kind in KINDS)
APPLICATION = ("invoke-latency", "jwt-validation", "conservation")
_UTILIZATION = {"cpu": "CPUUtilization", "memory": "MemoryUtilization"}


def watch_for(name: str, aws: Observed, budget: Mapping[str, Any]) -> Watch:
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
