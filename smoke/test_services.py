"""G-1, phase services: what ECS says of each service; for the worker this is its only health check."""

from __future__ import annotations

from typing import Any

import pytest

from smoke.clients.aws import aws_client
from smoke.clients.wire import Evidence

pytestmark = [
    pytest.mark.goal("G-1"),
    pytest.mark.phase("services"),
    pytest.mark.p0,
    pytest.mark.requires("aws"),
]

SERVICES = ("api", "worker", "finn", "dixie", "pgbouncer")


@pytest.mark.parametrize("service", SERVICES)
def test_ecs(environment: Any, service: str, evidence: Evidence) -> None:
    """Running equals desired and is at least one, in one PRIMARY deployment whose rollout is COMPLETED."""
    prefix = environment.aws.prefix
    cluster, name = f"{prefix}-cluster", f"{prefix}-{service}"
    ecs = aws_client(environment, "ecs")
    found = ecs.describe_services(cluster=cluster, services=[name])["services"]
    active = [entry for entry in found if entry["status"] == "ACTIVE"]
    assert active, f"the cluster {cluster} has no active service {name}"
    running, desired = active[0]["runningCount"], active[0]["desiredCount"]
    evidence.figure(f"running tasks of {name}", running, expected=desired, limit=">= 1")
    assert desired >= 1, f"{name}: {desired} tasks are wanted"
    assert running == desired, f"{name}: {running} of {desired} tasks are running"
    deployments = {entry["status"]: entry.get("rolloutState") for entry in active[0]["deployments"]}
    evidence.figure(f"deployments of {name}", deployments, expected={"PRIMARY": "COMPLETED"})
    assert deployments == {"PRIMARY": "COMPLETED"}, f"{name}: deployments {deployments}"
