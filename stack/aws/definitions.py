"""What runs in AWS, as data: contract section 4 with the names that the platform's Terraform gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stack.aws.names import ACCOUNT, PREFIX, REGION, secret_id
from stack.build import build_sha

CLUSTER = f"{PREFIX}-cluster"
NAMESPACE = f"{PREFIX}.local"
TOPIC = f"{PREFIX}-alerts"
DATABASE = f"{PREFIX}-postgres"
APP_METRICS = f"{PREFIX}/AppMetrics"
DASHBOARDS = (f"{PREFIX}-overview", f"{PREFIX}-service-health")
RETENTION_DAYS = 30
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


@dataclass(frozen=True)
class Service:
    """One ECS service: `build` names the image, `signer` whose key it holds, `host` its Cloud Map name.

    `public` is the host whose requests the load balancer sends to it.
    """

    name: str
    cpu: int
    memory: int
    build: str
    port: int | None = None
    signer: str = ""
    host: str = ""
    public: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The name of the ECS service and of its task definition's family."""
        return f"{PREFIX}-{self.name}"

    @property
    def log_group(self) -> str:
        """The log group of its own."""
        return f"/ecs/{PREFIX}/{self.name}"


SERVICES = (
    Service("api", 512, 1024, "freeside", 3000, "freeside", "freeside", "staging.api.arrakis.community",
            environment={"FINN_BASE_URL": f"http://finn.{NAMESPACE}:3000"}),
    Service("worker", 256, 512, "freeside", None, "freeside",
            environment={"FINN_BASE_URL": f"http://finn.{NAMESPACE}:3000"}),
    Service("finn", 512, 1024, "finn", 3000, "finn", "finn",
            environment={"FREESIDE_BASE_URL": f"http://freeside.{NAMESPACE}:3000",
                         "DIXIE_REPUTATION_URL": f"http://dixie.{NAMESPACE}:3001/api/reputation/query"}),
    Service("dixie", 256, 512, "dixie", 3001, "dixie", "dixie", "dixie.staging.arrakis.community",
            environment={"NATS_OPTIONAL": "true", "LOA_FINN_BASE_URL": f"http://finn.{NAMESPACE}:3000"}),
    Service("pgbouncer", 256, 512, "pgbouncer", 6432, host="pgbouncer",
            environment={"POOL_MODE": "transaction", "DEFAULT_POOL_SIZE": "15"}),
)  # fmt: skip
# Migrations run once per deployment, in tasks of their own; the log group is that of the service they serve.
MIGRATIONS = {f"{PREFIX}-freeside-migration": SERVICES[0], f"{PREFIX}-dixie-migration": SERVICES[3]}
REPOSITORIES = {"freeside": f"{PREFIX}-api", "finn": f"{PREFIX}-finn", "dixie": f"{PREFIX}-dixie",
                "pgbouncer": f"{PREFIX}-pgbouncer"}  # fmt: skip


def image(build: str) -> str:
    """Return the image of a build, tagged with the commit that the running service reports."""
    return f"{REGISTRY}/{REPOSITORIES[build]}:{build_sha(build)}"


def role_arn(name: str) -> str:
    """Return the ARN of a role."""
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def execution_role(name: str) -> str:
    """Return the name of the role that starts a service's tasks and reads its secret."""
    return f"{PREFIX}-ecs-execution-{name}"


def task_definition(
    family: str, service: Service, secret_arns: dict[str, str], *, one_shot: bool = False
) -> dict[str, Any]:
    """Return the arguments of RegisterTaskDefinition; a one-shot has no port, no key, a role of its own."""
    role = f"{service.name}-migration" if one_shot else service.name
    container = {
        "name": "migration" if one_shot else service.name,
        "image": image(service.build),
        "essential": True,
        "environment": [{"name": key, "value": value} for key, value in sorted(service.environment.items())],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": service.log_group,
                "awslogs-region": REGION,
                "awslogs-stream-prefix": "migration" if one_shot else service.name,
            },
        },
    }
    if service.port and not one_shot:
        container["portMappings"] = [{"containerPort": service.port, "protocol": "tcp"}]
    if service.signer and not one_shot:
        secret = secret_arns[secret_id(service.signer)]
        container["secrets"] = [{"name": "ES256_PRIVATE_KEY", "valueFrom": secret}]
    return {
        "family": family,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256" if one_shot else str(service.cpu),
        "memory": "512" if one_shot else str(service.memory),
        "executionRoleArn": role_arn(execution_role(role)),
        "taskRoleArn": role_arn(f"{PREFIX}-{role}-task"),
        "containerDefinitions": [container],
    }
