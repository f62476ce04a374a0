"""Data of CloudWatch, SNS and Logs; and the fire drill, which triggers an alarm and resets it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pytest_readiness import ExternalOutage, SetupError

from smoke.source.rules import of_another

from .account import AwsAccount, at_once
from .alarms import ALARM, Metric, MetricAlarm, is_named
from .names import Names

#: A datapoint older than this says nothing about the current state.
FRESH_S = 15 * 60
QUERIES_AT_ONCE = 500


def read_datapoints(
    account: AwsAccount, metrics: Iterable[Metric], *, now: datetime | None = None
) -> dict[Metric, int]:
    """For how many of the last fifteen minutes each metric has a datapoint, with exactly its dimensions."""
    wanted = list(dict.fromkeys(metrics))
    end = now or datetime.now(UTC)
    found: dict[Metric, int] = {}
    for at in range(0, len(wanted), QUERIES_AT_ONCE):
        batch = wanted[at : at + QUERIES_AT_ONCE]
        queries = [_query(index, metric) for index, metric in enumerate(batch)]
        for result in _data(account, end, FRESH_S, queries):
            metric = batch[int(result["Id"][1:])]
            _require_complete(metric, result)
            found[metric] = found.get(metric, 0) + len(result["Values"])
    return found


#: What a metric from a log filter needs.
DEFAULT_VALUE = "if a log metric filter feeds it, give the filter a default value of 0"


def unfed(alarms: Iterable[MetricAlarm], fed: Mapping[Metric, int]) -> list[str]:
    """The alarms with a metric that has no datapoint, and what to do; `fed` counts each metric's fresh ones.

    AWS's namespaces begin with `AWS/` or `ECS/`; the platform feeds all others. A log filter without a
    default value publishes nothing while nothing happens. A function, such as `FILL`, may replace a metric
    without datapoints, for example that of the target group that waits for the next deployment.
    """
    return [
        f"{alarm.name}: no datapoint of {metric}"
        + ("" if metric.namespace.startswith(("AWS/", "ECS/")) else f" ({DEFAULT_VALUE})")
        for alarm in alarms
        if not re.search(r"\w\s*\(", alarm.expression) or not any(map(fed.get, alarm.metrics))
        for metric in alarm.metrics
        if not fed.get(metric)
    ]


#: Datapoints of a week show how many values a metric has: nights and weekends have few.
SEEN_S = 7 * 24 * 60 * 60


def sparse(account: AwsAccount, alarms: Iterable[MetricAlarm], *, now: datetime | None = None) -> list[str]:
    """The alarms on a percentile that ignore periods with few values, as all recent ones are.

    CloudWatch keeps datapoints of a minute and longer: a period below that cannot have more values.
    """
    end, found = now or datetime.now(UTC), []
    for alarm in [each for each in alarms if each.ignores_few and len(each.metrics) == 1]:
        written = re.fullmatch(r"p(\d+(?:\.\d+)?)", alarm.firing.statistic)
        share = float(written[1]) / 100 if written else 0
        if not 0 < share < 1:
            continue
        query = _query(0, alarm.metrics[0], max(60, alarm.firing.period))
        values = _data(account, end, SEEN_S, [query])
        for each in values:
            _require_complete(alarm.metrics[0], each)
        needed = round(10 / min(share, 1 - share), 6)  # 1 - 0.9 is less than a tenth
        most = max((one for each in values for one in each["Values"]), default=0)
        if 0 < most < needed:
            few = f"it ignores periods with fewer than {needed:.0f} values"
            found.append(f"{alarm.name}: {few}, and the largest had {most:g}")
    return found


def _data(account: AwsAccount, end: datetime, seconds: int, queries: Sequence[Any]) -> list[Any]:
    """CloudWatch's answers to metric queries about the last seconds."""
    return account.pages(
        "cloudwatch", "get_metric_data", "MetricDataResults",
        StartTime=end - timedelta(seconds=seconds), EndTime=end, MetricDataQueries=queries,
    )  # fmt: skip


def _require_complete(metric: Metric, result: Mapping[str, Any]) -> None:
    """ExternalOutage or SetupError if CloudWatch says that it did not read a metric's datapoints."""
    if result.get("StatusCode") == "InternalError":
        raise ExternalOutage(f"CloudWatch could not read {metric} (InternalError): inconclusive")
    if result.get("StatusCode") == "Forbidden":
        raise SetupError(f"not examined: this runner may not read {metric} of its account (Forbidden)")


#: Statistics that are never above the largest value of one line.
_OF_ONE_LINE = re.compile(r"Average|Maximum|Minimum|p\d")


@dataclass(frozen=True, slots=True)
class MetricFilter:
    """A metric filter: the value that it adds per matching line, and its default value without one.

    It counts `every` line if it has no pattern.
    """

    name: str
    log_group: str
    value: str
    default: float | None
    every: bool = False

    def useless(self, alarm: MetricAlarm, prefix: str, written: Collection[str] = ()) -> str:
        """Why an alarm on its metric never fires, or always does; empty if neither is known.

        `written` are the log groups of services. An alarm may watch how many lines these write, but the
        contract's metrics count only some of the lines.
        """
        firing = alarm.firing
        above = firing.comparison.startswith("GreaterThan")
        added, least = _number(self.value), firing.threshold or 0
        bounded = not added or _OF_ONE_LINE.match(firing.statistic)
        fires = added is not None and (added > least or (added == least and "OrEqual" in firing.comparison))
        if above and added is not None and bounded and not fires:
            return f"the filter {self.name} adds {added:g} for each matching line of {self.log_group}"
        if above and added and self.every and self.log_group in written and is_named(alarm):
            return f"the filter {self.name} has no pattern, so every line of {self.log_group} counts"
        if another := of_another(self.log_group, prefix):
            return f"the filter {self.name} reads {another}, which belongs to another environment"
        if above and self.default and firing.threshold is not None:
            minutes = firing.period / 60 if firing.statistic == "Sum" else 1
            if self.default * minutes > firing.threshold:
                return f"the filter {self.name} triggers it with its default value of {self.default:g}"
        return ""


def read_filters(account: AwsAccount, metric: Metric) -> list[MetricFilter]:
    """The metric filters that create a metric."""
    described = account.pages(
        "logs",
        "describe_metric_filters",
        "metricFilters",
        metricName=metric.name,
        metricNamespace=metric.namespace,
    )
    return [
        MetricFilter(
            each["filterName"],
            each["logGroupName"],
            made["metricValue"],
            made.get("defaultValue"),
            every=not each.get("filterPattern", "").strip(),
        )
        for each in described
        for made in each["metricTransformations"]
        if (made["metricNamespace"], made["metricName"]) == (metric.namespace, metric.name)
    ]


def miscounted(
    account: AwsAccount, alarms: Iterable[MetricAlarm], prefix: str, written: Collection[str] = ()
) -> list[str]:
    """The alarms on custom metrics that all of their log filters, if any, compute wrongly.

    `written` are the log groups of services.
    """
    own = [
        each for each in alarms
        if each.metrics and not each.expression and not each.metrics[0].namespace.startswith(("AWS/", "ECS/"))
    ]  # fmt: skip
    found = []
    made = at_once(lambda one: read_filters(account, one.metrics[0]), own)
    for each, filters in zip(own, made, strict=True):
        wrong = [one.useless(each, prefix, written) for one in filters]
        if wrong and all(wrong):
            found.append(f"{each.name}: {wrong[0]}")
    return found


def _number(written: str) -> float | None:
    try:
        return float(written)
    except ValueError:
        return None  # a field of the log line


_MUTE_RULE = ":alarm-mute-rule:"


def muted(account: AwsAccount) -> dict[str, str]:
    """The alarms that an active mute rule silences, each with the rule's name."""
    active = account.pages(
        "cloudwatch",
        "list_alarm_mute_rules",
        "AlarmMuteRuleSummaries",
        absent=("InvalidAction",),  # of a custom endpoint that does not implement it
        Statuses=["ACTIVE"],
    )
    names = [each["AlarmMuteRuleArn"].rpartition(_MUTE_RULE)[2] for each in active]
    rules = at_once(
        lambda name: account.find(
            "cloudwatch", "get_alarm_mute_rule", ("ResourceNotFoundException",), AlarmMuteRuleName=name
        ),
        names,
    )
    return {
        alarm: name
        for name, rule in zip(names, rules, strict=True)
        for alarm in (rule or {}).get("MuteTargets", {}).get("AlarmNames", ())
    }


def read_dashboard(account: AwsAccount, name: str) -> dict[str, Any] | None:
    """A dashboard with its widgets that show something; None if there is no such dashboard."""
    answer = account.find("cloudwatch", "get_dashboard", ("ResourceNotFound",), DashboardName=name)
    if answer is None:
        return None
    body = json.loads(answer["DashboardBody"])
    return {**body, "widgets": [each for each in body.get("widgets", []) if each.get("type") != "text"]}


def describe_log_groups(
    account: AwsAccount, names: Names, groups: Iterable[str]
) -> dict[str, Mapping[str, Any]]:
    """The platform's log groups and the given ones, as CloudWatch Logs describes them, by name."""
    elsewhere = [group for group in dict.fromkeys(groups) if not group.startswith(names.logs)]
    answers = at_once(
        lambda start: account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=start),
        [names.logs, *elsewhere],
    )
    return {each["logGroupName"]: each for described in answers for each in described}


def _query(index: int, metric: Metric, period: int = 60) -> Mapping[str, Any]:
    dimensions = [{"Name": name, "Value": value} for name, value in metric.dimensions]
    described = {"Namespace": metric.namespace, "MetricName": metric.name, "Dimensions": dimensions}
    stat = {"Metric": described, "Period": period, "Stat": "SampleCount"}
    return {"Id": f"m{index}", "MetricStat": {**stat, "Unit": metric.unit} if metric.unit else stat}


REASON = "Fire drill of the smoke suite: nothing is wrong"
QUEUE = "readiness-drill"
#: How long messages are kept, also those in the queue of a killed drill.
KEEPS_S = 300
RECEIVES_FOR_S = 2


def fit_for_drill(alarms: Sequence[MetricAlarm], topic: str) -> MetricAlarm:
    """An alarm that is OK and notifies the topic; AssertionError if there is none."""
    fit = [alarm for alarm in alarms if alarm.state == "OK" and alarm.notifiers(topic)]
    assert fit, f"no alarm that notifies {topic} is OK, so the drill cannot trigger one"
    return fit[0]


class Listener:
    """A temporary queue subscribed to the topic."""

    def __init__(self, account: AwsAccount, url: str) -> None:
        self._account = account
        self._url = url
        self.received: list[str] = []

    def notified(self, alarms: Collection[str], state: str) -> bool:
        """Whether a notification has arrived that one of these alarms went into this state."""
        answer = self._account.ask(
            "sqs",
            "receive_message",
            QueueUrl=self._url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=RECEIVES_FOR_S,
        )
        self.received += [each["Body"] for each in answer.get("Messages", ())]
        return any(says_that(body, alarm, state) for body in self.received for alarm in alarms)


@contextmanager
def listening(account: AwsAccount, topic_arn: str, name: str) -> Iterator[Listener]:
    """Subscribe a new queue of this name to the topic; subscription and queue are deleted afterwards."""
    with ExitStack() as undo:
        queue_arn = ":".join([*topic_arn.replace(":sns:", ":sqs:").split(":")[:5], name])
        url = account.ask(
            "sqs",
            "create_queue",
            QueueName=name,
            Attributes={
                "MessageRetentionPeriod": str(KEEPS_S),
                "Policy": json.dumps(_policy(queue_arn, topic_arn)),
            },
        )["QueueUrl"]
        undo.callback(account.insist, "sqs", "delete_queue", QueueUrl=url)
        subscription = account.ask(
            "sns",
            "subscribe",
            TopicArn=topic_arn,
            Protocol="sqs",
            Endpoint=queue_arn,
            ReturnSubscriptionArn=True,
        )["SubscriptionArn"]
        undo.callback(account.insist, "sns", "unsubscribe", SubscriptionArn=subscription)
        yield Listener(account, url)


@contextmanager
def set_off(account: AwsAccount, alarm: MetricAlarm) -> Iterator[None]:
    """Put an alarm into ALARM; afterwards it is always back in the state in which it was found.

    SetupError with the command to run by hand if AWS does not let it be reset.
    """
    try:
        account.ask("cloudwatch", "set_alarm_state", **_state(alarm, ALARM))
        yield
    finally:
        try:
            account.insist("cloudwatch", "set_alarm_state", **_state(alarm, alarm.state))
        except (SetupError, ExternalOutage) as problem:
            raise SetupError(
                f"{alarm.name} may still be in ALARM: {problem}\n  next: aws cloudwatch set-alarm-state"
                f" --alarm-name {alarm.name} --state-value {alarm.state} --state-reason restored"
            ) from problem


def state_of(account: AwsAccount, alarm: MetricAlarm) -> str:
    """The alarm's current state."""
    found = account.ask("cloudwatch", "describe_alarms", AlarmNames=[alarm.name])["MetricAlarms"]
    return str(found[0]["StateValue"]) if found else "gone"


def undelivered(account: AwsAccount, alarm: MetricAlarm) -> list[str]:
    """What CloudWatch says about its attempts to notify: the newest failures."""
    described = account.ask(
        "cloudwatch", "describe_alarm_history", AlarmName=alarm.name, HistoryItemType="Action", MaxRecords=5
    )
    return [
        str(each["HistorySummary"])
        for each in described["AlarmHistoryItems"]
        if "fail" in each["HistorySummary"].lower()
    ]


def _state(alarm: MetricAlarm, state: str) -> dict[str, str]:
    return {"AlarmName": alarm.name, "StateValue": state, "StateReason": REASON}


def _policy(queue_arn: str, topic_arn: str) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def says_that(body: str, alarm: str, state: str) -> bool:
    """Whether a message of SNS says that an alarm went into a state.

    CloudWatch and EventBridge write it as JSON. An event rule may also send a text of its own:
    then the alarm's name must be in it.
    """
    try:
        message = json.loads(body)["Message"]
        said = json.loads(message)
    except (ValueError, KeyError, TypeError):
        message = said = body
    match said:
        case {"AlarmName": name, "NewStateValue": value}:
            return bool((name, value) == (alarm, state))
        case {"detail": {"alarmName": name, "state": {"value": value}}}:
            return bool((name, value) == (alarm, state))
    return alarm in re.findall(r"[\w.-]+", str(message))
