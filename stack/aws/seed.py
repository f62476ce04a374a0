"""Fills the emulator with what contract section 4 says: `python -m stack.aws.seed`, once at boot.

Reads STACK_AWS_ENDPOINT and STACK_ADDRESSES (NAME=HOST:PORT, comma-separated). Started together with the
emulator, it imports botocore while that comes up.
"""

import json
import os
import time
from collections.abc import Iterable

from stack.aws import compute, network
from stack.aws.clients import HEALTH, Clients, ControlClient, clients
from stack.aws.inventory import (
    DASHBOARDS,
    OPERATOR,
    OPERATOR_ACTIONS,
    OPERATOR_POLICY,
    TOPIC,
    Alarm,
    all_alarms,
    operator_policy,
    policy,
)
from stack.aws.names import ACCOUNT, REGION, SIGNERS, secret_id
from stack.host import answers_ok
from stack.process import BOOT_DEADLINE_S, wait_until


def everything(aws: Clients, addresses: dict[str, str], control: ControlClient) -> None:
    """Create all of it; `addresses` maps a Cloud Map name to the HOST:PORT where the part answers."""
    names = [secret_id(service) for service in SIGNERS]
    arns = {name: aws("secretsmanager").describe_secret(SecretId=name)["ARN"] for name in names}
    net = network.seed(aws, addresses)
    compute.seed(aws, net, arns)
    _operator(aws, arns.values())
    alarms = all_alarms(net.targets)
    # Datapoints first: an alarm that finds none would be in ALARM for a moment, and notify.
    control.publish([metric.series() for metric in dict.fromkeys(alarm.metric for alarm in alarms)])
    _monitoring(aws, alarms)
    wait_until(lambda: compute.migrations_are_over(aws), time.monotonic() + BOOT_DEADLINE_S)
    control.remember()


def _operator(aws: Clients, secret_arns: Iterable[str]) -> None:
    trust = policy(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, Action="sts:AssumeRole")
    aws("iam").create_role(RoleName=OPERATOR, AssumeRolePolicyDocument=trust)
    aws("iam").put_role_policy(
        RoleName=OPERATOR,
        PolicyName=OPERATOR_POLICY,
        PolicyDocument=operator_policy(OPERATOR_ACTIONS, secret_arns),
    )


def _monitoring(aws: Clients, alarms: list[Alarm]) -> None:
    """Create topic, alarms and dashboards; the subscription last, so that the boot itself sends no alert."""
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
    dimensions = [word for pair in alarm.metric.dimensions for word in pair]
    metric = [alarm.metric.namespace, alarm.metric.name, *dimensions]
    properties = {"title": alarm.name, "region": REGION, "metrics": [metric], "period": alarm.period}
    return {"type": "metric", "width": 6, "height": 6, "properties": properties}


def main() -> None:
    """Seed everything, then have the emulator remember it."""
    endpoint = os.environ["STACK_AWS_ENDPOINT"]
    addresses = dict(pair.split("=") for pair in os.environ["STACK_ADDRESSES"].split(","))
    aws = clients(endpoint)
    wait_until(lambda: answers_ok(endpoint + HEALTH), time.monotonic() + BOOT_DEADLINE_S)
    everything(aws, addresses, ControlClient(endpoint))


if __name__ == "__main__":
    main()
