"""Alterations of what watches: alarms, metrics, the alerts topic, dashboards, log groups, and AWS's answers.

Names are given without the prefix: alarm `api-cpu-high`, service `api`, dashboard `overview`.
"""

import json
from typing import Any

from stack.aws import internals
from stack.aws.emulator import Emulator
from stack.aws.inventory import ACCOUNT, PREFIX, REGION, TOPIC

TOPIC_ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:{TOPIC}"
# What PutMetricAlarm takes of what DescribeAlarms gives.
SETTINGS = ("Namespace", "MetricName", "Dimensions", "Statistic", "ExtendedStatistic", "ComparisonOperator",
            "Threshold", "Period", "EvaluationPeriods", "TreatMissingData", "ActionsEnabled", "AlarmActions",
            "OKActions", "InsufficientDataActions", "AlarmDescription")  # fmt: skip


def api_refuses(emulator: Emulator, service: str, code: str) -> None:
    """Have every call of an AWS service (its signing name; `*` for all) refused with an error code."""
    emulator.refusals.refuse(service, code)


def alarm_missing(emulator: Emulator, alarm: str) -> None:
    """Delete an alarm."""
    _alarm(emulator, alarm)
    emulator.aws("cloudwatch").delete_alarms(AlarmNames=[f"{PREFIX}-{alarm}"])


def alarm_changed(emulator: Emulator, alarm: str, **settings: Any) -> None:
    """Put an alarm again with other settings, named as PutMetricAlarm names them."""
    before = _alarm(emulator, alarm)
    kept = {name: before[name] for name in SETTINGS if name in before}
    emulator.aws("cloudwatch").put_metric_alarm(AlarmName=f"{PREFIX}-{alarm}", **{**kept, **settings})


def alarm_watches_another(emulator: Emulator, alarm: str, dimension: str, value: str) -> None:
    """Have an alarm watch the same metric of something else: one dimension gets another value."""
    dimensions = {each["Name"]: each["Value"] for each in _alarm(emulator, alarm)["Dimensions"]}
    if dimension not in dimensions:
        raise LookupError(f"{alarm} has no dimension {dimension!r}; it has {', '.join(dimensions)}")
    dimensions[dimension] = value
    alarm_changed(
        emulator, alarm, Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()]
    )


def metric(emulator: Emulator, name: str, of: str = "", value: float | None = None) -> None:
    """Publish another value for a metric of the resource `of`; without a value, publish none at all."""
    if not emulator.metrics.alter(name, of, value):
        raise LookupError(f"no metric {name!r} of {of!r} is published")


def topic_without_subscription(emulator: Emulator) -> None:
    """Leave the alerts topic without any subscription."""
    sns = emulator.aws("sns")
    for each in sns.list_subscriptions_by_topic(TopicArn=TOPIC_ARN)["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=each["SubscriptionArn"])


def topic_unconfirmed(emulator: Emulator) -> None:
    """Leave the alerts topic with one subscription that was never confirmed."""
    topic_without_subscription(emulator)
    emulator.aws("sns").subscribe(TopicArn=TOPIC_ARN, Protocol="email", Endpoint="on-call@arrakis.example")
    internals.unconfirm(TOPIC_ARN)


def topic_filtered(emulator: Emulator) -> None:
    """Have every subscription to the alerts topic take only messages with an attribute that no alarm has."""
    sns = emulator.aws("sns")
    for each in sns.list_subscriptions_by_topic(TopicArn=TOPIC_ARN)["Subscriptions"]:
        sns.set_subscription_attributes(
            SubscriptionArn=each["SubscriptionArn"],
            AttributeName="FilterPolicy",
            AttributeValue=json.dumps({"team": ["billing"]}),
        )


def topic_missing(emulator: Emulator) -> None:
    """Delete the alerts topic; the alarms still name it."""
    emulator.aws("sns").delete_topic(TopicArn=TOPIC_ARN)


def notifications_lost(emulator: Emulator) -> None:
    """Have SNS accept every notification and deliver none."""
    emulator.notifications_lost = True


def dashboard_missing(emulator: Emulator, dashboard: str) -> None:
    """Delete a dashboard."""
    emulator.aws("cloudwatch").delete_dashboards(DashboardNames=[f"{PREFIX}-{dashboard}"])


def dashboard_empty(emulator: Emulator, dashboard: str) -> None:
    """Leave a dashboard without widgets."""
    body = json.dumps({"widgets": []})
    emulator.aws("cloudwatch").put_dashboard(DashboardName=f"{PREFIX}-{dashboard}", DashboardBody=body)


def log_group_missing(emulator: Emulator, service: str) -> None:
    """Delete a service's log group."""
    emulator.aws("logs").delete_log_group(logGroupName=f"/ecs/{PREFIX}/{service}")


def log_group_without_retention(emulator: Emulator, service: str) -> None:
    """Keep a service's logs without limit."""
    emulator.aws("logs").delete_retention_policy(logGroupName=f"/ecs/{PREFIX}/{service}")


def service_unwatched(emulator: Emulator, service: str) -> None:
    """Delete every alarm on a service."""
    cloudwatch = emulator.aws("cloudwatch")
    found = cloudwatch.describe_alarms(AlarmNamePrefix=f"{PREFIX}-{service}-")["MetricAlarms"]
    cloudwatch.delete_alarms(AlarmNames=[alarm["AlarmName"] for alarm in found])


def _alarm(emulator: Emulator, name: str) -> dict[str, Any]:
    found = emulator.aws("cloudwatch").describe_alarms(AlarmNames=[f"{PREFIX}-{name}"])["MetricAlarms"]
    if not found:
        raise LookupError(f"no alarm {name!r}")
    alarm: dict[str, Any] = found[0]
    return alarm


ALTERATIONS = (
    api_refuses, alarm_missing, alarm_changed, alarm_watches_another, metric, topic_without_subscription,
    topic_unconfirmed, topic_filtered, topic_missing, notifications_lost, dashboard_missing, dashboard_empty,
    log_group_missing, log_group_without_retention, service_unwatched,
)  # fmt: skip
