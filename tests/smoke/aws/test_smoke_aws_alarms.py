"""Alarms: what must be watched, what an alarm lacks, and what could never make it fire."""

from collections.abc import Mapping
from typing import Any

import pytest

from smoke.aws.alarms import NONE_LEFT, PERCENT, Watch, at_most, judged
from smoke.aws.monitoring import (
    ABOVE,
    ABOVE_OR_AT,
    BELOW,
    BELOW_OR_AT,
    Metric,
    MetricAlarm,
    alarm_of,
    is_conservation,
    is_health,
    mute,
    unfed,
)
from tests.smoke.aws.fakes import CPU, TOPIC, TOPIC_ARN, alarm

WATCH = Watch(CPU, PERCENT, of="api")
TASKS = Metric.of("ECS/ContainerInsights", "RunningTaskCount", {"ServiceName": "p-finn"})


@pytest.mark.parametrize("threshold", [60, 80, 90])
@pytest.mark.parametrize("comparison", [ABOVE, ABOVE_OR_AT])
def test_an_alarm_that_does_its_work(comparison: str, threshold: float) -> None:
    good = alarm(comparison=comparison, threshold=threshold)
    assert judged([good], WATCH, TOPIC) == (good, "")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"enabled": False}, "its actions are switched off"),
        ({"actions": ()}, "it has no target"),
        ({"actions": (f"{TOPIC_ARN}-archive",)}, "and not p-alerts"),
        ({"actions": ("arn:aws:sns:us-east-1:1:other-p-alerts",)}, "and not p-alerts"),
        ({"place": "us-east-1:2"}, "and not p-alerts of us-east-1:2"),
        ({"place": "eu-west-1:1"}, "and not p-alerts of eu-west-1:1"),
        ({"comparison": BELOW}, "it fires on Average < 80, accepted is > 60 to 90"),
        ({"comparison": "GreaterThanUpperThreshold", "threshold": None}, "it fires on Average Greater"),
        ({"threshold": 500.0}, "its condition is Average > 500, accepted is > 60 to 90"),
        ({"threshold": 59.9}, "accepted is > 60 to 90"),
        ({"threshold": 90.1}, "accepted is > 60 to 90"),
        ({"threshold": None}, "no fixed threshold"),
    ],
)
def test_an_alarm_that_would_not(changed: dict[str, Any], why: str) -> None:
    good, told = judged([alarm(**changed)], WATCH, TOPIC)
    assert good is None
    assert told.startswith("p-api-cpu-high: ")
    assert why in told


def test_one_good_alarm_of_several_is_enough() -> None:
    good = alarm(name="p-api-cpu-very-high", threshold=90.0)
    assert judged([alarm(threshold=95.0), good], WATCH, TOPIC) == (good, "")


@pytest.mark.parametrize("dimensions", [{"ClusterName": "c"}, {"ClusterName": "c", "ServiceName": "p-old"}])
def test_an_alarm_on_something_else_is_named_but_does_not_count(dimensions: Mapping[str, str]) -> None:
    other = Metric.of("AWS/ECS", "CPUUtilization", dimensions)
    _, told = judged([alarm(metrics=(other,)), alarm(name="p-finn-cpu", metrics=(other,))], WATCH, TOPIC)
    assert told == f"no alarm watches {CPU}; p-api-cpu-high watches {other}"


def test_an_alarm_on_an_expression_does_not_watch_the_metric_itself() -> None:
    assert judged([alarm(metrics=(CPU, TASKS))], WATCH, TOPIC)[0] is None
    assert judged([alarm(statistic="")], WATCH, TOPIC)[0] is None


@pytest.mark.parametrize(
    ("accepts", "comparison", "threshold", "fits"),
    [
        (NONE_LEFT, BELOW, 1, True),
        (NONE_LEFT, BELOW_OR_AT, 0, True),
        (NONE_LEFT, BELOW, 0, False),
        (NONE_LEFT, BELOW, 2, False),
        (NONE_LEFT, BELOW_OR_AT, 1, False),
        (NONE_LEFT, ABOVE, 1, False),
        (at_most(0), ABOVE, 0, True),
        (at_most(0), ABOVE_OR_AT, 1, True),
        (at_most(0), ABOVE_OR_AT, 0, False),
        (at_most(5), ABOVE, 5, True),
        (at_most(5), ABOVE, 6, False),
    ],
)
def test_accepted_conditions(
    accepts: Mapping[str, tuple[float, float]], comparison: str, threshold: float, fits: bool
) -> None:
    found = alarm(comparison=comparison, threshold=threshold)
    assert (judged([found], Watch(CPU, accepts), TOPIC)[0] is found) is fits


def test_a_percentile_can_be_asked_for() -> None:
    watch = Watch(CPU, PERCENT, statistic="p99")
    assert judged([alarm(statistic="p99")], watch, TOPIC)[1] == ""
    assert "it looks at p50, wanted is p99" in judged([alarm(statistic="p50")], watch, TOPIC)[1]


def test_an_alarm_that_only_scales_steers_and_one_that_also_tells_does_not() -> None:
    scaling = "arn:aws:autoscaling:us-east-1:1:scalingPolicy:x"
    assert alarm(actions=(scaling,)).steers
    assert not alarm(actions=(scaling, TOPIC_ARN)).steers
    assert not alarm(actions=()).steers
    assert mute(alarm(actions=(scaling, TOPIC_ARN)), TOPIC) == []


def test_alarm_families_are_recognised_by_what_they_watch() -> None:
    money = Metric.of("Arrakis/Economic", "conservation_result", {})
    assert (is_health(alarm(metrics=(TASKS,))), is_health(alarm())) == (True, False)
    assert (is_conservation(alarm(metrics=(money,))), is_conservation(alarm())) == (True, False)


def test_an_alarm_is_fed_by_every_metric_with_exactly_its_dimensions() -> None:
    found = alarm(metrics=(CPU, TASKS))
    assert unfed([found], {CPU: 3, TASKS: 1}) == []
    assert unfed([found], {CPU: 3, TASKS: 0}) == [f"p-api-cpu-high: no datapoint of {TASKS}"]
    assert unfed([found], {TASKS: 1}) == [f"p-api-cpu-high: no datapoint of {CPU}"]


def test_metric_of_the_platform_itself_may_want_a_default_value() -> None:
    own = Metric.of("p/AppMetrics", "ConservationViolationCount", {})
    (told,) = unfed([alarm(metrics=(own,))], {})
    assert told.endswith("give the filter a default value of 0)")


TOLD: dict[str, Any] = {
    "AlarmName": "p-api-cpu-high",
    "StateValue": "OK",
    "Namespace": "AWS/ECS",
    "MetricName": "CPUUtilization",
    "Dimensions": [{"Name": "ServiceName", "Value": "p-api"}, {"Name": "ClusterName", "Value": "c"}],
    "Statistic": "Average",
    "ComparisonOperator": ABOVE,
    "Threshold": 80,
    "ActionsEnabled": True,
    "AlarmActions": [TOPIC_ARN],
}


def test_an_alarm_as_aws_tells_it() -> None:
    assert alarm_of(TOLD) == alarm()


def test_an_expression_is_fed_by_each_of_its_metrics() -> None:
    metric = {"Namespace": "AWS/ECS", "MetricName": "CPUUtilization", "Dimensions": TOLD["Dimensions"]}
    told = {
        "AlarmName": "p-rate",
        "StateValue": "OK",
        "Metrics": [
            {"Id": "e", "Expression": "m1 / m2"},
            {"Id": "m1", "MetricStat": {"Metric": metric}},
            {"Id": "m2", "MetricStat": {"Metric": {"Namespace": "N", "MetricName": "M"}}},
        ],
    }
    found: MetricAlarm = alarm_of(told)
    assert found.metrics == (CPU, Metric("N", "M"))
    assert (found.statistic, found.threshold, found.enabled, found.actions) == ("", None, False, ())
    assert found.condition == "expression  no fixed threshold"
