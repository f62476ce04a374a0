"""Alarms in Terraform: what each watches, whether it can fire, and whether anybody hears of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .checkout import Examined, Finding
from .definitions import Definition
from .identities import entries, items, referenced, thing
from .terraform import Body, Configuration, Resource
from .values import Value, boolean, flat, hidden, number, options, settle, symbols, text

ALARM = "aws_cloudwatch_metric_alarm"
TOPIC = "aws_sns_topic"
KINDS = ("health", "cpu", "memory")
ABOVE = {"GreaterThanThreshold", "GreaterThanOrEqualToThreshold"}
BELOW = {"LessThanThreshold", "LessThanOrEqualToThreshold"}
_UTILIZATION = {"cpu": "CPUUtilization", "memory": "MemoryUtilization"}
#: A share of what there is: 60 to 90 percent (contract, section 4).
_PERCENT = (60.0, 90.0)


@dataclass(frozen=True, slots=True)
class Watched:
    """The one metric that an alarm looks at, set in `where`; `why` says why it is not understood."""

    namespace: str = ""
    metric: str = ""
    dimensions: Mapping[str, Value] = field(default_factory=dict)
    where: Body | None = None
    why: str = ""


def watched(alarm: Resource) -> Watched:
    """Return what an alarm watches: the flat form, or one metric query without metric math."""
    queries = alarm.blocks("metric_query")
    if not queries:
        return _watched(alarm)
    metrics = [metric for query in queries for metric in query.blocks("metric")]
    expressions = [query.attribute("expression") for query in queries]
    written = next((text(each) for each in expressions if each is not None), "")
    if written or len(metrics) != 1:
        return Watched(why=f"metric math {written}".rstrip())
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

    def actions(self, alarm: Resource) -> tuple[Judged, list[Resource]]:
        """What is wrong with the actions of an alarm, and the topics of the configuration among them."""
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
    """Return the alarms that nobody can hear, and the topics that nobody listens to: a finding for each."""
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


def connection_alarms(configuration: Configuration, limit: float) -> tuple[dict[str, str], Examined]:
    """Judge the alarms on the number of database connections, which must not exceed `limit`.

    Returns their thresholds by label. One that fires below its threshold is a lower limit and does not count.
    """
    result, seen = Examined(), dict[str, str]()
    unread: list[Finding] = []
    upper = 0
    for alarm in configuration.of_type(ALARM):
        found = watched(alarm)
        if found.why:
            unread.append(alarm.finding(f"the alarm {alarm.title}: {found.why}"))
        if (found.namespace, found.metric) != ("AWS/RDS", "DatabaseConnections"):
            continue
        comparison, threshold = text(alarm.attribute("comparison_operator")), alarm.attribute("threshold")
        if comparison not in ABOVE or threshold is None:
            continue
        upper += 1
        seen[alarm.title] = text(flat(threshold))
        judged = _of_connections(alarm, found, limit)
        result.findings.extend(
            alarm.finding(f"the alarm {alarm.title} {why}", threshold) for why in judged.wrong
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


def _of_connections(alarm: Resource, found: Watched, limit: float) -> Judged:
    """What is wrong with an upper limit of database connections."""
    judged = Judged()
    if not {"DBInstanceIdentifier", "DBClusterIdentifier"} & {*found.dimensions}:
        judged.wrong.append("is of no database")
    _statistic(judged, alarm, found, {"Average", "Maximum"})
    threshold = alarm.attribute("threshold")
    for option in options(threshold) if threshold is not None else ():
        value = number(option)
        if value is None:
            judged.unclear.append(f"its threshold: {hidden(option) or text(option)}")
        elif not 0 < value <= limit:
            what = f"goes off above {value:g} connections, the budget less its reserve is {limit:g}"
            judged.wrong.append(what)
    return judged


def coverage(configuration: Configuration, definition: Definition) -> Examined:
    """Return which of health, CPU and memory of a service no alarm watches that can fire and is heard."""
    service = definition.service
    assert service is not None, f"{definition.name} is no service"
    result = Examined()
    for kind in KINDS:
        _cover(
            configuration, result, f"the {kind} of {definition.name}", definition,
            lambda found: _watches(found, kind, service),  # noqa: B023 - called at once
            lambda found: _may_watch(found, kind),  # noqa: B023
            lambda alarm, found: _figure(alarm, found, kind),  # noqa: B023
        )  # fmt: skip
    return result


#: Words of modules that may bring alarms.
_MONITORING = ("alarm", "cloudwatch", "monitor", "observab")
#: The platform's own metrics: the highest threshold, and what the alarm looks at (contract, section 4).
APPLICATION = {
    "InvokeLatencyMs": (10_000, "p99"),
    "JwtValidationFailedCount": (5, "Sum"),
    "ConservationViolationCount": (0, "Sum"),
}


def application(configuration: Configuration) -> Examined:
    """Return which of the platform's own metrics no alarm watches that can fire and is heard."""
    result = Examined()
    for metric, (limit, statistic) in APPLICATION.items():
        _cover(
            configuration, result, metric, None,
            lambda found: found.metric == metric and found.namespace.endswith("/AppMetrics"),  # noqa: B023
            lambda found: bool(found.why),
            lambda alarm, found: _measure(alarm, found, limit, statistic),  # noqa: B023
        )  # fmt: skip
    return result


def _cover(
    configuration: Configuration, result: Examined, what: str, of: Definition | None,
    watches: Callable[[Watched], bool], may_watch: Callable[[Watched], bool],
    judge: Callable[[Resource, Watched], Judged],
) -> None:  # fmt: skip
    """Record that nothing watches something, unless an alarm that does can fire and is heard."""
    listeners = Listeners(configuration)
    alarms = [(alarm, watched(alarm)) for alarm in configuration.of_type(ALARM)]
    judged = []
    for alarm, found in alarms:
        if watches(found):
            silent, wrong = listeners.of(alarm), judge(alarm, found)
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
        return (found.namespace, found.metric) in {
            ("AWS/ApplicationELB", "HealthyHostCount"), ("ECS/ContainerInsights", "RunningTaskCount"),
        }  # fmt: skip
    return (found.namespace, found.metric) == ("AWS/ECS", _UTILIZATION[kind])


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
        return True
    return _metric(found, kind) and any(hidden(each) for each in found.dimensions.values())


def _figure(alarm: Resource, found: Watched, kind: str) -> Judged:
    """What keeps an alarm on a figure of a service from firing when it should."""
    judged = Judged()
    _condition(judged, alarm, kind)
    _statistic(
        judged,
        alarm,
        found,
        {"Average", "Maximum"} | ({"Minimum"} if kind == "health" else {"p90", "p95", "p99"}),
    )
    where = found.where or alarm
    unit = where.attribute("unit")
    fitting = "Count" if kind == "health" else "Percent"
    if unit is not None and not hidden(unit) and text(unit) not in {fitting, "None"}:
        judged.wrong.append(f"its unit is {text(unit)}, which the metric does not have")
    missing = alarm.attribute("treat_missing_data")
    treated = text(flat(missing)) if missing is not None else "missing"
    if kind == "health" and missing is not None and hidden(missing):
        judged.unclear.append(f"its treat_missing_data: {hidden(missing)}")
    elif kind == "health" and treated != "breaching":
        judged.wrong.append(f"it treats missing data as {treated}: where nothing runs there is no data")
    return judged


def _measure(alarm: Resource, found: Watched, limit: float, statistic: str) -> Judged:
    """What keeps an alarm on one of the platform's own metrics from firing when it should."""
    judged = Judged()
    _statistic(judged, alarm, found, {statistic})
    _at_most(judged, alarm, limit)
    return judged


def _statistic(judged: Judged, alarm: Resource, found: Watched, accepted: set[str]) -> None:
    where = found.where or alarm
    values = [where.attribute(name) for name in ("statistic", "extended_statistic", "stat")]
    value = next((each for each in values if each is not None), None)
    if hidden(value):
        judged.unclear.append(f"its statistic: {hidden(value)}")
    elif text(value) not in accepted:
        judged.wrong.append(
            f"it looks at {text(value) or 'no statistic'}, not at {' or '.join(sorted(accepted))}"
        )


def _at_most(judged: Judged, alarm: Resource, limit: float) -> None:
    """An alarm that fires above a threshold, which is not above the limit."""
    comparison, threshold = alarm.attribute("comparison_operator"), alarm.attribute("threshold")
    if hidden(comparison) or threshold is None:
        judged.unclear.append(f"its condition: {hidden(comparison) or 'it has no threshold'}")
        return
    sign = text(comparison)
    least, most = (0.0, limit) if sign == "GreaterThanThreshold" else (1.0, limit + 1)
    for option in options(threshold):
        value = number(option)
        if value is None:
            judged.unclear.append(f"its threshold: {hidden(option) or text(option)}")
        elif sign not in ABOVE or not least <= value <= most:
            judged.wrong.append(f"it fires on {sign} {value:g}, accepted is above {limit:g} at most")


def _condition(judged: Judged, alarm: Resource, kind: str) -> None:
    comparison, threshold = alarm.attribute("comparison_operator"), alarm.attribute("threshold")
    if hidden(comparison) or threshold is None:
        judged.unclear.append(f"its condition: {hidden(comparison) or 'it has no threshold'}")
        return
    sign = text(comparison)
    for option in options(threshold):
        value = number(option)
        if value is None:
            judged.unclear.append(f"its threshold: {hidden(option) or text(option)}")
        elif kind == "health":
            if not (sign == "LessThanThreshold" and value == 1) and not (
                sign == "LessThanOrEqualToThreshold" and value == 0
            ):
                judged.wrong.append(f"it fires on {sign} {value:g}, not where nothing is left")
        elif sign not in ABOVE or not _PERCENT[0] <= value <= _PERCENT[1]:
            judged.wrong.append(f"it fires on {sign} {value:g}, accepted is above 60 to 90 percent")
