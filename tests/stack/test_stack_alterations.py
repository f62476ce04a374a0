"""Each alteration of AWS is seen through the AWS APIs, and the reset undoes it without a trace."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from stack.aws.alterations import ALTERATIONS
from stack.aws.names import secret_id
from stack.launch import Stack
from tests.stack.tools import Aws, listen, poll, request

P = "arrakis-staging"
CLUSTER = f"{P}-cluster"
TOPIC = f"arn:aws:sns:us-east-1:000000000000:{P}-alerts"


def _alarm(aws: Aws, name: str) -> Any:
    found = aws("cloudwatch").describe_alarms(AlarmNames=[f"{P}-{name}"])["MetricAlarms"]
    return found[0] if found else {}


def _service(aws: Aws, name: str) -> Any:
    found = aws("ecs").describe_services(cluster=CLUSTER, services=[f"{P}-{name}"])["services"]
    return found[0] if found else {}


def _container(aws: Aws, name: str) -> Any:
    family = _service(aws, name)["taskDefinition"]
    found = aws("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]
    return {**found, **found["containerDefinitions"][0]}


def _secret(aws: Aws, name: str) -> Any:
    return aws("secretsmanager").get_secret_value(SecretId=secret_id(name))["SecretString"]


def _described(aws: Aws, name: str) -> Any:
    return aws("secretsmanager").describe_secret(SecretId=secret_id(name))


def _last_run(aws: Aws, name: str) -> Any:
    ecs, family = aws("ecs"), f"{P}-{name}"
    for status in ("RUNNING", "STOPPED"):
        if arns := ecs.list_tasks(cluster=CLUSTER, family=family, desiredStatus=status)["taskArns"]:
            # Times are whole seconds: of two runs in one second, the one listed later is the later one.
            tasks = ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"]
            return max(tasks, key=lambda task: (task["createdAt"], arns.index(task["taskArn"])))
    return {}


def _counts(aws: Aws, name: str) -> tuple[int, int]:
    service = _service(aws, name)
    return service["runningCount"], service["desiredCount"]


def _subscriptions(aws: Aws) -> list[str]:
    found = aws("sns").list_subscriptions_by_topic(TopicArn=TOPIC)["Subscriptions"]
    return [each["SubscriptionArn"] for each in found]


def _widgets(aws: Aws) -> Any:
    return aws("cloudwatch").get_dashboard(DashboardName=f"{P}-overview")["DashboardBody"]


def _log_group(aws: Aws, name: str) -> list[int | None]:
    found = aws("logs").describe_log_groups(logGroupNamePrefix=f"/ecs/{P}/{name}")["logGroups"]
    return [group.get("retentionInDays") for group in found]


def _hosts(aws: Aws, name: str) -> int:
    found = aws("servicediscovery").discover_instances(NamespaceName=f"{P}.local", ServiceName=name)
    return len(found["Instances"])


def _public(aws: Aws) -> list[str]:
    elb = aws("elbv2")
    (balancer,) = elb.describe_load_balancers(Names=[f"{P}-alb"])["LoadBalancers"]
    listeners = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    arns = [each["ListenerArn"] for each in listeners]
    rules = [rule for arn in arns for rule in elb.describe_rules(ListenerArn=arn)["Rules"]]
    return [host for rule in rules for each in rule["Conditions"] for host in each["Values"]]


def _raises(code: str, call: Callable[[], Any]) -> bool:
    with pytest.raises(ClientError) as caught:
        call()
    return bool(caught.value.response["Error"]["Code"] == code)


CASES: list[tuple[str, dict[str, Any], Callable[[Aws], bool]]] = [
    ("alarm-missing", {"alarm": "finn-cpu-high"}, lambda aws: not _alarm(aws, "finn-cpu-high")),
    ("alarm-changed", {"alarm": "rds-connections-high", "Threshold": 500},
     lambda aws: _alarm(aws, "rds-connections-high")["Threshold"] == 500),
    ("alarm-changed", {"alarm": "api-cpu-high", "ActionsEnabled": False},
     lambda aws: _alarm(aws, "api-cpu-high")["ActionsEnabled"] is False),
    ("alarm-changed", {"alarm": "invoke-latency-p99", "AlarmActions": []},
     lambda aws: _alarm(aws, "invoke-latency-p99")["AlarmActions"] == []
     and _alarm(aws, "invoke-latency-p99")["ExtendedStatistic"] == "p99"),
    ("alarm-watches-another", {"alarm": "dixie-memory-high", "dimension": "ServiceName",
                               "value": "old-dixie"},
     lambda aws: _alarm(aws, "dixie-memory-high")["StateValue"] == "INSUFFICIENT_DATA"
     and {"Name": "ServiceName", "Value": "old-dixie"} in _alarm(aws, "dixie-memory-high")["Dimensions"]),
    ("alarm-watches-another", {"alarm": "finn-task-count", "dimension": "ServiceName", "value": "old-finn"},
     lambda aws: _alarm(aws, "finn-task-count")["StateValue"] == "ALARM"),
    ("metric", {"name": "CPUUtilization", "of": f"{P}-api", "value": 97},
     lambda aws: (_alarm(aws, "api-cpu-high")["StateValue"], _alarm(aws, "finn-cpu-high")["StateValue"])
     == ("ALARM", "OK")),
    ("metric", {"name": "MemoryUtilization", "of": f"{P}-worker"},
     lambda aws: _alarm(aws, "worker-memory-high")["StateValue"] == "INSUFFICIENT_DATA"),
    ("metric", {"name": "ConservationViolationCount", "value": 1},
     lambda aws: _alarm(aws, "conservation-log-violation")["StateValue"] == "ALARM"),
    ("metric", {"name": "InvokeLatencyMs"},
     lambda aws: _alarm(aws, "invoke-latency-p99")["StateValue"] == "OK"),
    ("topic-without-subscription", {}, lambda aws: _subscriptions(aws) == []),
    ("topic-unconfirmed", {}, lambda aws: _subscriptions(aws) == ["PendingConfirmation"]),
    ("topic-missing", {}, lambda aws: aws("sns").list_topics()["Topics"] == []),
    ("dashboard-missing", {"dashboard": "overview"},
     lambda aws: _raises("ResourceNotFound", lambda: _widgets(aws))),
    ("dashboard-empty", {"dashboard": "overview"}, lambda aws: '"widgets": []' in _widgets(aws)),
    ("log-group-missing", {"service": "finn"}, lambda aws: _log_group(aws, "finn") == []),
    ("log-group-without-retention", {"service": "finn"}, lambda aws: _log_group(aws, "finn") == [None]),
    ("service-stopped", {"service": "worker"}, lambda aws: _counts(aws, "worker") == (0, 1)),
    ("service-scaled", {"service": "dixie", "desired": 0}, lambda aws: _counts(aws, "dixie") == (0, 0)),
    ("service-missing", {"service": "pgbouncer"},
     lambda aws: _service(aws, "pgbouncer").get("status") != "ACTIVE"),
    ("rollout", {"service": "finn", "state": "FAILED"},
     lambda aws: _service(aws, "finn")["deployments"][0]["rolloutState"] == "FAILED"),
    ("two-deployments", {"service": "finn"}, lambda aws: len(_service(aws, "finn")["deployments"]) == 2),
    ("task-definition", {"service": "api", "tag": "latest"},
     lambda aws: _container(aws, "api")["image"].endswith(f"{P}-api:latest") and _counts(aws, "api") == (1, 1)
     and len(_service(aws, "api")["deployments"]) == 1),
    ("task-definition", {"service": "finn", "execution_role_of": "dixie", "secret_of": "dixie", "cpu": "256"},
     lambda aws: (_container(aws, "finn")["executionRoleArn"], _container(aws, "finn")["secrets"])
     == (_container(aws, "dixie")["executionRoleArn"], _container(aws, "dixie")["secrets"])),
    ("task-definition", {"service": "dixie", "task_role_of": "finn", "log_group_of": "finn",
                         "image": "dixie:v1"},
     lambda aws: _container(aws, "dixie")["logConfiguration"]["options"]["awslogs-group"] == f"/ecs/{P}/finn"
     and _container(aws, "dixie")["image"] == "dixie:v1"),
    ("task-definition", {"service": "finn", "environment": {"DIXIE_REPUTATION_URL": "https://dixie.fly.dev"}},
     lambda aws: {"name": "DIXIE_REPUTATION_URL", "value": "https://dixie.fly.dev"}
     in _container(aws, "finn")["environment"] and len(_container(aws, "finn")["environment"]) == 2),
    ("security-group-shared", {"service": "finn", "of": "dixie"},
     lambda aws: _service(aws, "finn")["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"]
     == _service(aws, "dixie")["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"]),
    ("migration-run", {"migration": "freeside-migration", "exit_code": 1},
     lambda aws: _last_run(aws, "freeside-migration")["containers"][0]["exitCode"] == 1),
    ("migration-run", {"migration": "dixie-migration", "exit_code": None},
     lambda aws: _last_run(aws, "dixie-migration")["lastStatus"] == "RUNNING"),
    ("migration-missing", {"migration": "dixie-migration"},
     lambda aws: _last_run(aws, "dixie-migration") == {}
     and aws("ecs").list_task_definitions(familyPrefix=f"{P}-dixie-migration")["taskDefinitionArns"] == []),
    ("migration-in-service", {"migration": "dixie-migration"},
     lambda aws: _service(aws, "dixie-migration")["status"] == "ACTIVE"),
    ("host-missing", {"host": "finn"}, lambda aws: (_hosts(aws, "finn"), _hosts(aws, "dixie")) == (0, 1)),
    ("database-missing", {}, lambda aws: aws("rds").describe_db_instances()["DBInstances"] == []),
    ("role-reads", {"service": "finn", "secret_of": "freeside"},
     lambda aws: "freeside" in str(aws("iam").get_role_policy(
         RoleName=f"{P}-ecs-execution-finn", PolicyName="also-reads")["PolicyDocument"])),
    ("credential-shared", {"services": ["finn", "dixie"]},
     lambda aws: _container(aws, "finn")["secrets"][1] == _container(aws, "dixie")["secrets"][1]),
    ("public-host", {"service": "dixie", "host": "dixie.example"},
     lambda aws: _public(aws) == ["dixie.example"]),
    ("service-unwatched", {"service": "worker"},
     lambda aws: not _alarm(aws, "worker-cpu-high") and bool(_alarm(aws, "api-cpu-high"))),
    ("secret-value", {"service": "finn", "value": "PLACEHOLDER"},
     lambda aws: _secret(aws, "finn") == "PLACEHOLDER"),
    ("secret-renewed", {"service": "finn"},
     lambda aws: len(_described(aws, "finn")["VersionIdsToStages"]) == 2
     and _secret(aws, "finn").startswith("-----BEGIN")),
    ("secret-half-rotated", {"service": "finn"}, lambda aws: '"pendingPrivateKey"' in _secret(aws, "finn")),
    ("secret-on-another-curve", {"service": "dixie"}, lambda aws: len(_secret(aws, "dixie")) > 250),
    ("secret-copied", {"service": "finn", "of": "freeside"},
     lambda aws: _secret(aws, "finn") == _secret(aws, "freeside")),
    ("secret-missing", {"service": "finn"},
     lambda aws: _raises("ResourceNotFoundException", lambda: _secret(aws, "finn"))),
    ("api-refuses", {"service": "monitoring", "code": "AccessDenied"},
     lambda aws: _raises("AccessDenied", lambda: _alarm(aws, "api-cpu-high")) and bool(_service(aws, "api"))),
    ("api-refuses", {"service": "ecs", "code": "ExpiredTokenException"},
     lambda aws: _raises("ExpiredTokenException", lambda: _service(aws, "api"))),
    ("api-refuses", {"service": "sns", "code": "AuthorizationError"},
     lambda aws: _raises("AuthorizationError", lambda: _subscriptions(aws))),
]  # fmt: skip


def _alter(stack: Stack, name: str, params: dict[str, Any]) -> tuple[int, Any]:
    return request("PUT", f"{stack.profile['aws']['endpoint_url']}/_stack/faults/{name}", params)


@pytest.mark.parametrize(("name", "params", "seen"), CASES)
def test_an_alteration_shows_and_is_undone(
    stack: Stack, aws: Aws, name: str, params: dict[str, Any], seen: Callable[[Aws], bool]
) -> None:
    status, answer = _alter(stack, name, params)
    assert status == 200, answer
    assert seen(aws)


def test_every_alteration_has_a_case() -> None:
    elsewhere = {"notifications-lost", "certificate", "no-redirect", "operator-lacks"}
    assert {name for name, _, _ in CASES} | elsewhere == set(ALTERATIONS)


def test_lost_notifications_arrive_again_after_the_reset(stack: Stack, aws: Aws) -> None:
    def hears() -> bool:
        queue = listen(aws, TOPIC)
        aws("sns").publish(TopicArn=TOPIC, Message="hello")
        return "Messages" in aws("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=1)

    assert _alter(stack, "notifications-lost", {})[0] == 200
    assert not hears()
    assert request("POST", f"{stack.control_url}/reset")[0] == 200
    assert poll(hears, within=5, what="the notification arrives")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("no-such-thing", {}, "no alteration 'no-such-thing'"),
        ("certificate", {"service": "finn"}, "finn"),
        ("no-redirect", {"service": "finn"}, "finn"),
        ("alarm-missing", {"alarm": "nope"}, "no alarm 'nope'"),
        ("alarm-missing", {"alert": "x"}, "unexpected keyword argument"),
        ("metric", {"name": "CPUUtilization", "of": "x"}, "no metric 'CPUUtilization' of 'x'"),
        ("alarm-watches-another", {"alarm": "api-cpu-high", "dimension": "x", "value": ""}, "no dimension"),
    ],
)
def test_an_impossible_alteration_is_refused(
    stack: Stack, name: str, params: dict[str, Any], message: str
) -> None:
    status, answer = _alter(stack, name, params)
    assert status == 400
    assert message in answer["message"]
