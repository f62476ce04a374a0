"""Short AWS answers for tests, and an account that answers from a script."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from botocore.exceptions import ClientError

from smoke.aws.account import AwsAccount
from smoke.aws.alarms import (
    Metric,
    MetricAlarm,
    Watch,
)
from smoke.aws.ecs import ContainerDefinition, EcsDeployment, EcsService, TaskDefinition
from smoke.aws.names import Names
from smoke.aws.policies import RolePolicies
from smoke.aws.reader import AwsReader
from smoke.aws.starting import kept_from_starting
from smoke.source.rules import (
    ABOVE,
    UTILIZATION,
    Firing,
)

TOPIC = "p-alerts"
TOPIC_ARN = f"arn:aws:sns:us-east-1:1:{TOPIC}"
CPU = Metric.of("AWS/ECS", "CPUUtilization", {"ClusterName": "c", "ServiceName": "p-api"})
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: A rolling deployment that goes on.
UNDER_WAY = (EcsDeployment("PRIMARY", "IN_PROGRESS", NOON),)


def alarm(**changed: Any) -> MetricAlarm:
    """A good alarm on the api's CPU; changes apply to it or to its `Firing`."""
    condition: dict[str, Any] = {
        "statistic": "Average",
        "comparison": ABOVE,
        "threshold": 80.0,
        "period": 300,
        "periods": 2,
    }
    condition |= {key: changed.pop(key) for key in [*changed] if key in Firing.__dataclass_fields__}
    name = changed.get("name", "p-api-cpu-high")
    good: dict[str, Any] = {
        "name": name,
        "state": "OK",
        "arn": f"arn:aws:cloudwatch:us-east-1:1:alarm:{name}",
        "metrics": (CPU,),
        "firing": Firing(**condition),
        "enabled": True,
        "actions": (TOPIC_ARN,),
    }
    return MetricAlarm(**{**good, **changed})


def role(name: str) -> str:
    """The ARN of a role."""
    return f"arn:aws:iam::1:role/{name}"


def secret(name: str) -> str:
    """The ARN of a secret."""
    return f"arn:aws:secretsmanager:us-east-1:1:secret:{name}-AbCdEf"


def definition(name: str, **changed: Any) -> TaskDefinition:
    """A task definition that shares nothing."""
    container: dict[str, Any] = {
        "name": name,
        "image": f"1.dkr.ecr.us-east-1.amazonaws.com/p-{name}:0123abc",
        "environment": {},
        "secrets": {"KEY": secret(f"p/{name}/es256-private-key")},
        "log_group": f"/ecs/p/{name}",
        "log_region": "us-east-1",
        "ports": (3000,),
    }
    container |= {key: changed.pop(key) for key in [*changed] if key in container}
    good: dict[str, Any] = {
        "family": f"p-{name}",
        "active": True,
        "cpu": 256,
        "memory": 512,
        "execution_role": role(f"p-execution-{name}"),
        "task_role": role(f"p-{name}-task"),
        "containers": (ContainerDefinition(**container),),
    }
    return TaskDefinition(**{**good, **changed})


def service(name: str, **changed: Any) -> EcsService:
    """A healthy service."""
    good: dict[str, Any] = {
        "name": name,
        "desired": 1,
        "running": 1,
        "deployments": (EcsDeployment("PRIMARY", "COMPLETED", NOON),),
        "definition": f"p-{name}:1",
        "security_groups": (f"sg-{name}",),
    }
    return EcsService(**{**good, **changed})


def refusal(code: str) -> Exception:
    """What botocore raises when AWS answers with an error code."""
    response: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    error: Exception = ClientError(response, "x")
    return error


def raising(code: str) -> Callable[..., Any]:
    """A method that fails with an AWS error."""

    def call(**_: Any) -> Any:
        raise refusal(code)

    return call


class Scripted:
    """A client that answers from a table and records its calls."""

    def __init__(self, answers: Mapping[str, Callable[..., Any]]) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._answers: dict[str, Callable[..., Any]] = {
            "describe_vpc_block_public_access_options": lambda **_: {},
            **answers,
        }

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(**parameters: Any) -> Any:
            self.asked.append((method, parameters))
            return self._answers[method](**parameters)

        return call

    def get_paginator(self, method: str) -> "Scripted":
        """One page of every list."""
        answer = self._answers[method]

        def paginate(**parameters: Any) -> list[Any]:
            self.asked.append((method, parameters))
            return [answer(**parameters)]

        return Scripted({"paginate": paginate})


def scripted(**answers: Callable[..., Any]) -> tuple[AwsAccount, Scripted]:
    """An account with one scripted client for every service."""
    client = Scripted(answers)
    return AwsAccount("us-east-1", connect=lambda name: client), client


def told_service(name: str, status: str = "ACTIVE") -> dict[str, Any]:
    """A service as ECS describes it."""
    return {
        "serviceName": name,
        "status": status,
        "desiredCount": 1,
        "runningCount": 1,
        "taskDefinition": f"{name}:1",
        "deployments": [{"status": "PRIMARY", "rolloutState": "COMPLETED", "createdAt": NOON}],
        "loadBalancers": [{"targetGroupArn": "a:targetgroup/tg/1"}, {"loadBalancerName": "classic"}],
    }


def told_definition(family: str) -> dict[str, Any]:
    """A task definition as ECS describes it."""
    container = {"name": family[2:], "image": f"{family}:0123abc"}
    return {"family": family, "status": "ACTIVE", "cpu": "256", "containerDefinitions": [container]}


def ecs_answers(names: list[str]) -> dict[str, Any]:
    """What a cluster with these services answers; `p-gone` is no longer active."""
    return {
        "list_services": lambda **_: {"serviceArns": names},
        "describe_services": lambda services, **_: {
            "services": [
                told_service(each, "INACTIVE" if each == "p-gone" else "ACTIVE") for each in services
            ]
        },
        "describe_task_definition": lambda taskDefinition: {
            "taskDefinition": told_definition(taskDefinition.partition(":")[0])
        },
        "describe_clusters": lambda **_: {"clusters": [{"clusterArn": "arn:c", "status": "ACTIVE"}]},
    }


#: What must be watched, and within which times alarms must fire.
WITHIN = {"health_s": 600, "others_s": 900}
WATCH = Watch((CPU,), UTILIZATION, WITHIN, of="api")
#: Who acts under a task's role, and the secret that a task of Finn reads.
TASKS = {"Service": "ecs-tasks.amazonaws.com"}
READS = "secretsmanager:GetSecretValue"
KEY = secret("p/finn/key")
ALLOWED = [{"Effect": "Allow", "Action": READS, "Resource": KEY}]


def trust(principal: Any, effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Principal": principal, "Action": "sts:AssumeRole", **more}


def network(gateway: str, *endpoints: str, service: str = "secretsmanager") -> dict[str, Any]:
    """A network whose only subnet has a default route to a gateway, and these endpoints."""
    table = {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"Main": True}]}
    routes = [{"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": gateway}]
    held = [{"VpcEndpointId": one, "VpcId": "vpc-1", "ServiceName": f"com.amazonaws.us-east-1.{service}"}
            for one in endpoints]  # fmt: skip
    return {
        "describe_subnets": lambda **_: {"Subnets": [{"SubnetId": "subnet-1", "VpcId": "vpc-1"}]},
        "describe_route_tables": lambda **_: {"RouteTables": [{**table, "Routes": routes}]},
        "describe_nat_gateways": lambda **_: {"NatGateways": []},
        "describe_vpc_endpoints": lambda **_: {"VpcEndpoints": held},
    }


def examined(
    *, statements: Any = (), own: str = "", home: str = "", answer: Any = None, finn: Any = None, **more: Any
) -> tuple[list[str], list[str]]:
    """What keeps a task of Finn from starting, and what of it is not examined."""
    finn = finn or definition("finn", secrets={"KEY": KEY})
    found = {"Role": {"AssumeRolePolicyDocument": {"Statement": trust(TASKS)}}}
    account, _ = scripted(
        get_role=answer or (lambda **_: found),
        **{
            "get_resource_policy": lambda **_: {"ResourcePolicy": own} if own else {},
            "describe_secret": lambda **_: {"ARN": KEY},
            "describe_repositories": lambda **_: {"repositories": [{}]},
            **network("igw-1"),
            **more,
        },
    )
    arn = f"arn:aws:ecs:us-east-1:{home or finn.execution_role.split(':')[4]}:cluster/c"
    outside = {"finn": service("finn", subnets=("subnet-1",))}
    aws = SimpleNamespace(
        account=account,
        names=Names("p"),
        services=lambda: outside,
        definitions=lambda: {"finn": finn},
        once=lambda _, read: read(),
        owners=lambda _: {"finn": finn},
        policies=lambda _: RolePolicies({finn.execution_role: statements}),
        retention=lambda _: {"/ecs/p/finn": 30},
        cluster=lambda: arn,
    )
    _, result = kept_from_starting(cast(AwsReader, aws), ())
    return [each.what for each in result.findings], [each.what for each in result.not_examined]
