"""Terraform alarms on the platform's own metrics, and the log metric filters that produce them."""

import pytest

from smoke.source.infrastructure.alarms import application
from smoke.source.rules import ABOVE, APPLICATION
from tests.smoke.source.alarm_files import SUBSCRIPTION, TOPIC, WITHIN, block
from tests.smoke.source.terraform_files import Read


def own(metric: str, **changed: str) -> str:
    limit, statistic = APPLICATION[metric].accepts[ABOVE][1], APPLICATION[metric].statistics[0]
    name = "extended_statistic" if statistic.startswith("p") else "statistic"
    return block(metric, {
        "namespace": '"p/AppMetrics"', "metric_name": f'"{metric}"', "threshold": str(limit),
        name: f'"{statistic}"',
        "comparison_operator": '"GreaterThanThreshold"', "alarm_actions": "[aws_sns_topic.t.arn]", **changed,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({}, ""),
        ({"threshold": "1"}, ""),
        ({"threshold": "60"}, "expected > 0 to 5"),
        ({"comparison_operator": '"LessThanThreshold"'}, "expected > 0 to 5"),
        ({"statistic": '"Average"'}, "its statistic is Average"),
        ({"metric_name": '"Other"'}, "no alarm watches JwtValidationFailedCount"),
        ({"alarm_actions": "[]"}, "it has no action"),
    ],
)
def test_the_platforms_own_metrics_are_watched(read: Read, changed: dict[str, str], what: str) -> None:
    alarms = [own(metric, **(changed if metric.startswith("Jwt") else {})) for metric in APPLICATION]
    examined = application(read(TOPIC, SUBSCRIPTION, *alarms), "p/AppMetrics", WITHIN)
    assert [what in each.what for each in examined.findings] == [True] * bool(what)


FILTERED = """
variable "unset" {}
resource "aws_cloudwatch_log_group" "api" { name = "/ecs/p/api" }
resource "aws_ecs_task_definition" "api" {
  container_definitions = jsonencode([{ name = "api", image = "x", logConfiguration = {
    logDriver = "awslogs", options = { awslogs-group = aws_cloudwatch_log_group.api.name }
  } }])
}
resource "aws_cloudwatch_log_metric_filter" "jwt" {
  name           = "jwt"
  log_group_name = GROUP
  metric_transformation {
    name      = "JwtValidationFailedCount"
    namespace = "p/AppMetrics"
    value     = "1"
    MORE
  }
}
"""
GROUP, TENANT = "aws_cloudwatch_log_group.api.name", 'dimensions = { tenant = "$.tenant" }'
BY_ROUTER = """
resource "aws_ecs_task_definition" "x" {
  container_definitions = jsonencode([{ name = "x", image = "x", logConfiguration = {
    logDriver = "fluentd", options = { x = 1 }
  } }])
}"""

EITHER = 'awslogs-group = var.unset ? "/ecs/p/gateway" : "/ecs/p/x"'
PLAIN_FILTER = """
resource "aws_cloudwatch_log_metric_filter" "all" {
  name           = "all"
  log_group_name = "/ecs/p/api"
  metric_transformation {
    name      = "JwtValidationFailedCount"
    namespace = "p/AppMetrics"
    value     = "1"
  }
}
"""


@pytest.mark.parametrize(
    ("group", "more", "others", "what"),
    [
        (GROUP, "", "", ""),
        ('"/ecs/p/api"', "", "", ""),
        ("var.unset", "", "", ""),
        ('"/aws/lambda/auth"', "", "", ""),
        ('"/ecs/p/gateway"', "", PLAIN_FILTER, ""),
        ('"/ecs/p/gateway"', "", 'module "gateway" {\n  source = "acme/service/aws"\n}', ""),
        ('"/ecs/p/gateway"', "", 'resource "aws_ecs_task_definition" "x" {\n  family = "x"\n}', ""),
        ('"/ecs/p/gateway"', "", BY_ROUTER, ""),
        ('var.unset ? "/ecs/p/api" : "/ecs/p/x"', "", "", ""),
        ('"/ecs/p/gateway"', "", BY_ROUTER.replace("fluentd", "awslogs").replace("x = 1", EITHER), ""),
        (GROUP, TENANT, PLAIN_FILTER, ""),
        (GROUP, "dimensions = var.unset", "", ""),
        (GROUP, TENANT, "", "its dimensions are none, but"),
        ('"/ecs/p/gateway"', "", "", "reads /ecs/p/gateway, which no task logs to"),
    ],
)
def test_what_makes_a_metric_from_logs_makes_it_for_its_alarm(
    read: Read, group: str, more: str, others: str, what: str
) -> None:
    text = FILTERED.replace("GROUP", group).replace("MORE", more) + others
    examined = application(read(TOPIC, SUBSCRIPTION, text, *map(own, APPLICATION)), "p/AppMetrics", WITHIN)
    assert [what in each.what for each in examined.findings] == [True] * bool(what)


@pytest.mark.parametrize(
    ("pattern", "value", "others", "what"),
    [
        ('"JWT_FAILED"', "1", "", ""),
        ('"JWT_FAILED"', "0", "", "its metric never rises"),
        ('"JWT_FAILED"', "0", ('"JWT_OTHER"', "1"), ""),  # another filter makes it rise
        ('""', "0", "", ""),  # a zero for every line, where the program publishes the rest
        ('"{ $.e = 1 }"', "$.count", "", ""),
        ('""', "1", "", "every line of /ecs/p/api counts"),
        ('""', "1", ('"JWT_FAILED"', "1"), ""),
        ("var.unset", "0", "", ""),
    ],
)
def test_a_log_filter_must_add_a_value_per_match(
    read: Read, pattern: str, value: str, others: tuple[str, str] | str, what: str
) -> None:
    def filtered(name: str, pattern: str, value: str) -> str:
        text = FILTERED[FILTERED.index('resource "aws_cloudwatch_log_metric_filter"') :]
        text = text.replace("GROUP", GROUP).replace("MORE", "").replace('"jwt" {', f'"{name}" {{')
        return text.replace('value     = "1"', f'value = "{value}"').replace(
            "  metric_t", f"  pattern = {pattern}\n  metric_t"
        )

    base = FILTERED[: FILTERED.index('resource "aws_cloudwatch_log_metric_filter"')]
    filters = [filtered("jwt", pattern, value), *([filtered("other", *others)] if others else [])]
    alarms = [own(metric) for metric in APPLICATION]
    topic = TOPIC.replace('variable "unset" {}\n', "")
    examined = application(read(topic, SUBSCRIPTION, base, *filters, *alarms), "p/AppMetrics", WITHIN)
    assert [what in each.what for each in examined.findings] == [True] * bool(what)


@pytest.mark.parametrize(
    ("namespace", "others", "open_"),
    [("Arrakis", "", 1), ("Arrakis", PLAIN_FILTER, 0), ("p/AppMetrics", "", 0)],
)
def test_a_filter_in_another_namespace_leaves_open_what_makes_the_metric(
    read: Read, namespace: str, others: str, open_: int
) -> None:
    text = FILTERED.replace("GROUP", GROUP).replace("MORE", "").replace("p/AppMetrics", namespace) + others
    examined = application(read(TOPIC, SUBSCRIPTION, text, *map(own, APPLICATION)), "p/AppMetrics", WITHIN)
    assert not examined.findings
    assert ["creates it in Arrakis" in each.what for each in examined.not_examined] == [True] * open_
