"""Whether a topic accepts alarms: what its policy and its key allow CloudWatch."""

import json
from typing import Any

import pytest

from smoke.source.infrastructure.notifications import notified
from tests.smoke.source.terraform_files import Read

ALARM = """
variable "unset" {}
data "aws_caller_identity" "me" {}
resource "aws_cloudwatch_metric_alarm" "a" {
  alarm_name    = "api-cpu"
  alarm_actions = [aws_sns_topic.t.arn]
}
resource "aws_sns_topic_subscription" "s" {
  topic_arn = aws_sns_topic.t.arn
  protocol  = "email"
  endpoint  = "a@example.org"
}
"""
CLOUDWATCH = {"Service": "cloudwatch.amazonaws.com"}
ALLOW = {"Effect": "Allow", "Principal": CLOUDWATCH, "Action": "sns:Publish", "Resource": "*"}
ME = "${data.aws_caller_identity.me.account_id}"
ROOT = {"AWS": f"arn:aws:iam::{ME}:root"}
INSECURE = {"Bool": {"aws:SecureTransport": "false"}}


def topic(attributes: str = "") -> str:
    return f'resource "aws_sns_topic" "t" {{\n  name = "alerts"\n{attributes}\n}}\n'


def said(read: Read, *parts: str) -> str:
    """What is found of the topic: "", a finding, or "? " and what is not examined."""
    found = notified(read(ALARM, *parts))
    lines = [each.what for each in found.findings] + [f"? {each.what}" for each in found.not_examined]
    assert len(lines) <= 1, lines
    return lines[0] if lines else ""


def document(*statements: dict[str, Any]) -> str:
    return f"jsonencode({json.dumps({'Version': '2012-10-17', 'Statement': list(statements)})})"


def allow(**changed: Any) -> dict[str, Any]:
    return {name: value for name, value in {**ALLOW, **changed}.items() if value is not None}


def deny(**changed: Any) -> dict[str, Any]:
    return allow(**{"Effect": "Deny", "Principal": "*", **changed})


def of(arn: str, test: str = "ArnLike") -> dict[str, Any]:
    return {test: {"aws:SourceArn": arn}}


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        ([allow()], ""),
        ([allow(Principal={"AWS": "*"}, Condition={"StringEquals": {"AWS:SourceOwner": ME}})], ""),
        (
            [allow(Principal={"AWS": "*"}, Condition={"StringEquals": {"AWS:SourceOwner": "222222222222"}})],
            "?",
        ),
        ([allow(Principal=ROOT)], ""),
        ([allow(Principal={"Service": "events.amazonaws.com"})], "does not allow alarms to publish"),
        ([allow(), deny()], "denies alarms permission to publish"),
        ([allow(), deny(Action="SNS:*")], "denies alarms permission to publish"),
        ([allow(), deny(Action="sns:Subscribe")], ""),
        ([allow(), deny(NotAction="sns:Publish", Action=None)], ""),
        ([allow(), deny(Principal={"Service": "events.amazonaws.com"})], ""),
        ([allow(), deny(Principal=None, NotPrincipal=CLOUDWATCH)], ""),
        ([allow(), deny(Principal=None, NotPrincipal=ROOT)], "denies alarms permission to publish"),
        ([allow(Principal=None, NotPrincipal={"Service": "events.amazonaws.com"})], ""),
        ([allow(), deny(Condition=INSECURE)], ""),
        (
            [allow(), deny(Condition={"Bool": {"aws:SecureTransport": "true"}})],
            "denies alarms permission to publish",
        ),
        ([allow(), deny(Condition={"StringNotEquals": {"aws:SourceAccount": ME}})], ""),
        ([allow(), deny(Condition={"StringNotEquals": {"aws:SourceAccount": "222222222222"}})], "?"),
        ([allow(), deny(Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})], "?"),
        ([allow(Condition={"StringEquals": {"aws:SourceAccount": ME}})], ""),
        ([allow(Condition={"StringEquals": {"aws:SourceAccount": "${var.unset}"}})], "?"),
        ([allow(Condition=of(f"arn:aws:cloudwatch:*:{ME}:alarm:*"))], ""),
        ([allow(Condition=of(f"arn:aws:cloudwatch:*:{ME}:*"))], ""),
        ([allow(Condition=of("arn:aws:cloudwatch:us-east-1:111111111111:alarm:api-*"))], ""),
        ([allow(Condition=of("arn:aws:cloudwatch:*:*:alarm:web-*"))], "does not allow alarms to publish"),
        ([allow(Condition=of("arn:aws:cloudwatch:*:*:alarm:${var.unset}-*"))], "?"),
        ([allow(Condition=of("arn:aws:s3:::uploads"))], "does not allow alarms to publish"),
        ([allow(Condition={"Null": {"aws:SourceArn": "false"}})], ""),
        ([allow(Condition={"Null": {"aws:SourceArn": "true"}})], "does not allow alarms to publish"),
        ([allow(Condition=["aws:SourceArn"])], "?"),
        ([allow(Effect="${var.unset}")], "?"),
        ([allow(Condition=of("${aws_cloudwatch_metric_alarm.a.arn}", "ArnEquals"))], ""),
        ([allow(Condition=of("${aws_sns_topic.t.arn}", "ArnEquals"))], "does not allow alarms to publish"),
        (
            [allow(), deny(Condition=of("arn:aws:cloudwatch:*:*:alarm:api-cpu"))],
            "denies alarms permission to publish",
        ),
        ([allow(), deny(Condition=of("arn:aws:cloudwatch:*:*:alarm:web-*"))], ""),
        ([allow(), deny(Principal="${var.unset}")], "?"),
    ],
)
def test_a_policy_lets_alarms_publish_or_is_found(
    read: Read, statements: list[dict[str, Any]], what: str
) -> None:
    written = f"  policy = {document(*statements)}"
    apart = f'resource "aws_sns_topic_policy" "p" {{\n  arn = aws_sns_topic.t.arn\n{written}\n}}\n'
    for parts in ([topic(written)], [topic(), apart]):
        found = said(read, *parts)
        assert (found[:1] == "?") == (what == "?")
        assert bool(found) == bool(what)
        assert what in found


def test_a_document_of_data_denies_by_its_conditions_and_principals(read: Read) -> None:
    written = """
data "aws_iam_policy_document" "d" {
  statement {
    actions   = ["sns:Publish"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }
  }
  statement {
    effect    = "Deny"
    actions   = ["sns:*"]
    resources = ["*"]
    PRINCIPALS {
      type        = "Service"
      identifiers = ["WHO"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["VALUE"]
    }
  }
}
"""
    for kind, who, value, what in [
        ("principals", "*", "false", ""),
        ("principals", "*", "true", "denies alarms permission to publish"),
        ("not_principals", "cloudwatch.amazonaws.com", "true", ""),
        ("not_principals", "events.amazonaws.com", "true", "denies alarms permission to publish"),
    ]:
        text = written.replace("PRINCIPALS", kind).replace("WHO", who).replace("VALUE", value)
        found = said(read, topic("  policy = data.aws_iam_policy_document.d.json"), text)
        assert (bool(found), what in found) == (bool(what), True)


KEY = """
resource "aws_kms_key" "k" { POLICY }
resource "aws_kms_alias" "k" {
  name          = "alias/alerts"
  target_key_id = aws_kms_key.k.key_id
}
data "aws_kms_alias" "sns" { name = "alias/aws/sns" }
data "aws_kms_key" "other" { key_id = "alias/other" }
"""
USE = {**ALLOW, "Action": ["kms:Decrypt", "kms:GenerateDataKey*"]}
OWNER = {**ALLOW, "Principal": ROOT, "Action": "kms:*"}
MAY_NOT = "encrypted with aws_kms_key.k, which CloudWatch may not use"


@pytest.mark.parametrize(
    "key",
    [
        "aws_kms_key.k.arn",
        "aws_kms_key.k.id",
        "aws_kms_alias.k.arn",
        "aws_kms_alias.k.name",
        '"alias/alerts"',
    ],
)
@pytest.mark.parametrize(
    ("statements", "what"),
    [
        ([OWNER, USE], ""),
        ([OWNER, {**USE, "Action": "kms:*"}], ""),
        ([OWNER], MAY_NOT),
        ([OWNER, {**USE, "Principal": {"Service": "sns.amazonaws.com"}}], MAY_NOT),
        ([OWNER, {**USE, "Action": "kms:Decrypt"}], MAY_NOT),
        ([OWNER, USE, {**USE, "Effect": "Deny", "Principal": "*"}], MAY_NOT),
        ([OWNER, {**USE, "Condition": {"StringEquals": {"kms:ViaService": "sns"}}}], "? whether the policy"),
        ([OWNER, {**USE, "Principal": "${var.unset}"}], "? whether the policy"),
        (None, MAY_NOT),
    ],
)
def test_a_key_of_the_files_lets_alarms_publish_or_is_found(
    read: Read, key: str, statements: list[dict[str, Any]] | None, what: str
) -> None:
    policy = "" if statements is None else f"\n  policy = {document(*statements)}\n"
    found = said(read, topic(f"  kms_master_key_id = {key}"), KEY.replace("POLICY", policy))
    assert (bool(found), what in found) == (bool(what), True)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ('"alias/aws/sns"', "SNS's own key"),
        ("data.aws_kms_alias.sns.arn", "SNS's own key"),
        ('"arn:aws:kms:us-east-1:111111111111:alias/aws/sns"', "SNS's own key"),
        ('var.unset ? "alias/aws/sns" : ""', "SNS's own key"),
        ("null", ""),
        ('""', ""),
        ("var.unset", "? whether the key of"),
        ('"alias/elsewhere"', "? whether the key of"),
        ("data.aws_kms_key.other.arn", "? whether the key of"),
    ],
)
def test_other_keys_of_a_topic(read: Read, key: str, what: str) -> None:
    found = said(read, topic(f"  kms_master_key_id = {key}"), KEY.replace("POLICY", ""))
    assert (bool(found), what in found) == (bool(what), True)


def test_the_policy_of_a_key_may_stand_by_itself(read: Read) -> None:
    policy = f"  key_id = aws_kms_key.k.id\n  policy = {document(OWNER, USE)}\n"
    by_itself = f'resource "aws_kms_key_policy" "p" {{\n{policy}}}'
    key = KEY.replace("POLICY", "")
    assert said(read, topic("  kms_master_key_id = aws_kms_key.k.arn"), key, by_itself) == ""


FUNCTION = 'resource "aws_lambda_function" "pager" { function_name = "pager" }\n'
CALLED = """
resource "aws_lambda_permission" "sns" {
  action        = "lambda:InvokeFunction"
  function_name = NAME
  principal     = "PRINCIPAL"
}
"""


def called(name: str, principal: str = "sns.amazonaws.com") -> str:
    """A permission to call a function."""
    return CALLED.replace("NAME", name).replace("PRINCIPAL", principal)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (FUNCTION + called("aws_lambda_function.pager.function_name"), ""),
        (FUNCTION + called('"pager"'), ""),
        (FUNCTION + called("var.unset"), ""),
        (FUNCTION.replace("resource", "data"), ""),
        (FUNCTION + 'resource "awscc_lambda_permission" "sns" { function_name = "pager" }', ""),
        (FUNCTION + 'module "m" {\n  source = "acme/x/aws"\n  of = aws_lambda_function.pager.arn\n}', ""),
        (FUNCTION + called('"other"'), "aws_lambda_function.pager has no aws_lambda_permission"),
        (FUNCTION + called('"pager"', "events.amazonaws.com"), "aws_lambda_function.pager has no"),
        (FUNCTION, "aws_lambda_function.pager has no aws_lambda_permission, so SNS may not call it"),
    ],
)
def test_a_function_that_is_to_be_notified_may_be_called(read: Read, more: str, what: str) -> None:
    of = "data.aws_lambda_function" if more.startswith("data") else "aws_lambda_function"
    alarm = ALARM.replace('"email"', '"lambda"').replace('"a@example.org"', f"{of}.pager.arn")
    found = [each.what for each in notified(read(alarm, topic(), more)).findings]
    assert [what in each for each in found] == [True] * bool(what), found


SENDER = "sns.amazonaws.com"
QUEUE = """
resource "aws_sqs_queue" "pager" { name = "pager" }
resource "aws_sqs_queue_policy" "pager" {
  queue_url = aws_sqs_queue.pager.id
  policy    = POLICY
}
"""


def sent(**changed: Any) -> str:
    """The policy of a queue with one statement."""
    return document(allow(**{"Principal": {"Service": SENDER}, "Action": "sqs:SendMessage", **changed}))


@pytest.mark.parametrize(
    ("policy", "what"),
    [
        (sent(), ""),
        (sent(Principal="*", Action="SQS:*"), ""),
        (sent(Condition=of("${aws_sns_topic.t.arn}")), ""),
        (sent(Condition=of("arn:aws:sns:us-east-1:123456789012:alerts", "ArnEquals")), ""),
        (sent(Condition=of("arn:aws:sns:*:*:*")), ""),
        ("var.unset", "? whether aws_sns_topic.t may send to aws_sqs_queue.pager"),
        (
            sent(Condition=of("arn:aws:sns:us-east-1:123456789012:other", "ArnEquals")),
            "does not let aws_sns_topic.t send",
        ),
        (sent(Condition=of("${aws_sns_topic.other.arn}")), "does not let aws_sns_topic.t send"),
        (sent(Principal=CLOUDWATCH), "does not let aws_sns_topic.t send"),
        (sent(Action="sqs:ReceiveMessage"), "does not let aws_sns_topic.t send"),
    ],
)
def test_a_queue_takes_what_its_topic_sends(read: Read, policy: str, what: str) -> None:
    alarm = ALARM.replace('"email"', '"sqs"').replace('"a@example.org"', "aws_sqs_queue.pager.arn")
    other = 'resource "aws_sns_topic" "other" { name = "other" }\n'
    found = notified(read(alarm, topic(), other, QUEUE.replace("POLICY", policy)))
    lines = [each.what for each in found.findings] + [f"? {each.what}" for each in found.not_examined]
    assert [what in each for each in lines] == [True] * bool(what), lines


@pytest.mark.parametrize(
    ("beside", "what"),
    [
        ("", "aws_sqs_queue.pager has no policy, so SNS may not send to it"),
        ('resource "terraform_data" "by_hand" {}', ""),
        ('resource "aws_sqs_queue_policy" "p" {\n  queue_url = var.unset\n  policy = "{}"\n}', ""),
        ('module "queues" {\n  source = "git::https://example.org/m"\n  q = aws_sqs_queue.pager.url\n}', ""),
    ],
)
def test_a_queue_without_a_policy_takes_nothing(read: Read, beside: str, what: str) -> None:
    alarm = ALARM.replace('"email"', '"sqs"').replace('"a@example.org"', "aws_sqs_queue.pager.arn")
    found = notified(read(alarm, topic(), 'resource "aws_sqs_queue" "pager" { name = "pager" }', beside))
    assert [what in each.what for each in found.findings] == [True] * bool(what), found


def test_a_policy_that_may_not_be_there_is_not_judged(read: Read) -> None:
    alarm = ALARM.replace('"email"', '"sqs"').replace('"a@example.org"', "aws_sqs_queue.pager.arn")
    queue = QUEUE.replace("POLICY", sent(Principal=CLOUDWATCH))
    found = notified(read(alarm, topic(), queue.replace("queue_url", "count = var.unset\n  queue_url")))
    assert not found.findings
    assert "whether there is aws_sqs_queue_policy.pager" in found.not_examined[0].what


LOCK = 'resource "aws_kms_key" "k" {\n  policy = POLICY\n}\n'


def used(sender: str) -> str:
    """A key that a service may use."""
    return LOCK.replace("POLICY", document(allow(Principal={"Service": sender}, Action="kms:*")))


@pytest.mark.parametrize(
    ("key", "more", "what"),
    [
        ("null", "", ""),
        ('"alias/ours"', "", ""),
        ('"alias/aws/sqs"', "", "with SQS's own key, which does not allow SNS to send"),
        ("aws_kms_key.k.arn", used(SENDER), ""),
        ("aws_kms_key.k.arn", used("cloudwatch.amazonaws.com"), "with aws_kms_key.k, which SNS may not use"),
        ("aws_kms_key.k.arn", 'resource "aws_kms_key" "k" {}', "with aws_kms_key.k, which SNS may not use"),
    ],
)
def test_a_queue_is_encrypted_with_a_key_that_its_topic_may_use(
    read: Read, key: str, more: str, what: str
) -> None:
    alarm = ALARM.replace('"email"', '"sqs"').replace('"a@example.org"', "aws_sqs_queue.pager.arn")
    queue = QUEUE.replace("POLICY", sent())
    queue = queue.replace('{ name = "pager" }', f'{{\n  name = "pager"\n  kms_master_key_id = {key}\n}}')
    found = notified(read(alarm, topic(), more, queue))
    assert [what in each.what for each in found.findings] == [True] * bool(what), found


@pytest.mark.parametrize(
    ("scope", "policy", "what"),
    [
        ("MessageBody", '{ NewStateValue = ["ALARM", "OK"] }', ""),
        (
            "MessageBody",
            '{ NewStateValue = ["OK"] }',
            "aws_sns_topic_subscription.s filters for other states",
        ),
        ("MessageBody", '{ NewStateValue = ["ALARM"], Region = ["EU"] }', "? which messages the filter"),
        ("MessageBody", "{ Region = var.unset }", "? which messages the filter"),
        ("MessageBody", '{ NewStateValue = [{ "anything-but" = ["OK"] }] }', "? which messages the filter"),
        ("MessageBody", '{ NewStateValue = ["OK", { prefix = "ALA" }] }', "? which messages the filter"),
        ("MessageAttributes", '{ NewStateValue = ["ALARM"] }', "filters by attributes"),
    ],
)
def test_a_filter_lets_alarms_through(read: Read, scope: str, policy: str, what: str) -> None:
    filtered = f'filter_policy_scope = "{scope}"\n  filter_policy = jsonencode({policy})\n  endpoint'
    found = notified(read(ALARM.replace("endpoint", filtered), topic()))
    lines = [each.what for each in found.findings] + [f"? {each.what}" for each in found.not_examined]
    assert len(lines) == bool(what), lines
    assert what.lstrip("? ") in "".join(lines), lines


def test_a_topic_is_in_the_region_of_its_alarms(read: Read) -> None:
    providers = (
        'provider "aws" {\n  region = "us-east-1"\n}\nprovider "aws" {\n  alias = "w"\n  region = "%s"\n}\n'
    )
    elsewhere = topic("  provider = aws.w\n")
    assert not said(read, elsewhere, providers % "us-east-1")
    assert "is in us-west-2, where alarms of us-east-1 cannot" in said(
        read, elsewhere, providers % "us-west-2"
    )


@pytest.mark.parametrize(
    ("action", "what"),
    [
        ("aws_sqs_queue.q.arn", "CloudWatch refuses its action aws_sqs_queue.q, which is not a topic"),
        ('"alerts"', "CloudWatch refuses its action alerts, which is not an ARN"),
        ("aws_sns_topic.t.arn", ""),
    ],
)
def test_an_alarm_names_what_cloudwatch_can_start(read: Read, action: str, what: str) -> None:
    parts = 'resource "aws_sns_topic" "t" { name = "t" }\nresource "aws_sqs_queue" "q" { name = "q" }'
    said = [
        each.what
        for each in notified(read(ALARM.replace("aws_sns_topic.t.arn]", f"{action}]"), parts)).findings
    ]
    assert [what in each for each in said] == [True] * bool(what), said
