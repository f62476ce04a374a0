"""Alarms in Terraform: what each watches, whether it can fire, and whether anybody hears of it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import watch
from .checkout import Examined, Finding
from .definitions import Definition
from .identities import entries, items, referenced, thing
from .terraform import Body, Configuration, Resource
from .values import Value, boolean, flat, hidden, number, options, settle, symbols, text

ALARM, COMPOSITE = "aws_cloudwatch_metric_alarm", "aws_cloudwatch_composite_alarm"
TOPIC = "aws_sns_topic"
KINDS = ("health", "cpu", "memory")


@dataclass(frozen=True, slots=True)
class Watched:
    """The one metric that an alarm looks at, set in `where`; `why` says why it is not understood.

    `computed` holds the names of the metrics that metric math, which is not understood, makes something of,
    if it names any.
    """

    namespace: str = ""
    metric: str = ""
    dimensions: Mapping[str, Value] = field(default_factory=dict)
    where: Body | None = None
    why: str = ""
    computed: str | None = None

    def may_be(self, *metrics: str) -> bool:
        """Whether something is not understood of which one of these metrics may be part."""
        if self.computed is None:
            return bool(self.why)
        return "$" in self.computed or any(re.search(rf"\b{each}\b", self.computed) for each in metrics)


#: Metric math that finds its metrics by their names.
_QUERY = re.compile("SELECT|SEARCH")


def watched(alarm: Resource) -> Watched:
    """Return what an alarm watches: the flat form, or one metric query without metric math."""
    queries = alarm.blocks("metric_query")
    if not queries:
        return _watched(alarm)
    metrics = [metric for query in queries for metric in query.blocks("metric")]
    expressions = [each for query in queries if (each := query.attribute("expression")) is not None]
    if expressions or len(metrics) != 1:
        names = [text(each.attribute("metric_name")) for each in metrics]
        written = [text(each) for each in expressions]
        named = " ".join(names + written) if metrics or _QUERY.search(" ".join(written)) else None
        return Watched(why=f"metric math {' and '.join(written)}".rstrip(), computed=named)
    return _watched(metrics[0])


def _watched(body: Body) -> Watched:
    namespace, metric = body.attribute("namespace"), body.attribute("metric_name")
    dimensions = body.attribute("dimensions")
    why = hidden(namespace) or hidden(metric)
    if dimensions is not None and not isinstance(settle(dimensions).content, dict):
        why = why or hidden(dimensions) or "its dimensions"
    return Watched(text(namespace), text(metric), entries(dimensions), body, why)


@dataclass(slots=True)
class Judged:
    """What is wrong with an alarm, and what of it is not understood."""

    wrong: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


class Listeners:
    """Who hears of the alarms of a configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._topics: dict[str, Judged] = {}

    def of(self, alarm: Resource) -> Judged:
        """What keeps an alarm from notifying anybody, its topics included."""
        judged, topics = self.actions(alarm)
        # one action that is heard is enough
        heard = [self.topic(topic) for topic in topics]
        if topics and not any(not each.wrong and not each.unclear for each in heard):
            judged.wrong += heard[0].wrong if all(each.wrong for each in heard) else []
            judged.unclear += [why for each in heard for why in each.unclear]
        return judged

    def actions(self, alarm: Resource, *below: Resource) -> tuple[Judged, list[Resource]]:
        """What is wrong with the actions of an alarm, and the topics of the configuration among them.

        An alarm may also be heard through a composite alarm that goes off whenever it does; `below` are those
        that this one goes off with.
        """
        own, topics = self._actions(alarm)
        if not own.wrong:
            return own, topics
        unread = []
        for each in self._configuration.of_type(COMPOSITE):
            rule, references = text(each.attribute("alarm_rule")), _references(alarm)
            try:
                follows = watch.goes_off_with(rule, references)
            except watch.RuleUnread:
                if "${" in rule or any(reference in rule for reference in references):
                    unread.append(f"whether {each.address} goes off with {alarm.address}: {rule}")
                continue
            if follows and each not in (alarm, *below):
                judged, through = self.actions(each, alarm, *below)
                if not judged.wrong:
                    return Judged([], own.unclear + judged.unclear), through
        return (Judged([], own.unclear + unread) if unread else own), topics

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
                    ":sns:" in text(each) or (resource is not None and resource.type == TOPIC) or hidden(each)
                ):
                    what = hidden(each) or f"{text(each)} is not in the files"
                    judged.unclear.append(f"who hears of {alarm.address}: {what}")
                else:  # what scales or repairs something
                    others = True
        if actions is None:
            judged.wrong.append("it has no action")
        return judged, [] if others else topics

    def _named(self, value: Value) -> Resource | None:
        """The topic of the configuration that an ARN names."""
        written = text(flat(value))
        if not written.startswith("arn:") or ":sns:" not in written:
            return None
        name = written.rpartition(":")[2]
        topics = self._configuration.of_type(TOPIC)
        return next((topic for topic in topics if text(topic.attribute("name")) == name), None)

    def topic(self, topic: Resource) -> Judged:
        """What keeps a topic from passing an alarm on."""
        if topic.address not in self._topics:
            self._topics[topic.address] = self._judge(topic)
        return self._topics[topic.address]

    def _judge(self, topic: Resource) -> Judged:
        judged = Judged()
        key = topic.attribute("kms_master_key_id")
        if key is not None and text(flat(key)) == "alias/aws/sns":
            judged.wrong.append(
                f"{topic.address} is encrypted with the key of SNS itself, which lets no alarm publish"
            )
        subscribed = False
        for each in self._configuration.resources:
            if each.type not in _SUBSCRIBERS or not self._concerns(each, topic):
                continue
            endpoint = each.attribute("endpoint")
            if each.type == "aws_sns_topic_subscription" and text(endpoint) == "":
                continue
            if each.uncertain:
                judged.unclear.append(f"whether there is {each.address}: {each.uncertain}")
            subscribed = True
        if not subscribed:
            receivers = self._configuration.receivers(topic)
            if receivers:
                judged.unclear.append(f"whether {receivers[0]} listens to {topic.address}")
            else:
                judged.wrong.append(f"{topic.address} has no subscription")
        return judged

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


#: What passes notifications of a topic on, and the attributes that name the topic.
_SUBSCRIBERS = {
    "aws_sns_topic_subscription": ("topic_arn",),
    "aws_chatbot_slack_channel_configuration": ("sns_topic_arns",),
    "aws_chatbot_teams_channel_configuration": ("sns_topic_arns",),
    "awscc_chatbot_slack_channel_configuration": ("sns_topic_arns",),
    "awscc_chatbot_microsoft_teams_channel_configuration": ("sns_topic_arns",),
    "aws_cloudformation_stack": ("template_body", "parameters"),
}


def heard(configuration: Configuration) -> Examined:
    """Return the alarms that notify no one, and the topics without a subscriber: a finding for each."""
    listeners, result = Listeners(configuration), Examined()
    users: dict[str, tuple[Resource, list[str]]] = {}
    for alarm in configuration.of_type(ALARM):
        judged, topics = listeners.actions(alarm)
        result.findings.extend(
            alarm.finding(f"the alarm {alarm.title}: {why}", alarm.attribute("alarm_actions"))
            for why in judged.wrong
        )
        result.not_examined.extend(alarm.finding(why) for why in judged.unclear)
        for topic in topics:
            users.setdefault(topic.address, (topic, []))[1].append(alarm.title)
    for topic, alarms in users.values():
        judged = listeners.topic(topic)
        what = f"{len(alarms)} alarms notify it" if len(alarms) > 1 else f"the alarm {alarms[0]} notifies it"
        result.findings.extend(topic.finding(f"{why}; {what}") for why in judged.wrong)
        result.not_examined.extend(topic.finding(why) for why in judged.unclear)
    result.findings.extend(
        alarm.finding(f"the alarm {alarm.title} does not exist: there are none of it by {_number_of(alarm)}")
        for alarm in configuration.absent(ALARM)
        if not _for_the_absent(alarm, configuration)
    )
    return result


def _number_of(alarm: Resource) -> str:
    name = "count" if "count" in alarm.block.attributes else "for_each"
    return f"{name} = {alarm.block.attributes[name].text}"


def _for_the_absent(alarm: Resource, configuration: Configuration) -> bool:
    """Whether what an alarm watches is left out, too."""
    written = " ".join(
        expr.text for body in (alarm.block, *alarm.block.blocks) for expr in body.attributes.values()
    )
    absent = [each for module in configuration.modules for each in module.absent]
    return any(f"{each.type}.{each.block.labels[1]}" in written for each in absent if each.type != ALARM)


def connection_alarms(
    configuration: Configuration, limit: float, within: Mapping[str, int]
) -> tuple[dict[str, str], Examined]:
    """Judge the alarms on the number of database connections, which must not exceed `limit`.

    Returns their thresholds by label. One that fires below its threshold is a lower limit and does not count.
    `within` is the plan's time for alarms.
    """
    result, seen = Examined(), dict[str, str]()
    unread: list[Finding] = []
    upper = 0
    for alarm in configuration.of_type(ALARM):
        found = watched(alarm)
        if found.may_be("DatabaseConnections"):
            unread.append(alarm.finding(f"the alarm {alarm.title}: {found.why}"))
        if (found.namespace, found.metric) != ("AWS/RDS", "DatabaseConnections"):
            continue
        comparison, threshold = text(alarm.attribute("comparison_operator")), alarm.attribute("threshold")
        if comparison not in (watch.ABOVE, watch.ABOVE_OR_AT) or threshold is None:
            continue
        upper += 1
        seen[alarm.title] = text(flat(threshold))
        judged = fires(alarm, found, watch.connections(limit), within)
        if not {"DBInstanceIdentifier", "DBClusterIdentifier"} & {*found.dimensions}:
            judged.wrong.append("it is of no database")
        result.findings.extend(
            alarm.finding(f"the alarm {alarm.title}: {why}", threshold) for why in judged.wrong
        )
        result.not_examined.extend(alarm.finding(f"the alarm {alarm.title}: {why}") for why in judged.unclear)
    if not upper:
        if unread:
            result.not_examined.extend(unread)
        else:
            configuration.lacks(
                result, "no alarm goes off above a number of database connections", _MONITORING
            )
    return seen, result


def coverage(configuration: Configuration, definition: Definition, within: Mapping[str, int]) -> Examined:
    """Return which of health, CPU and memory of a service no alarm watches that is in time and heard."""
    service = definition.service
    assert service is not None, f"{definition.name} is no service"
    result = Examined()
    for kind in KINDS:
        _cover(
            configuration, result, f"the {kind} of {definition.name}", definition,
            lambda found: _watches(found, kind, service),  # noqa: B023 - called at once
            lambda found: _may_watch(found, kind),  # noqa: B023
            watch.HEALTH if kind == "health" else watch.UTILIZATION, within,
        )  # fmt: skip
    return result


#: Words of modules that may bring alarms.
_MONITORING = ("alarm", "cloudwatch", "monitor", "observab")


def application(configuration: Configuration, namespace: str, within: Mapping[str, int]) -> Examined:
    """Return which metrics of the platform's own no alarm watches that fires in time and is heard."""
    result = Examined()
    for metric, need in watch.APPLICATION.items():
        _cover(
            configuration, result, metric, None,
            lambda found: (found.namespace, found.metric) == (namespace, metric),  # noqa: B023
            lambda found: found.may_be(metric),  # noqa: B023
            need, within,
        )  # fmt: skip
    return result


def _cover(
    configuration: Configuration, result: Examined, what: str, of: Definition | None,
    watches: Callable[[Watched], bool], may_watch: Callable[[Watched], bool],
    need: watch.Need, within: Mapping[str, int],
) -> None:  # fmt: skip
    """Record that nothing watches something, unless an alarm that does can fire and is heard."""
    listeners = Listeners(configuration)
    alarms = [(alarm, watched(alarm)) for alarm in configuration.of_type(ALARM)]
    judged = []
    for alarm, found in alarms:
        if watches(found):
            silent, wrong = listeners.of(alarm), fires(alarm, found, need, within)
            judged.append((alarm, Judged(silent.wrong + wrong.wrong, silent.unclear + wrong.unclear)))
    if any(not each.wrong and not each.unclear for _, each in judged):
        return
    unclear = [
        alarm.finding(f"the alarm {alarm.title}: {why}") for alarm, each in judged for why in each.unclear
    ]
    unclear += [
        alarm.finding(f"the alarm {alarm.title}: {found.why or 'its dimensions'}")
        for alarm, found in alarms
        if may_watch(found)
    ]
    if unclear:
        result.not_examined.extend(unclear)
    elif judged:
        alarm, each = judged[0]
        result.findings.append(alarm.finding(f"the alarm {alarm.title} on {what}: {'; '.join(each.wrong)}"))
    else:
        about = (of.name,) if of is not None else _MONITORING
        place = of.service.finding("") if of is not None and of.service is not None else None
        configuration.lacks(result, f"no alarm watches {what}", about, place)


def _metric(found: Watched, kind: str) -> bool:
    if kind == "health":
        return (found.namespace, found.metric) in watch.HEALTH_METRICS
    return (found.namespace, found.metric) == ("AWS/ECS", watch.UTILIZATION_METRICS[kind])


def _watches(found: Watched, kind: str, service: Resource) -> bool:
    """Whether an alarm looks at this kind of figure of this service."""
    if found.why or not _metric(found, kind):
        return False
    if found.metric == "HealthyHostCount":
        groups = [
            each
            for block in service.blocks("load_balancer")
            for each in items(block.attribute("target_group_arn"))
        ]
        group = found.dimensions.get("TargetGroup")
        return "LoadBalancer" in found.dimensions and group is not None and any(
            _same(group, each, "aws_lb_target_group") for each in groups
        )  # fmt: skip
    name, cluster = found.dimensions.get("ServiceName"), found.dimensions.get("ClusterName")
    own = service.attribute("cluster")
    return (
        name is not None and cluster is not None
        and _same(name, service.reference, service.type)
        and (own is None or _same(cluster, own, "aws_ecs_cluster"))
    )  # fmt: skip


def _same(first: Value, second: Value, type_: str) -> bool:
    one, other = referenced(first), referenced(second)
    if one is not None and one is other:
        return True
    return thing(first, type_).key == thing(second, type_).key


def _may_watch(found: Watched, kind: str) -> bool:
    """Whether the files leave open that an alarm looks at this kind of figure of any service."""
    if found.why:
        health = [metric for _, metric in watch.HEALTH_METRICS]
        return found.may_be(*(health if kind == "health" else [watch.UTILIZATION_METRICS[kind]]))
    return _metric(found, kind) and any(hidden(each) for each in found.dimensions.values())


def fires(alarm: Resource, found: Watched, need: watch.Need, within: Mapping[str, int]) -> Judged:
    """What keeps an alarm from firing when and where it should; all that it may be set to must hold."""
    judged = Judged()
    read: list[list[tuple[str, Any]]] = []
    unread: list[str] = []
    for name, (kind, values) in _settings(alarm, found.where or alarm).items():
        value = next((each for each in values if each is not None), None)
        known = [_plain(kind, option) for option in options(value)] if value is not None else []
        if None in known:
            unread.append(name)
            judged.unclear.append(f"its {_CALLED.get(name, name)}: {hidden(value) or text(value)}")
        elif known:
            read.append([(name, each) for each in known])
    for chosen in itertools.product(*read):
        firing = watch.Firing(**dict(chosen), reports_absence=_reports_absence(alarm))
        judged.wrong += [why for why in watch.faults(firing, need, within, unread) if why not in judged.wrong]
    return judged


_CALLED = {
    "periods": "evaluation_periods",
    "datapoints": "datapoints_to_alarm",
    "missing": "treat_missing_data",
}


def _settings(alarm: Resource, where: Body) -> dict[str, tuple[type, Iterable[Value | None]]]:
    """The kind of each field of a `Firing`, and the attributes of which one sets it."""

    def of(body: Body, kind: type, *names: str) -> tuple[type, Iterable[Value | None]]:
        return kind, [body.attribute(name) for name in names]

    return {
        "statistic": of(where, str, "statistic", "extended_statistic", "stat"),
        "unit": of(where, str, "unit"),
        "period": of(where, int, "period"),
        "comparison": of(alarm, str, "comparison_operator"),
        "threshold": of(alarm, float, "threshold"),
        "periods": of(alarm, int, "evaluation_periods"),
        "datapoints": of(alarm, int, "datapoints_to_alarm"),
        "missing": of(alarm, str, "treat_missing_data"),
    }


def _plain(kind: type, option: Value) -> Any:
    """A setting as a plain value of its kind; None for what the files do not say."""
    if kind is str:
        return text(flat(option)) if not hidden(option) else None
    value = number(flat(option))
    return kind(value) if value is not None and math.isfinite(value) else None


def _reports_absence(alarm: Resource) -> bool:
    """Whether a topic is notified when there is no data."""
    actions = list(items(alarm.attribute("insufficient_data_actions")))
    topics = [each for each in map(referenced, actions) if each is not None and each.type == TOPIC]
    return bool(topics) or any(":sns:" in text(each) for each in actions)
