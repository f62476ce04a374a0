"""Alterations of AWS are seen through the AWS APIs; what cannot be altered is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from stack.aws.alterations import ALTERATIONS
from stack.control import catalogue
from stack.launch import VARIANTS, Stack
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


def _last_run(aws: Aws, name: str) -> Any:
    ecs, family = aws("ecs"), f"{P}-{name}"
    for status in ("RUNNING", "STOPPED"):
        if arns := ecs.list_tasks(cluster=CLUSTER, family=family, desiredStatus=status)["taskArns"]:
            # Times are whole seconds: of two runs in one second, the one listed later is the later one.
            tasks = ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"]
            return max(tasks, key=lambda task: (task["createdAt"], arns.index(task["taskArn"])))
    return {}


#: What no fault of the catalogue does in the same way; the self-test tries those against the suite.
CASES: list[tuple[str, dict[str, Any], Callable[[Aws], bool]]] = [
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
    ("task-definition", {"service": "finn", "execution_role_of": "dixie", "secret_of": "dixie", "cpu": "256"},
     lambda aws: (_container(aws, "finn")["executionRoleArn"], _container(aws, "finn")["secrets"])
     == (_container(aws, "dixie")["executionRoleArn"], _container(aws, "dixie")["secrets"])),
    ("task-definition", {"service": "dixie", "task_role_of": "finn", "log_group_of": "finn",
                         "image": "dixie:v1"},
     lambda aws: _container(aws, "dixie")["logConfiguration"]["options"]["awslogs-group"] == f"/ecs/{P}/finn"
     and _container(aws, "dixie")["image"] == "dixie:v1"),
    ("migration-run", {"migration": "dixie-migration", "exit_code": None},
     lambda aws: _last_run(aws, "dixie-migration")["lastStatus"] == "RUNNING"),
]  # fmt: skip


def _alter(stack: Stack, name: str, params: dict[str, Any]) -> tuple[int, Any]:
    return request("PUT", f"{stack.profile['aws']['endpoint_url']}/_stack/faults/{name}", params)


@pytest.mark.parametrize(("name", "params", "seen"), CASES)
def test_an_alteration_is_visible(
    stack: Stack, aws: Aws, name: str, params: dict[str, Any], seen: Callable[[Aws], bool]
) -> None:
    status, answer = _alter(stack, name, params)
    assert status == 200, answer
    assert seen(aws)


def test_every_alteration_is_that_of_a_fault_or_a_variant() -> None:
    used = {fault.get("action", "").removeprefix("aws:") for fault in catalogue().values()}
    used |= {each["alter"] for variant in VARIANTS.values() for each in variant.aws}
    assert used >= {*ALTERATIONS}


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
