"""The fire drill: an alarm is set off, and the notification must arrive somewhere. Always put back."""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from pytest_readiness import ExternalOutage, SetupError

from .account import AwsAccount
from .alarms import ALARM, MetricAlarm

REASON = "Fire drill of the smoke suite: nothing is wrong"
QUEUE = "readiness-drill"
#: How long a message, and so what a killed drill leaves in its queue, is kept.
KEEPS_S = 300
RECEIVES_FOR_S = 2


def fit_for_drill(alarms: Sequence[MetricAlarm], topic: str) -> MetricAlarm:
    """An alarm that is OK and notifies the topic; AssertionError when there is none."""
    fit = [alarm for alarm in alarms if alarm.state == "OK" and alarm.notifiers(topic)]
    assert fit, f"no alarm is OK and notifies {topic}: none can be set off"
    return fit[0]


class Listener:
    """A temporary queue that is subscribed to the topic."""

    def __init__(self, account: AwsAccount, url: str) -> None:
        self._account = account
        self._url = url
        self.received: list[str] = []

    def hears(self, alarms: Collection[str], state: str) -> bool:
        """Whether a notification that one of these alarms went into this state has arrived by now."""
        answer = self._account.ask(
            "sqs",
            "receive_message",
            QueueUrl=self._url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=RECEIVES_FOR_S,
        )
        described = [_notice(each["Body"]) for each in answer.get("Messages", ())]
        self.received += [f"{notice.get('AlarmName')} {notice.get('NewStateValue')}" for notice in described]
        return any(f"{alarm} {state}" in self.received for alarm in alarms)


@contextmanager
def listening(account: AwsAccount, topic_arn: str, name: str) -> Iterator[Listener]:
    """Subscribe a new queue of this name to the topic; subscription and queue are gone afterwards."""
    with ExitStack() as undo:
        queue_arn = ":".join([*topic_arn.replace(":sns:", ":sqs:").split(":")[:5], name])
        url = account.ask(
            "sqs",
            "create_queue",
            QueueName=name,
            Attributes={
                "MessageRetentionPeriod": str(KEEPS_S),
                "Policy": json.dumps(_policy(queue_arn, topic_arn)),
            },
        )["QueueUrl"]
        undo.callback(account.insist, "sqs", "delete_queue", QueueUrl=url)
        subscription = account.ask(
            "sns",
            "subscribe",
            TopicArn=topic_arn,
            Protocol="sqs",
            Endpoint=queue_arn,
            ReturnSubscriptionArn=True,
        )["SubscriptionArn"]
        undo.callback(account.insist, "sns", "unsubscribe", SubscriptionArn=subscription)
        yield Listener(account, url)


@contextmanager
def set_off(account: AwsAccount, alarm: MetricAlarm) -> Iterator[None]:
    """Put an alarm into ALARM; afterwards it is back in the state that it was found in, whatever happened.

    SetupError with the command to give by hand when AWS does not let it be put back.
    """
    try:
        account.ask("cloudwatch", "set_alarm_state", **_state(alarm, ALARM))
        yield
    finally:
        try:
            account.insist("cloudwatch", "set_alarm_state", **_state(alarm, alarm.state))
        except (SetupError, ExternalOutage) as problem:
            raise SetupError(
                f"{alarm.name} may still be set off: {problem}\n  next: aws cloudwatch set-alarm-state"
                f" --alarm-name {alarm.name} --state-value {alarm.state} --state-reason restored"
            ) from problem


def state_of(account: AwsAccount, alarm: MetricAlarm) -> str:
    """The state that the alarm is in now."""
    found = account.ask("cloudwatch", "describe_alarms", AlarmNames=[alarm.name])["MetricAlarms"]
    return str(found[0]["StateValue"]) if found else "gone"


def undelivered(account: AwsAccount, alarm: MetricAlarm) -> list[str]:
    """What CloudWatch says of its own attempts to notify: the newest failures."""
    described = account.ask(
        "cloudwatch", "describe_alarm_history", AlarmName=alarm.name, HistoryItemType="Action", MaxRecords=5
    )
    return [
        str(each["HistorySummary"])
        for each in described["AlarmHistoryItems"]
        if "fail" in each["HistorySummary"].lower()
    ]


def _state(alarm: MetricAlarm, state: str) -> dict[str, str]:
    return {"AlarmName": alarm.name, "StateValue": state, "StateReason": REASON}


def _policy(queue_arn: str, topic_arn: str) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _notice(body: str) -> dict[str, Any]:
    """The alarm's own message inside of SNS's; an empty one for whatever else was published."""
    try:
        notice = json.loads(json.loads(body)["Message"])
    except (ValueError, KeyError, TypeError):
        return {}
    return notice if isinstance(notice, dict) else {}
