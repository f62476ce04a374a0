"""Topics: whether their policy and their key let alarms in."""

import json
from typing import Any

import pytest
from pytest_readiness import SetupError

from smoke.aws.policies import closed_to_alarms, key_closed_to_alarms
from tests.smoke.aws.fakes import raising, scripted


def allowing(principal: Any, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": "SNS:Publish", "Resource": "*"} | more


def barring(all_but: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "NotPrincipal": all_but, "Action": "SNS:*", "Resource": "*"}


ALARMS = "arn:aws:cloudwatch:us-east-1:1:alarm"
NO_ALARM = "its policy lets no alarm publish"


@pytest.mark.parametrize(
    ("statements", "closed"),
    [
        ([allowing("*")], ""),
        ([allowing({"AWS": "*"}, Condition={"StringEquals": {"AWS:SourceOwner": "1"}})], ""),
        ([allowing({"Service": ["events.amazonaws.com", "cloudwatch.amazonaws.com"]})], ""),
        (allowing({"AWS": "arn:aws:iam::1:root"}, Action=["sns:*"]), ""),
        ([allowing("*"), allowing("*", Effect="Deny", Condition={"Bool": {"aws:x": "false"}})], ""),
        ([allowing("*"), allowing("*", Effect="Deny")], "its policy denies publishing"),
        ([allowing("*"), barring({"Service": "cloudwatch.amazonaws.com"})], ""),
        ([allowing("*"), barring({"AWS": ["arn:aws:iam::1:role/ops"]})], "its policy denies publishing"),
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
        ({}, [ROOT], "does not let CloudWatch use it"),  # CloudWatch is none of the account's roles
        ({}, [ROOT, encrypting({"Service": "events.amazonaws.com"})], "does not let CloudWatch use it"),
        ({}, [encrypting("*"), encrypting("*", Effect="Deny")], "does not let CloudWatch use it"),
        ({"KeyState": "PendingDeletion"}, [encrypting("*")], f"its key {KEY} is PendingDeletion"),
        ({"KeyManager": "AWS"}, [encrypting("*")], "AWS's own for SNS"),
    ],
)
def test_a_key_of_ones_own_must_let_alarms_in(metadata: Any, statements: Any, closed: str) -> None:
    policy = json.dumps({"Statement": statements})
    account, _ = scripted(
        describe_key=lambda **_: {"KeyMetadata": {"Arn": KEY, **metadata}},
        get_key_policy=lambda **_: {"Policy": policy},
    )
    why = key_closed_to_alarms(account, "alias/alerts")
    assert closed in why
    assert bool(why) is bool(closed)


def test_a_key_that_is_gone_a_key_of_another_account_and_no_key() -> None:
    gone, _ = scripted(describe_key=raising("NotFoundException"))
    assert key_closed_to_alarms(gone, KEY) == f"its key {KEY} does not exist"
    assert key_closed_to_alarms(gone, "") == ""
    theirs, _ = scripted(
        describe_key=lambda **_: {"KeyMetadata": {"Arn": KEY}}, get_key_policy=raising("NotFoundException")
    )
    with pytest.raises(SetupError, match="not examined: the policy of the key"):
        key_closed_to_alarms(theirs, KEY)


def test_the_default_key_closes_a_topic() -> None:
    assert "alias/aws/sns" in closed_to_alarms({"KmsMasterKeyId": "alias/aws/sns"})
    assert closed_to_alarms({"KmsMasterKeyId": "alias/own"}) == closed_to_alarms({}) == ""
