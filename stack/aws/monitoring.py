"""Seeds what watches: the alerts topic with somebody who listens, the alarms, the dashboards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from stack.aws.inventory import DASHBOARDS, TOPIC
from stack.aws.names import REGION

if TYPE_CHECKING:
    from stack.aws.clients import Clients
    from stack.aws.inventory import Alarm


def seed(aws: Clients, alarms: list[Alarm]) -> None:
    """Create topic, alarms and dashboards; the subscription last, so that the boot itself alerts nobody."""
    topic = aws("sns").create_topic(Name=TOPIC)["TopicArn"]
    cloudwatch = aws("cloudwatch")
    for alarm in alarms:
        cloudwatch.put_metric_alarm(**alarm.request(topic))
    for name in DASHBOARDS:
        body = json.dumps({"widgets": [_widget(alarm) for alarm in alarms]})
        cloudwatch.put_dashboard(DashboardName=name, DashboardBody=body)
    sqs = aws("sqs")
    queue = sqs.create_queue(QueueName=f"{TOPIC}-on-call")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    aws("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["QueueArn"])


def _widget(alarm: Alarm) -> dict[str, object]:
    metric = [
        alarm.metric.namespace,
        alarm.metric.name,
        *(word for pair in alarm.metric.dimensions for word in pair),
    ]
    properties = {"title": alarm.name, "region": REGION, "metrics": [metric], "period": alarm.period}
    return {"type": "metric", "width": 6, "height": 6, "properties": properties}
