"""Whether Application Auto Scaling leaves a service its tasks."""

from datetime import UTC, datetime
from typing import Any

import pytest

from smoke.aws.ecs_tasks import left_without_tasks, read_scalable
from smoke.aws.names import Names
from tests.smoke.aws.fakes import scripted


def action(most: int | None, **more: Any) -> dict[str, Any]:
    bounds = {} if most is None else {"MaxCapacity": most}
    return {"ScheduledActionName": f"a{most}", "ScalableTargetAction": bounds, **more}


@pytest.mark.parametrize(
    ("most", "actions", "why"),
    [
        (4, [], ""),
        (0, [], "at most"),
        (4, [action(2)], ""),
        (4, [action(None)], ""),
        (4, [action(0)], "the scheduled action a0 scales"),
        (4, [action(0), action(1)], ""),
        (4, [action(0, EndTime=datetime(2020, 1, 1, tzinfo=UTC))], ""),
        (4, [action(0, Schedule="at(2020-01-01T08:00:00)")], ""),
        (
            4,
            [action(0), action(1, Schedule="at(2020-01-01T08:00:00)", Timezone="Europe/Paris")],
            "the scheduled action a0 scales",
        ),
        (4, [action(0, Schedule="at(2999-01-01T08:00:00)")], "the scheduled action a0 scales"),
    ],
)
def test_a_service_keeps_a_task(most: int, actions: list[dict[str, Any]], why: str) -> None:
    account, _ = scripted(describe_scheduled_actions=lambda **_: {"ScheduledActions": actions})
    found = left_without_tasks(account, {"MaxCapacity": most, "ResourceId": "service/c/p-api"})
    assert why in found if why else not found


def test_schedules_that_are_suspended_scale_nothing() -> None:
    account, _ = scripted(describe_scheduled_actions=lambda **_: {"ScheduledActions": [action(0)]})
    target = {"MaxCapacity": 4, "ResourceId": "service/c/p-api"}
    assert left_without_tasks(account, target)
    assert not left_without_tasks(account, target | {"SuspendedState": {"ScheduledScalingSuspended": True}})


STEPS = {"StepScalingPolicyConfiguration": {"StepAdjustments": [{"ScalingAdjustment": -1}]}}
UP = {"StepScalingPolicyConfiguration": {"StepAdjustments": [{"ScalingAdjustment": 2}]}}


def exactly(tasks: int) -> dict[str, Any]:
    steps = [{"ScalingAdjustment": tasks}]
    return {"StepScalingPolicyConfiguration": {"AdjustmentType": "ExactCapacity", "StepAdjustments": steps}}


def tracks(metric: str) -> dict[str, Any]:
    told = {"PredefinedMetricSpecification": {"PredefinedMetricType": metric}}
    return {"TargetTrackingScalingPolicyConfiguration": told}


@pytest.mark.parametrize(
    ("policy", "more", "left"),
    [
        (STEPS, {}, False),
        (exactly(0), {}, False),
        (exactly(1), {}, True),
        (tracks("ALBRequestCountPerTarget"), {}, True),
        (tracks("ECSServiceAverageCPUUtilization"), {}, True),
        ({"TargetTrackingScalingPolicyConfiguration": {"CustomizedMetricSpecification": {}}}, {}, True),
        (UP, {}, True),
        (STEPS, {"MinCapacity": 1}, True),
        (STEPS, {"SuspendedState": {"DynamicScalingInSuspended": True}}, True),
    ],
)
def test_a_policy_may_take_the_last_task(policy: dict[str, Any], more: dict[str, Any], left: bool) -> None:
    account, _ = scripted(
        describe_scaling_policies=lambda **_: {"ScalingPolicies": [{"PolicyName": "p", **policy}]},
        describe_scheduled_actions=lambda **_: {"ScheduledActions": []},
    )
    target = {"MinCapacity": 0, "MaxCapacity": 4, "ResourceId": "service/c/p-api", **more}
    assert (left_without_tasks(account, target) == "") is left
    assert left_without_tasks(account, target, called=False) == ""


def test_the_services_of_the_cluster_are_read() -> None:
    counts = "ecs:service:DesiredCount"
    told = [
        {"ResourceId": f"service/{cluster}/{name}", "ScalableDimension": counts}
        for cluster, name in (("p-cluster", "p-api"), ("other", "p-finn"))
    ]
    account, _ = scripted(describe_scalable_targets=lambda **_: {"ScalableTargets": told})
    assert [*read_scalable(account, Names("p"))] == ["api"]
