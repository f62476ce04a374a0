"""The alarms' topic: whether alarms may publish to it, and whether its subscriptions receive them."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from pytest_readiness import SetupError

from smoke.source.access import Context, Statements, covers, met, permitted
from smoke.source.rules import all_of, any_of

from .account import AwsAccount, at_once
from .alarms import ALARM, MetricAlarm, Notifier
from .names import Names
from .policies import NO_NETWORK, Key, read_key, role_of, statements_of

PENDING = "PendingConfirmation"
CLOUDWATCH, EVENTS, _SNS = (f"{name}.amazonaws.com" for name in ("cloudwatch", "events", "sns"))
_SAID = {CLOUDWATCH: "CloudWatch", EVENTS: "EventBridge", _SNS: "SNS"}
#: Placeholder for the alarms that notify a topic, if they do not matter.
_ANYONE = Notifier("", "", "", enabled=True, actions=())
_ANY: Mapping[str, Sequence[Notifier]] = MappingProxyType({"": [_ANYONE]})


def topic_arn(account: AwsAccount, names: Names) -> str:
    """The ARN of the topic that alarms notify; AssertionError if there is none."""
    topics = [str(each["TopicArn"]) for each in account.pages("sns", "list_topics", "Topics")]
    found = [arn for arn in topics if arn.rpartition(":")[2] == names.topic]
    assert found, f"no topic {names.topic}: the alarms notify nobody"
    return found[0]


def read_topic(account: AwsAccount, arn: str) -> Mapping[str, str]:
    """The attributes of a topic."""
    attributes: Mapping[str, str] = account.ask("sns", "get_topic_attributes", TopicArn=arn)["Attributes"]
    return attributes


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """The subscriptions of a topic by protocol; the `confirmed` ones receive alarms.

    The `pending` were never confirmed, the `filtered` receive no alarm's message; the `lost` and the `unread`
    say why. `dropped` are alarms that no subscription receives.
    """

    confirmed: tuple[str, ...]
    pending: tuple[str, ...]
    filtered: tuple[str, ...]
    unread: tuple[str, ...]
    lost: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def read_subscriptions(
    account: AwsAccount, arn: str, drill: str = "", alarms: Mapping[str, Sequence[Notifier]] = _ANY,
    *, events: bool = False,
) -> Subscriptions:  # fmt: skip
    """The topic's subscriptions, and whether they receive its alarms; queues of drills begin with `drill`.

    `alarms` has, for each alarm, those that notify for it: itself, and composite alarms that fire with it.
    With `events`, only event rules notify the topic.
    """
    described = account.pages("sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=arn)
    listed = [each for each in described if each["SubscriptionArn"].startswith("arn:")]
    attributes = at_once(
        lambda each: account.ask(
            "sns", "get_subscription_attributes", SubscriptionArn=each["SubscriptionArn"]
        )["Attributes"],
        listed,
    )
    pending = [each["Protocol"] for each in described if each["SubscriptionArn"] == PENDING]
    pending += [each["Protocol"] for each, details in zip(listed, attributes, strict=True) if _waits(details)]
    pairs = [pair for pair in zip(listed, attributes, strict=True) if not _waits(pair[1])]
    ends = at_once(lambda pair: _end(account, arn, pair[0].get("Endpoint", ""), drill, pair[1]), pairs)
    kept: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    senders = {each.name: each for through in alarms.values() for each in through} or {"": _ANYONE}
    taken: dict[str, bool | None] = {}
    for (each, details), end in zip(pairs, ends, strict=True):
        protocol = each["Protocol"]
        takes = {name: takes_alarm(details, by, arn, events=events) for name, by in senders.items()}
        if end.lost:
            continue
        if end.unread:
            takes = {name: found and None for name, found in takes.items()}
            kept[None].append(f"{protocol}: {end.unread}")
        else:
            kept[any_of({*takes.values()})].append(protocol)
        taken = {name: any_of((taken.get(name, False), found)) for name, found in takes.items()}
    return Subscriptions(
        confirmed=tuple(kept[True]),
        pending=tuple(pending),
        filtered=tuple(kept[False]),
        unread=tuple(kept[None]),
        lost=tuple(f"{each['Protocol']}: {end.lost}" for (each, _), end in zip(pairs, ends, strict=True)
                   if end.lost),
        dropped=tuple(alarm for alarm, through in alarms.items()
                      if through and not any(taken.get(by.name) is not False for by in through)),
    )  # fmt: skip


def _waits(attributes: Mapping[str, str]) -> bool:
    """Whether a subscription awaits its confirmation, although it already has an ARN."""
    return attributes.get("PendingConfirmation") == "true"


def read_endpoints(account: AwsAccount, arn: str) -> list[str]:
    """The endpoint of each subscription of a topic."""
    described = account.pages("sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=arn)
    return [each.get("Endpoint", "") for each in described]


#: Members of an alarm's message; some values are known.
_BODY = dict.fromkeys(
    (
        *("AlarmName", "AlarmDescription", "AWSAccountId", "AlarmConfigurationUpdatedTimestamp", "AlarmArn"),
        *("NewStateValue", "NewStateReason", "StateChangeTime", "Region", "OldStateValue", "OKActions"),
        *("AlarmActions", "InsufficientDataActions", "Trigger", "AlarmRule", "TriggeringChildren"),
    )
)


#: Members of the trigger in a metric alarm's message; an alarm on queries has them in another form.
_TRIGGER = dict.fromkeys(
    (
        *("MetricName", "Namespace", "StatisticType", "Statistic", "Unit", "Dimensions", "Period"),
        *("EvaluationPeriods", "DatapointsToAlarm", "ComparisonOperator", "Threshold", "TreatMissingData"),
        "EvaluateLowSampleCountPercentile",
    )
)


def _trigger(alarm: Notifier) -> Mapping[str, Any] | None:
    """The trigger in an alarm's message; None if its form is not known."""
    if not isinstance(alarm, MetricAlarm) or not alarm.flat:
        return None
    (metric,) = alarm.metrics
    return {**_TRIGGER, "MetricName": metric.name, "Namespace": metric.namespace}


def takes_alarm(
    attributes: Mapping[str, str], alarm: Notifier, topic: str, *, events: bool = False
) -> bool | None:
    """Whether a subscription with these attributes lets an alarm's message through; None if unclear.

    The message has no attributes, and only part of its body is known in advance. With `events`, an event rule
    sends it, with any body.
    """
    wanted = json.loads(attributes.get("FilterPolicy") or "{}")
    if attributes.get("FilterPolicyScope", "MessageAttributes") == "MessageAttributes":
        return _fits(wanted, {})
    named = {"AlarmName": alarm.name or None, "AlarmArn": alarm.arn or None, "Trigger": _trigger(alarm)}
    known = {**named, "NewStateValue": ALARM, "AWSAccountId": topic.split(":")[4]}
    found = _fits(wanted, {**_BODY, **known})
    return None if events and found is False else found


def _fits(policy: Mapping[str, Any], message: Mapping[str, Any]) -> bool | None:
    """Whether a message matches a filter policy or event pattern; None if unknown parts of it decide."""
    found = [
        any_of([_fits(each, message) for each in wanted])
        if key == "$or"
        else any_of([_is(each, key in message, message.get(key)) for each in wanted])
        if isinstance(wanted, list)
        else None  # the inside of this part is not known
        if key in message and not isinstance(message[key], Mapping)
        else _fits(wanted, message.get(key) or {})
        for key, wanted in policy.items()
    ]
    return all_of(found)


def _is(wanted: Any, there: bool, value: Any) -> bool | None:
    """Whether a value meets one condition of a filter policy; None for one that is no text."""
    how, of = next(iter(wanted.items())) if isinstance(wanted, dict) and wanted else ("", wanted)
    if how == "exists":
        return bool(of) is there
    if not there:
        return False
    if not isinstance(value, str):
        return None
    if how == "anything-but":
        found = any_of([_is(each, there, value) for each in (of if isinstance(of, list) else [of])])
        return None if found is None else not found
    if how == "wildcard":
        return fnmatchcase(value, str(of).replace("[", "[[]").replace("?", "[?]"))
    if how in ("prefix", "suffix") and isinstance(of, str):
        return value.startswith(of) if how == "prefix" else value.endswith(of)
    if how == "equals-ignore-case":
        return value.lower() == str(of).lower()
    return value == of if not how else None


def routed(account: AwsAccount, alarms: Sequence[MetricAlarm], topic: str) -> list[MetricAlarm]:
    """The alarms, silent ones with the event rules that notify the topic of this name for them."""
    silent = {each.name: each for each in alarms if each.silent(topic)}
    if not silent:
        return [*alarms]
    to = next(iter(silent.values())).topic(topic)
    try:
        rules = _rules_to(account, to)
    except SetupError as problem:
        return [replace(each, unseen=str(problem)) if each.name in silent else each for each in alarms]
    found = []
    for each in alarms:
        events = [_event(one) for one in (each, *each.through)]
        sent = {
            rule["Arn"]: any_of([_fits(json.loads(rule["EventPattern"]), event) for event in events])
            for rule in rules
        }
        sure = tuple(arn for arn, fits in sent.items() if fits)
        unclear = [f"the pattern of {arn}" for arn, fits in sent.items() if fits is None and not sure]
        sent_by = replace(each, routed=sure, unseen=" and ".join(unclear))
        found.append(sent_by if each.name in silent else each)
    return found


def _rules_to(account: AwsAccount, topic: str) -> list[Mapping[str, Any]]:
    """The enabled rules of EventBridge that send events to a topic."""
    names = account.pages(
        "events", "list_rule_names_by_target", "RuleNames", absent=_UNKNOWN, TargetArn=topic
    )
    found = at_once(lambda name: account.find("events", "describe_rule", _NO_FUNCTION, Name=name), names)
    return [each for each in found if each and each.get("EventPattern") and each["State"] != "DISABLED"]


#: The answer of a custom endpoint that does not implement it.
_UNKNOWN = ("InvalidAction", "UnknownOperationException")


def _event(alarm: Notifier) -> Mapping[str, Any]:
    """The event that EventBridge gets when an alarm fires; None for parts that only the event knows."""
    _, _, _, region, account, *_ = [*alarm.arn.split(":"), *[""] * 5]
    state = {"value": ALARM, "reason": None, "reasonData": None, "timestamp": None}
    detail = {"alarmName": alarm.name, "state": state, "previousState": None, "configuration": None}
    known = {"source": "aws.cloudwatch", "detail-type": "CloudWatch Alarm State Change"}
    own = {"account": account, "region": region, "resources": alarm.arn, "detail": detail}
    return {**known, **own, "id": None, "time": None, "version": "0"}


@dataclass(frozen=True, slots=True)
class _End:
    """The endpoint of a subscription: why nothing arrives there, and what cannot be read."""

    lost: str = ""
    unread: str = ""


#: Subscribers that need SNS's envelope around CloudWatch's message.
_WRAPPED = re.compile(r"https://(?:[\w.-]+\.)?(?:chatbot\.amazonaws\.com|pagerduty\.com|opsgenie\.com)/")


def _end(account: AwsAccount, topic: str, endpoint: str, drill: str, attributes: Mapping[str, str]) -> _End:
    """What happens to a message at an endpoint; other accounts' queues and functions count as open."""
    if attributes.get("RawMessageDelivery") == "true" and _WRAPPED.match(endpoint):
        return _End(f"{endpoint} does not accept raw messages")
    _, _, service, *place = [*endpoint.split(":"), "", "", ""]
    if place[:2] != topic.split(":")[3:5] or service not in (*_ENDS, "firehose"):
        return _End()
    name, role = endpoint.split(":", 5)[5], attributes.get("SubscriptionRoleArn", "")
    if service == "sqs" and drill and name.startswith(f"{drill}-"):
        return _End("its queue belongs to a drill")
    try:
        if service == "firehose":
            gone = role.split(":")[4:5] == place[1:2] and role_of(account, role) is None
            lost = f"{endpoint} is written to as {role}, which does not exist" if gone else ""
            return _End(lost or _lost_stream(account, endpoint))
        return _End(_ENDS[service](account, topic, endpoint))
    except SetupError as problem:
        return _End(unread=str(problem))


def _lost_stream(account: AwsAccount, stream: str) -> str:
    """Why a Firehose stream takes no messages."""
    found = account.find(
        "firehose", "describe_delivery_stream", _NO_FUNCTION, DeliveryStreamName=stream.rpartition("/")[2]
    )
    state = "gone" if found is None else found["DeliveryStreamDescription"]["DeliveryStreamStatus"]
    return f"{stream} is {state}" if state in ("gone", "DELETING", "CREATING_FAILED") else ""


_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


def _lost_queue(account: AwsAccount, topic: str, queue: str) -> str:
    """Why a queue does not receive the topic's messages."""
    found = account.find("sqs", "get_queue_url", _NO_QUEUE, QueueName=queue.rpartition(":")[2])
    if found is None:
        return f"{queue} does not exist"
    answer = account.find(
        "sqs",
        "get_queue_attributes",
        _NO_QUEUE,
        QueueUrl=found["QueueUrl"],
        AttributeNames=["Policy", "KmsMasterKeyId"],
    )
    attributes = (answer or {}).get("Attributes", {})
    if not lets_in(attributes.get("Policy", ""), topic, queue):
        return f"the policy of {queue} does not let the topic send"
    key = attributes.get("KmsMasterKeyId", "")
    if key.endswith("alias/aws/sqs"):
        return f"{queue} is encrypted with alias/aws/sqs, a key that SNS may not use"
    why = key_closed(account, key, topic, [topic], _SNS)
    return f"{queue}: {why}" if why else ""


_NO_FUNCTION = ("ResourceNotFoundException",)


def _lost_function(account: AwsAccount, topic: str, function: str) -> str:
    """Why a Lambda function does not receive the topic's messages."""
    arn, _, qualifier = function.partition(":function:")[2].partition(":")
    of = {"FunctionName": arn, **({"Qualifier": qualifier} if qualifier else {})}
    answer = account.find("lambda", "get_function_configuration", _NO_FUNCTION, **of)
    if answer is None:
        return f"{function} does not exist"
    if answer.get("State") == "Failed":
        return f"{function} failed: {answer.get('StateReason', 'no reason is given')}"
    least = account.find("lambda", "get_function_concurrency", _NO_FUNCTION, FunctionName=arn)
    if least is not None and least.get("ReservedConcurrentExecutions") == 0:
        return f"{function} has a concurrency limit of 0"
    found = account.find("lambda", "get_policy", _NO_FUNCTION, **of)
    policy = (found or {}).get("Policy", "")
    return "" if lets_in(policy, topic, function, _CALL) else f"{function} does not let SNS call it"


_ENDS: Mapping[str, Callable[[AwsAccount, str, str], str]] = {"sqs": _lost_queue, "lambda": _lost_function}


#: Why a topic accepts no alarms: it has the default key, whose policy admits no AWS service.
DEFAULT_KEY = "alias/aws/sns"


def closed_to_alarms(
    attributes: Mapping[str, str], sources: Sequence[str] = (), service: str = CLOUDWATCH
) -> str:
    """Why CloudWatch may not publish to a topic with these attributes; empty if nothing forbids it.

    A condition that its alarms, the `sources` (ARNs), do not decide counts as met in an Allow, and as unmet
    in a Deny. For EventBridge, they are its rules.
    """
    if attributes.get("KmsMasterKeyId", "").endswith(DEFAULT_KEY):
        return f"it is encrypted with {DEFAULT_KEY}, a key that {_SAID[service]} may not use"
    if not attributes.get("Policy"):
        return ""
    topic = attributes.get("TopicArn", "")
    account = topic.split(":")[4:5]
    publishing = _about(statements_of(attributes["Policy"]), "sns:Publish", (service, *account), topic)
    context = _sent_by(topic, sources)
    if any(each["Effect"] == "Deny" and met(each, context) for each in publishing):
        return f"its policy denies {_SENDERS[service]} permission to publish"
    allowed = permitted(publishing, context)
    return "" if allowed else f"its policy does not allow {_SENDERS[service]} to publish"


_SENDERS = {CLOUDWATCH: "alarms", EVENTS: "event rules"}


def _sent_by(owner: str, sources: Sequence[str]) -> Context:
    """The known context of a service's request for one of these resources of the owner's account."""
    account = owner.split(":")[4:5]
    known = {"aws:sourcearn": sources, "aws:sourceaccount": account, "aws:sourceowner": account}
    return {**NO_NETWORK, **{key: values for key, values in known.items() if values}}


def key_closed(account: AwsAccount, key: str, topic: str, sources: Sequence[str], service: str) -> str:
    """Why an AWS service may not encrypt with a key for these sources; empty if it may, or without a key.

    SetupError if the policy belongs to another account and cannot be read.
    """
    if not key:
        return ""
    who = _SAID[service]
    found = read_key(account, key, topic.split(":")[3:5])
    if found.unusable:
        return f"its key {found.arn} {found.unusable}"
    if found.is_awss:
        return f"its key {found.arn} is AWS's own, which {who} may not use"
    if found.policy is None:
        raise SetupError(f"not examined: the policy of the key {found.arn}, which is another account's")
    using = _about(found.policy, _ENCRYPT, (service,))
    if not permitted(using, _sent_by(topic, sources)):
        return f"the policy of its key {found.arn} does not let {who} use it"
    return ""


def closed_to_logs(key: Key, region: str) -> bool:
    """Whether the policy of a key does not let CloudWatch Logs use it; another account's is not read."""
    names = (f"logs.{region}.amazonaws.com", "logs.amazonaws.com")
    return key.policy is not None and not permitted(_about(key.policy, _ENCRYPT, names), {})


_SEND, _CALL = "sqs:SendMessage", "lambda:InvokeFunction"


def lets_in(policy: str, topic: str, to: str, action: str = _SEND) -> bool:
    """Whether a queue's or function's policy lets a topic send to it; without a policy, none may."""
    names = (_SNS, f"sns.{topic.split(':')[3]}.amazonaws.com")
    sending = _about(statements_of(policy), action, names, to)
    return permitted(sending, _sent_by(topic, [topic]))


_ENCRYPT = "kms:GenerateDataKey"


def _about(statements: Statements, action: str, names: Iterable[str], resource: str = "") -> Statements:
    """The statements about an action of an AWS service, on a resource if it is not a key's own policy."""
    return [
        each
        for each in statements
        if covers(each, "Action", action) and _concerns(each, names)
        if not resource or covers(each, "Resource", resource)
    ]


def _concerns(statement: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether a statement is about an AWS service by one of its names, or about its account."""
    key = "Principal" if "Principal" in statement else "NotPrincipal"
    principal = statement.get(key, {})
    named = principal if isinstance(principal, Mapping) else {"AWS": principal}
    found = [
        re.sub(r"^arn:[\w-]+:iam::(\d+):root$", r"\1", each)
        for value in named.values()
        for each in ([value] if isinstance(value, str) else value)
    ]
    return bool({"*", *names} & {*found}) == (key == "Principal")
