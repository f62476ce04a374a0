"""Contents of the AWS emulator that the suite does not read; a green run proves the rest."""

from datetime import UTC, datetime, timedelta
from typing import Any

from stack.launch import Stack
from tests.stack.tools import Aws, request

P = "arrakis-staging"


def _datapoints(aws: Aws, alarm: dict[str, Any], **changed: Any) -> list[Any]:
    now = datetime.now(UTC)
    watched = {name: alarm[name] for name in ("Namespace", "MetricName", "Dimensions")} | changed
    found: list[Any] = aws("cloudwatch").get_metric_statistics(
        **watched, StartTime=now - timedelta(minutes=15), EndTime=now, Period=60, Statistics=["Average"]
    )["Datapoints"]
    return found


def test_every_image_is_in_the_registry_under_the_commit_that_its_service_reports(
    stack: Stack, aws: Aws
) -> None:
    tags = set()
    for name, service, path in (("api", "freeside", "/health"), ("finn", "finn", "/health"),
                                ("dixie", "dixie", "/api/health")):  # fmt: skip
        reported = request("GET", stack.profile[service]["url"] + path)[1]["build_sha"]
        (image,) = aws("ecr").describe_images(repositoryName=f"{P}-{name}")["imageDetails"]
        assert image["imageTags"] == [reported]
        assert len(f"{int(reported, 16):040x}") == len(reported) == 40
        tags.add(reported)
    assert len(tags) == 3, "one commit each"


def test_every_alarm_has_fresh_datapoints_of_exactly_its_dimensions(stack: Stack, aws: Aws) -> None:
    pages = aws("cloudwatch").get_paginator("describe_alarms").paginate()
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    assert len(alarms) == 19
    for alarm in alarms:
        assert len(_datapoints(aws, alarm)) >= 14, alarm["AlarmName"]
        assert ("Statistic" in alarm) != ("ExtendedStatistic" in alarm), alarm["AlarmName"]
    cpu = next(alarm for alarm in alarms if alarm["AlarmName"] == f"{P}-api-cpu-high")
    assert _datapoints(aws, cpu, Dimensions=[{"Name": "ClusterName", "Value": f"{P}-cluster"}]) == []


def test_the_boot_sends_no_notification_to_the_subscribed_queue(stack: Stack, aws: Aws) -> None:
    topic = f"arn:aws:sns:us-east-1:000000000000:{P}-alerts"
    (subscription,) = aws("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    queue = aws("sqs").get_queue_url(QueueName=subscription["Endpoint"].rpartition(":")[2])["QueueUrl"]
    assert "Messages" not in aws("sqs").receive_message(QueueUrl=queue)


def test_migrations_are_tasks_of_no_service(stack: Stack, aws: Aws) -> None:
    for family in (f"{P}-freeside-migration", f"{P}-dixie-migration"):
        arns = aws("ecs").list_tasks(cluster=f"{P}-cluster", family=family, desiredStatus="STOPPED")
        (task,) = aws("ecs").describe_tasks(cluster=f"{P}-cluster", tasks=arns["taskArns"])["tasks"]
        assert not task["group"].startswith("service:")
