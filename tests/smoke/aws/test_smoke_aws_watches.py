"""What the alarms that contract section 4 asks for must watch."""

from typing import Any

import pytest

from smoke.aws.alarms import APPLICATION, FURTHER, REQUIRED, watch_for
from smoke.aws.names import Names
from smoke.aws.reader import AwsReader
from tests.smoke.aws.fakes import ecs_answers, raising, scripted

NAMES = Names("p")
BUDGET = {"total": 85, "buffer": 10}


def watching(**more: Any) -> AwsReader:
    answers = {
        **ecs_answers([f"p-{name}" for name in ("api", "worker", "finn", "dixie", "pgbouncer")]),
        "describe_db_instances": lambda **_: {"DBInstances": [{}]},
        "describe_load_balancers": lambda **_: {
            "LoadBalancers": [{"LoadBalancerName": "p-alb", "LoadBalancerArn": "a:loadbalancer/app/p-alb/1"}]
        },
        "describe_listeners": lambda **_: {
            "Listeners": [{"ListenerArn": "l", "LoadBalancerArn": "a:loadbalancer/app/p-alb/1"}]
        },
        "describe_rules": lambda **_: {"Rules": [{"Actions": [{"TargetGroupArn": "a:targetgroup/tg/1"}]}]},
    }
    return AwsReader(scripted(**{**answers, **more})[0], NAMES)


def test_every_alarm_that_is_asked_for_has_something_to_watch() -> None:
    observed = watching()
    found = {name: watch_for(name, observed, BUDGET) for name in (*REQUIRED, *FURTHER, *APPLICATION)}
    assert len({watch.metric for watch in found.values()}) == len(found) - 1, (
        "api and dixie share a group here"
    )
    assert str(found["api-health"].metric).endswith("LoadBalancer=app/p-alb/1, TargetGroup=targetgroup/tg/1")
    assert str(found["finn-health"].metric).endswith("ClusterName=p-cluster, ServiceName=p-finn")
    assert found["rds-connections"].condition == "> 0 to 85"


def test_what_is_to_be_watched_must_exist() -> None:
    with pytest.raises(AssertionError, match="no database instance p-postgres"):
        watch_for("rds-connections", watching(describe_db_instances=raising("DBInstanceNotFound")), BUDGET)
    with pytest.raises(AssertionError, match="no load balancer sends requests to api"):
        watch_for("api-health", watching(describe_load_balancers=lambda **_: {"LoadBalancers": []}), BUDGET)
    with pytest.raises(AssertionError, match="no active service p-worker"):
        watch_for("worker-cpu", watching(list_services=lambda **_: {"serviceArns": ["p-api"]}), BUDGET)
