"""What there is in AWS, as data: contract section 4 with the names that the platform's Terraform gives.

And clients of the emulator that has it: botocore's for the AWS APIs, and one for its control API.
"""

import functools
import hashlib
import http.client
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stack.host import LOOPBACK, StackError

REGION = "us-east-1"
PREFIX = "arrakis-staging"
ACCOUNT = "000000000000"
# The services that hold a signing key of their own.
SIGNERS = ("freeside", "finn", "dixie")
# The emulator accepts any credentials; these name their purpose.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "embedded-platform",
    "AWS_SECRET_ACCESS_KEY": "embedded-platform-emulator-only",
    "AWS_DEFAULT_REGION": REGION,
}
# Freeside's API and its worker are one image; the others come from repositories of their own.
IMAGES = {"worker": "freeside"}
SOURCES_DIGEST = "STACK_SOURCES_DIGEST"
SOURCE_SUFFIXES = {".py", ".sql", ".toml"}

CLUSTER = f"{PREFIX}-cluster"
NAMESPACE = f"{PREFIX}.local"
ZONE = "arrakis.community"
TOPIC = f"{PREFIX}-alerts"
DATABASE = f"{PREFIX}-postgres"
APP_METRICS = f"{PREFIX}/AppMetrics"
# What counts the platform's own metrics: the pattern of a line of the API's logs, and what one counts.
METRIC_FILTERS = (
    ("InvokeLatencyMs", "{ $.duration_ms = * }", "$.duration_ms"),
    ("JwtValidationFailedCount", "JWT_VALIDATION_FAILED", "1"),
    ("ConservationViolationCount", "CONSERVATION_VIOLATION", "1"),
)
DASHBOARDS = (f"{PREFIX}-overview", f"{PREFIX}-service-health")
RETENTION_DAYS = 30
# The role that rotates the signing keys; people of the account assume it.
OPERATOR = f"{PREFIX}-key-operator"
OPERATOR_ARN = f"arn:aws:iam::{ACCOUNT}:role/{OPERATOR}"
OPERATOR_POLICY = "rotate-signing-keys"
OPERATOR_ACTIONS = ("DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage")
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


@dataclass(frozen=True)
class EcsService:
    """One ECS service: `build` names the image, `signer` the key that it holds, `host` its Cloud Map name.

    `public` is the host whose requests the load balancer sends to it, `health` what that asks.
    """

    name: str
    cpu: int
    memory: int
    build: str
    port: int | None = None
    signer: str = ""
    host: str = ""
    public: str = ""
    health: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The name of the ECS service and of its task definition's family."""
        return f"{PREFIX}-{self.name}"

    @property
    def log_group(self) -> str:
        """Its own log group."""
        return f"/ecs/{PREFIX}/{self.name}"


SERVICES = (
    EcsService("api", 512, 1024, "freeside", 3000, "freeside", "freeside", "staging.api.arrakis.community",
            health="/health", environment={"FINN_BASE_URL": f"http://finn.{NAMESPACE}:3000"}),
    EcsService("worker", 256, 512, "freeside", None, "freeside",
            environment={"FINN_BASE_URL": f"http://finn.{NAMESPACE}:3000"}),
    EcsService("finn", 512, 1024, "finn", 3000, "finn", "finn",
            environment={"FREESIDE_BASE_URL": f"http://freeside.{NAMESPACE}:3000",
                         "DIXIE_REPUTATION_URL": f"http://dixie.{NAMESPACE}:3001/api/reputation/query"}),
    EcsService("dixie", 256, 512, "dixie", 3001, "dixie", "dixie", "dixie.staging.arrakis.community",
            health="/api/health", environment={"NATS_OPTIONAL": "true", "LOA_FINN_BASE_URL": f"http://finn.{NAMESPACE}:3000"}),
    EcsService("pgbouncer", 256, 512, "pgbouncer", 6432, host="pgbouncer",
            environment={"POOL_MODE": "transaction", "DEFAULT_POOL_SIZE": "15"}),
)  # fmt: skip
# By a service, or the database, whom its security group lets in: the plan's ways, and the balancer's.
BALANCER = "alb"
CALLERS = {
    "api": ("finn", "dixie", BALANCER),
    "finn": ("api", "worker", "dixie"),
    "dixie": ("api", "finn", BALANCER),
    "pgbouncer": ("api", "worker", "finn", "dixie"),
    "database": ("pgbouncer",),
}
# Migrations run once per deployment, in tasks of their own; the log group is that of the service they serve.
MIGRATIONS = {f"{PREFIX}-freeside-migration": SERVICES[0], f"{PREFIX}-dixie-migration": SERVICES[3]}
REPOSITORIES = {"freeside": f"{PREFIX}-api", "finn": f"{PREFIX}-finn", "dixie": f"{PREFIX}-dixie",
                "pgbouncer": f"{PREFIX}-pgbouncer"}  # fmt: skip


def policy(**statement: Any) -> str:
    """Return an IAM policy document with one statement that allows."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})


def queue_policy(topic_arn: str, condition: Mapping[str, Any] | None = None) -> str:
    """Return the policy of a queue that lets a topic send to it, on a condition."""
    source = {"ArnEquals": {"aws:SourceArn": topic_arn}, **(condition or {})}
    sender = {"Service": "sns.amazonaws.com"}
    return policy(Principal=sender, Action="sqs:SendMessage", Resource="*", Condition=source)


def operator_policy(actions: Iterable[str], secret_arns: Iterable[str]) -> str:
    """Return the policy of the role that rotates the signing keys: their secrets, nothing else."""
    named = [f"secretsmanager:{action}" for action in actions]
    return policy(Action=named, Resource=list(secret_arns))


def image(build: str) -> str:
    """Return the image of a build, tagged with the commit that the running service reports."""
    return f"{REGISTRY}/{REPOSITORIES[build]}:{build_sha(build)}"


def let_in(ec2: Any, group: str, callers: Sequence[str], port: int) -> None:
    """Let callers, groups or ranges of addresses, into a security group on a port."""
    rule: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
    ranges = [{"CidrIp": each} for each in callers if "/" in each and ":" not in each]
    wide = [{"CidrIpv6": each} for each in callers if ":" in each]
    groups = [{"GroupId": each} for each in callers if "/" not in each]
    rule |= {"IpRanges": ranges, "Ipv6Ranges": wide} if ranges or wide else {"UserIdGroupPairs": groups}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])


def zone_of(route53: Any, name: str = ZONE) -> str:
    """Return the id of the hosted zone of this name."""
    zones = route53.list_hosted_zones()["HostedZones"]
    return next(str(each["Id"]) for each in zones if each["Name"] == f"{name}.")


def record_of(route53: Any, host: str) -> dict[str, Any]:
    """Return the record with a host's address in the public zone."""
    found = route53.list_resource_record_sets(HostedZoneId=zone_of(route53))["ResourceRecordSets"]
    return next(each for each in found if each["Name"] == f"{host}." and each["Type"] == "A")


def alias_record(host: str, to: str) -> dict[str, Any]:
    """Return a record that leads a host to a load balancer or a distribution."""
    zone = "Z2FDTNDATAQYW2" if to.endswith("cloudfront.net") else "Z35SXDOTRQ7X7K"
    target = {"DNSName": to, "HostedZoneId": zone, "EvaluateTargetHealth": False}
    return {"Name": host, "Type": "A", "AliasTarget": target}


def dns_record(name: str, kind: str, *values: str) -> dict[str, Any]:
    """Return a record of a type with these values."""
    return {"Name": name, "Type": kind, "TTL": 300, "ResourceRecords": [{"Value": each} for each in values]}


def write_records(
    route53: Any, zone: str, *records: Mapping[str, Any], instead_of: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write records into a zone, after deleting those that they replace."""
    changes = [{"Action": "DELETE", "ResourceRecordSet": each} for each in instead_of]
    changes += [{"Action": "UPSERT", "ResourceRecordSet": each} for each in records]
    if changes:
        route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})


def role_arn(name: str) -> str:
    """Return the ARN of a role."""
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def execution_role(name: str) -> str:
    """Return the name of the role that starts a service's tasks and reads its secret."""
    return f"{PREFIX}-ecs-execution-{name}"


def task_definition(
    family: str, service: EcsService, secret_arns: dict[str, str], *, one_shot: bool = False
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
        url = f"http://localhost:{service.port}{service.health or '/health'}"
        container["healthCheck"] = {"command": ["CMD-SHELL", f"wget -q -O /dev/null {url}"]}
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


def secret_id(service: str) -> str:
    """Return the Secrets Manager id of a service's signing key."""
    return f"{PREFIX}/{service}/es256-private-key"


def build_sha(service: str) -> str:
    """Return the 40 hex digits that stand for the commit from which an image was built.

    They change when, and only when, the platform's own files do.
    """
    text = f"{IMAGES.get(service, service)} {sources_digest()}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@cache
def sources_digest() -> str:
    """Return the digest of the platform's files; a child takes its parent's, whatever is edited meanwhile."""
    inherited = os.environ.get(SOURCES_DIGEST)
    if inherited:
        return inherited
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*")):
        if path.suffix in SOURCE_SUFFIXES:
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


Clients = Callable[[str], Any]

#: Where the emulator reports that it is up.
HEALTH = "/_ministack/health"


def clients(endpoint: str) -> Clients:
    """Return a function that maps a service's name to its client at `endpoint`, made on first use."""
    # here: the processes that only need to know what AWS has start without botocore
    import botocore.session
    from botocore.config import Config

    session: Any = botocore.session.get_session()
    session.set_credentials(CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
    # Cloud Map would put "data-" in front of the host.
    config = Config(inject_host_prefix=False, retries={"mode": "standard", "total_max_attempts": 3})

    @functools.cache
    def client(service: str) -> Any:
        return session.create_client(service, region_name=REGION, endpoint_url=endpoint, config=config)

    return client


class ControlClient:
    """Remembers, restores, compares and alters the emulator's state. Every method may raise StackError."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def remember(self) -> None:
        """Take the present state as the one that `restore` brings back."""
        self._ask("POST", "remember")

    def publish(self, series: list[dict[str, Any]]) -> None:
        """Have these metric series published from now on, and every alarm judged."""
        self._ask("PUT", "metrics", {"series": series})

    def restore(self) -> None:
        """Restore the remembered state."""
        self._ask("POST", "restore")

    def digest(self) -> str:
        """Return the SHA-256 of the present state."""
        return str(self._ask("GET", "state")["digest"])

    def alter(self, name: str, params: Mapping[str, Any]) -> None:
        """Apply one of the alterations of `stack.aws.alterations`."""
        self._ask("PUT", f"faults/{name}", params)

    def mutants(self) -> list[dict[str, Any]]:
        """Return every small change of the present state as data."""
        listed: list[dict[str, Any]] = self._ask("GET", "mutants")["mutants"]
        return listed

    def mutate(self, mutant_id: str) -> None:
        """Make one of these changes."""
        self._ask("PUT", "mutants", {"id": mutant_id})

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        address = urlsplit(self._endpoint)
        connection = http.client.HTTPConnection(address.hostname or LOOPBACK, address.port, timeout=10)
        try:
            connection.request(method, f"/_stack/{path}", body=None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer: dict[str, Any] = json.load(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise StackError(f"the AWS emulator did not answer {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise StackError(f"the AWS emulator refused {path}", str(answer.get("message", "")))
        return answer


#: The authority's certificate, under the emulator's directory.
AUTHORITY = "load-balancer/authority.pem"


@dataclass(frozen=True)
class Listener:
    """The ports of a public service for TLS and for plain HTTP, and the HOST:PORT behind them."""

    service: str
    secure: int
    plain: int
    upstream: str
