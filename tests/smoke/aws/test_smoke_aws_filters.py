"""Log filters: what they count, and alarms that ignore few values."""

from datetime import timedelta
from typing import Any

import pytest
from pytest_readiness import ExternalOutage

from smoke.aws.alarms import (
    Metric,
    alarm_of,
)
from smoke.aws.monitoring import miscounted, sparse
from smoke.source.rules import (
    ABOVE,
)
from tests.smoke.aws.fakes import alarm, scripted

REFUSED = Metric.of("p/AppMetrics", "JwtValidationFailedCount", {})


def made(value: str = "1", default: float | None = 0, group: str = "/ecs/p/api") -> dict[str, Any]:
    transformation = {"metricNamespace": REFUSED.namespace, "metricName": REFUSED.name, "metricValue": value}
    more = {} if default is None else {"defaultValue": default}
    return {"filterName": "f", "logGroupName": group, "metricTransformations": [{**transformation, **more}]}


@pytest.mark.parametrize(
    ("filters", "wrong"),
    [
        ([], False),  # the platform puts it itself
        ([made()], False),
        ([made("$.count", None)], False),
        ([made("0"), made()], False),
        ([made(default=1)], False),  # five in five minutes are not more than five
        ([made(group="/ecs/other/api")], False),
        ([made("0")], True),
        ([made("0.0", None)], True),
        ([made(default=2)], True),
        ([made(group="/ecs/arrakis-production/api")], True),
    ],
)
def test_a_log_filter_must_match_its_alarm(filters: list[Any], wrong: bool) -> None:
    account, _ = scripted(describe_metric_filters=lambda **_: {"metricFilters": filters})
    watching = alarm(metrics=(REFUSED,), statistic="Sum", threshold=5.0, period=300, periods=1)
    assert bool(miscounted(account, [watching, alarm()], "arrakis-staging")) is wrong


@pytest.mark.parametrize(
    ("value", "statistic", "comparison", "wrong"),
    [
        ("1", "p99", ABOVE, True),
        ("1", "Maximum", ABOVE, True),
        ("5", "Maximum", ABOVE, True),
        ("5", "Maximum", "GreaterThanOrEqualToThreshold", False),
        ("4", "Maximum", "GreaterThanOrEqualToThreshold", True),
        ("6", "p99", ABOVE, False),
        ("$.ms", "p99", ABOVE, False),
        ("1", "Sum", ABOVE, False),
    ],
)
def test_a_filter_that_adds_the_same_for_each_line(
    value: str, statistic: str, comparison: str, wrong: bool
) -> None:
    account, _ = scripted(describe_metric_filters=lambda **_: {"metricFilters": [made(value)]})
    watching = alarm(metrics=(REFUSED,), statistic=statistic, comparison=comparison, threshold=5.0)
    assert bool(miscounted(account, [watching], "arrakis-staging")) is wrong


@pytest.mark.parametrize(
    ("low", "statistic", "largest", "never"),
    [
        ("ignore", "p99", 999.0, True),
        ("ignore", "p99", 1000.0, False),
        ("ignore", "p99", 0.0, False),  # no data: another finding
        ("ignore", "p50", 20.0, False),
        ("ignore", "p90", 100.0, False),
        ("ignore", "p90", 99.0, True),
        ("ignore", "Average", 1.0, False),
        ("evaluate", "p99", 1.0, False),
    ],
)
def test_an_alarm_that_ignores_few_values(low: str, statistic: str, largest: float, never: bool) -> None:
    described = {
        "AlarmName": "p-late",
        "StateValue": "OK",
        "Namespace": "p",
        "MetricName": "Late",
        "Period": 60,
    }
    described |= {"ExtendedStatistic": statistic, "EvaluateLowSampleCountPercentile": low, "Period": 60}
    values = [largest / 2, largest] if largest else []
    account, _ = scripted(get_metric_data=lambda **_: {"MetricDataResults": [{"Id": "m0", "Values": values}]})
    assert bool(sparse(account, [alarm_of(described)])) is never


def test_values_that_cloudwatch_did_not_read_are_not_few() -> None:
    described = {"AlarmName": "p-late", "StateValue": "OK", "Namespace": "p", "MetricName": "Late"}
    described |= {"ExtendedStatistic": "p99", "EvaluateLowSampleCountPercentile": "ignore"}
    told = {"MetricDataResults": [{"Id": "m0", "Values": [1.0], "StatusCode": "InternalError"}]}
    account, _ = scripted(get_metric_data=lambda **_: told)
    with pytest.raises(ExternalOutage):
        sparse(account, [alarm_of({**described, "Period": 60})])


@pytest.mark.parametrize(("period", "asked"), [(10, 60), (60, 60), (21_600, 21_600)])
def test_few_values_in_a_week_are_few(period: int, asked: int) -> None:
    described = {"AlarmName": "p-late", "StateValue": "OK", "Namespace": "p", "MetricName": "Late"}
    described |= {"ExtendedStatistic": "p99", "EvaluateLowSampleCountPercentile": "ignore"}
    account, client = scripted(get_metric_data=lambda **_: {"MetricDataResults": []})
    assert sparse(account, [alarm_of({**described, "Period": period})]) == []
    ((_, sent),) = client.asked
    assert sent["EndTime"] - sent["StartTime"] == timedelta(days=7)
    assert sent["MetricDataQueries"][0]["MetricStat"]["Period"] == asked
