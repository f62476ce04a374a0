"""The fire drill restores what it changed, even when something fails in the middle."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from pytest_readiness import ExternalOutage, SetupError

from smoke.aws.account import AwsAccount
from smoke.aws.monitoring import fit_for_drill, listening, says_that, set_off, state_of, undelivered
from tests.smoke.aws.fakes import TOPIC, TOPIC_ARN, Scripted, alarm, raising, refusal, scripted

ALARM = alarm()


def answering(**changed: Callable[..., Any]) -> tuple[AwsAccount, Scripted]:
    usual: dict[str, Callable[..., Any]] = {
        "create_queue": lambda **_: {"QueueUrl": "https://queue"},
        "subscribe": lambda **_: {"SubscriptionArn": "arn:subscription"},
        "unsubscribe": lambda **_: {},
        "delete_queue": lambda **_: {},
        "set_alarm_state": lambda **_: {},
        "receive_message": lambda **_: {},
    }
    return scripted(**{**usual, **changed})


def states(client: Scripted) -> list[str]:
    return [asked["StateValue"] for method, asked in client.asked if method == "set_alarm_state"]


def notice(name: str, state: str) -> dict[str, str]:
    return {"Body": json.dumps({"Message": json.dumps({"AlarmName": name, "NewStateValue": state})})}


def test_an_alarm_in_state_ok_that_notifies_the_topic_is_chosen() -> None:
    candidates = [alarm(state="ALARM"), alarm(enabled=False), alarm(actions=()), ALARM]
    assert fit_for_drill(candidates, TOPIC) is ALARM
    with pytest.raises(AssertionError, match="no alarm that notifies p-alerts is OK"):
        fit_for_drill(candidates[:3], TOPIC)


@pytest.mark.parametrize("ending", [None, AssertionError("not notified"), KeyboardInterrupt()], ids=repr)
def test_an_alarm_is_put_back_however_the_drill_ends(ending: BaseException | None) -> None:
    account, client = answering()
    with nullcontext() if ending is None else pytest.raises(type(ending)), set_off(account, ALARM):
        assert states(client) == ["ALARM"]
        if ending is not None:
            raise ending
    assert states(client) == ["ALARM", "OK"]


def test_an_alarm_is_put_back_though_aws_throttled_a_moment_ago() -> None:
    moments = iter([refusal("Throttling"), None])

    def set_alarm_state(**_: Any) -> dict[str, Any]:
        if trouble := next(moments):
            raise trouble
        return {}

    account, client = answering(set_alarm_state=set_alarm_state)
    with pytest.raises(ExternalOutage, match="cloudwatch:SetAlarmState"), set_off(account, ALARM):
        pytest.fail("it was not set off")
    assert states(client) == ["ALARM", "OK"], "whether it was set off is not known, so it is put back"


def test_an_alarm_that_cannot_be_put_back_says_how_to_do_it_by_hand() -> None:
    def set_alarm_state(StateValue: str, **_: Any) -> dict[str, Any]:
        if StateValue == "OK":
            raise refusal("AccessDenied")
        return {}

    account, _ = answering(set_alarm_state=set_alarm_state)
    by_hand = "aws cloudwatch set-alarm-state --alarm-name p-api-cpu-high --state-value OK"
    with pytest.raises(SetupError, match=by_hand), set_off(account, ALARM):
        pass


def test_the_queue_may_be_written_to_by_the_topic_alone_and_is_gone_afterwards() -> None:
    account, client = answering()
    with listening(account, TOPIC_ARN, "p-drill-1"):
        pass
    requests = dict(client.asked)
    assert list(requests) == ["create_queue", "subscribe", "unsubscribe", "delete_queue"]
    (statement,) = json.loads(requests["create_queue"]["Attributes"]["Policy"])["Statement"]
    assert statement["Resource"] == requests["subscribe"]["Endpoint"] == "arn:aws:sqs:us-east-1:1:p-drill-1"
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": TOPIC_ARN}}
    assert statement["Principal"] == {"Service": "sns.amazonaws.com"}


def test_the_queue_is_gone_when_it_could_not_be_subscribed() -> None:
    account, client = answering(subscribe=raising("AuthorizationError"))
    with pytest.raises(SetupError, match="may not sns:Subscribe"), listening(account, TOPIC_ARN, "q"):
        pytest.fail("nothing listens")
    assert [method for method, _ in client.asked] == ["create_queue", "subscribe", "delete_queue"]


def test_only_the_notification_of_this_alarm_counts() -> None:
    mail = iter(
        [
            {"Messages": [{"Body": "no json"}, {"Body": json.dumps({"Message": "hello"})}]},
            {"Messages": [notice("p-other", "ALARM"), notice(ALARM.name, "OK")]},
            {},
            {"Messages": [{"Body": json.dumps({"Message": "[1]"})}, notice(ALARM.name, "ALARM")]},
            {},
        ]
    )
    account, _ = answering(receive_message=lambda **_: next(mail))
    with listening(account, TOPIC_ARN, "q") as listener:
        notified = [listener.notified([ALARM.name], "ALARM") for _ in range(5)]
    assert notified == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        ({"detail": {"alarmName": "p-errors", "state": {"value": "ALARM"}}}, True),
        ({"detail": {"alarmName": "p-errors", "state": {"value": "OK"}}}, False),
        ({"detail": {"alarmName": "p-errors-2", "state": {"value": "ALARM"}}}, False),
        ({"text": "p-errors is firing"}, True),
        ("Page: p-errors is firing", True),
        ("Page: p-errors-2 is firing", False),
        (["p-errors"], True),
        (None, False),
    ],
    ids=repr,
)
def test_a_rule_of_eventbridge_may_notify_in_its_own_words(message: Any, counts: bool) -> None:
    text = message if isinstance(message, str) else json.dumps(message)
    assert says_that(json.dumps({"Message": text}), "p-errors", "ALARM") is counts


def test_failed_deliveries_are_read_from_the_alarms_history() -> None:
    items = [
        {"HistorySummary": "Successfully executed action arn:x"},
        {"HistorySummary": "Failed to execute action arn:x"},
    ]
    account, _ = answering(
        describe_alarm_history=lambda **_: {"AlarmHistoryItems": items},
        describe_alarms=lambda **_: {"MetricAlarms": []},
    )
    assert undelivered(account, ALARM) == ["Failed to execute action arn:x"]
    assert state_of(account, ALARM) == "gone"
