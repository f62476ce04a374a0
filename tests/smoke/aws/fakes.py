"""Short AWS answers for tests, and an account that answers from a script."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from smoke.aws.account import AwsAccount
from smoke.aws.alarms import Metric, MetricAlarm
from smoke.aws.ecs import ContainerDefinition, EcsDeployment, EcsService, TaskDefinition
from smoke.source.rules import ABOVE, Firing

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
        self._answers = answers

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
