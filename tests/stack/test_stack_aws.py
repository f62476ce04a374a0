"""The AWS emulator holds what contract section 4 says, and what it shows agrees with what runs."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from stack.launch import Stack
from tests.stack.tools import Aws, listen, request

P = "arrakis-staging"
SERVICES = {"api": ("512", "1024"), "worker": ("256", "512"), "finn": ("512", "1024"),
            "dixie": ("256", "512"), "pgbouncer": ("256", "512")}  # fmt: skip


def _services(aws: Aws) -> dict[str, dict[str, Any]]:
    answer = aws("ecs").describe_services(
        cluster=f"{P}-cluster", services=[f"{P}-{name}" for name in SERVICES]
    )
    assert not answer["failures"]
    return {service["serviceName"].removeprefix(f"{P}-"): service for service in answer["services"]}


def _definition(aws: Aws, family: str) -> Any:
    return aws("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]


def _alarms(aws: Aws) -> dict[str, dict[str, Any]]:
    pages = aws("cloudwatch").get_paginator("describe_alarms").paginate()
    return {
        alarm["AlarmName"].removeprefix(f"{P}-"): alarm for page in pages for alarm in page["MetricAlarms"]
    }


def test_five_services_run_their_desired_count(stack: Stack, aws: Aws) -> None:
    for name, service in _services(aws).items():
        assert (service["runningCount"], service["desiredCount"]) == (1, 1), name
        (deployment,) = service["deployments"]
        assert (deployment["status"], deployment["rolloutState"]) == ("PRIMARY", "COMPLETED"), name


def test_task_definitions_share_neither_roles_nor_secrets(stack: Stack, aws: Aws) -> None:
    definitions = {
        name: _definition(aws, service["taskDefinition"]) for name, service in _services(aws).items()
    }
    assert {name: (each["cpu"], each["memory"]) for name, each in definitions.items()} == SERVICES
    for key in ("family", "executionRoleArn", "taskRoleArn"):
        assert len({each[key] for each in definitions.values()}) == 5, key
    groups = {each["containerDefinitions"][0]["logConfiguration"]["options"]["awslogs-group"]
              for each in definitions.values()}  # fmt: skip
    assert groups == {f"/ecs/{P}/{name}" for name in SERVICES}
    networks = [service["networkConfiguration"]["awsvpcConfiguration"] for service in _services(aws).values()]
    assert len({network["securityGroups"][0] for network in networks}) == 5
    secrets = {name: [secret["valueFrom"] for secret in each["containerDefinitions"][0].get("secrets", [])]
               for name, each in definitions.items()}  # fmt: skip
    assert secrets["api"] == secrets["worker"]
    assert len({secrets[name][0] for name in ("api", "finn", "dixie")}) == 3
    assert secrets["pgbouncer"] == []


def test_image_tags_equal_the_builds_that_services_report(stack: Stack, aws: Aws) -> None:
    images = {name: _definition(aws, f"{P}-{name}")["containerDefinitions"][0]["image"] for name in SERVICES}
    assert images["api"] == images["worker"]
    for name, service, path in (("api", "freeside", "/health"), ("finn", "finn", "/health"),
                                ("dixie", "dixie", "/api/health")):  # fmt: skip
        reported = request("GET", stack.profile[service]["url"] + path)[1]["build_sha"]
        repository, _, tag = images[name].rpartition("/")[2].partition(":")
        assert (repository, tag) == (f"{P}-{name}", reported)
        (image,) = aws("ecr").describe_images(repositoryName=repository)["imageDetails"]
        assert image["imageTags"] == [reported]
        assert len(reported) == 40
        assert int(reported, 16) >= 0
    assert len({images[name].rpartition(":")[2] for name in ("api", "finn", "dixie")}) == 3, "one commit each"


def test_cloud_map_resolves_to_the_addresses_of_the_parts(stack: Stack, aws: Aws) -> None:
    for name in ("freeside", "finn", "dixie", "pgbouncer"):
        answer = aws("servicediscovery").discover_instances(NamespaceName=f"{P}.local", ServiceName=name)
        (instance,) = answer["Instances"]
        host, port = (instance["Attributes"][f"AWS_INSTANCE_{key}"] for key in ("IPV4", "PORT"))
        if name != "pgbouncer":
            assert stack.profile[name]["url"] == f"http://{host}:{port}"


def test_every_alarm_is_ok_on_fresh_datapoints_of_its_dimensions(stack: Stack, aws: Aws) -> None:
    alarms = _alarms(aws)
    watched = {f"{name}-{what}" for name in SERVICES for what in ("cpu-high", "memory-high")}
    watched |= {f"{name}-health-check-failure" for name in ("api", "dixie")}
    watched |= {f"{name}-task-count" for name in ("worker", "finn", "pgbouncer")}
    watched |= {"rds-connections-high", "invoke-latency-p99", "jwt-log-validation-failures",
                "conservation-log-violation"}  # fmt: skip
    assert set(alarms) == watched
    now = datetime.now(UTC)
    for name, alarm in alarms.items():
        assert (alarm["StateValue"], alarm["ActionsEnabled"]) == ("OK", True), name
        assert alarm["AlarmActions"] == [f"arn:aws:sns:us-east-1:000000000000:{P}-alerts"], name
        assert ("Statistic" in alarm) != ("ExtendedStatistic" in alarm), name
        points = aws("cloudwatch").get_metric_statistics(
            Namespace=alarm["Namespace"], MetricName=alarm["MetricName"], Dimensions=alarm["Dimensions"],
            StartTime=now - timedelta(minutes=15), EndTime=now, Period=60, Statistics=["Average"],
        )["Datapoints"]  # fmt: skip
        assert len(points) >= 14, name
    none = aws("cloudwatch").get_metric_statistics(
        Namespace="AWS/ECS", MetricName="CPUUtilization",
        Dimensions=[{"Name": "ClusterName", "Value": f"{P}-cluster"}],
        StartTime=now - timedelta(minutes=15), EndTime=now, Period=60, Statistics=["Average"],
    )  # fmt: skip
    assert none["Datapoints"] == [], "datapoints for dimensions that nothing publishes"


def test_the_boot_sends_no_notification_to_the_subscribed_queue(stack: Stack, aws: Aws) -> None:
    topic = f"arn:aws:sns:us-east-1:000000000000:{P}-alerts"
    (subscription,) = aws("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert subscription["SubscriptionArn"].startswith(topic)
    queue = aws("sqs").get_queue_url(QueueName=subscription["Endpoint"].rpartition(":")[2])["QueueUrl"]
    assert "Messages" not in aws("sqs").receive_message(QueueUrl=queue)


def test_an_alarm_notifies_a_new_subscriber(stack: Stack, aws: Aws) -> None:
    queue = listen(aws, f"arn:aws:sns:us-east-1:000000000000:{P}-alerts")
    name = f"{P}-finn-task-count"
    aws("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="drill")
    (message,) = aws("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    notice = json.loads(json.loads(message["Body"])["Message"])
    assert (notice["AlarmName"], notice["NewStateValue"]) == (name, "ALARM")


def test_both_migrations_completed_once(stack: Stack, aws: Aws) -> None:
    for family in (f"{P}-freeside-migration", f"{P}-dixie-migration"):
        arns = aws("ecs").list_tasks(cluster=f"{P}-cluster", family=family, desiredStatus="STOPPED")
        (task,) = aws("ecs").describe_tasks(cluster=f"{P}-cluster", tasks=arns["taskArns"])["tasks"]
        assert task["lastStatus"] == "STOPPED"
        assert [container["exitCode"] for container in task["containers"]] == [0]
        assert task["group"] == "" or not task["group"].startswith("service:")


def test_logs_dashboards_and_database_exist(stack: Stack, aws: Aws) -> None:
    groups = aws("logs").describe_log_groups(logGroupNamePrefix=f"/ecs/{P}/")["logGroups"]
    assert {group["logGroupName"]: group["retentionInDays"] for group in groups} == {
        f"/ecs/{P}/{name}": 30 for name in SERVICES
    }
    for name in ("overview", "service-health"):
        body = json.loads(aws("cloudwatch").get_dashboard(DashboardName=f"{P}-{name}")["DashboardBody"])
        assert body["widgets"]
    (database,) = aws("rds").describe_db_instances(DBInstanceIdentifier=f"{P}-postgres")["DBInstances"]
    assert database["DBInstanceStatus"] == "available"
