"""Alterations by the names that faults use: `aws:alarm-missing` calls `alarm_missing`.

Those of monitoring are here.
"""

import inspect
import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stack.aws import (
    access_alterations,
    edge_alterations,
    internals,
    network_alterations,
    platform_alterations,
)
from stack.aws.emulator import Emulator
from stack.aws.inventory import (
    ACCOUNT,
    APP_METRICS,
    CLUSTER,
    DATABASE,
    METRIC_FILTERS,
    PREFIX,
    REGION,
    TOPIC,
    queue_policy,
    role_arn,
)

TOPIC_ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:{TOPIC}"
# Members of DescribeAlarms that PutMetricAlarm accepts.
SETTINGS = ("Namespace", "MetricName", "Dimensions", "Statistic", "ExtendedStatistic", "ComparisonOperator",
            "Threshold", "Period", "EvaluationPeriods", "TreatMissingData", "ActionsEnabled", "AlarmActions",
            "OKActions", "InsufficientDataActions", "AlarmDescription", "Unit",
            "DatapointsToAlarm")  # fmt: skip


def api_refuses(emulator: Emulator, service: str, code: str, message: str = "") -> None:
    """Have every call of an AWS service (its signing name; `*` for all) refused with an error code."""
    emulator.refusals.refuse(service, code, message)


def call(emulator: Emulator, api: str, **arguments: Any) -> None:
    """Make one call of an API of AWS, named as boto3 names it, such as `logs.delete_log_group`."""
    service, _, operation = api.partition(".")
    getattr(emulator.aws(service), operation)(**arguments)


def alarm_missing(emulator: Emulator, alarm: str) -> None:
    """Delete an alarm."""
    _alarm(emulator, alarm)
    emulator.aws("cloudwatch").delete_alarms(AlarmNames=[f"{PREFIX}-{alarm}"])


def alarm_added(emulator: Emulator, topic: str, **settings: Any) -> None:
    """Add an alarm that notifies a topic, a new one if need be; settings as PutMetricAlarm names them."""
    arn = emulator.aws("sns").create_topic(Name=topic)["TopicArn"]
    emulator.aws("cloudwatch").put_metric_alarm(AlarmActions=[arn], **settings)


def alarm_changed(emulator: Emulator, alarm: str, **settings: Any) -> None:
    """Put an alarm again with other settings, named as PutMetricAlarm names them."""
    before = _alarm(emulator, alarm)
    kept = {name: before[name] for name in SETTINGS if name in before}
    emulator.aws("cloudwatch").put_metric_alarm(AlarmName=f"{PREFIX}-{alarm}", **{**kept, **settings})


def alarm_described(_: Emulator, alarm: str, **members: str) -> None:
    """Make DescribeAlarms report further members of an alarm, such as `EvaluationState`."""
    record = internals.alarm_record(f"{PREFIX}-{alarm}")
    record.update(members)


def alarm_by_query(emulator: Emulator, alarm: str = "", expression: str = "", **query: Any) -> None:
    """Make an alarm, or every one, name its metric in a query, optionally with an `expression` on it.

    `query` are further members of the query, such as AccountId.
    """
    names = [f"{PREFIX}-{alarm}"] if alarm else [each["AlarmName"] for each in _alarms(emulator)]
    for name in names:
        record = internals.alarm_record(name)
        metric = {part: record.pop(part) for part in ("Namespace", "MetricName", "Dimensions")}
        statistics = [record.pop("ExtendedStatistic", None), record.pop("Statistic", None)]
        stat = {"Metric": metric, "Period": record.pop("Period"), "Stat": next(filter(None, statistics))}
        unit = record.pop("Unit", None)
        stat |= {"Unit": unit} if unit else {}
        record["Metrics"] = [{"Id": "m1", "MetricStat": stat, "ReturnData": not expression, **query}]
        if expression:
            record["Metrics"].append({"Id": "e1", "Expression": expression, "ReturnData": True})


def alarms_by_composite(emulator: Emulator, rule: str = "", **settings: Any) -> None:
    """Remove the target of every alarm; one composite alarm over all of them notifies the topic.

    `rule` replaces the rule that any of them is in ALARM; `settings` are arguments of PutCompositeAlarm.
    """
    names = [each["AlarmName"] for each in _alarms(emulator)]
    for name in names:
        internals.alarm_record(name)["AlarmActions"] = []
    composite = {"AlarmName": f"{PREFIX}-page", "AlarmActions": [TOPIC_ARN], **settings}
    composite["AlarmRule"] = rule or " OR ".join(f'ALARM("{name}")' for name in names)
    emulator.aws("cloudwatch").put_composite_alarm(**composite)
    suppressing = {name: value for name, value in settings.items() if name.startswith("ActionsSuppressor")}
    internals.alarm_record(composite["AlarmName"]).update(suppressing)  # ministack drops them


def alarms_by_rule(emulator: Emulator, pattern: Mapping[str, Any], state: str = "ENABLED") -> None:
    """Remove the target of every alarm; a rule of EventBridge, in a state, notifies the topic of them.

    The `pattern` is what the rule demands of the detail of an alarm's event.
    """
    for alarm in _alarms(emulator):
        internals.alarm_record(alarm["AlarmName"])["AlarmActions"] = []
    events, rule = emulator.aws("events"), f"{PREFIX}-alarm-changes"
    wanted = {"source": ["aws.cloudwatch"], "detail-type": ["CloudWatch Alarm State Change"]}
    events.put_rule(Name=rule, EventPattern=json.dumps({**wanted, "detail": pattern}), State=state)
    events.put_targets(Rule=rule, Targets=[{"Id": "alerts", "Arn": TOPIC_ARN}])


def alarms_muted(emulator: Emulator, alarms: Sequence[str]) -> None:
    """Have an active mute rule keep alarms from notifying."""
    emulator.mutes.alarms = [f"{PREFIX}-{each}" for each in alarms]


def alarms_many(emulator: Emulator, count: int) -> None:
    """Add this many alarms on one metric before the others: the platform's own are on later pages."""
    before = _alarm(emulator, "rds-connections-high")
    kept = {name: before[name] for name in SETTINGS if name in before}
    for number in range(count):
        name = f"{PREFIX}-a-connections-{number:03}"
        emulator.aws("cloudwatch").put_metric_alarm(AlarmName=name, **kept)


def alarms_on_tasks(emulator: Emulator) -> None:
    """Watch the health of the services behind the load balancer by their task counts."""
    for alarm in _alarms(emulator):
        if alarm["MetricName"] != "HealthyHostCount":
            continue
        service = alarm["AlarmName"].removesuffix("-health-check-failure")
        dimensions = {"ClusterName": CLUSTER, "ServiceName": service}
        series = {"namespace": "ECS/ContainerInsights", "name": "RunningTaskCount"}
        emulator.metrics.publish_too({**series, "dimensions": dimensions, "value": 1})
        alarm_changed(
            emulator,
            alarm["AlarmName"].removeprefix(f"{PREFIX}-"),
            Namespace=series["namespace"],
            MetricName=series["name"],
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        )


def alarm_watches_another(emulator: Emulator, alarm: str, dimension: str, value: str) -> None:
    """Make an alarm watch another resource's metric: one dimension gets another value."""
    dimensions = {each["Name"]: each["Value"] for each in _alarm(emulator, alarm)["Dimensions"]}
    if dimension not in dimensions:
        raise LookupError(f"{alarm} has no dimension {dimension!r}; it has {', '.join(dimensions)}")
    dimensions[dimension] = value
    alarm_changed(
        emulator, alarm, Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()]
    )


def database_in_cluster(emulator: Emulator, asked_plainly_by: str = "") -> None:
    """Turn the database into a cluster of its name; the alarm on connections watches its only instance.

    If a service asks it without TLS, the cluster demands TLS.
    """
    rds, instance = emulator.aws("rds"), f"{DATABASE}-1"
    engine = {"DBClusterIdentifier": DATABASE, "Engine": "aurora-postgresql"}
    (before,) = rds.describe_db_instances(DBInstanceIdentifier=DATABASE)["DBInstances"]
    groups = [each["VpcSecurityGroupId"] for each in before["VpcSecurityGroups"]]
    rds.delete_db_instance(DBInstanceIdentifier=DATABASE, SkipFinalSnapshot=True)
    group = {"DBClusterParameterGroupName": f"{DATABASE}-15"} if asked_plainly_by else {}
    if group:
        rds.create_db_cluster_parameter_group(
            **group, DBParameterGroupFamily="aurora-postgresql15", Description="TLS"
        )
        tls = {"ParameterName": "rds.force_ssl", "ParameterValue": "1", "ApplyMethod": "pending-reboot"}
        rds.modify_db_cluster_parameter_group(**group, Parameters=[tls])
    rds.create_db_cluster(**engine, **group, MasterUsername="arrakis", ManageMasterUserPassword=True)
    rds.create_db_instance(
        **engine, DBInstanceIdentifier=instance, DBInstanceClass="db.t4g.medium", VpcSecurityGroupIds=groups
    )
    own = {"DBInstanceIdentifier": instance}
    series = {"namespace": "AWS/RDS", "name": "DatabaseConnections", "dimensions": own, "value": 21}
    emulator.metrics.publish_too(series)
    alarm_watches_another(emulator, "rds-connections-high", "DBInstanceIdentifier", instance)
    if asked_plainly_by:
        platform_alterations.database_led_to(
            emulator, asked_plainly_by, DATABASE, "DATABASE_URL", "/finn?sslmode=disable"
        )


def composite_added(emulator: Emulator, name: str, rule: str, then_deleted: Sequence[str] = ()) -> None:
    """Add a composite alarm that notifies the topic; alarms that it names may be deleted afterwards."""
    emulator.aws("cloudwatch").put_composite_alarm(
        AlarmName=f"{PREFIX}-{name}", AlarmRule=rule, AlarmActions=[TOPIC_ARN], ActionsEnabled=True
    )
    for each in then_deleted:
        internals.forget_alarm(f"{PREFIX}-{each}")


def metric_filter(
    emulator: Emulator, name: str, service: str = "api", pattern: str | None = None, **made: Any
) -> None:
    """Change the metric filter of one of the platform's own metrics; settings not given stay."""
    logs, before = emulator.aws("logs"), next(each for each in METRIC_FILTERS if each[0] == name)
    group = f"/ecs/{PREFIX}/api"
    if service != "api":
        logs.delete_metric_filter(logGroupName=group, filterName=name)
        group = service
        logs.create_log_group(logGroupName=group)
    kept = {"metricNamespace": APP_METRICS, "metricName": name, "metricValue": before[2], "defaultValue": 0}
    logs.put_metric_filter(
        logGroupName=group,
        filterName=name,
        filterPattern=before[1] if pattern is None else pattern,
        metricTransformations=[{**kept, **made}],
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


def topic_filtered(emulator: Emulator, policy: Mapping[str, Any], scope: str = "MessageAttributes") -> None:
    """Make every subscription to the alerts topic accept only messages whose attributes, or body, match."""
    sns = emulator.aws("sns")
    for each in sns.list_subscriptions_by_topic(TopicArn=TOPIC_ARN)["Subscriptions"]:
        for name, value in (("FilterPolicyScope", scope), ("FilterPolicy", json.dumps(policy))):
            sns.set_subscription_attributes(
                SubscriptionArn=each["SubscriptionArn"], AttributeName=name, AttributeValue=value
            )


def topic_queue_missing(emulator: Emulator) -> None:
    """Delete the queue that is subscribed to the alerts topic."""
    sqs = emulator.aws("sqs")
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=f"{TOPIC}-on-call")["QueueUrl"])


def topic_queue_closed(
    emulator: Emulator, topic: str = "", condition: Mapping[str, Any] | None = None
) -> None:
    """Make the queue subscribed to the alerts topic admit another topic, or none, on a condition."""
    sqs = emulator.aws("sqs")
    url = sqs.get_queue_url(QueueName=f"{TOPIC}-on-call")["QueueUrl"]
    sqs.set_queue_attributes(
        QueueUrl=url, Attributes={"Policy": queue_policy(topic, condition) if topic else ""}
    )


def topic_function(
    emulator: Emulator, source: str = TOPIC_ARN, limit: int | None = None, *, gone: bool = False
) -> None:
    """Make a Lambda function that a topic may invoke the only subscription; the function may be deleted."""
    functions, name = emulator.aws("lambda"), f"{PREFIX}-page"
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("page.py", "def handler(event, context): ...")
    arn = functions.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="page.handler",
        Code={"ZipFile": code.getvalue()},
        Role=role_arn(f"{PREFIX}-page"),
    )["FunctionArn"]
    functions.add_permission(
        FunctionName=name,
        StatementId="alerts",
        Action="lambda:InvokeFunction",
        SourceArn=source,
        Principal="sns.amazonaws.com",
    )
    if limit is not None:
        functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=limit)
    topic_without_subscription(emulator)
    emulator.aws("sns").subscribe(TopicArn=TOPIC_ARN, Protocol="lambda", Endpoint=arn)
    if gone:
        functions.delete_function(FunctionName=name)


def dashboard_of_another(emulator: Emulator, dashboard: str, region: str = "") -> None:
    """Make a dashboard show production, or another region."""
    cloudwatch, name = emulator.aws("cloudwatch"), f"{PREFIX}-{dashboard}"
    body = cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"]
    changed = body.replace(f'"{REGION}"', f'"{region}"')
    if not region:
        changed = body.replace(PREFIX, f"{PREFIX.rpartition('-')[0]}-production")
    cloudwatch.put_dashboard(DashboardName=name, DashboardBody=changed)


def topic_encrypted(emulator: Emulator, users: Sequence[str], state: str = "Enabled") -> None:
    """Encrypt the alerts topic with its own key for these AWS services; the key may be disabled."""
    statement = {"Effect": "Allow", "Resource": "*"}
    owner = {**statement, "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*"}
    used = {
        **statement,
        "Principal": {"Service": [*users]},
        "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [owner, used]})
    key = emulator.aws("kms").create_key(Description=TOPIC, Policy=policy)["KeyMetadata"]
    if state == "Disabled":
        emulator.aws("kms").disable_key(KeyId=key["KeyId"])
    topic_attribute(emulator, "KmsMasterKeyId", key["Arn"])


def topic_attribute(emulator: Emulator, name: str, value: str) -> None:
    """Give the alerts topic another attribute, such as its policy or its key."""
    emulator.aws("sns").set_topic_attributes(TopicArn=TOPIC_ARN, AttributeName=name, AttributeValue=value)


def notifications_lost(emulator: Emulator) -> None:
    """Have SNS accept every notification and deliver none."""
    emulator.notifications_lost = True


def service_unwatched(emulator: Emulator, service: str) -> None:
    """Delete every alarm on a service."""
    cloudwatch = emulator.aws("cloudwatch")
    found = cloudwatch.describe_alarms(AlarmNamePrefix=f"{PREFIX}-{service}-")["MetricAlarms"]
    cloudwatch.delete_alarms(AlarmNames=[alarm["AlarmName"] for alarm in found])


def _alarms(emulator: Emulator) -> list[dict[str, Any]]:
    pages = emulator.aws("cloudwatch").get_paginator("describe_alarms").paginate()
    return [alarm for page in pages for alarm in page["MetricAlarms"]]


def _alarm(emulator: Emulator, name: str) -> dict[str, Any]:
    found = emulator.aws("cloudwatch").describe_alarms(AlarmNames=[f"{PREFIX}-{name}"])["MetricAlarms"]
    if not found:
        raise LookupError(f"no alarm {name!r}")
    alarm: dict[str, Any] = found[0]
    return alarm


# Every public function of these modules that returns nothing; it gets the emulator and a fault's params.
ALTERATIONS: Mapping[str, Callable[..., None]] = {
    name.replace("_", "-"): found
    for module in (sys.modules[__name__], access_alterations, edge_alterations, network_alterations,
                   platform_alterations)
    for name, found in inspect.getmembers(module, inspect.isfunction)
    if found.__module__ == module.__name__ and not name.startswith("_")
    and found.__annotations__["return"] is None
}  # fmt: skip


def apply(emulator: Emulator, name: str, params: Mapping[str, Any]) -> None:
    """Apply the alteration `name`; a restore of the emulator undoes all of them.

    Raises LookupError for an unknown name or for something that is not there to be altered, TypeError for
    parameters that it does not take.
    """
    if name not in ALTERATIONS:
        raise LookupError(f"no alteration {name!r}; known: {', '.join(sorted(ALTERATIONS))}")
    ALTERATIONS[name](emulator, **params)
