"""Alarms in Terraform: what each watches, whether it can fire, and what no alarm watches."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from smoke.source import rules
from smoke.source.checkout import Examined, Finding
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Body, Resource
from smoke.source.terraform.references import entries, items, referenced, thing
from smoke.source.terraform.values import Symbol, Value, flat, hidden, is_known, number, options, settle, text

from .definitions import Definition, containers
from .network import balancers
from .notifications import ALARM, Judged, Recipients
from .resource_policies import TOPIC


@dataclass(frozen=True, slots=True)
class Watched:
    """The single metric of an alarm, set in `where`; `why` says why it is not understood.

    `computed` are the metrics that metric math names; metric math itself is not understood.
    """

    namespace: str = ""
    metric: str = ""
    dimensions: Mapping[str, Value] = field(default_factory=dict)
    where: Body | None = None
    why: str = ""
    computed: str | None = None

    def may_be(self, *metrics: str) -> bool:
        """Whether something that may contain one of these metrics is not understood."""
        if self.computed is None:
            return bool(self.why)
        names = {*metrics, *(part for each in metrics for part in rules.PARTS.get(each, ()))}
        return "$" in self.computed or any(re.search(rf"\b{each}\b", self.computed) for each in names)


#: Metric math that searches metrics by name.
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


def connection_alarms(
    configuration: Configuration, limit: float, within: Mapping[str, int]
) -> tuple[dict[str, str], Examined]:
    """Judge the alarms on the number of database connections, which must not exceed `limit`.

    Returns their thresholds by label. An alarm that fires below its threshold is a lower limit and does not
    count. `within` is the plan's time for alarms.
    """
    result, seen = Examined(), dict[str, str]()
    unread: list[Finding] = []
    elsewhere: list[Finding] = []
    upper = 0
    for alarm in configuration.of_type(ALARM):
        found = watched(alarm)
        if found.may_be("DatabaseConnections"):
            unread.append(alarm.finding(f"the alarm {alarm.title}: {found.why}"))
        if (found.namespace, found.metric) != ("AWS/RDS", "DatabaseConnections"):
            continue
        comparison, threshold = text(alarm.attribute("comparison_operator")), alarm.attribute("threshold")
        if comparison not in (rules.ABOVE, rules.ABOVE_OR_AT) or threshold is None:
            continue
        if other := _of_no_database(configuration, found):
            what = "no alarm watches the connections of a database in the files:"
            what = f"{what} {alarm.title} watches {other}"
            elsewhere.append(alarm.finding(what, found.dimensions["DBInstanceIdentifier"]))
            continue
        upper += 1
        seen[alarm.title] = text(threshold)
        judged = fires(alarm, found, rules.connections(limit), within)
        if not {"DBInstanceIdentifier", "DBClusterIdentifier"} & {*found.dimensions}:
            judged.wrong.append("it watches no database")
        judged.wrong.extend(_by_resource_id(configuration, found))
        result.findings.extend(
            alarm.finding(f"the alarm {alarm.title}: {why}", threshold) for why in judged.wrong
        )
        result.not_examined.extend(alarm.finding(f"the alarm {alarm.title}: {why}") for why in judged.unclear)
    if not upper:
        if unread:
            result.not_examined.extend(unread)
        elif elsewhere:
            result.findings.extend(elsewhere)
        else:
            configuration.lacks(result, "no alarm fires above a number of database connections", _MONITORING)
    return seen, result


def _of_no_database(configuration: Configuration, found: Watched) -> str:
    """The name of an alarm's database that the files lack, if they have any database."""
    value = found.dimensions.get("DBInstanceIdentifier")
    named = [each.attribute("identifier") for each in configuration.of_type("aws_db_instance")]
    if value is None or not named or referenced(value) is not None or not is_known(value):
        return ""
    known = {text(each) for each in named if is_known(each)}
    return "" if len(known) < len(named) or text(value) in known else text(value)


def _by_resource_id(configuration: Configuration, found: Watched) -> Iterator[str]:
    """A database's `id` is its identifier only up to version 4 of the provider."""
    value = found.dimensions.get("DBInstanceIdentifier")
    symbol = value.content if value is not None else None
    if not isinstance(symbol, Symbol) or symbol.resource is None or symbol.path != ("id",):
        return
    oldest = [int(each) for each in re.findall(r"\d+", configuration.provider_version.partition(".")[0])]
    if symbol.resource.type == "aws_db_instance" and not (oldest and oldest[0] < 5):
        yield f"its DBInstanceIdentifier is the id of {symbol.resource.address}, not its identifier"


def coverage(configuration: Configuration, definition: Definition, within: Mapping[str, int]) -> Examined:
    """Return which of health, CPU and memory of a service has no alarm that fires in time and notifies."""
    service = definition.service
    assert service is not None, f"{definition.name} is not a service"
    result = Examined()
    for kind in rules.KINDS:
        _cover(
            configuration, result, f"the {kind} of {definition.name}", definition,
            lambda found: _watches(found, kind, service),  # noqa: B023 - called at once
            lambda found: _may_watch(found, kind, service),  # noqa: B023
            lambda found: _metric(found, kind),  # noqa: B023
            rules.HEALTH if kind == "health" else rules.UTILIZATION, within,
        )  # fmt: skip
    return result


#: The namespace to which a cluster publishes only with Container Insights.
INSIGHTS = "ECS/ContainerInsights"
#: Words of modules that may bring alarms.
_MONITORING = ("alarm", "cloudwatch", "monitor", "observab")


def application(configuration: Configuration, namespace: str, within: Mapping[str, int]) -> Examined:
    """Return which of the platform's own metrics have no alarm that fires in time and notifies."""
    result = Examined()
    for metric, need in rules.APPLICATION.items():
        _cover(
            configuration, result, metric, None,
            lambda found: (found.namespace, found.metric) == (namespace, metric),  # noqa: B023
            lambda found: found.may_be(metric),  # noqa: B023
            lambda _: False,
            need, within,
        )  # fmt: skip
    return result


def _cover(
    configuration: Configuration, result: Examined, what: str, of: Definition | None,
    watches: Callable[[Watched], bool], may_watch: Callable[[Watched], bool],
    resembles: Callable[[Watched], bool], need: rules.Need, within: Mapping[str, int],
) -> None:  # fmt: skip
    """Record that nothing watches something, unless an alarm on it can fire and notifies."""
    recipients = Recipients(configuration)
    alarms = [(alarm, watched(alarm)) for alarm in configuration.of_type(ALARM)]
    judged = []
    for alarm, found in alarms:
        if watches(found):
            silent, wrong = recipients.of(alarm), fires(alarm, found, need, within)
            amiss = [*silent.wrong, *wrong.wrong, *_unpublished(configuration, found)]
            if (region := configuration.foreign_region(alarm)) is not None:
                amiss.append(f"its provider uses {region}, where this metric does not exist")
            if (name := _name(alarm)) and [_name(each) for each, _ in alarms].count(name) > 1:
                amiss.append(f"another alarm is also called {name}: AWS keeps only one of them")
            unsure = [*silent.unclear, *wrong.unclear, *_filtered_elsewhere(configuration, found)]
            judged.append((alarm, Judged(amiss, unsure)))
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
    elif near := [each for each in alarms if resembles(each[1]) and of is not None and _called(each[0], of)]:
        alarm, found = near[0]
        at = found.dimensions.get("TargetGroup") or found.dimensions.get("ServiceName")
        of_what = f" of {text(at).strip('${}')}" if at is not None else ""
        what_else = f"no alarm watches {what}: {alarm.title} watches {found.metric}{of_what}"
        result.findings.append(alarm.finding(what_else, at))
    else:
        about = (of.name,) if of is not None else _MONITORING
        place = of.service.finding("") if of is not None and of.service is not None else None
        configuration.lacks(result, f"no alarm watches {what}", about, place)


def _called(alarm: Resource, of: Definition) -> bool:
    """Whether an alarm's label or name has the name of a service as a word."""
    return any(of.name in re.split("[-_]", each) for each in (alarm.label, _name(alarm)))


def _name(alarm: Resource) -> str:
    """An alarm's name; empty where the files do not say it."""
    name = alarm.attribute("alarm_name")
    return "" if name is None or hidden(name) else text(name)


#: Dimension -> the attributes of a resource that are valid values there; an ARN is not.
_NAMING = {
    "ClusterName": ("name",), "ServiceName": ("name",), "TargetGroup": ("arn_suffix",),
    "LoadBalancer": ("arn_suffix",), "DBInstanceIdentifier": ("identifier", "id"),
}  # fmt: skip
_NAMED_SO = re.compile("aws_(ecs_cluster|ecs_service|a?lb|a?lb_target_group|db_instance)")


def _misnamed(found: Watched) -> Iterator[str]:
    """Dimensions with a wrong attribute of the right resource: no metric has these."""
    for dimension, attributes in _NAMING.items():
        value = found.dimensions.get(dimension)
        symbol = value.content if value is not None else None
        if isinstance(symbol, Symbol) and symbol.resource is not None and symbol.path:
            resource, attribute = symbol.resource, symbol.path[0]
            if _NAMED_SO.fullmatch(resource.type) and attribute not in attributes:
                yield f"its {dimension} is the {attribute} of {resource.address}, not its {attributes[0]}"


def _unpublished(configuration: Configuration, found: Watched) -> Iterator[str]:
    """Why an alarm's metric never has data: no balancer leads to its group, or no cluster counts tasks."""
    at, of = (found.dimensions.get(name) for name in ("LoadBalancer", "TargetGroup"))
    balancer, group = (referenced(each) for each in (at, of))
    if balancer is not None and group is not None and balancer.block.type != "data":
        leading = [each.address for each in balancers(configuration, group) or ()]
        if leading and balancer.address not in leading:
            yield f"{balancer.address} does not forward to {group.address}, so the metric does not exist"
    yield from _unfiltered(configuration, found)
    name = found.dimensions.get("ClusterName")
    if found.namespace != INSIGHTS or name is None:
        return
    for cluster in configuration.of_type("aws_ecs_cluster"):
        for setting in cluster.blocks("setting") if _same(name, cluster.reference, cluster.type) else ():
            said = tuple(text(setting.attribute(one)) for one in ("name", "value"))
            if said == ("containerInsights", "disabled"):
                yield f"{cluster.address} has Container Insights disabled, so the metric does not exist"


_LOG_GROUP = "aws_cloudwatch_log_group"


def _filters(configuration: Configuration, metric: str) -> list[tuple[Resource, Body]]:
    """The log filters of metrics with a name, each with its transformation."""
    return [
        (each, block)
        for each in configuration.of_type("aws_cloudwatch_log_metric_filter")
        for block in each.blocks("metric_transformation")
        if text(block.attribute("name")) == metric
    ]


def _filtered_elsewhere(configuration: Configuration, found: Watched) -> Iterator[str]:
    """Whether anything creates an alarm's metric, if its log filters only do so in other namespaces."""
    made = [(each, block.attribute("namespace")) for each, block in _filters(configuration, found.metric)]
    if made and all(is_known(value) and text(value) != found.namespace for _, value in made):
        what = f"whether {found.namespace} has its metric: {made[0][0].address} creates it in"
        yield f"{what} {text(made[0][1])}"


def _unfiltered(configuration: Configuration, found: Watched) -> Iterator[str]:
    """Why the log filters of an alarm's metric never count anything, as far as the files say."""
    made = [(each, block) for each, block in _filters(configuration, found.metric)
            if text(block.attribute("namespace")) == found.namespace]  # fmt: skip
    dimensions = [block.attribute("dimensions") for _, block in made]
    if not made or any(one is not None and hidden(one) for one in dimensions):
        return
    names = [frozenset(entries(one)) for one in dimensions]
    if frozenset(found.dimensions) not in names:
        own, others = (" and ".join(sorted(each)) or "none" for each in (found.dimensions, names[0]))
        yield f"its dimensions are {own}, but {made[0][0].address}, which creates its metric, uses {others}"
    counts = [number(one) if is_known(one) else None
              for one in (block.attribute("value") for _, block in made)]  # fmt: skip
    patterns = [each.attribute("pattern") for each, _ in made]
    sought = [text(one).strip() if is_known(one) else None for one in patterns]
    if all(count is not None and count <= 0 for count in counts) and all(sought):
        yield f"{made[0][0].address} adds {counts[0]:g} for each match, so its metric never rises"
    written = _written(configuration)
    groups = [each.attribute("log_group_name") for each, _ in made]
    known = [thing(one, _LOG_GROUP) for one in groups if one is not None and not hidden(flat(one))]
    of_tasks = len(known) == len(made) and all(re.fullmatch(r"/ecs/\S+", one.name) for one in known)
    counted = any(count is not None and count > 0 for count in counts) and set(sought) == {""}
    if counted and of_tasks and written is not None and {one.key for one in known} <= written:
        yield f"{made[0][0].address} has no pattern, so every line of {known[0].name} counts"
    if of_tasks and written is not None and written.isdisjoint(one.key for one in known):
        yield f"{made[0][0].address} reads {known[0].name}, which no task logs to"


def _written(configuration: Configuration) -> set[str] | None:
    """The log groups that tasks write to; None if the files do not say all of them."""
    found: set[str] = set()
    if any(module.unread_calls for module in configuration.modules) or configuration.unread:
        return None
    for task in configuration.of_type("aws_ecs_task_definition"):
        boxes, unread = containers(task)
        if unread:
            return None
        for box in boxes:
            configured = box.entries.get("logConfiguration")
            group = entries(entries(configured).get("options")).get("awslogs-group")
            other = text(entries(configured).get("logDriver")) not in ("", "awslogs")  # it may log into any
            if hidden(configured) or other or (group is not None and hidden(flat(group))):
                return None
            found |= {thing(one, _LOG_GROUP).key for one in items(group)}
    return None if any(" or " in each for each in found) else found


def _metric(found: Watched, kind: str) -> bool:
    if kind == "health":
        return (found.namespace, found.metric) in rules.HEALTH_METRICS
    return (found.namespace, found.metric) == ("AWS/ECS", rules.UTILIZATION_METRICS[kind])


def _watches(found: Watched, kind: str, service: Resource) -> bool:
    """Whether an alarm watches this kind of metric of this service."""
    if found.why or not _metric(found, kind):
        return False
    if found.metric == "HealthyHostCount":
        group = found.dimensions.get("TargetGroup")
        return "LoadBalancer" in found.dimensions and group is not None and any(
            _same(group, each, "aws_lb_target_group") for each in _target_groups(service)
        )  # fmt: skip
    name, cluster = found.dimensions.get("ServiceName"), found.dimensions.get("ClusterName")
    own = service.attribute("cluster")
    return (
        name is not None and cluster is not None
        and _same(name, service.reference, service.type)
        and (own is None or _same(cluster, own, "aws_ecs_cluster"))
    )  # fmt: skip


def _target_groups(service: Resource) -> list[Value]:
    balanced = service.blocks("load_balancer")
    return [each for block in balanced for each in items(block.attribute("target_group_arn"))]


def _same(first: Value, second: Value, type_: str) -> bool:
    one, other = referenced(first), referenced(second)
    if one is not None and one is other:
        return True
    return thing(first, type_).key == thing(second, type_).key


def _may_watch(found: Watched, kind: str, service: Resource) -> bool:
    """Whether an alarm may watch this kind of metric of some service, because the files leave it open."""
    if found.why:
        health = [metric for _, metric in rules.HEALTH_METRICS]
        return found.may_be(*(health if kind == "health" else [rules.UTILIZATION_METRICS[kind]]))
    groups = _target_groups(service) if found.metric == "HealthyHostCount" else []
    # the key of a dynamic block has lost whose attribute it is
    computed = any(is_known(each) and not text(each).startswith("arn:") for each in groups)
    return _metric(found, kind) and (computed or any(map(hidden, (*found.dimensions.values(), *groups))))


def fires(alarm: Resource, found: Watched, need: rules.Need, within: Mapping[str, int]) -> Judged:
    """What keeps an alarm from firing when and where it should; every possible setting must be right."""
    judged = Judged(wrong=[*_misnamed(found)])
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
        firing = rules.Firing(**dict(chosen), reports_absence=_reports_absence(alarm))
        judged.wrong += [why for why in rules.faults(firing, need, within, unread) if why not in judged.wrong]
    return judged


_CALLED = {
    "periods": "evaluation_periods",
    "datapoints": "datapoints_to_alarm",
    "missing": "treat_missing_data",
}


def _settings(alarm: Resource, where: Body) -> dict[str, tuple[type, Iterable[Value | None]]]:
    """The kind of each field of a `Firing`, and the attributes that may set it."""

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
    """A setting as a plain value of its kind; None if the files do not say it."""
    if kind is str:
        return text(option) if not hidden(option) else None
    value = number(option)
    return kind(value) if value is not None and math.isfinite(value) else None


def _reports_absence(alarm: Resource) -> bool:
    """Whether a topic is notified if there is no data."""
    actions = list(items(alarm.attribute("insufficient_data_actions")))
    topics = [each for each in map(referenced, actions) if each is not None and each.type == TOPIC]
    return bool(topics) or any(":sns:" in text(each) for each in actions)
