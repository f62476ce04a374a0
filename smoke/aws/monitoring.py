"""What CloudWatch, SNS, Logs and RDS say: alarms, datapoints, topic, dashboards, log groups, database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .account import AwsAccount, at_once
from .names import Names

ALARM, INSUFFICIENT = "ALARM", "INSUFFICIENT_DATA"
ABOVE, ABOVE_OR_AT = "GreaterThanThreshold", "GreaterThanOrEqualToThreshold"
BELOW, BELOW_OR_AT = "LessThanThreshold", "LessThanOrEqualToThreshold"
SIGNS = {ABOVE: ">", ABOVE_OR_AT: ">=", BELOW: "<", BELOW_OR_AT: "<="}
#: Actions of these services steer capacity; such an alarm is in ALARM as part of its work.
_STEERING = (":autoscaling:", ":application-autoscaling:", ":automate:")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its exact dimensions, in the order of their names."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Mapping[str, str]) -> Metric:
        """A metric with dimensions in any order."""
        return cls(namespace, name, tuple(sorted(dimensions.items())))

    def __str__(self) -> str:
        of = ", ".join(f"{name}={value}" for name, value in self.dimensions)
        return f"{self.namespace} {self.name}" + (f" of {of}" if of else "")


@dataclass(frozen=True, slots=True)
class MetricAlarm:
    """An alarm as it is set. `metrics` are all that feed it; metric math has several, or none of its own.

    `place` is REGION:ACCOUNT, as in its ARN.
    """

    name: str
    state: str
    metrics: tuple[Metric, ...]
    statistic: str
    comparison: str
    threshold: float | None
    enabled: bool
    actions: tuple[str, ...]
    place: str = ""

    @property
    def steers(self) -> bool:
        """Whether it only scales something and notifies no one."""
        return bool(self.actions) and all(any(part in each for part in _STEERING) for each in self.actions)

    @property
    def condition(self) -> str:
        """The condition in words."""
        limit = "no fixed threshold" if self.threshold is None else f"{self.threshold:g}"
        return f"{self.statistic or 'expression'} {SIGNS.get(self.comparison, self.comparison)} {limit}"


def alarm_of(described: Mapping[str, Any]) -> MetricAlarm:
    """An alarm from DescribeAlarms."""
    place = ":".join(described.get("AlarmArn", "").split(":")[3:5])
    parts = [
        (stat["Metric"]["Namespace"], stat["Metric"]["MetricName"], _dimensions(stat["Metric"], each, place))
        for each in described.get("Metrics", ())
        if (stat := each.get("MetricStat"))
    ]
    if described.get("MetricName"):
        parts = [(described["Namespace"], described["MetricName"], _dimensions(described, {}, place))]
    threshold = described.get("Threshold")
    return MetricAlarm(
        name=described["AlarmName"],
        state=described["StateValue"],
        metrics=tuple(Metric.of(namespace, name, dimensions) for namespace, name, dimensions in parts),
        statistic=described.get("ExtendedStatistic") or described.get("Statistic") or "",
        comparison=described.get("ComparisonOperator", ""),
        threshold=None if threshold is None else float(threshold),
        enabled=bool(described.get("ActionsEnabled")),
        actions=tuple(described.get("AlarmActions", ())),
        place=place,
    )


def _dimensions(metric: Mapping[str, Any], query: Mapping[str, Any], place: str) -> dict[str, str]:
    """The dimensions of a metric, and the account where it is another one's than the alarm's."""
    found = {each["Name"]: each["Value"] for each in metric.get("Dimensions", ())}
    account = query.get("AccountId", "")
    return found if not account or place.endswith(f":{account}") else {**found, "AccountId": account}


def mute(alarm: MetricAlarm, topic: str) -> list[str]:
    """Why an alarm would reach no one. `topic` is the name of the topic that it must notify."""
    reasons = []
    if not alarm.enabled:
        reasons.append("its actions are switched off")
    if not alarm.actions:
        reasons.append("it has no target")
    elif not any(_is_topic(action, topic, alarm.place) for action in alarm.actions):
        where = f" of {alarm.place}" if alarm.place else ""
        reasons.append(f"it notifies {', '.join(alarm.actions)} and not {topic}{where}")
    return reasons


def _is_topic(action: str, topic: str, place: str) -> bool:
    """Whether an action is the topic of this name, in the alarm's own region and account."""
    *_, name = parts = action.split(":")
    return name == topic and (not place or parts[2:5] == ["sns", *place.split(":")])


def is_health(alarm: MetricAlarm) -> bool:
    """Whether it watches that some task of a service is healthy."""
    return any(metric.name in {"HealthyHostCount", "RunningTaskCount"} for metric in alarm.metrics)


def is_conservation(alarm: MetricAlarm) -> bool:
    """Whether it watches the conservation of money."""
    return any("conservation" in metric.name.lower() for metric in alarm.metrics)


#: What a metric needs that a filter of the logs makes.
DEFAULT_VALUE = "if a log metric filter feeds it, give the filter a default value of 0"


def unfed(alarms: Iterable[MetricAlarm], fed: Mapping[Metric, int]) -> list[str]:
    """The alarms with a metric that has no datapoint, and what to do; `fed` counts each metric's fresh ones.

    Namespaces of AWS begin with `AWS/` or `ECS/`; any other is fed by the platform, with what a filter of its
    logs counts: without a default value such a filter says nothing while nothing happens.
    """
    return [
        f"{alarm.name}: no datapoint of {metric}"
        + ("" if metric.namespace.startswith(("AWS/", "ECS/")) else f" ({DEFAULT_VALUE})")
        for alarm in alarms
        for metric in alarm.metrics
        if not fed.get(metric)
    ]


#: A datapoint older than this says nothing about now.
FRESH_S = 15 * 60
QUERIES_AT_ONCE = 500
PENDING = "PendingConfirmation"


def read_alarms(account: AwsAccount, names: Names) -> list[MetricAlarm]:
    """Every metric alarm whose name has the platform's prefix."""
    described = account.pages(
        "cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=f"{names.prefix}-"
    )
    return [alarm_of(each) for each in described]


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
    return {"Id": f"m{index}", "MetricStat": {"Metric": described, "Period": 60, "Stat": "SampleCount"}}
