"""Alarms: what must be watched, what an alarm lacks, and what could never make it fire."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoke.aws.alarms import (
    Metric,
    MetricAlarm,
    Watch,
    alarm_of,
    is_conservation,
    is_health,
    is_named,
    judged,
    read_alarms,
)
from smoke.aws.monitoring import MetricFilter, muted, unfed
from smoke.aws.names import Names
from smoke.source.rules import (
    ABOVE,
    ABOVE_OR_AT,
    APPLICATION,
    BELOW,
    BELOW_OR_AT,
    HEALTH,
    UTILIZATION,
    Need,
    at_most,
    connections,
    faults,
)
from tests.smoke.aws.fakes import CPU, TOPIC, TOPIC_ARN, WATCH, WITHIN, alarm, scripted

TASKS = Metric.of("ECS/ContainerInsights", "RunningTaskCount", {"ServiceName": "p-finn"})


@pytest.mark.parametrize("threshold", [60, 80, 90])
@pytest.mark.parametrize("comparison", [ABOVE, ABOVE_OR_AT])
def test_a_correct_alarm_satisfies_the_watch(comparison: str, threshold: float) -> None:
    good = alarm(comparison=comparison, threshold=threshold)
    assert judged([good], WATCH, TOPIC).good is good


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"enabled": False}, "its actions are disabled"),
        ({"actions": ()}, "it has no target"),
        ({"actions": (f"{TOPIC_ARN}-archive",)}, f", not {TOPIC_ARN}"),
        ({"actions": ("arn:aws:sns:us-east-1:1:other-p-alerts",)}, f", not {TOPIC_ARN}"),
        ({"actions": ("arn:aws:sqs:us-east-1:1:p-alerts",)}, f", not {TOPIC_ARN}"),
        ({"actions": ("arn:aws:sns:us-east-1:2:p-alerts",)}, f", not {TOPIC_ARN}"),
        ({"actions": ("arn:aws:sns:eu-west-1:1:p-alerts",)}, f", not {TOPIC_ARN}"),
        ({"arn": "arn:aws-cn:cloudwatch:us-east-1:1:alarm:x"}, "not arn:aws-cn:sns:us-east-1:1:p-alerts"),
        ({"period": 3600}, "it fires after 7200 s, but the plan allows 900 s"),
        ({"period": 60, "periods": 60}, "it fires after 3600 s"),
        ({"periods": 2, "datapoints": 3}, "it needs 3 breaching datapoints out of 2"),
        ({"period": 10}, "its period is 10 s"),
        ({"unit": "Count"}, "its unit is Count, but the metric's is Percent"),
        ({"unit": "None"}, "its unit is None"),
        ({"statistic": "Sum"}, "its statistic is Sum"),
        ({"statistic": "SampleCount"}, "its statistic is SampleCount"),
        ({"statistic": "Minimum"}, "its statistic is Minimum"),
        ({"statistic": "p50"}, "its statistic is p50"),
        ({"comparison": BELOW}, "it fires on Average < 80, expected > 60 to 90"),
        ({"comparison": "GreaterThanUpperThreshold", "threshold": None}, "it fires on Average Greater"),
        ({"threshold": 500.0}, "its condition is Average > 500, expected > 60 to 90"),
        ({"threshold": 59.9}, "expected > 60 to 90"),
        ({"threshold": 90.1}, "expected > 60 to 90"),
        ({"threshold": None}, "no fixed threshold"),
    ],
)
def test_an_alarm_that_would_not_fire_is_explained(changed: dict[str, Any], why: str) -> None:
    found = judged([alarm(**changed)], WATCH, TOPIC)
    assert (found.good, found.unread) == (None, ())
    assert found.why.startswith("p-api-cpu-high: ")
    assert why in found.why


@pytest.mark.parametrize(
    "changed",
    [
        {"unit": "Percent"},
        {"statistic": "Maximum"},
        {"statistic": "p99.9"},
        {"period": 60, "periods": 60, "datapoints": 3},
        {"period": 0, "periods": 0},
        {"missing": "ignore"},
        {"actions": ("arn:aws:autoscaling:us-east-1:1:x", TOPIC_ARN)},
    ],
)
def test_settings_that_do_no_harm(changed: dict[str, Any]) -> None:
    assert judged([alarm(**changed)], WATCH, TOPIC).why == ""


def test_one_good_alarm_of_several_is_enough() -> None:
    good = alarm(name="p-api-cpu-very-high", threshold=90.0)
    assert judged([alarm(threshold=95.0), good], WATCH, TOPIC).good is good


@pytest.mark.parametrize("dimensions", [{"ClusterName": "c"}, {"ClusterName": "c", "ServiceName": "p-old"}])
def test_an_alarm_on_something_else_is_named_but_does_not_count(dimensions: dict[str, str]) -> None:
    other = Metric.of("AWS/ECS", "CPUUtilization", dimensions)
    judgement = judged([alarm(metrics=(other,)), alarm(name="p-finn-cpu", metrics=(other,))], WATCH, TOPIC)
    assert judgement.why == f"no alarm watches {CPU}; p-api-cpu-high watches {other}"


def part(name: str, service: str) -> Metric:
    return Metric.of("ECS/ContainerInsights", name, {"ClusterName": "c", "ServiceName": service})


@pytest.mark.parametrize(
    ("metrics", "expression", "named"),
    [
        ((CPU, TASKS), "m1 / m2", True),
        ((CPU,), "ANOMALY_DETECTION_BAND(m1, 2)", True),
        ((CPU,), "FILL(m1, 0)", True),
        ((), 'SELECT MAX(CPUUtilization) FROM "AWS/ECS"', True),
        ((), "SEARCH('{AWS/ECS,ServiceName} CPUUtilization', 'Average')", True),
        ((TASKS,), "FILL(m1, 0)", False),
        ((), 'SELECT MAX(MemoryUtilization) FROM "AWS/ECS"', False),
        ((), "SELECT MAX(GuestCPUUtilization) FROM x", False),
        ((part("CpuUtilized", "p-api"), part("CpuReserved", "p-api")), "100*m1/m2", True),
        ((part("CpuUtilized", "p-finn"), part("CpuReserved", "p-finn")), "100*m1/m2", False),
        ((), "a query of another kind", True),  # PromQL, by the name of the alarm
    ],
)
def test_what_an_expression_computes_is_not_examined(
    metrics: tuple[Metric, ...], expression: str, named: bool
) -> None:
    found = judged([alarm(metrics=metrics, expression=expression)], WATCH, TOPIC)
    assert found.good is None
    assert found.unread == ((f"p-api-cpu-high, which computes {expression}",) if named else ())


@pytest.mark.parametrize(
    ("need", "comparison", "threshold", "fits"),
    [
        (HEALTH, BELOW, 1, True),
        (HEALTH, BELOW_OR_AT, 0, True),
        (HEALTH, BELOW, 0, False),
        (HEALTH, BELOW, 2, False),
        (HEALTH, BELOW_OR_AT, 1, False),
        (HEALTH, ABOVE, 1, False),
        (APPLICATION["ConservationViolationCount"], ABOVE, 0, True),
        (APPLICATION["ConservationViolationCount"], ABOVE_OR_AT, 1, True),
        (APPLICATION["ConservationViolationCount"], ABOVE_OR_AT, 0, False),
        (APPLICATION["JwtValidationFailedCount"], ABOVE, 5, True),
        (APPLICATION["JwtValidationFailedCount"], ABOVE, 6, False),
    ],
)
def test_accepted_conditions(need: Need, comparison: str, threshold: float, fits: bool) -> None:
    found = alarm(
        comparison=comparison, threshold=threshold, statistic=need.statistics[0], missing="breaching"
    )
    assert (judged([found], Watch((CPU,), need, WITHIN), TOPIC).good is found) is fits


@pytest.mark.parametrize("period", [10, 20, 30])
def test_the_platforms_own_metrics_may_come_more_often_than_amazons(period: int) -> None:
    firing = alarm(period=period, statistic="p99", threshold=8000.0).firing
    assert faults(firing, APPLICATION["InvokeLatencyMs"], WITHIN) == []


def test_a_percentile_can_be_requested() -> None:
    watch = Watch((CPU,), APPLICATION["InvokeLatencyMs"], WITHIN)
    assert judged([alarm(statistic="p99")], watch, TOPIC).why == ""
    assert "its statistic is p50, expected p99" in judged([alarm(statistic="p50")], watch, TOPIC).why


def health(**changed: Any) -> MetricAlarm:
    good = {"metrics": (TASKS,), "statistic": "Minimum", "comparison": BELOW, "threshold": 1.0, "period": 60}
    return alarm(**{**good, "missing": "breaching", **changed})


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"missing": "missing"}, "it treats missing data as missing"),
        ({"missing": "ignore"}, "it treats missing data as ignore"),
        ({"missing": "notBreaching"}, "it treats missing data as notBreaching"),
        ({"missing": "missing", "reports_absence": True}, ""),
        ({"missing": "notBreaching", "reports_absence": True}, "it treats missing data as notBreaching"),
        ({"period": 300, "periods": 3}, "it fires after 900 s, but the plan allows 600 s"),
        ({"statistic": "SampleCount"}, "its statistic is SampleCount"),
        ({"unit": "Percent"}, "its unit is Percent"),
        ({"unit": "Count"}, ""),
    ],
)
def test_health_must_be_seen_where_nothing_runs_and_in_time(changed: dict[str, Any], why: str) -> None:
    reason = judged([health(**changed)], Watch((TASKS,), HEALTH, WITHIN), TOPIC).why
    assert why in reason
    assert bool(why) == bool(reason)


def test_any_of_several_metrics_may_be_watched() -> None:
    hosts = [Metric.of("AWS/ApplicationELB", "HealthyHostCount", {"TargetGroup": each}) for each in "ab"]
    watch = Watch((*hosts, TASKS), HEALTH, WITHIN)
    for metric in watch.metrics:
        assert judged([health(metrics=(metric,))], watch, TOPIC).why == ""
    assert "no alarm watches" in judged([health(metrics=(CPU,))], watch, TOPIC).why


@given(
    st.integers(1, 100), st.integers(1, 100), st.integers(0, 100), st.sampled_from([60, 120, 300, 900, 3600])
)
def test_an_alarm_is_in_time_when_its_datapoints_are(
    periods: int, limit: int, datapoints: int, period: int
) -> None:
    watch = Watch((CPU,), UTILIZATION, {"others_s": limit * 60, "health_s": 0})
    found = alarm(period=period, periods=periods, datapoints=datapoints)
    in_time = datapoints <= periods and period * (datapoints or periods) <= limit * 60
    assert (judged([found], watch, TOPIC).good is found) is in_time


def test_an_alarm_that_only_scales_steers_and_one_that_also_notifies_does_not() -> None:
    scaling = "arn:aws:autoscaling:us-east-1:1:scalingPolicy:x"
    assert alarm(actions=(scaling,)).steers
    assert not alarm(actions=(scaling, TOPIC_ARN)).steers
    assert not alarm(actions=()).steers
    assert alarm(actions=(scaling, TOPIC_ARN)).mute(TOPIC) == []


def test_alarm_families_are_recognised_by_what_they_watch() -> None:
    money = Metric.of("Arrakis/Economic", "conservation_result", {})
    assert (is_health(alarm(metrics=(TASKS,))), is_health(alarm())) == (True, False)
    assert (is_conservation(alarm(metrics=(money,))), is_conservation(alarm())) == (True, False)


@pytest.mark.parametrize(
    ("metrics", "expression", "named"),
    [
        ((CPU,), "", True),
        ((TASKS,), "FILL(m1, 0)", True),
        ((Metric.of("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", {"LoadBalancer": "x"}),), "", False),
        ((Metric.of("AWS/RDS", "FreeStorageSpace", {}),), "m1 / 2", False),
        ((), 'SELECT SUM(Errors) FROM SCHEMA("AWS/Lambda")', False),
        ((), 'SELECT MAX(CPUUtilization) FROM SCHEMA("AWS/ECS", ServiceName)', True),
        ((), "sum(rate(errors[5m])) > 0", True),
    ],
)
def test_what_the_contract_names_is_held_and_other_alarms_are_not(
    metrics: tuple[Metric, ...], expression: str, named: bool
) -> None:
    assert is_named(alarm(metrics=metrics, expression=expression)) is named


def test_an_alarm_is_fed_by_every_metric_with_exactly_its_dimensions() -> None:
    found = alarm(metrics=(CPU, TASKS))
    assert unfed([found], {CPU: 3, TASKS: 1}) == []
    assert unfed([found], {CPU: 3, TASKS: 0}) == [f"p-api-cpu-high: no datapoint of {TASKS}"]
    assert unfed([found], {TASKS: 1}) == [f"p-api-cpu-high: no datapoint of {CPU}"]


@pytest.mark.parametrize("expression", ["FILL(m1, 0) + FILL(m2, 0)", "SUM(METRICS())", "MAX ([m1, m2])"])
def test_function_may_replace_one_metric_without_datapoints_but_not_all(expression: str) -> None:
    found = alarm(metrics=(CPU, TASKS), expression=expression)
    assert unfed([found], {CPU: 3}) == []
    assert len(unfed([found], {})) == len(found.metrics)


def test_arithmetic_needs_every_metric() -> None:
    assert unfed([alarm(metrics=(CPU, TASKS), expression="100 * (m1 - m2) / m1")], {CPU: 3})


def test_metric_of_the_platform_itself_may_want_a_default_value() -> None:
    own = Metric.of("p/AppMetrics", "ConservationViolationCount", {})
    (reason,) = unfed([alarm(metrics=(own,))], {})
    assert reason.endswith("give the filter a default value of 0)")


TOLD: dict[str, Any] = {
    "AlarmName": "p-api-cpu-high",
    "AlarmArn": "arn:aws:cloudwatch:us-east-1:1:alarm:p-api-cpu-high",
    "StateValue": "OK",
    "Namespace": "AWS/ECS",
    "MetricName": "CPUUtilization",
    "Dimensions": [{"Name": "ServiceName", "Value": "p-api"}, {"Name": "ClusterName", "Value": "c"}],
    "Statistic": "Average",
    "Period": 300,
    "EvaluationPeriods": 2,
    "ComparisonOperator": ABOVE,
    "Threshold": 80,
    "ActionsEnabled": True,
    "AlarmActions": [TOPIC_ARN],
}
FLAT = ("Namespace", "MetricName", "Dimensions", "Statistic", "Period", "Unit")


def queried(record: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The same alarm by a metric query."""
    metric = {name: record[name] for name in ("Namespace", "MetricName", "Dimensions")}
    stat = {"Metric": metric, "Stat": record["Statistic"], "Period": record["Period"]}
    stat |= {"Unit": record["Unit"]} if "Unit" in record else {}
    kept = {key: value for key, value in record.items() if key not in FLAT}
    return {**kept, "Metrics": [{"Id": "m1", "MetricStat": stat, **changed}]}


@pytest.mark.parametrize("more", [{}, {"Unit": "Percent"}, {"DatapointsToAlarm": 1}])
def test_an_alarm_as_aws_describes_it(more: dict[str, Any]) -> None:
    unit, datapoints = more.get("Unit", ""), more.get("DatapointsToAlarm", 0)
    metric = Metric.of(CPU.namespace, CPU.name, dict(CPU.dimensions), unit)
    expected = alarm(metrics=(metric,), unit=unit, datapoints=datapoints)
    assert alarm_of({**TOLD, **more}) == expected
    assert alarm_of(queried({**TOLD, **more})) == expected
    assert judged([expected], WATCH, TOPIC).good is expected


@pytest.mark.parametrize(
    ("expression", "comparison", "missing"),
    [
        ("FILL(m1, 0)", "LessThanThreshold", "breaching"),
        (" FILL( m1 , 100 ) ", "LessThanThreshold", "notBreaching"),
        ("FILL(m1,0)", ABOVE, "notBreaching"),
        ("FILL(m1, REPEAT)", ABOVE, None),
        ("FILL(m2, 0)", ABOVE, None),
        ("FILL(m1, 0) / 2", ABOVE, None),
    ],
)
def test_a_number_may_stand_for_missing_data(expression: str, comparison: str, missing: str | None) -> None:
    record = {**queried(TOLD), "ComparisonOperator": comparison, "Threshold": 80.0}
    record["Metrics"] = [*record["Metrics"], {"Id": "e1", "Expression": expression}]
    found = alarm_of(record)
    assert (found.firing.missing if not found.expression else None) == missing


def test_a_number_that_is_computed_but_not_returned_stands_for_nothing() -> None:
    record = {**queried(TOLD), "ComparisonOperator": ABOVE, "Threshold": 80.0}
    filled = {"Id": "e1", "Expression": "FILL(m1, 100)", "ReturnData": False}
    record["Metrics"] = [*record["Metrics"], filled]
    assert alarm_of(record).firing.missing != "breaching"


def test_a_mute_rule_keeps_alarms_from_notifying() -> None:
    arn = "arn:aws:cloudwatch:us-east-1:1:alarm-mute-rule:night"
    account, _ = scripted(
        list_alarm_mute_rules=lambda **_: {"AlarmMuteRuleSummaries": [{"AlarmMuteRuleArn": arn}]},
        get_alarm_mute_rule=lambda **_: {"MuteTargets": {"AlarmNames": ["p-cpu"]}},
    )
    assert muted(account) == {"p-cpu": "night"}
    account, _ = scripted(list_alarm_mute_rules=lambda **_: {"AlarmMuteRuleSummaries": []})
    assert muted(account) == {}


def test_a_metric_of_another_account_is_another_one() -> None:
    own = alarm_of(queried(TOLD, AccountId="1"))
    assert judged([own], WATCH, TOPIC).good is own
    assert "AccountId=2" in str(alarm_of(queried(TOLD, AccountId="2")).metrics[0])


@pytest.mark.parametrize(
    "queries",
    [
        [{"Id": "e", "Expression": "m1 / m2"}, {"Id": "m1"}, {"Id": "m2"}],
        [{"Id": "e", "Expression": "FILL(m1, REPEAT)"}, {"Id": "m1"}],
        [{"Id": "e", "Expression": "SELECT 1"}],
        [],
    ],
)
def test_every_shape_of_metric_math_is_read(queries: list[dict[str, Any]]) -> None:
    stat = {"Metric": {name: TOLD[name] for name in FLAT[:3]}, "Stat": "Average", "Period": 60}
    made = [each if "Expression" in each else {**each, "MetricStat": stat} for each in queries]
    record = {"AlarmName": "p-rate", "StateValue": "OK", "Metrics": made}
    found = alarm_of(record)
    assert found.metrics == (CPU,) * (len(queries) - 1)
    assert found.expression == (queries[0]["Expression"] if queries else "a query of another kind")
    assert (found.firing.statistic, found.firing.threshold, found.enabled, found.actions) == (
        "",
        None,
        False,
        (),
    )
    assert found.condition == "expression  no fixed threshold"


def test_no_data_is_reported_by_a_topic_only() -> None:
    for actions, reported in (
        ([TOPIC_ARN], True),
        (["arn:aws:automate:us-east-1:ec2:x"], False),
        ([], False),
    ):
        assert alarm_of({**TOLD, "InsufficientDataActions": actions}).firing.reports_absence is reported


def test_the_platforms_alarms_are_found_by_name_by_what_they_watch_and_by_their_rule() -> None:
    names = ["p-api-cpu-high", "by-dimension", "by-namespace", "foreign"]
    dimensions = [[], [{"Name": "TargetGroup", "Value": "targetgroup/p-api/1"}], [], [
        {"Name": "ClusterName", "Value": "up-cluster"}
    ]]  # fmt: skip
    records = [
        {**TOLD, "AlarmName": name, "Dimensions": of, **({"Namespace": "p/App"} if "space" in name else {})}
        for name, of in zip(names, dimensions, strict=True)
    ]
    rules = {"p-none": "ALARM(foreign)", "some": "ALARM(by-dimension)", "other": "ALARM(foreign)"}
    composites = [{"AlarmName": name, "StateValue": "OK", "AlarmRule": rule} for name, rule in rules.items()]
    account, client = scripted(
        describe_alarms=lambda **_: {"MetricAlarms": records, "CompositeAlarms": composites}
    )
    found, above, known = read_alarms(account, Names("p"))
    assert known == {*names, *rules}
    assert [each.name for each in found] == names[:3]
    assert [each.name for each in above] == ["p-none", "some"]
    assert [parameters["AlarmTypes"] for _, parameters in client.asked] == [["MetricAlarm", "CompositeAlarm"]]


def test_connections_may_not_go_off_always() -> None:
    assert connections(85).condition == "> 1 to 85"
    assert at_most(0)[ABOVE_OR_AT] == (1, 1)


def test_an_alarm_on_tasks_that_nothing_counts_does_not_fire() -> None:
    watch = Watch((TASKS,), HEALTH, WITHIN, unpublished=frozenset({TASKS}))
    assert "Container Insights is disabled" in judged([health(metrics=(TASKS,))], watch, TOPIC).why


def test_an_alarm_on_a_target_group_that_nothing_leads_to_is_named() -> None:
    hosts = Metric.of("AWS/ApplicationELB", "HealthyHostCount", {"TargetGroup": "targetgroup/p-api/1"})
    watch = Watch((TASKS,), HEALTH, WITHIN, unreached=frozenset({"targetgroup/p-api/1"}))
    why = judged([health(name="p-api-health", metrics=(hosts,))], watch, TOPIC).why
    assert why.startswith("p-api-health watches a target group that no load balancer forwards to; no alarm")


@pytest.mark.parametrize(
    ("name", "group", "counts"),
    [
        ("JwtValidationFailedCount", "/ecs/p/api", True),
        ("JwtValidationFailedCount", "/aws/lambda/x", False),
        ("LinesWritten", "/ecs/p/api", False),
    ],
)
def test_only_the_contracts_metrics_need_a_pattern(name: str, group: str, counts: bool) -> None:
    watching = alarm(metrics=(Metric.of("Platform", name, {}),), statistic="Sum", threshold=5.0)
    made = MetricFilter("f", group, "1", None, every=True)
    assert bool(made.useless(watching, "p-staging", {"/ecs/p/api"})) is counts
