"""What CloudWatch, SNS, Logs and RDS say: datapoints, topic, dashboards, log groups, database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .account import AwsAccount, at_once
from .alarms import Metric
from .names import Names

#: A datapoint older than this says nothing about now.
FRESH_S = 15 * 60
QUERIES_AT_ONCE = 500
PENDING = "PendingConfirmation"


def read_datapoints(
    account: AwsAccount, metrics: Iterable[Metric], *, now: datetime | None = None
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


def topic_arn(account: AwsAccount, names: Names) -> str:
    """The ARN of the topic that alarms notify; AssertionError when there is none."""
    topics = [str(each["TopicArn"]) for each in account.pages("sns", "list_topics", "Topics")]
    found = [arn for arn in topics if arn.rpartition(":")[2] == names.topic]
    assert found, f"no topic {names.topic}: the alarms notify no one"
    return found[0]


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """The subscriptions of a topic, each by its protocol.

    A confirmed one is `filtered` when it takes only messages with certain attributes, of which an alarm's has
    none; `unread` when it takes only messages with a certain body.
    """

    confirmed: tuple[str, ...]
    pending: tuple[str, ...]
    filtered: tuple[str, ...]
    unread: tuple[str, ...]


def read_subscriptions(account: AwsAccount, arn: str) -> Subscriptions:
    """The topic's subscriptions, and whether they hear its alarms."""
    described = account.pages("sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=arn)
    confirmed = [each for each in described if each["SubscriptionArn"].startswith("arn:")]
    attributes = at_once(
        lambda each: account.ask(
            "sns", "get_subscription_attributes", SubscriptionArn=each["SubscriptionArn"]
        )["Attributes"],
        confirmed,
    )
    kept: dict[str, list[str]] = {"": [], "MessageAttributes": [], "MessageBody": []}
    for each, found in zip(confirmed, attributes, strict=True):
        scope = found.get("FilterPolicyScope") or "MessageAttributes"
        kept[scope if found.get("FilterPolicy", "{}") not in ("", "{}") else ""].append(each["Protocol"])
    return Subscriptions(
        confirmed=tuple(kept[""]),
        pending=tuple(each["Protocol"] for each in described if each["SubscriptionArn"] == PENDING),
        filtered=tuple(kept["MessageAttributes"]),
        unread=tuple(kept["MessageBody"]),
    )


def read_dashboard(account: AwsAccount, name: str) -> list[Any] | None:
    """The widgets of a dashboard; None when there is no such dashboard."""
    answer = account.find("cloudwatch", "get_dashboard", ("ResourceNotFound",), DashboardName=name)
    if answer is None:
        return None
    widgets = json.loads(answer["DashboardBody"]).get("widgets", [])
    return [each for each in widgets if each.get("type") != "text"]


def read_retention(account: AwsAccount, names: Names, groups: Iterable[str]) -> dict[str, int]:
    """The retention in days of each log group that exists, 0 for one without expiry."""
    elsewhere = [group for group in dict.fromkeys(groups) if not group.startswith(names.logs)]
    answers = at_once(
        lambda start: account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=start),
        [names.logs, *elsewhere],
    )
    return {
        each["logGroupName"]: int(each.get("retentionInDays", 0))
        for described in answers
        for each in described
    }


def database_exists(account: AwsAccount, name: str) -> bool:
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
    described = {"Namespace": metric.namespace, "MetricName": metric.name, "Dimensions": dimensions}
    stat = {"Metric": described, "Period": 60, "Stat": "SampleCount"}
    return {"Id": f"m{index}", "MetricStat": {**stat, "Unit": metric.unit} if metric.unit else stat}
