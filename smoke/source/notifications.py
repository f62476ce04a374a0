"""Who is notified by alarms in Terraform: through actions that are on, composite alarms, topics.

A topic takes alarms where its policy and its key let CloudWatch in, which publishes as the service
cloudwatch.amazonaws.com, for an alarm of the topic's own account, and has SNS encrypt the message with the
topic's key in that name. What cannot be read is neither allowed nor denied.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from . import rules
from .checkout import Examined
from .iam import Statement, fits, names_action, statements
from .references import entries, items, referenced
from .terraform import Configuration, Resource
from .values import Value, boolean, flat, hidden, is_known, options, symbols, text

CLOUDWATCH, SNS = "cloudwatch.amazonaws.com", "sns.amazonaws.com"
#: What SNS asks of the key in the name of whoever publishes.
_KEY_ACTIONS = ("kms:decrypt", "kms:generatedatakey")
_ACCOUNT = re.compile(r"\d{12}|arn:[^:]*:iam::(?:\d{12}|\$\{.*\}):root|\$\{.*\.account_id\}")
_OWN_ACCOUNT = re.compile(r"\$\{(?:.*\.)?data\.aws_caller_identity\.[^}]*\.(?:account_id|id)\}")


def publishing(configuration: Configuration, topic: Resource, alarm: Resource | None) -> tuple[str, str]:
    """What keeps an alarm (None: any) from publishing to a topic, and what of that cannot be read."""
    wrong, unread = _by_key(configuration, topic)
    if wrong:
        return wrong, ""
    documents = [
        each.attribute("policy")
        for each in configuration.of_type("aws_sns_topic_policy")
        if any(any(symbol.resource is topic for symbol in symbols(arn)) or _names(topic, arn)
               for arn in items(each.attribute("arn")))
    ]  # fmt: skip
    own = topic.attribute("policy")
    for document in documents or ([own] if own is not None else []):
        said = _allowed(document, ("sns:publish",), alarm, accounts=True)
        if said == "denied":
            return f"the policy of {topic.address} denies alarms to publish", ""
        if said == "not allowed":
            return f"the policy of {topic.address} lets no alarm publish", ""
        if said:
            unread = unread or f"whether the policy of {topic.address} lets alarms publish: {said}"
    return "", unread


def _names(topic: Resource, arn: Value) -> bool:
    written, name = text(flat(arn)), text(topic.attribute("name"))
    return bool(name) and written.startswith("arn:") and written.endswith(f":{name}")


def _by_key(configuration: Configuration, topic: Resource) -> tuple[str, str]:
    """What keeps CloudWatch from the key of a topic, and what of that cannot be read."""
    for each in options(topic.attribute("kms_master_key_id") or Value(None, topic.at)):
        written, resource = text(flat(each)), referenced(each)
        if each.content is None or written == "":
            continue
        if resource is not None and resource.type == "aws_kms_alias" and resource.block.type == "data":
            written = text(resource.attribute("name"))
        if written.rpartition(":")[2] == "alias/aws/sns":
            what = "is encrypted with the key of SNS itself, which lets no alarm publish"
            return f"{topic.address} {what}", ""
        key = key_of(configuration, each)
        if key is None:
            what = hidden(each) or f"{written} is not in the files"
            return "", f"whether the key of {topic.address} lets alarms publish: {what}"
        documents = [key.attribute("policy"), *(
            other.attribute("policy") for other in configuration.of_type("aws_kms_key_policy")
            if referenced(other.attribute("key_id")) is key
        )]  # fmt: skip
        document = next((one for one in documents[::-1] if one is not None), None)
        said = "not allowed" if document is None else _allowed(document, _KEY_ACTIONS, None, accounts=False)
        if said in ("denied", "not allowed"):
            return f"{topic.address} is encrypted with {key.address}, which CloudWatch may not use", ""
        if said:
            return "", f"whether the policy of {key.address} lets alarms publish: {said}"
    return "", ""


def key_of(configuration: Configuration, value: Value) -> Resource | None:
    """The key that a value names, by a reference or an alias; None for one that is not in the files."""
    resource = referenced(value)
    if resource is None and text(flat(value)).rpartition(":")[2].startswith("alias/"):
        alias = text(flat(value)).rpartition(":")[2]
        resource = next(
            (
                each
                for each in configuration.of_type("aws_kms_alias")
                if text(each.attribute("name")) == alias
            ),
            None,
        )
    if resource is not None and resource.type == "aws_kms_alias":
        resource = referenced(resource.attribute("target_key_id"))
    if resource is None or resource.type != "aws_kms_key" or resource.block.type == "data":
        return None
    return resource


def _allowed(
    document: Value | None, actions: Iterable[str], source: Resource | None, *, accounts: bool,
    sender: str = CLOUDWATCH,
) -> str:  # fmt: skip
    """Whether a policy lets a `sender` do all of `actions`: "", "denied", "not allowed", or what is unread.

    `source` is the alarm, or the topic, that it acts for. `accounts`: an account's own alarms publish in its
    name, too.
    """
    why: list[str] = []
    found = list(statements(document, why))
    for action in actions:
        allowed: list[str | bool] = []
        for each in found:
            if not names_action(each.parts, action):
                continue
            effect = each.parts.get("Effect")
            if hidden(effect):
                why.append(f"Effect {text(effect)}")
                continue
            denies = text(effect).lower() == "deny"
            applies = _applies(each, source, accounts=accounts and not denies, sender=sender)
            if denies and applies is True:
                return "denied"
            if denies and applies:
                why.append(str(applies))
            elif not denies:
                allowed.append(applies)
        unread = [str(each) for each in allowed if each not in (True, False)]
        if True not in allowed:
            why += unread
            if not why:
                return "not allowed"
    return why[0] if why else ""


def _applies(statement: Statement, source: Resource | None, *, accounts: bool, sender: str) -> bool | str:
    """Whether a statement is about a sender that acts for a source; a text for what is unread."""
    key = "Principal" if "Principal" in statement.parts else "NotPrincipal"
    principal: bool | str = False
    for name in _principals(statement.parts.get(key)):
        written = text(flat(name))
        if written in ("*", sender) or (accounts and _ACCOUNT.fullmatch(written)):
            principal = True
            break
        if hidden(name) and not _ACCOUNT.fullmatch(written):
            principal = hidden(name)
    if key == "NotPrincipal":
        principal = not principal if isinstance(principal, bool) else principal
    if principal is False:
        return False
    held = [_holds(*each, source) for each in _conditions(statement.parts.get("Condition"))]
    if False in held:
        return False
    return next((each for each in [principal, *held] if each is not True), True)


def _principals(principal: Value | None) -> Iterator[Value]:
    """The names in a principal: of services and accounts, "*" for all."""
    named = entries(principal)
    for each in named.values() if named else [principal]:
        yield from items(each)


def _conditions(condition: Value | None) -> Iterator[tuple[str, str, list[Value]]]:
    """The test, the key, in lower case, and the values of each condition."""
    if condition is not None and not entries(condition):
        yield hidden(condition) or f"Condition {text(condition)}", "", []
    for test, keys in entries(condition).items():
        if not entries(keys):
            yield test, "", []
        for key, values in entries(keys).items():
            yield test, key.lower(), list(items(values))


def _holds(test: str, key: str, values: list[Value], source: Resource | None) -> bool | str:
    """Whether a condition holds where something is sent for a source; a text for what is unread."""
    name = re.sub(r"^ForA(?:ny|ll)Values:|IfExists$", "", test)
    negated = "Not" in name
    if name == "Null" and key in _ALWAYS_THERE and values:
        return all(text(flat(each)).lower() == "false" for each in values)
    said: list[bool | str] = []
    for each in values:
        written = text(flat(each))
        if key in ("aws:securetransport", "aws:principalisawsservice"):
            said.append(written.lower() == "true")
        elif key in ("aws:sourceaccount", "aws:sourceowner", "kms:calleraccount"):
            said.append(True if _OWN_ACCOUNT.search(written) else f"{key} {written}")
        elif key in ("aws:sourcearn", "aws:principalarn"):
            said.append(_is_of(each, written, source) if key == "aws:sourcearn" else f"{key} {written}")
        else:
            said.append(f"{test} {key}".strip())
    if not values:
        return f"{test} {key}".strip()
    if True in said:
        return not negated
    unread = [each for each in said if isinstance(each, str)]
    return unread[0] if unread else negated


#: Keys that are there whenever an alarm publishes.
_ALWAYS_THERE = ("aws:sourcearn", "aws:sourceaccount")
_ALARM_ARN = re.compile(
    r"arn:[^:]*:(?P<service>[^:]*):(?:\$\{[^}]*\}|[^:])*:(?:\$\{[^}]*\}|[^:])*:(?P<what>.*)"
)


def _is_of(value: Value, written: str, source: Resource | None) -> bool | str:
    """Whether aws:SourceArn, which is an alarm's ARN or a topic's, fits a value."""
    resource = referenced(value)
    if resource is not None:
        if source is not None and resource.type == source.type:
            return resource is source
        return False if resource.type.startswith("aws_") and "alarm" not in resource.type else written
    if written == "*":
        return True
    found = _ALARM_ARN.fullmatch(written)
    if found is None:
        return f"aws:SourceArn {written}"
    service, kind, called = "cloudwatch", "alarm:", "alarm_name"
    if source is not None and source.type == TOPIC:
        service, kind, called = "sns", "", "name"
    if "$" not in found["service"] and not fits(service, found["service"]):
        return False
    name = (text(source.attribute(called)) if source is not None else "") or "$"
    what = found["what"]
    if what in ("*", f"{kind}*"):
        return True
    if "$" in what + name:
        return f"aws:SourceArn {written}"
    return fits(f"{kind}{name}", what)


#: Actions that are ARNs of services which only act.
_ACTS = re.compile(r"arn:[^:]*:(?:autoscaling|automate|swf)[:.]")
ALARM, COMPOSITE = "aws_cloudwatch_metric_alarm", "aws_cloudwatch_composite_alarm"
TOPIC = "aws_sns_topic"


@dataclass(slots=True)
class Judged:
    """What is wrong with an alarm, and what of it is not understood."""

    wrong: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


class Recipients:
    """Who is notified by the alarms of a configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._topics: dict[str, Judged] = {}

    def of(self, alarm: Resource) -> Judged:
        """What keeps an alarm from notifying anyone, its topics included."""
        judged, topics = self.actions(alarm)
        # one topic with a subscriber is enough
        reached = [self.topic(topic, alarm) for topic in topics]
        if topics and not any(not each.wrong and not each.unclear for each in reached):
            judged.wrong += reached[0].wrong if all(each.wrong for each in reached) else []
            judged.unclear += [why for each in reached for why in each.unclear]
        return judged

    def actions(self, alarm: Resource, *below: Resource) -> tuple[Judged, list[Resource]]:
        """What is wrong with the actions of an alarm, and the topics of the configuration among them.

        An alarm may also notify through a composite alarm that goes off whenever it does; `below` are those
        that this one goes off with.
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
                    unread.append(f"whether {each.address} goes off with {alarm.address}: {rule}")
                continue
            if follows and each not in (alarm, *below):
                judged, through = self.actions(each, alarm, *below)
                if not judged.wrong:
                    return Judged([], own.unclear + judged.unclear), through
        unread += [f"whether {rule} forwards {alarm.address}" for rule in self._events()]
        return (Judged([], own.unclear + unread) if unread else own), topics

    def _events(self) -> list[str]:
        """The rules of EventBridge with a target that pass changes of alarms on."""
        targets = [
            rule
            for target in self._configuration.of_type("aws_cloudwatch_event_target")
            if (rule := target.attribute("rule")) is not None
        ]
        return [
            rule.address
            for rule in self._configuration.of_type("aws_cloudwatch_event_rule")
            if "aws.cloudwatch" in text(rule.attribute("event_pattern"))
            and any(
                referenced(each) is rule or text(each) == text(rule.attribute("name")) for each in targets
            )
        ]

    def _actions(self, alarm: Resource) -> tuple[Judged, list[Resource]]:
        judged = _switched(alarm)
        actions = alarm.attribute("alarm_actions")
        topics: list[Resource] = []
        others = False
        alternatives = options(actions) if actions is not None else []
        for option in alternatives:
            listed = [each for each in items(option) if flat(each).content != ""]
            if not listed:
                judged.wrong.append("it has no action" if len(alternatives) == 1 else "it may have no action")
            for each in listed:
                resource = referenced(each) or self._named(each)
                if resource is not None and resource.type == TOPIC and resource.block.type == "resource":
                    topics.append(resource)
                elif (
                    ":sns:" in text(each)
                    or (resource is not None and (resource.type == TOPIC or resource.block.type == "data"))
                    or hidden(each)
                ):
                    what = hidden(each) or f"{text(each)} is not in the files"
                    judged.unclear.append(f"who is notified by {alarm.address}: {what}")
                elif not _only_acts(each):
                    others = True
        if actions is None:
            judged.wrong.append("it has no action")
        elif not (judged.wrong or judged.unclear or topics or others):
            judged.wrong.append("its actions scale or repair something, and notify no one")
        return judged, [] if others else topics

    def _named(self, value: Value) -> Resource | None:
        """The topic of the configuration that an ARN names."""
        written = text(flat(value))
        if not written.startswith("arn:") or ":sns:" not in written:
            return None
        name = written.rpartition(":")[2]
        topics = self._configuration.of_type(TOPIC)
        return next((topic for topic in topics if text(topic.attribute("name")) == name), None)

    def topic(self, topic: Resource, alarm: Resource) -> Judged:
        """What keeps a topic from passing an alarm on."""
        if topic.address not in self._topics:
            self._topics[topic.address] = self._judge(topic)
        judged, (wrong, unread) = self._topics[topic.address], publishing(self._configuration, topic, alarm)
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
                lost = f"{each.address} filters by attributes, and the message of an alarm has none"
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
        """What keeps SNS from a subscription's function or queue, and what of that cannot be read."""
        endpoint = subscription.attribute("endpoint")
        queue = referenced(endpoint) if endpoint is not None else None
        if queue is None or queue.type != "aws_sqs_queue" or queue.block.type == "data":
            return self._uninvited(subscription), []
        own = queue.attribute("policy")
        documents = [own] if own is not None else []
        for each in self._configuration.of_type("aws_sqs_queue_policy"):
            of, policy = each.attribute("queue_url"), each.attribute("policy")
            if of is None or policy is None or referenced(of) is not queue:
                continue
            if each.uncertain:
                return "", [f"whether there is {each.address}: {each.uncertain}"]
            documents.append(policy)
        for document in documents[-1:]:
            said = _allowed(document, ("sqs:sendmessage",), topic, accounts=False, sender=SNS)
            if said in ("denied", "not allowed"):
                return f"the policy of {queue.address} lets {topic.address} send nothing", []
            return "", [f"whether {topic.address} may send to {queue.address}: {said}"] if said else []
        return "", []

    def _uninvited(self, subscription: Resource) -> str:
        """What keeps SNS from calling the function of a subscription: no permission of the files."""
        endpoint = subscription.attribute("endpoint")
        function = referenced(endpoint) if endpoint is not None else None
        if function is None or function.type != "aws_lambda_function" or function.block.type == "data":
            return ""
        name = function.attribute("function_name")
        for each in self._configuration.of_type("aws_lambda_permission"):
            of, whom = each.attribute("function_name"), text(each.attribute("principal"))
            if whom.endswith(".amazonaws.com") and whom != SNS:
                continue
            if of is None or name is None or hidden(of) or referenced(of) is function:
                return ""
            if text(flat(name)) in text(flat(of)):
                return ""
        others = (each.type in _ELSEWHERE for each in self._configuration.resources)
        if self._configuration.receivers(function) or any(others):
            return ""
        return f"{function.address} has no aws_lambda_permission: SNS may not call it"

    def _concerns(self, subscriber: Resource, topic: Resource) -> bool:
        name = text(topic.attribute("name"))
        for attribute in _SUBSCRIBERS[subscriber.type]:
            value = subscriber.attribute(attribute)
            for each in items(value):
                if any(symbol.resource is topic for symbol in symbols(each)) or (
                    name and text(flat(each)).startswith("arn:") and text(flat(each)).endswith(f":{name}")
                ):
                    return True
        return False


def _doubts(subscriber: Resource, topic: Resource) -> Iterator[str]:
    """What the files leave open of a subscriber: whether it exists, and what a stack's template has."""
    if subscriber.uncertain:
        yield f"whether there is {subscriber.address}: {subscriber.uncertain}"
    if subscriber.type == STACK and not _SUBSCRIBES.search(text(subscriber.attribute("template_body"))):
        yield f"whether {subscriber.address} subscribes to {topic.address}"


def _takes_alarms(subscription: Resource) -> bool | None:
    """Whether a subscription's filter lets alarms through; None where the files do not say."""
    policy = subscription.attribute("filter_policy")
    if policy is None or text(flat(policy)) in ("", "{}"):
        return True
    by_body = text(subscription.attribute("filter_policy_scope")) == "MessageBody"
    return None if by_body or not is_known(policy) else False


def _only_acts(action: Value) -> bool:
    """Whether an action scales or repairs something, and notifies no one."""
    resource = referenced(action)
    if resource is not None:
        return resource.type.endswith("autoscaling_policy")
    return _ACTS.match(text(flat(action))) is not None


def _references(alarm: Resource) -> set[str]:
    """The ways in which the rule of a composite alarm may name an alarm, as text."""
    name = alarm.attribute("alarm_name")
    return {text(name) or alarm.address, "${" + alarm.address + ".arn}", "${" + alarm.address + ".id}"}


def _switched(alarm: Resource) -> Judged:
    """Whether an alarm is there and its actions are on."""
    judged = Judged()
    switch = alarm.attribute("actions_enabled")
    for option in options(switch) if switch is not None else ():
        if boolean(option) is False:
            judged.wrong.append("its actions are switched off")
        elif boolean(option) is None:
            judged.unclear.append(f"whether its actions are on: {hidden(option) or text(option)}")
    if alarm.uncertain:
        judged.unclear.append(f"whether there is {alarm.address}: {alarm.uncertain}")
    return judged


#: What makes subscribers by a template of its own, and what these are in it.
STACK = "aws_cloudformation_stack"
#: What may let SNS call a function, in another language.
_ELSEWHERE = {"aws_cloudformation_stack", "awscc_lambda_permission", "null_resource", "terraform_data"}
_SUBSCRIBES = re.compile(r"AWS::(?:SNS::Subscription|Chatbot::)")
#: What passes notifications of a topic on, and the attributes that name the topic.
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
    """Whether what an alarm watches is left out, too."""
    bodies = [alarm.block]
    for body in bodies:  # grows: blocks in blocks, such as a metric in a `dynamic` query
        bodies += body.blocks
    written = " ".join(expr.text for body in bodies for expr in body.attributes.values())
    absent = [each for module in configuration.modules for each in module.absent]
    return any(f"{each.type}.{each.block.labels[1]}" in written for each in absent if each.type != ALARM)
