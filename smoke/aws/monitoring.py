"""What CloudWatch, SNS, Logs and RDS say: alarms, datapoints, topic, dashboards, log groups, database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from .account import Account, at_once
from .alarms import Alarm, Metric, alarm_of
from .names import Names

#: A datapoint older than this says nothing about now.
FRESH_S = 15 * 60
QUERIES_AT_ONCE = 500
PENDING = "PendingConfirmation"


def read_alarms(account: Account, names: Names) -> list[Alarm]:
    """Every metric alarm whose name has the platform's prefix."""
    told = account.pages("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=f"{names.prefix}-")
    return [alarm_of(each) for each in told]


def read_datapoints(
    account: Account, metrics: Iterable[Metric], *, now: datetime | None = None
) -> dict[Metric, int]:
    """How many minutes of the last fifteen each metric has a datapoint for, with exactly its dimensions."""
    wanted = list(dict.fromkeys(metrics))
    end = now or datetime.now(UTC)
    found: dict[Metric, int] = {}
    for at in range(0, len(wanted), QUERIES_AT_ONCE):
        batch = wanted[at : at + QUERIES_AT_ONCE]
        results = account.pages(
            "cloudwatch",
            "get_metric_data",
            "MetricDataResults",
            StartTime=end - timedelta(seconds=FRESH_S),
            EndTime=end,
            MetricDataQueries=[_query(index, metric) for index, metric in enumerate(batch)],
        )
        for result in results:
            metric = batch[int(result["Id"][1:])]
            found[metric] = found.get(metric, 0) + len(result["Values"])
    return found


def topic_arn(account: Account, names: Names) -> str:
    """The ARN of the topic that alarms notify; AssertionError when there is none."""
    topics = [str(each["TopicArn"]) for each in account.pages("sns", "list_topics", "Topics")]
    found = [arn for arn in topics if arn.rpartition(":")[2] == names.topic]
    assert found, f"there is no topic {names.topic}: the alarms notify nobody"
    return found[0]


def read_subscriptions(account: Account, arn: str) -> tuple[list[str], list[str]]:
    """The topic's confirmed and its pending subscriptions, each by its protocol."""
    told = account.pages("sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=arn)
    confirmed = [each["Protocol"] for each in told if each["SubscriptionArn"].startswith("arn:")]
    return confirmed, [each["Protocol"] for each in told if each["SubscriptionArn"] == PENDING]


def read_dashboard(account: Account, name: str) -> list[Any] | None:
    """The widgets of a dashboard; None when there is no such dashboard."""
    answer = account.find("cloudwatch", "get_dashboard", ("ResourceNotFound",), DashboardName=name)
    if answer is None:
        return None
    widgets = json.loads(answer["DashboardBody"]).get("widgets", [])
    return [each for each in widgets if each.get("type") != "text"]


def read_retention(account: Account, names: Names, groups: Iterable[str]) -> dict[str, int]:
    """The retention in days of each log group that exists, 0 for one that keeps everything for ever."""
    elsewhere = [group for group in dict.fromkeys(groups) if not group.startswith(names.logs)]
    answers = at_once(
        lambda start: account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=start),
        [names.logs, *elsewhere],
    )
    return {each["logGroupName"]: int(each.get("retentionInDays", 0)) for told in answers for each in told}


def database_exists(account: Account, name: str) -> bool:
    """Whether there is such a database instance."""
    answer = account.find(
        "rds",
        "describe_db_instances",
        ("DBInstanceNotFound", "DBInstanceNotFoundFault"),
        DBInstanceIdentifier=name,
    )
    return answer is not None and bool(answer["DBInstances"])


def _query(index: int, metric: Metric) -> Mapping[str, Any]:
    dimensions = [{"Name": name, "Value": value} for name, value in metric.dimensions]
    told = {"Namespace": metric.namespace, "MetricName": metric.name, "Dimensions": dimensions}
    return {"Id": f"m{index}", "MetricStat": {"Metric": told, "Period": 60, "Stat": "SampleCount"}}
