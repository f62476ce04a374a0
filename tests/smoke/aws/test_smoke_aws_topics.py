"""Topics: whether their policy and their key let alarms in, and whether their subscriptions take them."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pytest_readiness import SetupError

from smoke.aws.account import AwsAccount
from smoke.aws.alarms import CompositeAlarm, alarm_of
from smoke.aws.topics import (
    CLOUDWATCH,
    Subscriptions,
    closed_to_alarms,
    key_closed,
    lets_in,
    read_subscriptions,
    routed,
    takes_alarm,
)
from tests.smoke.aws.fakes import TOPIC, TOPIC_ARN, alarm, raising, refusal, scripted


def allowing(principal: Any, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": "SNS:Publish", "Resource": "*"} | more


def barring(all_but: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "NotPrincipal": all_but, "Action": "SNS:*", "Resource": "*"}


ALARMS = "arn:aws:cloudwatch:us-east-1:1:alarm"
RULE = "arn:aws:events:us-east-1:1:rule/changes"
CHANGE = {"source": ["aws.cloudwatch"], "detail-type": ["CloudWatch Alarm State Change"]}


@pytest.mark.parametrize(
    ("pattern", "rules", "unclear"),
    [
        (CHANGE, (RULE,), []),
        ({**CHANGE, "resources": [{"prefix": f"{ALARMS}:p-"}], "account": ["1"]}, (RULE,), []),
        ({**CHANGE, "detail": {"alarmName": [{"wildcard": "p-*-high"}]}}, (RULE,), []),
        ({**CHANGE, "detail": {"state": {"value": [{"anything-but": ["OK"]}]}}}, (RULE,), []),
        ({**CHANGE, "detail": {"state": {"value": ["OK"]}}}, (), []),
        ({**CHANGE, "detail": {"muteDetail": [{"exists": False}]}}, (RULE,), []),
        ({**CHANGE, "detail": {"configuration": {"metrics": {}}}}, (), [f"the pattern of {RULE}"]),
        ({**CHANGE, "detail": [{"prefix": "p-"}]}, (), [f"the pattern of {RULE}"]),
        ({"source": ["aws.ec2"]}, (), []),
    ],
)
def test_event_rule_notifies_of_alarms_without_an_action(
    pattern: dict[str, Any], rules: tuple[str, ...], unclear: list[str]
) -> None:
    account, client = scripted(
        list_rule_names_by_target=lambda **_: {"RuleNames": ["changes"]},
        describe_rule=lambda Name: {"Arn": RULE, "State": "ENABLED", "EventPattern": json.dumps(pattern)},
    )
    quiet, loud = routed(account, [alarm(actions=()), alarm(name="p-x")], TOPIC)
    assert (quiet.routed, quiet.unclear, bool(quiet.silent(TOPIC))) == (rules, unclear, not rules)
    assert not loud.routed
    assert client.asked[0] == ("list_rule_names_by_target", {"TargetArn": TOPIC_ARN})


@pytest.mark.parametrize("name", ["p-api-cpu-high", "p-any"])
def test_one_rule_for_an_alarm_or_for_a_composite_alarm_is_enough(name: str) -> None:
    pattern = json.dumps({**CHANGE, "detail": {"alarmName": [name]}})
    account, _ = scripted(
        list_rule_names_by_target=lambda **_: {"RuleNames": ["changes"]},
        describe_rule=lambda Name: {"Arn": RULE, "State": "ENABLED", "EventPattern": pattern},
    )
    arn = f"{ALARMS}:p-any"
    above = CompositeAlarm(name="p-any", state="OK", arn=arn, enabled=True, actions=(), rule="ALARM(x)")
    (found,) = routed(account, [alarm(actions=(), through=(above,))], TOPIC)
    assert (found.routed, found.silent(TOPIC)) == ((RULE,), [])


def test_event_rules_are_read_only_for_silent_alarms_and_may_be_closed_to_the_runner() -> None:
    account, _ = scripted(list_rule_names_by_target=raising("AccessDeniedException"))
    assert routed(account, [alarm()], TOPIC) == [alarm()]
    (found,) = routed(account, [alarm(enabled=False)], TOPIC)
    assert "events:ListRuleNamesByTarget" in found.unclear[0]


NO_ALARM = "its policy does not allow alarms to publish"
DENIED = "its policy denies alarms permission to publish"


@pytest.mark.parametrize(
    ("statements", "closed"),
    [
        ([allowing("*")], ""),
        ([allowing({"AWS": "*"}, Condition={"StringEquals": {"AWS:SourceOwner": "1"}})], ""),
        ([allowing({"Service": ["events.amazonaws.com", "cloudwatch.amazonaws.com"]})], ""),
        (allowing({"AWS": "arn:aws:iam::1:root"}, Action=["sns:*"]), ""),
        ([allowing("*"), allowing("*", Effect="Deny", Condition={"Bool": {"aws:x": "false"}})], ""),
        ([allowing("*"), allowing("*", Effect="Deny")], DENIED),
        ([allowing("*"), barring({"Service": "cloudwatch.amazonaws.com"})], ""),
        ([allowing("*"), barring({"AWS": ["arn:aws:iam::1:role/ops"]})], DENIED),
        ([allowing({"Service": "events.amazonaws.com"})], NO_ALARM),
        ([allowing({"AWS": "arn:aws:iam::2:root"})], NO_ALARM),
        ([allowing("*", Action="sns:Subscribe")], NO_ALARM),
        ([allowing("*", Resource="arn:aws:sns:us-east-1:1:other")], NO_ALARM),
        ([allowing("*", Resource="arn:aws:sns:us-east-1:1:p-*")], ""),
        ([allowing("*", Condition={"StringEquals": {"aws:SourceAccount": ["1", "2"]}})], ""),
        ([allowing("*", Condition={"StringEquals": {"aws:SourceAccount": 1}})], ""),
        ([allowing("*", Condition={"StringEquals": {"aws:SourceAccount": "${aws:ResourceAccount}"}})], ""),
        (allowing({"AWS": "arn:aws-us-gov:iam::1:root"}), ""),
        ([allowing("*", Condition={"StringEquals": {"aws:SourceAccount": "2"}})], NO_ALARM),
        ([allowing("*", Condition={"ArnLike": {"aws:SourceArn": f"{ALARMS}:p-*"}})], ""),
        ([allowing("*", Condition={"ArnLike": {"AWS:SourceArn": f"{ALARMS}:q-*"}})], NO_ALARM),
        ([allowing("*", Condition={"StringEquals": {"aws:SourceOrgID": "o-1"}})], ""),
        ([allowing("*", Condition={"StringNotEquals": {"aws:SourceAccount": "2"}})], ""),
        ([allowing("*", Condition={"StringNotEquals": {"aws:SourceAccount": "1"}})], NO_ALARM),
        ([allowing("*", Condition={"StringEquals": {"aws:SourceArn": f"{ALARMS}:p-*"}})], NO_ALARM),
        ([allowing("*", Condition={"IpAddress": {"aws:VpcSourceIp": "10.0.0.0/16"}})], NO_ALARM),
        ([allowing("*", Condition={"NotIpAddress": {"aws:VpcSourceIp": "10.0.0.0/16"}})], ""),
        ([allowing("*", Condition={"IpAddressIfExists": {"aws:VpcSourceIp": "10.0.0.0/16"}})], ""),
        ([allowing("*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/16"}})], ""),  # not understood
        ([allowing("*", Condition={"StringEquals": {"aws:SourceVpc": "vpc-1"}})], NO_ALARM),
        ([allowing("*", Condition={"Null": {"aws:SourceVpc": "true"}})], ""),
        ([allowing("*", Condition={"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}})], NO_ALARM),
        ([allowing("*", Condition={"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}})], ""),
        (
            [
                allowing("*"),
                allowing("*", Effect="Deny", Condition={"StringNotEquals": {"aws:SourceAccount": "2"}}),
            ],
            DENIED,
        ),
        (
            [
                allowing("*"),
                allowing("*", Effect="Deny", Condition={"StringNotEquals": {"aws:SourceAccount": "1"}}),
            ],
            "",
        ),
    ],
)
def test_a_topic_is_open_to_alarms(statements: Any, closed: str) -> None:
    policy = json.dumps({"Statement": statements})
    topic = {"TopicArn": "arn:aws:sns:us-east-1:1:p-alerts", "Policy": policy}
    assert closed_to_alarms(topic, [f"{ALARMS}:p-api-cpu-high"]) == closed


KEY = "arn:aws:kms:us-east-1:1:key/0a"
ROOT = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::1:root"}, "Action": "kms:*", "Resource": "*"}


def encrypting(principal: Any, **more: Any) -> dict[str, Any]:
    return allowing(principal, Action=["kms:Decrypt", "kms:GenerateDataKey*"], **more)


@pytest.mark.parametrize(
    ("metadata", "statements", "closed"),
    [
        ({}, [ROOT, encrypting({"Service": ["s3.amazonaws.com", "cloudwatch.amazonaws.com"]})], ""),
        (
            {"KeyState": "Enabled"},
            encrypting("*", Condition={"StringEquals": {"kms:CallerAccount": "1"}}),
            "",
        ),
        ({}, [ROOT], "does not let CloudWatch use it"),  # CloudWatch is not one of the account's roles
        ({}, [ROOT, encrypting({"Service": "events.amazonaws.com"})], "does not let CloudWatch use it"),
        ({}, [encrypting("*"), encrypting("*", Effect="Deny")], "does not let CloudWatch use it"),
        ({}, [encrypting("*", Condition={"StringEquals": {"aws:SourceAccount": "2"}})], "does not let"),
        ({}, [encrypting("*", Condition={"StringEquals": {"aws:SourceAccount": "1"}})], ""),
        ({"KeyState": "PendingDeletion"}, [encrypting("*")], f"its key {KEY} is PendingDeletion"),
        ({"KeyManager": "AWS"}, [encrypting("*")], "AWS's own, which CloudWatch"),
    ],
)
def test_a_customer_managed_key_must_admit_alarms(metadata: Any, statements: Any, closed: str) -> None:
    policy = json.dumps({"Statement": statements})
    account, _ = scripted(
        describe_key=lambda **_: {"KeyMetadata": {"Arn": KEY, **metadata}},
        get_key_policy=lambda **_: {"Policy": policy},
    )
    why = key_closed(account, "alias/alerts", TOPIC_ARN, [f"{ALARMS}:p-api-cpu-high"], CLOUDWATCH)
    assert closed in why
    assert bool(why) is bool(closed)


def test_a_key_that_is_gone_a_key_of_another_account_and_no_key() -> None:
    gone, _ = scripted(describe_key=raising("NotFoundException"))
    assert key_closed(gone, KEY, TOPIC_ARN, [], CLOUDWATCH) == f"its key {KEY} does not exist"
    assert key_closed(gone, "", TOPIC_ARN, [], CLOUDWATCH) == ""
    theirs, _ = scripted(
        describe_key=lambda **_: {"KeyMetadata": {"Arn": KEY}}, get_key_policy=raising("NotFoundException")
    )
    hidden, _ = scripted(describe_key=raising("AccessDeniedException"))
    for account in (theirs, hidden):
        with pytest.raises(SetupError, match="not examined: the policy of the key"):
            key_closed(account, KEY, "arn:aws:sns:us-east-1:2:p-alerts", [], CLOUDWATCH)


def test_the_default_key_closes_a_topic() -> None:
    assert "alias/aws/sns" in closed_to_alarms({"KmsMasterKeyId": "alias/aws/sns"})
    assert closed_to_alarms({"KmsMasterKeyId": "alias/own"}) == closed_to_alarms({}) == ""


def test_pending_and_deleted_subscriptions_are_not_confirmed() -> None:
    subscriptions = [("arn:aws:sns:x", "https"), ("PendingConfirmation", "email"), ("Deleted", "sms")]
    listed = [{"SubscriptionArn": arn, "Protocol": protocol} for arn, protocol in subscriptions]
    account, _ = scripted(
        list_subscriptions_by_topic=lambda **_: {"Subscriptions": listed},
        get_subscription_attributes=lambda **_: {"Attributes": {}},
    )
    assert read_subscriptions(account, TOPIC_ARN) == Subscriptions(("https",), ("email",), (), ())


@pytest.mark.parametrize(
    ("attributes", "where"),
    [
        ({"FilterPolicy": "{}"}, "confirmed"),
        ({"FilterPolicy": '{"team": ["x"]}'}, "filtered"),
        ({"FilterPolicy": '{"team": ["x"]}', "FilterPolicyScope": "MessageAttributes"}, "filtered"),
        ({"FilterPolicy": '{"Region": ["x"]}', "FilterPolicyScope": "MessageBody"}, "unread"),
    ],
)
def test_a_subscription_with_a_filter_may_take_no_alarm(attributes: dict[str, str], where: str) -> None:
    listed = [{"SubscriptionArn": "arn:aws:sns:x", "Protocol": "https"}]
    account, _ = scripted(
        list_subscriptions_by_topic=lambda **_: {"Subscriptions": listed},
        get_subscription_attributes=lambda **_: {"Attributes": attributes},
    )
    found = read_subscriptions(account, TOPIC_ARN)
    assert getattr(found, where)[0].startswith("https")
    assert len(found.confirmed + found.filtered + found.unread) == 1


BODY = "MessageBody"
#: An alarm on the CPU of the API.
CPU = alarm_of({"AlarmName": "p-api-cpu-high", "AlarmArn": f"{ALARMS}:p-api-cpu-high", "StateValue": "OK",
                "Namespace": "AWS/ECS", "MetricName": "CPUUtilization"})  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "scope", "takes"),
    [
        ({"team": [{"exists": False}]}, "MessageAttributes", True),
        ({"team": [{"exists": False}], "x": ["y"]}, "MessageAttributes", False),
        ({"$or": [{"team": ["x"]}, {"y": ["z"]}]}, "MessageAttributes", False),
        ({"$or": [{"team": ["x"]}, {"y": [{"exists": False}]}]}, "MessageAttributes", True),
        ({"NewStateValue": ["ALARM", "OK"]}, BODY, True),
        ({"NewStateValue": ["OK"]}, BODY, False),
        ({"NewStateValue": ["OK"], "Region": [{"prefix": "US"}]}, BODY, False),
        ({"NewStateValue": [{"anything-but": "OK"}]}, BODY, True),
        ({"NewStateValue": [{"anything-but": ["OK", "ALARM"]}]}, BODY, False),
        ({"NewStateValue": ["ALARM"], "AlarmName": [{"prefix": "p-"}]}, BODY, True),
        ({"AlarmName": [{"prefix": "q-"}, {"suffix": "-cpu-high"}]}, BODY, True),
        ({"AlarmName": [{"prefix": "q-"}]}, BODY, False),
        ({"AlarmName": [{"anything-but": {"prefix": "p-"}}]}, BODY, False),
        ({"AlarmName": [{"wildcard": "p-*-cpu-*"}]}, BODY, True),
        ({"AlarmName": [{"equals-ignore-case": "P-API-CPU-HIGH"}]}, BODY, True),
        ({"AlarmName": [{"of-tomorrow": "x"}]}, BODY, None),
        ({"AWSAccountId": ["2"]}, BODY, False),
        ({"severity": ["critical"]}, BODY, False),  # no alarm says that
        ({"severity": [{"exists": False}]}, BODY, True),
        ({"Region": [{"prefix": "US"}]}, BODY, None),
        ({"AlarmArn": [{"prefix": "arn:aws:cloudwatch:us-east-1:1:alarm:p-"}]}, BODY, True),
        ({"AlarmArn": [{"prefix": "arn:aws:cloudwatch:eu-west-1:"}]}, BODY, False),
        ({"Trigger": {"Namespace": ["AWS/ECS"]}}, BODY, True),
        ({"Trigger": {"Namespace": ["AWS/RDS"], "MetricName": [{"exists": True}]}}, BODY, False),
        ({"Trigger": {"MetricName": [{"exists": True}]}}, BODY, True),
        ({"Trigger": {"Metrics": [{"exists": True}]}}, BODY, False),
        ({"Trigger": {"Threshold": [{"numeric": [">", 0]}]}}, BODY, None),
        ({"detail": {"state": ["ALARM"]}}, BODY, False),  # what EventBridge says
    ],
)
def test_what_a_filter_lets_through(policy: dict[str, Any], scope: str, takes: bool | None) -> None:
    attributes = {"FilterPolicy": json.dumps(policy), "FilterPolicyScope": scope}
    assert takes_alarm(attributes, CPU, TOPIC_ARN) is takes
    unread = takes is False and scope == BODY  # what an event rule sends is not known
    assert takes_alarm(attributes, CPU, TOPIC_ARN, events=True) is (None if unread else takes)


def test_the_trigger_of_an_alarm_on_queries_is_not_known() -> None:
    wanted = json.dumps({"Trigger": {"Namespace": ["AWS/ECS"]}})
    attributes = {"FilterPolicy": wanted, "FilterPolicyScope": BODY}
    assert takes_alarm(attributes, replace(CPU, flat=False), TOPIC_ARN) is None


def subscribed(attributes: list[dict[str, Any]], endpoint: str = "", **answers: Any) -> AwsAccount:
    """An account with a subscription for each of these attributes."""
    listed = [
        {"SubscriptionArn": f"arn:aws:sns:{number}", "Protocol": "p", "Endpoint": endpoint}
        for number in range(len(attributes))
    ]
    account, _ = scripted(
        list_subscriptions_by_topic=lambda **_: {"Subscriptions": listed},
        get_subscription_attributes=lambda SubscriptionArn: {
            "Attributes": attributes[int(SubscriptionArn.rpartition(":")[2])]
        },
        **answers,
    )
    return account


def test_a_filter_on_what_an_event_rule_sends_is_not_examined() -> None:
    policy = json.dumps({"detail-type": ["CloudWatch Alarm State Change"]})
    account = subscribed([{"FilterPolicy": policy, "FilterPolicyScope": BODY}])
    found = read_subscriptions(account, TOPIC_ARN, alarms={}, events=True)
    assert (found.filtered, found.unread) == ((), ("p",))


def named(*prefixes: str) -> dict[str, str]:
    wanted = {"AlarmName": [{"prefix": each} for each in prefixes]}
    return {"FilterPolicy": json.dumps(wanted), "FilterPolicyScope": BODY}


@pytest.mark.parametrize(
    ("attributes", "dropped"),
    [
        ([named("p-api")], ("p-finn-cpu",)),
        ([named("p-api"), named("p-finn")], ()),
        ([named("p-api"), {}], ()),
        ([named("p-api"), {"PendingConfirmation": "true"}], ("p-finn-cpu",)),
        ([named("p-page")], ()),  # the composite alarm that goes off with both
    ],
)
def test_an_alarm_that_every_filter_drops_notifies_no_one(attributes: Any, dropped: tuple[str, ...]) -> None:
    api, finn, page = (replace(CPU, name=name) for name in ("p-api-cpu", "p-finn-cpu", "p-page"))
    alarms = {"p-api-cpu": [api, page], "p-finn-cpu": [finn] if dropped else [finn, page]}
    found = read_subscriptions(subscribed(attributes), TOPIC_ARN, alarms=alarms)
    assert found.dropped == dropped
    assert len(found.pending) == sum("PendingConfirmation" in each for each in attributes)


FUNCTION = "arn:aws:lambda:us-east-1:1:function:page"
CALLS = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"},
         "Action": "lambda:InvokeFunction", "Resource": FUNCTION}  # fmt: skip


def called_for(topic: str) -> str:
    return json.dumps({"Statement": {**CALLS, "Condition": {"ArnLike": {"AWS:SourceArn": topic}}}})


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"get_function_configuration": raising("ResourceNotFoundException")}, "does not exist"),
        ({"get_function_configuration": lambda **_: {"State": "Failed"}}, "failed"),
        ({"get_function_configuration": lambda **_: {"State": "Inactive"}}, ""),  # a call wakes it
        ({"get_function_concurrency": lambda **_: {"ReservedConcurrentExecutions": 0}}, "limit of 0"),
        ({"get_function_concurrency": lambda **_: {"ReservedConcurrentExecutions": 5}}, ""),
        ({"get_policy": raising("ResourceNotFoundException")}, "does not let SNS call it"),
        ({"get_policy": lambda **_: {"Policy": called_for(f"{TOPIC_ARN}-old")}}, "does not let SNS call it"),
        ({"get_policy": lambda **_: {"Policy": called_for(TOPIC_ARN)}}, ""),
    ],
)
def test_a_function_that_is_not_called_takes_nothing(changed: Any, why: str) -> None:
    answers = {
        "get_function_configuration": lambda **_: {"State": "Active"},
        "get_function_concurrency": lambda **_: {},
        "get_policy": lambda **_: {"Policy": json.dumps({"Statement": CALLS})},
    }
    found = read_subscriptions(subscribed([{}], FUNCTION, **{**answers, **changed}), TOPIC_ARN)
    assert bool(found.confirmed) is not bool(why)
    assert why in "".join(found.lost)


def test_what_this_runner_may_not_read_of_a_subscription_is_unread() -> None:
    denied = raising("AccessDeniedException")
    found = read_subscriptions(subscribed([{}], FUNCTION, get_function_configuration=denied), TOPIC_ARN)
    assert (found.confirmed, found.lost) == ((), ())
    assert "lambda:GetFunctionConfiguration" in found.unread[0]


@pytest.mark.parametrize(
    ("endpoint", "raw", "lost"),
    [
        ("https://global.sns-api.chatbot.amazonaws.com/", "true", True),
        ("https://events.pagerduty.com/integration/x/enqueue", "true", True),
        ("https://global.sns-api.chatbot.amazonaws.com/", "false", False),
        ("https://hooks.example.com/pagerduty.com/", "true", False),  # it may read raw messages
    ],
)
def test_who_reads_no_raw_messages_takes_none(endpoint: str, raw: str, lost: bool) -> None:
    found = read_subscriptions(subscribed([{"RawMessageDelivery": raw}], endpoint), TOPIC_ARN)
    assert bool(found.lost) is lost


SENDS = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:*", "Resource": "*"}
QUEUE_ARN = "arn:aws:sqs:us-east-1:1:on-call"


@pytest.mark.parametrize(
    ("statement", "open_to_it"),
    [
        (SENDS, True),
        ([{**SENDS, "Resource": QUEUE_ARN, "Action": ["SQS:SendMessage"]}], True),
        ({**SENDS, "Principal": "*", "Condition": {"ArnEquals": {"aws:SourceArn": TOPIC_ARN}}}, True),
        ({**SENDS, "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:sns:*:1:p-*"}}}, True),
        ({**SENDS, "Condition": {"StringEquals": {"aws:SourceAccount": "1"}}}, True),
        ({**SENDS, "Condition": {"ArnEquals": {"aws:SourceArn": f"{TOPIC_ARN}-old"}}}, False),
        ({**SENDS, "Principal": {"AWS": "arn:aws:iam::1:root"}}, False),
        ({**SENDS, "Action": "sqs:ReceiveMessage"}, False),
        ([SENDS, {**SENDS, "Effect": "Deny", "Principal": "*"}], False),
        ({**SENDS, "Principal": {"Service": "sns.us-east-1.amazonaws.com"}}, True),
        ({**SENDS, "Principal": {"Service": ["sns.eu-west-1.amazonaws.com"]}}, False),
        ({**SENDS, "Condition": {"StringEquals": {"aws:SourceArn": "arn:aws:sns:*:1:p-*"}}}, False),
        ({**SENDS, "Condition": {"StringEquals": {"aws:SourceVpce": "vpce-1"}}}, False),
        ({**SENDS, "Condition": {"StringEqualsIfExists": {"aws:SourceVpce": "vpce-1"}}}, True),
        ([], False),
    ],
)
def test_a_queue_lets_a_topic_in_by_its_policy(statement: Any, open_to_it: bool) -> None:
    assert lets_in(json.dumps({"Statement": statement}), TOPIC_ARN, QUEUE_ARN) is open_to_it
    assert not lets_in("", TOPIC_ARN, QUEUE_ARN)


@pytest.mark.parametrize(
    ("endpoint", "lost"),
    [
        ("arn:aws:sqs:us-east-1:1:on-call", False),
        ("arn:aws:sqs:us-east-1:1:gone", True),
        ("arn:aws:sqs:us-east-1:1:p-readiness-drill-0a1b", True),
        ("arn:aws:sqs:us-east-1:2:gone", False),  # another account's is not examined
        ("arn:aws:sqs:eu-west-1:1:gone", False),
        ("https://events.pagerduty.com/integration/x/enqueue", False),
        ("https://global.sns-api.chatbot.amazonaws.com", False),
    ],
)
def test_a_queue_that_is_gone_takes_nothing(endpoint: str, lost: bool) -> None:
    def get_queue_url(**asked: str) -> dict[str, Any]:
        if asked["QueueName"] == "gone":
            raise refusal("AWS.SimpleQueueService.NonExistentQueue")
        return {"QueueUrl": "u"}

    listed = [{"SubscriptionArn": "arn:aws:sns:x", "Protocol": "p", "Endpoint": endpoint}]
    account, _ = scripted(
        list_subscriptions_by_topic=lambda **_: {"Subscriptions": listed},
        get_subscription_attributes=lambda **_: {"Attributes": {}},
        get_queue_url=get_queue_url,
        get_queue_attributes=lambda **_: {"Attributes": {"Policy": json.dumps({"Statement": SENDS})}},
    )
    found = read_subscriptions(account, TOPIC_ARN, "p-readiness-drill")
    assert found.confirmed == (() if lost else ("p",))
    assert bool(found.lost) is lost


@pytest.mark.parametrize(
    ("state", "lost"), [("ACTIVE", False), ("CREATING", False), ("DELETING", True), (None, True)]
)
def test_a_stream_of_firehose_takes_messages(state: str | None, lost: bool) -> None:
    stream = "arn:aws:firehose:us-east-1:1:deliverystream/alerts"
    told = {"DeliveryStreamDescription": {"DeliveryStreamStatus": state}}
    answer = raising("ResourceNotFoundException") if state is None else lambda **_: told
    found = read_subscriptions(subscribed([{}], stream, describe_delivery_stream=answer), TOPIC_ARN)
    assert bool(found.lost) is lost
