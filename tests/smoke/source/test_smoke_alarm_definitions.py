"""Alarms in Terraform: what each watches, whether it can fire, and who is notified."""

import pytest

from smoke.source.checkout import Examined
from smoke.source.infrastructure.alarms import connection_alarms
from smoke.source.infrastructure.notifications import notified
from tests.smoke.source.alarm_files import (
    BALANCED,
    CLUSTER,
    MEMORY,
    OWN,
    SERVICE,
    SUBSCRIPTION,
    TOPIC,
    WITHIN,
    connections,
    cpu,
    health,
    usage,
    watched,
)
from tests.smoke.source.terraform_files import Read


@pytest.mark.parametrize(
    ("changed", "found", "unread"),
    [
        ({}, 0, 0),
        ({"threshold": '"70"'}, 0, 0),
        ({"threshold": "500"}, 1, 0),
        ({"dimensions": ""}, 1, 0),
        ({"statistic": '"SampleCount"'}, 1, 0),
        ({"statistic": "var.unset"}, 0, 1),
        ({"threshold": "var.unset ? 70 : 500"}, 1, 0),
        ({"threshold": "var.unset"}, 0, 1),
        ({"threshold": "true"}, 0, 1),
        ({"comparison_operator": '"LessThanThreshold"'}, 1, 0),
        ({"metric_name": '"CPUUtilization"'}, 1, 0),
        ({"metric_name": "var.unset"}, 0, 1),
        ({"count": "0"}, 1, 0),
    ],
)
def test_the_alarm_on_connections_is_an_upper_limit_within_the_budget(
    read: Read, changed: dict[str, str], found: int, unread: int
) -> None:
    _, examined = connection_alarms(read(TOPIC, connections(**changed)), 75, WITHIN)
    assert (len(examined.findings), len(examined.not_examined)) == (found, unread)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({}, ""),
        ({"alarm_actions": ""}, "it has no action"),
        ({"alarm_actions": "[]"}, "it has no action"),
        ({"alarm_actions": 'compact([""])'}, "it has no action"),
        ({"alarm_actions": '[""]'}, "it has no action"),
        ({"alarm_actions": 'var.unset ? [""] : []'}, "it has no action"),
        ({"alarm_actions": "var.unset ? [aws_sns_topic.t.arn] : []"}, "? whether"),
        ({"alarm_actions": '["none"]'}, "refuses its action none"),
        ({"alarm_actions": '[var.unset ? aws_sns_topic.t.arn : "none"]'}, "? whether"),
        ({"actions_enabled": "false"}, "its actions are disabled"),
        ({"actions_enabled": '"false"'}, "its actions are disabled"),
        ({"actions_enabled": '"0"'}, "its actions are disabled"),
        ({"actions_enabled": "0"}, "? whether its actions are on"),
        ({"actions_enabled": "true"}, ""),
        ({"count": "0"}, "does not exist"),
        ({"for_each": "toset([])"}, "does not exist"),
        ({"alarm_actions": "[var.unset]"}, "? who"),
        ({"alarm_actions": '["arn:aws:sns:us-east-1:1:alerts"]'}, ""),
        ({"alarm_actions": '["arn:aws:sns:us-east-1:1:elsewhere"]'}, "? who"),
        ({"actions_enabled": "var.unset"}, "? whether its actions are on"),
        ({"count": "var.unset ? 1 : 0"}, "? whether there is"),
        ({"alarm_actions": "[aws_appautoscaling_policy.p.arn]"}, ""),
        ({"alarm_actions": "[data.terraform_remote_state.shared.outputs.topic]"}, "? who"),
        ({"alarm_actions": "[data.aws_ssm_parameter.topic.value]"}, "? who"),
    ],
)
def test_an_alarm_notifies_or_is_found(read: Read, changed: dict[str, str], what: str) -> None:
    scaling = """
resource "aws_appautoscaling_policy" "p" { name = "p" }
data "terraform_remote_state" "shared" { backend = "s3" }
data "aws_ssm_parameter" "topic" { name = "/shared/alerts" }
"""
    examined = notified(read(TOPIC, SUBSCRIPTION, scaling, connections(**changed)))
    lines = [each.what for each in examined.findings] + [f"? {each.what}" for each in examined.not_examined]
    assert len(lines) == bool(what)
    assert all(
        what.removeprefix("?") in line and what.startswith("?") == line.startswith("?") for line in lines
    )


CHATBOT = """
variable "channel" { default = "%s" }
resource "aws_chatbot_slack_channel_configuration" "c" {
  count          = var.channel != "" ? 1 : 0
  sns_topic_arns = [aws_sns_topic.t.arn]
}
"""


def filtered(policy: str, scope: str = "MessageAttributes") -> str:
    added = f'filter_policy = {policy}\n  filter_policy_scope = "{scope}"\n  protocol'
    return SUBSCRIPTION.replace("protocol", added)


RECEIVER = 'module "pager" {\n  source = "acme/pager/aws"\n  topic  = aws_sns_topic.t.arn\n}\n'
STACK = """
resource "aws_cloudformation_stack" "s" {
  parameters    = { Topic = aws_sns_topic.t.arn }
  template_body = jsonencode({ Resources = { One = { Type = "%s" } } })
}
"""
OTHER = 'module "vpc" {\n  source = "acme/vpc/aws"\n}\n'


@pytest.mark.parametrize(
    ("subscriber", "what"),
    [
        (SUBSCRIPTION, ""),
        (SUBSCRIPTION.replace("aws_sns_topic.t.arn", '"arn:aws:sns:us-east-1:1:alerts"'), ""),
        ("", "has no subscription"),
        (SUBSCRIPTION.replace("a@example.org", ""), "has no subscription"),
        (SUBSCRIPTION.replace("protocol", "count = 0\n  protocol"), "has no subscription"),
        (SUBSCRIPTION.replace("protocol", "count = var.unset\n  protocol"), "? whether there is"),
        (filtered('jsonencode({ severity = ["critical"] })'), "the message of an alarm has none"),
        (filtered("jsonencode({})"), ""),
        (filtered("var.unset"), "? which messages the filter of"),
        (
            filtered('jsonencode({ AlarmName = ["a"] })', scope="MessageBody"),
            "? which messages the filter of",
        ),
        (CHATBOT % "", "has no subscription"),
        (CHATBOT % "C01", ""),
        (RECEIVER, "? whether the module pager"),
        (OTHER, "has no subscription"),
        (STACK % "AWS::SNS::Subscription", ""),
        (STACK % "AWS::Chatbot::SlackChannelConfiguration", ""),
        (STACK % "AWS::Lambda::Function", "? whether aws_cloudformation_stack.s subscribes"),
        (STACK.replace("template_body", "template_url") % "x", "? whether aws_cloudformation_stack.s"),
    ],
)
def test_a_topic_has_a_subscriber_or_is_one_finding(read: Read, subscriber: str, what: str) -> None:
    second = connections().replace('"c" {', '"d" {')
    examined = notified(read(TOPIC, subscriber, connections(), second))
    lines = [each.what for each in examined.findings] + [f"? {each.what}" for each in examined.not_examined]
    assert len(lines) == bool(what)
    assert all(what in line for line in lines)


def test_the_key_of_sns_itself_lets_no_alarm_publish(read: Read) -> None:
    topic = TOPIC.replace('"alerts" }', '"alerts"\n  kms_master_key_id = "alias/aws/sns"\n}')
    (finding,) = notified(read(topic, SUBSCRIPTION, connections())).findings
    assert "does not allow alarms to publish" in finding.what


@pytest.mark.parametrize(
    ("alarm", "what"),
    [
        (cpu(), ""),
        (cpu(dimensions=OWN.replace("aws_ecs_service.finn.name", '"finn"')), ""),
        (
            cpu(dimensions=OWN.replace("aws_ecs_service.finn.name", '"dixie"')),
            "no alarm",
        ),
        (cpu(dimensions=OWN.replace('"cluster"', '"other"')), "no alarm"),
        (
            cpu(dimensions=OWN.replace('"cluster"', "var.unset")),
            "? its dimensions",
        ),
        (cpu(dimensions=OWN.replace("finn.name", "finn.id")), "its ServiceName is the id of"),
        (
            cpu(dimensions=OWN.replace('"cluster"', "aws_ecs_cluster.main.arn")),
            "its ClusterName is the arn of",
        ),
        (cpu(alarm_name='"one"') + cpu(alarm_name='"one"').replace('"cpu" {', '"other" {'), "keeps only one"),
        (cpu(threshold="500"), "expected > 60 to 90"),
        (cpu(threshold="5"), "expected > 60 to 90"),
        (cpu(threshold="var.unset ? 80 : 95"), "expected > 60 to 90"),
        (cpu(threshold="var.unset"), "? its threshold"),
        (cpu(comparison_operator='"LessThanThreshold"'), "expected > 60"),
        (cpu(statistic='"SampleCount"'), "its statistic is SampleCount"),
        (cpu(unit='"Seconds"'), "its unit is Seconds"),
        (cpu(unit='"Percent"'), ""),
        (cpu(unit='"None"'), "its unit is None"),
        (cpu(statistic="", extended_statistic='"p95"'), ""),
        (cpu(statistic="", extended_statistic='"p50"'), "its statistic is p50"),
        (cpu(period="300", evaluation_periods="2"), ""),
        (cpu(period='"300"', evaluation_periods='"2"'), ""),
        (cpu(period="3600", evaluation_periods="2"), "it fires after 7200 s"),
        (cpu(period="60", evaluation_periods="60"), "it fires after 3600 s"),
        (cpu(period="60", evaluation_periods="60", datapoints_to_alarm="3"), ""),
        (
            cpu(period="60", evaluation_periods="2", datapoints_to_alarm="3"),
            "it needs 3 breaching datapoints out of 2",
        ),
        (cpu(period="10", evaluation_periods="2"), "its period is 10 s"),
        (cpu(period="var.unset ? 60 : 3600", evaluation_periods="2"), "it fires after 7200 s"),
        (cpu(period="var.unset", evaluation_periods="2"), "? its period"),
        (cpu(period="60", evaluation_periods="var.unset"), "? its evaluation_periods"),
        (cpu(alarm_actions="[]"), "it has no action"),
        (cpu(count="0"), "no alarm"),
        (usage("cpu", "MemoryUtilization"), "no alarm"),
        ("", "no alarm watches the cpu of finn"),
    ],
)
def test_the_cpu_of_a_service_is_watched_or_found(read: Read, alarm: str, what: str) -> None:
    examined = watched(read, alarm, health(), MEMORY)
    lines = [each.what for each in examined.findings] + [f"? {each.what}" for each in examined.not_examined]
    assert len(lines) == bool(what)
    assert all(
        what.removeprefix("? ") in line and what.startswith("?") == line.startswith("?") for line in lines
    )


@pytest.mark.parametrize(
    ("alarm", "what"),
    [
        (health(), ""),
        (health(threshold="0", comparison_operator='"LessThanOrEqualToThreshold"'), ""),
        (health(threshold="2"), "expected < 1"),
        (health(comparison_operator='"GreaterThanThreshold"'), "expected < 1"),
        (health(treat_missing_data='"notBreaching"'), "it treats missing data as notBreaching"),
        (health(treat_missing_data=""), "it treats missing data as missing"),
        (health(treat_missing_data='"ignore"'), "it treats missing data as ignore"),
        (health(treat_missing_data="", insufficient_data_actions="[aws_sns_topic.t.arn]"), ""),
        (
            health(treat_missing_data='"notBreaching"', insufficient_data_actions="[aws_sns_topic.t.arn]"),
            "it treats missing data as notBreaching",
        ),
        (health(treat_missing_data='var.unset ? "breaching" : "ignore"'), "it treats missing data as ignore"),
        (health(period="300", evaluation_periods="3"), "it fires after 900 s, but the plan allows 600 s"),
        (
            health(
                namespace='"AWS/ApplicationELB"',
                metric_name='"HealthyHostCount"',
                dimensions=BALANCED % "target_group.finn",
            ),
            "",
        ),
        (
            health(
                namespace='"AWS/ApplicationELB"',
                metric_name='"HealthyHostCount"',
                dimensions=BALANCED % "target_group.other",
            ),
            "no alarm watches the health of finn",
        ),
        (
            health(
                namespace='"AWS/ApplicationELB"',
                metric_name='"HealthyHostCount"',
                dimensions=(BALANCED % "target_group.finn").replace("main.arn_suffix", "main.name"),
            ),
            "its LoadBalancer is the name of",
        ),
    ],
)
def test_the_health_of_a_service_is_watched_or_found(read: Read, alarm: str, what: str) -> None:
    examined = watched(read, alarm, cpu(), MEMORY)
    assert [what in each.what for each in examined.findings] == [True] * bool(what)
    assert not examined.not_examined


@pytest.mark.parametrize(("insights", "findings"), [("enabled", 0), ("enhanced", 0), ("disabled", 1)])
def test_tasks_are_counted_where_the_cluster_publishes_their_number(
    read: Read, insights: str, findings: int
) -> None:
    setting = f'"cluster"\n  setting {{\n    name = "containerInsights"\n    value = "{insights}"\n  }}\n}}'
    cluster = CLUSTER.replace('"cluster" }', setting)
    assert len(watched(read, health(), cpu(), MEMORY, cluster=cluster).findings) == findings


UTILIZATION = """
variable "environment_name" { default = "staging" }
resource "aws_cloudwatch_metric_alarm" "u" {
  for_each = {
    cpu    = { metric = "CPUUtilization", limit = 80 }
    memory = { metric = "MemoryUtilization", limit = 85 }
  }
  namespace           = "AWS/ECS"
  metric_name         = each.value.metric
  threshold           = each.value.limit
  statistic           = "Average"
  period              = 60
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  alarm_actions       = %s
  dimensions          = { ClusterName = "cluster", ServiceName = aws_ecs_service.finn.name }
}
"""
OTHERS = """
resource "aws_appautoscaling_policy" "p" { name = "p" }
resource "aws_sns_topic" "deaf" { name = "deaf" }
"""
DYNAMIC = """
resource "aws_cloudwatch_metric_alarm" "u" {
  for_each            = toset(["CPUUtilization", "MemoryUtilization"])
  threshold           = 80
  comparison_operator = "GreaterThanThreshold"
  alarm_actions       = [aws_sns_topic.t.arn]
  dynamic "metric_query" {
    for_each = [each.key]
    content {
      id = "m"
      metric {
        namespace   = "AWS/ECS"
        metric_name = metric_query.value
        stat        = "Average"
        period      = 60
        dimensions  = { ClusterName = "cluster", ServiceName = aws_ecs_service.finn.name }
      }
    }
  }
}
"""
EVENTS = """
resource "aws_cloudwatch_event_rule" "alarms" {
  event_pattern = jsonencode({
    source = ["aws.cloudwatch"], "detail-type" = ["CloudWatch Alarm State Change"]
  })
}
resource "aws_cloudwatch_event_target" "alarms" {
  rule = aws_cloudwatch_event_rule.alarms.name
  arn  = aws_sns_topic.t.arn
}
"""


@pytest.mark.parametrize(
    ("alarms", "found", "unclear"),
    [
        (UTILIZATION % "[aws_sns_topic.t.arn]", False, False),
        (UTILIZATION % 'compact([aws_sns_topic.t.arn, ""])', False, False),
        (UTILIZATION % "aws_sns_topic.t[*].arn", False, False),
        (UTILIZATION % '[try(aws_sns_topic.t.arn, "")]', False, False),
        (UTILIZATION % 'var.environment_name == "production" ? [aws_sns_topic.t.arn] : []', True, False),
        (UTILIZATION % "[data.terraform_remote_state.shared.outputs.topic]", False, True),
        (UTILIZATION % "[aws_appautoscaling_policy.p.arn]", True, False),
        (UTILIZATION % '["arn:aws:automate:us-east-1:ec2:recover"]', True, False),
        (UTILIZATION % "[aws_appautoscaling_policy.p.arn, aws_sns_topic.deaf.arn]", True, False),
        (UTILIZATION % "[aws_appautoscaling_policy.p.arn, aws_sns_topic.t.arn]", False, False),
        (UTILIZATION % '["arn:aws:ssm-incidents::1:response-plan/p"]', False, False),
        (UTILIZATION % "[]", True, False),
        (UTILIZATION % "[]" + EVENTS, False, True),
        (UTILIZATION % "[]" + EVENTS.partition('resource "aws_cloudwatch_event_target"')[0], True, False),
        (DYNAMIC, False, False),
    ],
)
def test_alarms_of_a_map_notify_whom_their_actions_name(
    read: Read, alarms: str, found: bool, unclear: bool
) -> None:
    shared = 'data "terraform_remote_state" "shared" { backend = "s3" }\n'
    examined = watched(read, alarms, OTHERS, shared, health())
    assert (bool(examined.findings), bool(examined.not_examined)) == (found, unclear)


QUERY = """
resource "aws_cloudwatch_metric_alarm" "cpu" {
  comparison_operator = "GreaterThanThreshold"
  threshold           = 80
  alarm_actions       = [aws_sns_topic.t.arn]
  metric_query {
    id = "m"
    %s
  }
}
"""
METRIC = f"""metric {{
      namespace   = "AWS/ECS"
      metric_name = "CPUUtilization"
      stat        = "Average"
      period      = 60
      dimensions  = {OWN}
    }}"""


def test_one_metric_query_is_the_flat_form_and_metric_math_is_not_examined(read: Read) -> None:
    assert watched(read, QUERY % METRIC, health(), MEMORY) == Examined()
    examined = watched(read, QUERY % 'expression = "m1 / 2"', health(), MEMORY)
    assert not examined.findings
    assert [each.what for each in examined.not_examined] == ["the alarm cpu: metric math m1 / 2"]


MATH = """id         = "e"
    expression = "%s"
  }
  metric_query {
    id = "m1"
    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "%s"
      stat        = "Sum"
      period      = 60
    }"""


@pytest.mark.parametrize(
    ("expression", "metric", "unclear"),
    [
        ("FILL(m1, 0)", "CPUUtilization", True),
        ("m1 * 100", "RequestCount", False),
        ("FILL(m1, 0)", "${var.unset}", True),
        ("SELECT AVG(CPUUtilization) FROM x", "RequestCount", True),
        ("ANOMALY_DETECTION_BAND(m1, 2)", "CPUUtilization", True),
    ],
)
def test_metric_math_on_something_else_hides_no_lack(
    read: Read, expression: str, metric: str, unclear: bool
) -> None:
    math = QUERY.replace('id = "m"\n    %s', MATH % (expression, metric))
    examined = watched(read, math, health(), MEMORY)
    assert (len(examined.not_examined), len(examined.findings)) == (int(unclear), int(not unclear))


COMPOSITE = """
resource "aws_cloudwatch_composite_alarm" "page" {
  alarm_name    = "page"
  alarm_rule    = %s
  alarm_actions = [aws_sns_topic.t.arn]
}
"""
SILENT = {"alarm_name": '"finn-cpu"', "alarm_actions": "[]"}


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ('"ALARM(${aws_cloudwatch_metric_alarm.cpu.alarm_name})"', ""),
        ('"ALARM(\\"finn-cpu\\") OR ALARM(other)"', ""),
        ('"ALARM(${aws_cloudwatch_metric_alarm.cpu.arn})"', ""),
        ('join(" OR ", [for a in [aws_cloudwatch_metric_alarm.cpu] : "ALARM(${a.alarm_name})"])', ""),
        ('"ALARM(finn-cpu) AND ALARM(other)"', "it has no action"),
        ('"ALARM(other)"', "it has no action"),
        ('"AT_LEAST(1, ALARM, (finn-cpu))"', "? fires with"),
        ("var.unset", "? fires with"),
    ],
)
def test_an_alarm_may_notify_through_a_composite_one(read: Read, rule: str, what: str) -> None:
    examined = watched(read, cpu(**SILENT), COMPOSITE % rule, health(), MEMORY)
    lines = [each.what for each in examined.findings] + [f"? {each.what}" for each in examined.not_examined]
    assert len(lines) == bool(what)
    assert all(
        what.removeprefix("? ") in line and what.startswith("?") == line.startswith("?") for line in lines
    )


def test_composite_alarms_in_a_circle_are_read(read: Read) -> None:
    circle = (COMPOSITE % '"ALARM(finn-cpu) OR ALARM(page)"').replace("[aws_sns_topic.t.arn]", "[]")
    (finding,) = watched(read, cpu(**SILENT), circle, health(), MEMORY).findings
    assert "it has no action" in finding.what


def test_an_alarm_on_what_is_left_out_need_not_exist(read: Read) -> None:
    """What it watches may stand in a block of a `dynamic` query."""
    found = notified(read("""
        variable "firewall" { default = false }
        resource "aws_networkfirewall_firewall" "b" { count = var.firewall ? 1 : 0 }
        resource "aws_cloudwatch_metric_alarm" "deny" {
          count = var.firewall ? 1 : 0
          dynamic "metric_query" {
            for_each = ["a", "b"]
            content {
              id = metric_query.value
              metric { dimensions = { FirewallName = aws_networkfirewall_firewall.b[0].name } }
            }
          }
          alarm_actions = []
        }
    """))  # fmt: skip
    assert not found.findings


@pytest.mark.parametrize(
    ("groups", "group", "unread"),
    [
        ("{ (aws_lb_target_group.finn.arn) = 3000 }", "load_balancer.key", 1),
        ("toset([aws_lb_target_group.finn.arn])", "load_balancer.key", 1),
        ("var.unset", "load_balancer.value", 1),
        ("[aws_lb_target_group.finn.arn]", "load_balancer.value", 0),
    ],
)
def test_a_target_group_that_the_files_leave_open_may_be_watched(
    read: Read, groups: str, group: str, unread: int
) -> None:
    content = f"content {{ target_group_arn = {group} }}"
    block = f'dynamic "load_balancer" {{\n    for_each = {groups}\n    {content}\n  }}'
    service = SERVICE.replace("load_balancer { target_group_arn = aws_lb_target_group.finn.arn }", block)
    alarm = health(
        namespace='"AWS/ApplicationELB"',
        metric_name='"HealthyHostCount"',
        dimensions=BALANCED % "target_group.finn",
    )
    examined = watched(read, alarm, cpu(), MEMORY, of=service)
    assert (examined.findings, len(examined.not_examined)) == ([], unread)


def test_an_alarm_of_the_service_on_anothers_target_group_is_named(read: Read) -> None:
    alarm = health(
        namespace='"AWS/ApplicationELB"',
        metric_name='"HealthyHostCount"',
        dimensions=BALANCED % "target_group.other",
        alarm_name='"p-finn-health"',
    )
    (found,) = watched(read, alarm, cpu(), MEMORY).findings
    assert found.what.startswith("no alarm watches the health of finn: ")
    assert found.what.endswith("watches HealthyHostCount of aws_lb_target_group.other.arn_suffix")


DATABASE = 'resource "aws_db_instance" "main" { identifier = "p-postgres" }\n'


@pytest.mark.parametrize(
    ("of", "database", "found"),
    [
        ('"p-postgres"', DATABASE, 0),
        ("aws_db_instance.main.identifier", DATABASE, 0),
        ("var.unset", DATABASE, 0),
        ('"other-postgres"', DATABASE, 1),
        ('"other-postgres"', DATABASE.replace('"p-postgres"', "var.unset"), 0),
        ('"other-postgres"', "", 0),
        ('"other-postgres"', DATABASE + connections().replace('"main"', '"p-postgres"'), 0),
    ],
)
def test_the_alarm_on_connections_is_of_a_database_of_the_files(
    read: Read, of: str, database: str, found: int
) -> None:
    alarm = connections(dimensions=f"{{ DBInstanceIdentifier = {of} }}")
    alarm = alarm.replace('"aws_cloudwatch_metric_alarm" "', '"aws_cloudwatch_metric_alarm" "first_')
    _, examined = connection_alarms(read(TOPIC, alarm, database), 75, WITHIN)
    assert len(examined.findings) == found


LEADS = """
resource "aws_lb" "inner" {}
resource "aws_lb_target_group" "finn" {}
resource "aws_lb_listener" "https" {
  load_balancer_arn = BALANCER
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.GROUP.arn
  }
}
"""


@pytest.mark.parametrize(
    ("balancer", "group", "what"),
    [
        ("aws_lb.main.arn", "finn", ""),
        ("aws_lb.inner.arn", "other", ""),
        ("var.unset", "finn", ""),
        ("data.aws_lb.main.arn", "finn", ""),
        ("aws_lb.inner.arn", "finn", "aws_lb.main does not forward to aws_lb_target_group.finn"),
    ],
)
def test_an_alarm_is_of_the_balancer_that_leads_to_its_group(
    read: Read, balancer: str, group: str, what: str
) -> None:
    alarm = health(
        namespace='"AWS/ApplicationELB"',
        metric_name='"HealthyHostCount"',
        dimensions=BALANCED % "target_group.finn",
    )
    leads = LEADS.replace("BALANCER", balancer).replace("GROUP", group)
    others = (
        'resource "aws_lb" "main" {}\nresource "aws_lb_target_group" "other" {}\ndata "aws_lb" "main" {}\n'
    )
    examined = watched(read, alarm, cpu(), MEMORY, leads, others)
    assert [what in each.what for each in examined.findings] == [True] * bool(what)


IDLE = """type = "forward"
    forward {
      target_group {
        arn    = aws_lb_target_group.finn.arn
        weight = 0
      }
    }"""


@pytest.mark.parametrize("action", [IDLE, "type = var.unset"])
def test_a_balancer_that_gives_a_group_nothing_now_has_its_metric(read: Read, action: str) -> None:
    alarm = health(
        namespace='"AWS/ApplicationELB"',
        metric_name='"HealthyHostCount"',
        dimensions=BALANCED % "target_group.finn",
    )
    leads = LEADS.replace("BALANCER", "aws_lb.inner.arn").replace("GROUP", "finn")
    second = f"""
resource "aws_lb" "main" {{}}
resource "aws_lb_listener" "second" {{
  load_balancer_arn = aws_lb.main.arn
  default_action {{
    {action}
  }}
}}
variable "unset" {{}}"""
    assert not watched(read, alarm, cpu(), MEMORY, leads, second).findings
