"""What contract section 4 asks alarms for, with the dimensions of what really runs."""

from collections.abc import Mapping
from typing import Any

from smoke.source import watch

from .addresses import routes_to
from .alarms import Metric, Watch
from .reader import AwsReader

KINDS = ("health", "cpu", "memory")
REQUIRED = (*(f"{name}-{kind}" for name in ("api", "finn", "dixie") for kind in KINDS), "rds-connections")
FURTHER = tuple(f"{name}-{kind}" for name in ("worker", "pgbouncer") for kind in KINDS)
APPLICATION = {
    "invoke-latency": "InvokeLatencyMs",
    "jwt-validation": "JwtValidationFailedCount",
    "conservation": "ConservationViolationCount",
}


def watch_for(name: str, aws: AwsReader, facts: Mapping[str, Any]) -> Watch:
    """What the alarm of this name must watch.

    `facts` are the plan's: its connection budget and the time that alarms have. AssertionError when that
    which is to be watched does not exist.
    """
    within = facts["alarms"]
    if name in APPLICATION:
        metric = APPLICATION[name]
        own = Metric.of(aws.names.app_metrics, metric, {})
        return Watch((own,), watch.APPLICATION[metric], within)
    if name == "rds-connections":
        assert aws.has_database(), f"there is no database instance {aws.names.database}"
        used = Metric.of("AWS/RDS", "DatabaseConnections", {"DBInstanceIdentifier": aws.names.database})
        return Watch((used,), watch.connections(facts["connections"]["total"]), within, of="rds")
    service, _, kind = name.rpartition("-")
    found = aws.service(service)
    by_service = {"ClusterName": aws.names.cluster, "ServiceName": aws.names.full(service)}
    if kind != "health":
        metric = watch.UTILIZATION_METRICS[kind]
        return Watch((Metric.of("AWS/ECS", metric, by_service),), watch.UTILIZATION, within, of=service)
    # A balancer's count of healthy hosts shows as well whether any task is left.
    hosts = [
        Metric.of(route.namespace, "HealthyHostCount", route.dimensions)
        for route in (routes_to(aws.routes(), found.target_groups) if found.target_groups else ())
    ]
    tasks = Metric.of("ECS/ContainerInsights", "RunningTaskCount", by_service)
    return Watch((*dict.fromkeys(hosts), tasks), watch.HEALTH, within, of=service)
