"""G-1, phase services: what ECS says of each service; for the worker this is its only health check."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from smoke.clients.aws import aws_client
from smoke.clients.contract import fields_of
from smoke.clients.health import HEALTH_PATHS
from smoke.clients.wire import Evidence, Wire, require_status

pytestmark = [
    pytest.mark.goal("G-1"),
    pytest.mark.phase("services"),
    pytest.mark.p0,
    pytest.mark.requires("aws"),
]

BUILDS = {"freeside": "api", "finn": "finn", "dixie": "dixie"}
TAG = re.compile(r"[0-9a-f]{7,40}")
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


@pytest.mark.parametrize(
    "service",
    [
        pytest.param("freeside", marks=pytest.mark.requires("freeside")),
        pytest.param("dixie", marks=pytest.mark.requires("dixie")),
        pytest.param("finn", marks=pytest.mark.requires("finn", covered_by="services/ecs[finn]")),
    ],
)
def test_build_is_its_image(environment: Any, service: str, http: httpx.Client, evidence: Evidence) -> None:
    """The build that a service says it runs is the one that ECS runs: its image's tag, a git sha."""
    image = image_of(environment, BUILDS[service])
    tag = image.rpartition(":")[2]
    assert TAG.fullmatch(tag), f"{service} runs the image {image}, whose tag is no git sha"
    wire = Wire(service, environment.get(f"{service}.url"), http, evidence)
    sha = fields_of(require_status(wire.send("GET", HEALTH_PATHS[service]), 200)).text("build_sha")
    evidence.figure(f"build of {service}", sha, expected=tag)
    assert sha.startswith(tag) or tag.startswith(sha), f"{service} says build {sha}, ECS runs {image}"


def image_of(environment: Any, service: str) -> str:
    """The image of a service's task definition in use."""
    ecs, prefix = aws_client(environment, "ecs"), environment.aws.prefix
    found = ecs.describe_services(cluster=f"{prefix}-cluster", services=[f"{prefix}-{service}"])["services"]
    assert found, f"the cluster {prefix}-cluster has no service {prefix}-{service}"
    definition = ecs.describe_task_definition(taskDefinition=found[0]["taskDefinition"])["taskDefinition"]
    return str(definition["containerDefinitions"][0]["image"])
