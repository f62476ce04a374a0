"""Terraform alarms and the resources that they watch, for tests of the alarm rules."""

from smoke.source.checkout import Examined
from smoke.source.infrastructure.alarms import coverage
from smoke.source.infrastructure.definitions import read as read_definitions
from tests.smoke.source.terraform_files import Read, service

WITHIN = {"health_s": 600, "others_s": 900}
TOPIC = 'resource "aws_sns_topic" "t" { name = "alerts" }\nvariable "unset" {}\n'
SUBSCRIPTION = """
resource "aws_sns_topic_subscription" "s" {
  topic_arn = aws_sns_topic.t.arn
  protocol  = "email"
  endpoint  = "a@example.org"
}
"""


def block(name: str, settings: dict[str, str]) -> str:
    body = "\n".join(f"  {key} = {value}" for key, value in settings.items() if value)
    return f'resource "aws_cloudwatch_metric_alarm" "{name}" {{\n{body}\n}}\n'


def connections(**changed: str) -> str:
    return block("c", {
        "namespace": '"AWS/RDS"', "metric_name": '"DatabaseConnections"', "threshold": "70",
        "comparison_operator": '"GreaterThanThreshold"', "alarm_actions": "[aws_sns_topic.t.arn]",
        "statistic": '"Maximum"', "dimensions": '{ DBInstanceIdentifier = "main" }', **changed,
    })  # fmt: skip


CLUSTER = """
resource "aws_ecs_cluster" "main" { name = "cluster" }
resource "aws_lb_target_group" "finn" { name = "finn" }
resource "aws_lb_target_group" "other" { name = "other" }
resource "aws_lb" "main" { name = "main" }
"""
SERVICE = service("finn").replace(
    "  network_configuration",
    '  name = "finn"\n  cluster = aws_ecs_cluster.main.id\n'
    "  load_balancer { target_group_arn = aws_lb_target_group.finn.arn }\n  network_configuration",
)

OWN = '{ ClusterName = "cluster", ServiceName = aws_ecs_service.finn.name }'


def usage(kind: str, metric: str, **changed: str) -> str:
    return block(kind, {
        "namespace": '"AWS/ECS"', "metric_name": f'"{metric}"', "threshold": "80", "statistic": '"Average"',
        "comparison_operator": '"GreaterThanThreshold"', "alarm_actions": "[aws_sns_topic.t.arn]",
        "dimensions": OWN, **changed,
    })  # fmt: skip


def cpu(**changed: str) -> str:
    return usage("cpu", "CPUUtilization", **changed)


def health(**changed: str) -> str:
    return usage("health", "RunningTaskCount", **{
        "namespace": '"ECS/ContainerInsights"', "comparison_operator": '"LessThanThreshold"',
        "threshold": "1",
        "treat_missing_data": '"breaching"', **changed,
    })  # fmt: skip


MEMORY = usage("memory", "MemoryUtilization")


def watched(read: Read, *alarms: str, cluster: str = CLUSTER, of: str = SERVICE) -> Examined:
    configuration = read(TOPIC, SUBSCRIPTION, cluster, of, *alarms)
    (finn,) = [each for each in read_definitions(configuration, ["finn"]).definitions if each.service]
    return coverage(configuration, finn, WITHIN)


BALANCED = "{ TargetGroup = aws_lb_%s.arn_suffix, LoadBalancer = aws_lb.main.arn_suffix }"
