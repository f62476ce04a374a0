"""Who is notified by alarms in Terraform: through enabled actions, composite alarms, topics."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from smoke.source import rules
from smoke.source.checkout import Examined
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.references import choices, declared, entries, items, referenced
from smoke.source.terraform.values import (
    Value,
    boolean,
    decoded,
    flat,
    hidden,
    is_known,
    known_text,
    options,
    text,
)

from .resource_policies import SNS, TOPIC, allows_sender, is_for, publishing, unlocked

#: Actions that are ARNs of services that notify nobody.
_ACTS = re.compile(r"arn:[^:]*:(?:autoscaling|automate|swf)[:.]")
ALARM, COMPOSITE = "aws_cloudwatch_metric_alarm", "aws_cloudwatch_composite_alarm"


@dataclass(slots=True)
class Judged:
    """Mistakes of an alarm, and parts that are not understood."""

    wrong: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


class Recipients:
    """Who is notified by the alarms of a configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._topics: dict[str, Judged] = {}

    def of(self, alarm: Resource) -> Judged:
        """What keeps an alarm from notifying anyone, including its topics."""
        judged, topics = self.actions(alarm)
        # one topic with a subscriber is enough
        reached = [self.topic(topic, alarm) for topic in topics]
        if topics and not any(not each.wrong and not each.unclear for each in reached):
            judged.wrong += reached[0].wrong if all(each.wrong for each in reached) else []
            judged.unclear += [why for each in reached for why in each.unclear]
        return judged

    def actions(self, alarm: Resource, *below: Resource) -> tuple[Judged, list[Resource]]:
        """What is wrong with the actions of an alarm, and the topics of the configuration among them.

        An alarm may also notify through a composite alarm that fires whenever it does; `below` are those with
        which this one fires.
        """
        own, topics = self._actions(alarm)
        if not own.wrong:
            return own, topics
        unread = []
        for each in self._configuration.of_type(COMPOSITE):
            rule, references = text(each.attribute("alarm_rule")), _references(alarm)
            try:
                follows = rules.goes_off_with(rule, references)
            except rules.RuleUnread:
                if "${" in rule or any(reference in rule for reference in references):
                    unread.append(f"whether {each.address} fires with {alarm.address}: {rule}")
                continue
            if follows and each not in (alarm, *below):
                judged, through = self.actions(each, alarm, *below)
                if not judged.wrong:
                    return Judged([], own.unclear + judged.unclear), through
        unread += [f"whether {rule} forwards {alarm.address}" for rule in self._events()]
        return (Judged([], own.unclear + unread) if unread else own), topics

    def _events(self) -> list[str]:
        """The EventBridge rules that forward alarms' state changes to a target."""
        by_rule = [
            each.attribute("rule") for each in self._configuration.of_type("aws_cloudwatch_event_target")
        ]
        targets = [rule for rule in by_rule if rule is not None]
        return [
            rule.address
            for rule in self._configuration.of_type("aws_cloudwatch_event_rule")
            for name in [text(rule.attribute("name"))]
            if "aws.cloudwatch" in text(rule.attribute("event_pattern"))
            if any(referenced(each) is rule or text(each) == name for each in targets)
        ]

    def _actions(self, alarm: Resource) -> tuple[Judged, list[Resource]]:
        judged = _switched(alarm)
        topics: list[Resource] = []
        others = False
        alternatives = options(alarm.attribute("alarm_actions"))
        each_listed = [[each for each in items(one) if flat(each).content != ""] for one in alternatives]
        if not any(each_listed):
            judged.wrong.append("it has no action")
        elif not all(each_listed):
            judged.unclear.append(f"whether {alarm.address} has an action: a value from outside decides")
        for option, listed in zip(alternatives, each_listed, strict=True):
            for each in listed:
                resource = referenced(each) or self._named(each)
                if refused := _refused(each, resource):
                    sure = len(alternatives) == len(choices(option)) == 1
                    may = f"whether {alarm.address} has an action: {refused}"
                    (judged.wrong if sure else judged.unclear).append(refused if sure else may)
                elif resource is not None and resource.type == TOPIC and resource.block.type == "resource":
                    topics.append(resource)
                elif (
                    ":sns:" in text(each)
                    or hidden(each)
                    or (resource is not None and (resource.type == TOPIC or resource.block.type == "data"))
                ):
                    what = hidden(each) or f"{text(each)} is not in the files"
                    judged.unclear.append(f"who is notified by {alarm.address}: {what}")
                elif not _only_acts(each):
                    others = True
        if not (judged.wrong or judged.unclear or topics or others):
            judged.wrong.append("its actions only scale or repair something; they notify nobody")
        return judged, [] if others else topics

    def _named(self, value: Value) -> Resource | None:
        """The topic of the configuration that an ARN names."""
        written = text(value)
        if not written.startswith("arn:") or ":sns:" not in written:
            return None
        name = written.rpartition(":")[2]
        topics = self._configuration.of_type(TOPIC)
        return next((topic for topic in topics if text(topic.attribute("name")) == name), None)

    def topic(self, topic: Resource, alarm: Resource) -> Judged:
        """What keeps a topic from delivering an alarm."""
        if topic.address not in self._topics:
            self._topics[topic.address] = self._judge(topic)
        judged, (wrong, unread) = self._topics[topic.address], publishing(self._configuration, topic, alarm)
        here, there = (self._configuration.region(each) for each in (alarm, topic))
        if here and there and here != there:
            wrong = f"{topic.address} is in {there}, where alarms of {here} cannot publish"
        return Judged([*filter(None, [wrong]), *judged.wrong], [*filter(None, [unread]), *judged.unclear])

    def _judge(self, topic: Resource) -> Judged:
        judged = Judged()
        subscribed, lost = False, ""
        for each in self._configuration.resources:
            if each.type not in _SUBSCRIBERS or not self._concerns(each, topic):
                continue
            endpoint = each.attribute("endpoint")
            if each.type == "aws_sns_topic_subscription" and text(endpoint) == "":
                continue
            shut_out, unread = self._shut_out(each, topic)
            judged.unclear.extend(unread)
            if shut_out:
                lost = shut_out
                continue
            judged.unclear.extend(_doubts(each, topic))
            takes = _takes_alarms(each)
            if takes is False:
                body = text(each.attribute("filter_policy_scope")) == "MessageBody"
                why = "for other states" if body else "by attributes, but the message of an alarm has none"
                lost = f"{each.address} filters {why}"
                continue
            if takes is None:
                judged.unclear.append(f"which messages the filter of {each.address} lets through")
            subscribed = True
        if lost and not subscribed:
            judged.wrong.append(lost)
        elif not subscribed:
            receivers = self._configuration.receivers(topic)
            if receivers:
                judged.unclear.append(f"whether {receivers[0]} subscribes to {topic.address}")
            else:
                judged.wrong.append(f"{topic.address} has no subscription")
        return judged

    def _shut_out(self, subscription: Resource, topic: Resource) -> tuple[str, list[str]]:
        """What keeps SNS from a subscription's function or queue, and what cannot be read."""
        queue = declared(subscription.attribute("endpoint"), "aws_sqs_queue")
        if queue is None:
            return self._uninvited(subscription), []
        if wrong := unlocked(self._configuration, queue):
            return wrong, []
        own = queue.attribute("policy")
        documents = [own] if own is not None else []
        others = any(each.type in _ELSEWHERE for each in self._configuration.resources)
        for each in self._configuration.of_type("aws_sqs_queue_policy"):
            of, policy = each.attribute("queue_url"), each.attribute("policy")
            if of is None or policy is None or referenced(of) is not queue:
                others = others or of is None or bool(hidden(of) and referenced(of) is None)
                continue
            if each.uncertain:
                return "", [f"whether there is {each.address}: {each.uncertain}"]
            documents.append(policy)
        for document in documents[-1:]:
            said = allows_sender(document, ("sqs:sendmessage",), topic, accounts=False, sender=SNS)
            if said in ("denied", "not allowed"):
                return f"the policy of {queue.address} does not let {topic.address} send", []
            return "", [f"whether {topic.address} may send to {queue.address}: {said}"] if said else []
        if documents or others or queue.ignores("policy") or self._configuration.receivers(queue):
            return "", []
        return f"{queue.address} has no policy, so SNS may not send to it", []

    def _uninvited(self, subscription: Resource) -> str:
        """A subscription's function that SNS may not call, because the files give no permission."""
        function = declared(subscription.attribute("endpoint"), "aws_lambda_function")
        if function is None:
            return ""
        name = function.attribute("function_name")
        for each in self._configuration.of_type("aws_lambda_permission"):
            of, whom = each.attribute("function_name"), text(each.attribute("principal"))
            if whom.endswith(".amazonaws.com") and whom != SNS:
                continue
            if of is None or name is None or hidden(of) or referenced(of) is function:
                return ""
            if text(name) in text(of):
                return ""
        others = (each.type in _ELSEWHERE for each in self._configuration.resources)
        if self._configuration.receivers(function) or any(others):
            return ""
        return f"{function.address} has no aws_lambda_permission, so SNS may not call it"

    def _concerns(self, subscriber: Resource, topic: Resource) -> bool:
        values = (subscriber.attribute(name) for name in _SUBSCRIBERS[subscriber.type])
        return any(is_for(topic, each) for value in values for each in items(value))


def _doubts(subscriber: Resource, topic: Resource) -> Iterator[str]:
    """What the files leave open about a subscriber: its existence, and the content of a stack's template."""
    if subscriber.uncertain:
        yield f"whether there is {subscriber.address}: {subscriber.uncertain}"
    if subscriber.type == STACK and not _SUBSCRIBES.search(text(subscriber.attribute("template_body"))):
        yield f"whether {subscriber.address} subscribes to {topic.address}"


def _takes_alarms(subscription: Resource) -> bool | None:
    """Whether a subscription's filter lets alarms through; None if the files do not say."""
    policy = subscription.attribute("filter_policy")
    if policy is None or text(policy) in ("", "{}"):
        return True
    by_body = text(subscription.attribute("filter_policy_scope")) == "MessageBody"
    if not by_body:
        return False if is_known(policy) else None  # an alarm's message has no attributes
    asked = entries(decoded(policy))
    wanted = [*items(asked.get(_STATE))]
    states = [text(each) for each in wanted if is_known(each) and isinstance(each.content, str)]
    if not states or len(states) < len(wanted):
        return None
    return (True if len(asked) == 1 else None) if _ALARMED in states else False


#: The state in the message of a firing alarm.
_STATE, _ALARMED = "NewStateValue", "ALARM"


def _only_acts(action: Value) -> bool:
    """Whether an action scales or repairs something, and notifies no one."""
    resource = referenced(action)
    if resource is not None:
        return resource.type.endswith("autoscaling_policy")
    return _ACTS.match(text(action)) is not None


#: Resources that no alarm can name, though they receive notifications or keep logs.
_NO_ACTIONS = (
    "aws_sqs_queue",
    "aws_sns_topic_subscription",
    "aws_cloudwatch_log_group",
    "aws_kinesis_stream",
)


def _refused(action: Value, resource: Resource | None) -> str:
    """Why CloudWatch refuses an action: it is not of a kind that alarms can start, or not an ARN."""
    if resource is not None and resource.type in _NO_ACTIONS:
        return f"CloudWatch refuses its action {resource.address}, which is not a topic"
    written = known_text(action)
    plain = re.fullmatch(r"[\w-]+", written) is not None
    return f"CloudWatch refuses its action {written}, which is not an ARN" if plain else ""


def _references(alarm: Resource) -> set[str]:
    """The texts with which a composite alarm's rule may name an alarm."""
    name = alarm.attribute("alarm_name")
    return {text(name) or alarm.address, "${" + alarm.address + ".arn}", "${" + alarm.address + ".id}"}


def _switched(alarm: Resource) -> Judged:
    """Whether an alarm exists and its actions are enabled."""
    judged = Judged()
    for option in options(alarm.attribute("actions_enabled")):
        if boolean(option) is False:
            judged.wrong.append("its actions are disabled")
        elif boolean(option) is None:
            judged.unclear.append(f"whether its actions are on: {hidden(option) or text(option)}")
    if alarm.uncertain:
        judged.unclear.append(f"whether there is {alarm.address}: {alarm.uncertain}")
    return judged


#: Resources that create subscribers from a template, and what these are called in it.
STACK = "aws_cloudformation_stack"
#: Resources in another language that may let SNS call a function, or send to a queue.
_ELSEWHERE = {"aws_cloudformation_stack", "awscc_lambda_permission", "awscc_sqs_queue_policy",
              "awscc_sqs_queue_inline_policy", "null_resource", "terraform_data"}  # fmt: skip
_SUBSCRIBES = re.compile(r"AWS::(?:SNS::Subscription|Chatbot::)")
#: Resources that forward a topic's notifications, and the attributes that name the topic.
_SUBSCRIBERS = {
    "aws_sns_topic_subscription": ("topic_arn",),
    "aws_chatbot_slack_channel_configuration": ("sns_topic_arns",),
    "aws_chatbot_teams_channel_configuration": ("sns_topic_arns",),
    "awscc_chatbot_slack_channel_configuration": ("sns_topic_arns",),
    "awscc_chatbot_microsoft_teams_channel_configuration": ("sns_topic_arns",),
    STACK: ("template_body", "parameters"),
}


def notified(configuration: Configuration) -> Examined:
    """Return the alarms that notify no one, and the topics without a subscriber: a finding for each."""
    recipients, result = Recipients(configuration), Examined()
    users: dict[str, tuple[Resource, list[Resource]]] = {}
    for alarm in configuration.of_type(ALARM):
        listed = [each for each in items(alarm.attribute("alarm_actions")) if flat(each).content != ""]
        if listed and all(map(_only_acts, listed)):
            continue  # it need not notify anyone
        judged, topics = recipients.actions(alarm)
        result.findings.extend(
            alarm.finding(f"the alarm {alarm.title}: {why}", alarm.attribute("alarm_actions"))
            for why in judged.wrong
        )
        result.not_examined.extend(alarm.finding(why) for why in judged.unclear)
        for topic in topics:
            users.setdefault(topic.address, (topic, []))[1].append(alarm)
    for topic, alarms in users.values():
        wrong = defaultdict[str, list[Resource]](list)
        unclear = dict[str, None]()
        for alarm in alarms:
            judged = recipients.topic(topic, alarm)
            unclear |= dict.fromkeys(judged.unclear)
            for why in judged.wrong:
                wrong[why].append(alarm)
        for why, those in wrong.items():
            who = f"{len(those)} alarms notify" if those[1:] else f"the alarm {those[0].title} notifies"
            result.findings.append(topic.finding(f"{why}; {who} it"))
        result.not_examined.extend(map(topic.finding, unclear))
    result.findings.extend(
        alarm.finding(f"the alarm {alarm.title} does not exist: {_number_of(alarm)}")
        for alarm in configuration.absent(ALARM)
        if not _for_the_absent(alarm, configuration)
    )
    return result


def _number_of(alarm: Resource) -> str:
    name = "count" if "count" in alarm.block.attributes else "for_each"
    return f"{name} = {alarm.block.attributes[name].text}"


def _for_the_absent(alarm: Resource, configuration: Configuration) -> bool:
    """Whether the thing that an alarm watches is also optional."""
    bodies = [alarm.block]
    for body in bodies:  # grows: blocks in blocks, such as a metric in a `dynamic` query
        bodies += body.blocks
    written = " ".join(expr.text for body in bodies for expr in body.attributes.values())
    absent = [each for module in configuration.modules for each in module.absent]
    return any(f"{each.type}.{each.block.labels[1]}" in written for each in absent if each.type != ALARM)
