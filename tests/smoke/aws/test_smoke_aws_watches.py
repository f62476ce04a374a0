"""What the alarms that contract section 4 asks for must watch."""

from typing import Any

import pytest

from smoke.aws.inventory import APPLICATION, FURTHER, REQUIRED, watch_for
from smoke.aws.names import Names
from smoke.aws.reader import AwsReader
from tests.smoke.aws.fakes import ecs_answers, raising, refusal, scripted

NAMES = Names("p")
FACTS = {"connections": {"total": 85, "buffer": 10}, "alarms": {"health_s": 600, "others_s": 900}}


def watching(**more: Any) -> AwsReader:
    answers = {
        **ecs_answers([f"p-{name}" for name in ("api", "worker", "finn", "dixie", "pgbouncer")]),
        "describe_db_instances": lambda **_: {"DBInstances": [{}]},
        "describe_target_groups": raising("TargetGroupNotFound"),
        "describe_load_balancers": lambda **_: {
            "LoadBalancers": [{"LoadBalancerName": "p-alb", "LoadBalancerArn": "a:loadbalancer/app/p-alb/1"}]
        },
        "describe_listeners": lambda **_: {
            "Listeners": [{"ListenerArn": "l", "LoadBalancerArn": "a:loadbalancer/app/p-alb/1"}]
        },
        "describe_rules": lambda **_: {"Rules": [{"Actions": [{"TargetGroupArn": "a:targetgroup/tg/1"}]}]},
    }
    return AwsReader(scripted(**{**answers, **more})[0], NAMES)


def test_every_alarm_that_is_requested_has_something_to_watch() -> None:
    observed = watching()
    found = {name: watch_for(name, observed, FACTS) for name in (*REQUIRED, *FURTHER, *APPLICATION)}
    assert len({watch.metrics for watch in found.values()}) == len(found)
    assert "LoadBalancer=app/p-alb/1, TargetGroup=targetgroup/tg/1 or ECS/" in str(found["api-health"])
    assert str(found["finn-health"]).endswith("ClusterName=p-cluster, ServiceName=p-finn")
    assert found["rds-connections"].need.condition == "> 1 to 85"


def test_a_service_behind_no_balancer_is_watched_by_its_tasks() -> None:
    alone = watch_for(
        "api-health", watching(describe_load_balancers=lambda **_: {"LoadBalancers": []}), FACTS
    )
    assert [metric.name for metric in alone.metrics] == ["RunningTaskCount"]


def test_a_database_that_is_a_cluster_is_watched_by_an_instance_or_as_a_whole() -> None:
    def described(**asked: Any) -> dict[str, Any]:
        if "DBInstanceIdentifier" in asked:
            raise refusal("DBInstanceNotFound")
        return {"DBInstances": [{"DBInstanceIdentifier": "a", "DBClusterIdentifier": NAMES.database}]}

    found = watch_for("rds-connections", watching(describe_db_instances=described), FACTS)
    assert [dict(metric.dimensions) for metric in found.metrics] == [
        {"DBInstanceIdentifier": "a"},
        {"DBClusterIdentifier": "p-postgres"},
        {"DBClusterIdentifier": "p-postgres", "Role": "WRITER"},
    ]


def test_what_is_to_be_watched_must_exist() -> None:
    with pytest.raises(AssertionError, match="no database instance p-postgres"):
        watch_for("rds-connections", watching(describe_db_instances=lambda **_: {"DBInstances": []}), FACTS)
    full = {"DBInstances": [{"DBInstanceStatus": "storage-full"}]}
    with pytest.raises(AssertionError, match="the database instance p-postgres is storage-full"):
        watch_for("rds-connections", watching(describe_db_instances=lambda **_: full), FACTS)
    with pytest.raises(AssertionError, match="no active service p-worker"):
        watch_for("worker-cpu", watching(list_services=lambda **_: {"serviceArns": ["p-api"]}), FACTS)
