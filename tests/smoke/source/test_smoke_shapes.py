"""Resources that AWS accepts, in the styles that people write, and what it refuses."""

from collections.abc import Sequence

import pytest

from smoke.source.infrastructure.shapes import misshapen
from tests.smoke.source.terraform_files import Read, wrong


@pytest.mark.parametrize(
    ("launch", "count"), [("", 0), ("launch_type = null", 0), ('launch_type = "FARGATE"', 1)]
)
def test_capacity_providers_replace_a_launch_type(read: Read, launch: str, count: int) -> None:
    strategy = 'capacity_provider_strategy {\n    capacity_provider = "FARGATE_SPOT"\n  }'
    found = wrong(read, f'resource "aws_ecs_service" "s" {{\n  name = "s"\n  {launch}\n  {strategy}\n}}')
    assert len(found) == count


@pytest.mark.parametrize("line", ["", "container_definitions = null"])
def test_a_task_definition_needs_containers(read: Read, line: str) -> None:
    found = wrong(read, f'resource "aws_ecs_task_definition" "t" {{\n  family = "t"\n  {line}\n}}')
    assert found == ["aws_ecs_task_definition.t: it has no container_definitions"]


@pytest.mark.parametrize(
    ("protocol", "endpoint", "count"),
    [
        ("sqs", "aws_sqs_queue.q.arn", 0),
        ("email", "aws_sqs_queue.q.arn", 1),
        ("sqs", "aws_sqs_queue.q.url", 1),
        ("sqs", "aws_sqs_queue.q.id", 1),
        ("sqs", "trimspace(aws_sqs_queue.q.id)", 0),
        ("email", '"on-call@example.com"', 0),
        ("https", '"http://pager.example.com"', 1),
        ("https", "var.unset", 0),
        ("email", "var.empty", 0),
        ("sqs", '"arn:aws:sqs:us-east-1:123456789012:pager"', 0),
        ("lambda", '"arn:aws:sqs:us-east-1:123456789012:pager"', 1),
    ],
)
def test_an_endpoint_is_one_of_its_protocol(read: Read, protocol: str, endpoint: str, count: int) -> None:
    subscription = f"""
resource "aws_sqs_queue" "q" {{ name = "q" }}
variable "unset" {{}}
variable "empty" {{ default = "" }}
resource "aws_sns_topic_subscription" "s" {{
  topic_arn = "arn:aws:sns:us-east-1:123456789012:alerts"
  protocol  = "{protocol}"
  endpoint  = {endpoint}
}}"""
    assert len(wrong(read, subscription)) == count


@pytest.mark.parametrize("type_", ["aws_cloudwatch_event_rule", "aws_scheduler_schedule"])
@pytest.mark.parametrize(
    ("schedule", "refused"),
    [
        ("cron(0 3 * * ? *)", ()),
        ("cron(0/5 8-17 ? * MON-FRI *)", ()),
        ("cron(0 10 L * ? *)", ()),
        ("rate(1 hour)", ()),
        ("rate(15 minutes)", ()),
        ("${var.unset}", ()),
        ("cron(0 3 * * *)", ("aws_cloudwatch_event_rule", "aws_scheduler_schedule")),
        ("0 3 * * *", ("aws_cloudwatch_event_rule", "aws_scheduler_schedule")),
        ("rate(0 minutes)", ("aws_cloudwatch_event_rule", "aws_scheduler_schedule")),
        ("rate(1 hours)", ("aws_cloudwatch_event_rule",)),
        ("rate(5 minute)", ("aws_cloudwatch_event_rule",)),
        ("cron(0 3 * * * *)", ("aws_cloudwatch_event_rule",)),
        ("cron(0 3 ? * ? *)", ("aws_cloudwatch_event_rule",)),
    ],
)
def test_a_schedule_is_one_of_aws(read: Read, type_: str, schedule: str, refused: Sequence[str]) -> None:
    found = wrong(
        read, f'variable "unset" {{}}\nresource "{type_}" "r" {{\n  schedule_expression = "{schedule}"\n}}'
    )
    said = f"{type_}.r: schedule_expression is {schedule}, which is not a valid value"
    assert found == ([said] if type_ in refused else [])


@pytest.mark.parametrize(
    ("type_", "given"),
    [
        ("aws_sqs_queue_policy", ("queue_url", "policy")),
        ("aws_sns_topic_policy", ("arn", "policy")),
        ("aws_lambda_permission", ("action", "function_name", "principal")),
    ],
)
def test_what_lets_an_alarm_through_says_whose_it_is(read: Read, type_: str, given: Sequence[str]) -> None:
    lines = [f"  {name} = var.unset" for name in given]
    assert wrong(read, f'resource "{type_}" "a" {{', *lines, '}\nvariable "unset" {}') == []
    for name, line in zip(given, lines, strict=True):
        rest = [each for each in lines if each != line]
        (what,) = wrong(read, f'resource "{type_}" "a" {{', *rest, '}\nvariable "unset" {}')
        assert name in what


def test_an_output_that_is_called_an_id_may_be_an_arn(read: Read) -> None:
    subscription = """
module "queue" { source = "./queue" }
resource "aws_sns_topic_subscription" "s" {
  topic_arn = "arn:aws:sns:us-east-1:123456789012:alerts"
  protocol  = "sqs"
  endpoint  = module.queue.id
}"""
    queue = 'resource "aws_sqs_queue" "q" { name = "q" }\noutput "id" { value = aws_sqs_queue.q.arn }'
    assert misshapen(read(subscription, files={"tf/queue/main.tf": queue}))[1].findings == []


def test_route_53_looks_only_into_public_namespaces(read: Read) -> None:
    registered = """
resource "aws_service_discovery_KIND_dns_namespace" "n" {
  name = "p.local"
  vpc  = "vpc-1"
}
resource "aws_service_discovery_service" "s" {
  name = "finn"
  dns_config {
    namespace_id = aws_service_discovery_KIND_dns_namespace.n.id
    dns_records {
      ttl  = 10
      type = "A"
    }
  }
  CHECK {
  }
}"""
    private, public = (registered.replace("KIND", kind) for kind in ("private", "public"))
    assert len(wrong(read, private.replace("CHECK", "health_check_config"))) == 1
    assert wrong(read, private.replace("CHECK", "health_check_custom_config")) == []
    dynamic = "dynamic health_check_config {\n    for_each = var.unset ? [1] : []\n    content {}"
    assert wrong(read, private.replace("CHECK {", dynamic)) == []
    assert wrong(read, public.replace("CHECK", "health_check_config")) == []


GROUP = 'port = 80\n  protocol = "HTTP"\n  target_type = "ip"\n  vpc_id = "vpc-1"'
RULE = 'type = "ingress"\n  security_group_id = "sg-2"\n  protocol = "tcp"\n  from_port = 80\n  to_port = 80'
FILTER = 'name = "f"\n  log_group_name = "/ecs/x"'
MADE = 'metric_transformation {\n    name = "n"\n    namespace = "x"\n    value = 1\n'
MANY = f'{FILTER}\n  pattern = ""\n  {MADE}    default_value = VALUE\n    dimensions = {{ A = "$.a" }} }}'
REDIRECT = (
    'load_balancer_arn = "arn:aws:x"\n  port = 80\n  protocol = "HTTP"\n'
    '  default_action {{\n    type = "redirect"\n    redirect {{\n status_code = "HTTP_301"\n {} }}\n  }}'
)
BALANCER = 'subnets = ["subnet-1", "subnet-2"]'
DATABASE = (
    'instance_class = "db.t3.micro"\n  engine = "postgres"\n  allocated_storage = 20\n'
    '  username = "u"\n  password = "p"'
)
SCALED = 'resource_id = "service/c/s"\n  scalable_dimension = "d"\n  service_namespace = "ecs"'


@pytest.mark.parametrize(
    ("kind", "body", "what"),
    [
        *[
            ("aws_cloudwatch_log_metric_filter", MANY.replace("VALUE", value), "")
            for value in ("var.unset", '""', 'length(var.unset) > 0 ? null : "0"')
        ],
        ("aws_secretsmanager_secret", "recovery_window_in_days = 0", ""),
        ("aws_secretsmanager_secret", "recovery_window_in_days = 30", ""),
        ("aws_secretsmanager_secret", "recovery_window_in_days = 3", "expected 0 or 7 to 30"),
        ("aws_ecs_service", 'name = "s"\n  health_check_grace_period_seconds = 60', ""),
        ("aws_lb", 'subnets = ["subnet-1", "subnet-2"]', ""),
        ("aws_lb", "subnets = [var.unset]", ""),
        ("aws_lb", 'subnets = ["subnet-1"]\n  load_balancer_type = "network"', ""),
        ("aws_lb", 'subnets = ["subnet-1"]', "needs two subnets"),
        ("aws_lb_listener", REDIRECT.format('port = "443"\n protocol = "HTTPS"'), ""),
        ("aws_lb_listener", REDIRECT.format('host = "www.example.org"'), ""),
        ("aws_lb_listener", REDIRECT.format('port = "80"\n protocol = "HTTP"'), "on port 80 to itself"),
        ("aws_lb_listener", REDIRECT.format('protocol = "#{protocol}"'), "on port 80 to itself"),
        ("aws_appautoscaling_target", f"{SCALED}\n  min_capacity = 2\n  max_capacity = 2", ""),
        ("aws_appautoscaling_target", f"{SCALED}\n  min_capacity = var.unset\n  max_capacity = 2", ""),
        (
            "aws_appautoscaling_target",
            f"{SCALED}\n  min_capacity = 3\n  max_capacity = 2",
            "max_capacity is 2",
        ),
        ("aws_lb_target_group", f'{GROUP}\n  name = "{"x" * 32}"', ""),
        ("aws_lb_target_group", f'{GROUP}\n  name = substr("{"x" * 40}-${{var.unset}}", 0, 32)', ""),
        ("aws_lb_target_group", f'{GROUP}\n  name = "{"x" * 33}"', "more than 32 characters"),
        ("aws_lb", f'{BALANCER}\n  name = "{"x" * 33}"', "the name xxx"),
        (
            "aws_lb",
            f'{BALANCER}\n  name_prefix = "alb-xy-"',
            "the name_prefix alb-xy- has more than 6 characters",
        ),
        ("aws_lb", f'{BALANCER}\n  name_prefix = "alb-x-"', ""),
        (
            "aws_lb",
            f'{BALANCER}\n  name = "a"\n  name_prefix = "b"',
            "name and name_prefix exclude each other",
        ),
        ("aws_lb", f'{BALANCER}\n  name = null\n  name_prefix = "b"', ""),
        ("aws_security_group_rule", f'{RULE}\n  cidr_blocks = ["10.0.0.0/8"]\n  self = false', ""),
        (
            "aws_security_group_rule",
            f'{RULE}\n  source_security_group_id = "sg-1"\n  description = "a: b"',
            "",
        ),
        (
            "aws_security_group_rule",
            f'{RULE}\n  source_security_group_id = "sg-1"\n  cidr_blocks = ["10.0.0.0/8"]',
            "source_security_group_id and cidr_blocks exclude each other",
        ),
        (
            "aws_security_group_rule",
            f'{RULE}\n  self = true\n  description = "a → b"',
            "description is a → b, which is not a valid value",
        ),
        ("aws_cloudwatch_event_rule", 'schedule_expression = ""', ""),
        (
            "aws_route53_key_signing_key",
            'key_management_service_arn = "arn:aws:kms:eu-west-1:123456789012:key/5d2c7f0e"',
            "key_management_service_arn is arn:aws:kms:eu-west-1",
        ),
        ("aws_sqs_queue", "message_retention_seconds = 10", "is 10, expected 60 to 1209600"),
        ("aws_sqs_queue", "message_retention_seconds = 1209600", ""),
        ("aws_db_instance", f"{DATABASE}\n  manage_master_user_password = true", "exclude each other"),
        ("aws_db_instance", f"{DATABASE}\n  manage_master_user_password = false", ""),
        ("aws_db_instance", f"{DATABASE}\n  manage_master_user_password = var.unset", ""),
        ("aws_lb_target_group", f"{GROUP}\n  health_check {{\n    interval = 10\n    timeout = 5\n  }}", ""),
        (
            "aws_lb_target_group",
            GROUP.replace("HTTP", "TCP") + "\n  health_check {\n    interval = 10\n    timeout = 10\n  }",
            "",
        ),
        (
            "aws_lb_target_group",
            f"{GROUP}\n  health_check {{\n    interval = 5\n    timeout = 5\n  }}",
            "timeout is 5",
        ),
        ("aws_lb_target_group", f"{GROUP}\n  health_check {{\n    healthy_threshold = 1\n  }}", "2 to 10"),
        ("aws_cloudwatch_log_metric_filter", f'{FILTER}\n  pattern = ""\n  {MADE}  }}', ""),
        ("aws_cloudwatch_log_metric_filter", f'{FILTER}\n  pattern = "ERROR {{"\n  {MADE}  }}', ""),
        (
            "aws_cloudwatch_log_metric_filter",
            f'{FILTER}\n  pattern = " {{ $.level = 1 }} "\n  {MADE}    default_value = 0\n  }}',
            "",
        ),
        (
            "aws_cloudwatch_log_metric_filter",
            f'{FILTER}\n  pattern = "{{ $.level = ${{var.unset}}"\n  {MADE}  }}',
            "",
        ),
        (
            "aws_cloudwatch_log_metric_filter",
            f'{FILTER}\n  pattern = "{{ $.a = 1"\n  {MADE}  }}',
            "no closing brace",
        ),
        (
            "aws_cloudwatch_log_metric_filter",
            f'{FILTER}\n  pattern = ""\n  {MADE}    default_value = 0\n    dimensions = {{ A = "$.a" }} }}',
            "exclude each other",
        ),
    ],
)
def test_values_go_together(read: Read, kind: str, body: str, what: str) -> None:
    found = wrong(read, 'variable "unset" {}', f'resource "{kind}" "r" {{\n  {body}\n}}')
    assert [what in each for each in found] == [True] * bool(what)


@pytest.mark.parametrize(("scope", "count"), [('"REGIONAL"', 0), ("var.unset", 0), ('"CLOUDFRONT"', 1)])
def test_a_firewall_of_a_region_is_associated_in_it(read: Read, scope: str, count: int) -> None:
    text = f"""
variable "unset" {{}}
resource "aws_wafv2_web_acl" "a" {{
  name  = "a"
  scope = {scope}
  default_action {{
    allow {{}}
  }}
}}
resource "aws_wafv2_web_acl_association" "a" {{
  web_acl_arn  = aws_wafv2_web_acl.a.arn
  resource_arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/a/1"
}}"""
    assert len(wrong(read, text)) == count


@pytest.mark.parametrize(
    ("family", "kept", "count"),
    [
        ("postgres16", "", 0),
        ("postgres15", "engine_version", 0),
        ("postgres15", "parameter_group_name", 0),
        ("postgres15", "all", 0),
        ("postgres15", "", 1),
        ("postgres15", "tags", 1),
    ],
)
def test_parameters_are_of_the_version_of_their_database(
    read: Read, family: str, kept: str, count: int
) -> None:
    ignored = kept if kept == "all" else f"[{kept}]"
    database = f"""
resource "aws_db_instance" "main" {{
  engine                      = "postgres"
  engine_version              = "16.3"
  instance_class              = "db.t4g.micro"
  allocated_storage           = 20
  username                    = "x"
  manage_master_user_password = true
  skip_final_snapshot         = true
  parameter_group_name        = aws_db_parameter_group.main.name
  lifecycle {{
    ignore_changes = {ignored}
  }}
}}
resource "aws_db_parameter_group" "main" {{ family = "{family}" }}"""
    found = [each for each in wrong(read, database) if "parameter group" in each]
    assert len(found) == count


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ('""', True),
        ('join(" OR ", [])', True),
        ('"FALSE"', False),  # for a test: AWS accepts it
        ("<<-E\n    ALARM(a) OR\n    ALARM(b)\n  E", False),
        ("var.rule", False),
    ],
)
def test_a_composite_alarm_has_a_rule(read: Read, rule: str, found: bool) -> None:
    alarm = (
        f'resource "aws_cloudwatch_composite_alarm" "c" {{\n  alarm_name = "c"\n  alarm_rule = {rule}\n}}\n'
    )
    findings = misshapen(read('variable "rule" {}\n', alarm))[1].findings
    assert ["alarm_rule" in each.what for each in findings] == [True] * found


def test_one_figure_of_a_metric_counts(read: Read) -> None:
    alarm = """
resource "aws_cloudwatch_metric_alarm" "a" {
  alarm_name          = "a"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 1
  evaluation_periods  = 1
  namespace           = "n"
  metric_name         = "m"
  period              = 60
  statistic           = "Average"
  extended_statistic  = OTHER
}
"""
    assert wrong(read, alarm.replace("OTHER", "null")) == []
    assert wrong(read, alarm.replace("OTHER", '"p99"')) == [
        "aws_cloudwatch_metric_alarm.a: statistic and extended_statistic exclude each other"
    ]


SERVICE = """
resource "aws_ecs_service" "s" {
  name = "s"
  %s
}
"""


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (
            "deployment_circuit_braker {\n    enable = true\n    rollback = true\n  }",
            "deployment_circuit_breaker",
        ),
        ("desired_counts = 1", "there is no desired_counts: it is called desired_count"),
        ("lifecycle {\n    ignore_changes = [task_defintion]\n  }", "it is called task_definition"),
        ('lifecycle {\n    ignore_changes = [task_definition, tags["x"]]\n  }', ""),
        ("lifecycle {\n    ignore_changes = all\n  }", ""),
        ('lifecycle {\n    ignore_changes = [tags["names"], desired_count] # see load_balancers\n  }', ""),
        ("lifecycle {\n    ignore_changes = [task_definition /* load_balancers */]\n  }", ""),
        ("lifecycle {\n    ignore_changes = [ # task_definitions\n    desired_count]\n  }", ""),
        ('dynamic "load_balancers" {\n    for_each = []\n    content {}\n  }', "it is called load_balancer"),
        ("deployment_baking_minutes = 5", ""),
        ('count = 1\n  tags = {}\n  depends_on = []\n  region = "us-east-1"\n  timeouts {}', ""),
    ],
)
def test_an_argument_has_its_name(read: Read, body: str, what: str) -> None:
    found = [each for each in wrong(read, SERVICE % body) if "it is called" in each]
    assert [what in each for each in found] == [True] * bool(what)


ALARM = """
variable "unset" {}
resource "aws_cloudwatch_metric_alarm" "a" {
  alarm_name          = "a"
  comparison_operator = "GreaterThanThreshold"
  evaluation_periods  = 1
  %s
  metric_query {
    id          = "rate"
    expression  = %s
    return_data = %s
  }
  metric_query {
    id          = "m1"
    return_data = %s
    metric {
      metric_name = "RequestCount"
      namespace   = "AWS/ApplicationELB"
      period      = 60
      stat        = "Sum"
    }
  }
}
"""


@pytest.mark.parametrize(
    ("expression", "results", "what"),
    [
        ('"m1 * 100"', ("true", "false"), ""),
        ('"IF(m1 > 10, m1/PERIOD(m1), 0)"', ("true", "null"), ""),
        ("\"SEARCH('{a,b} m2', 'Sum')\"", ("true", "false"), ""),
        ("\"FILL(METRICS('m'), 0)\"", ("true", "false"), ""),
        ("var.unset", ("true", "false"), ""),
        ('"if(m1 > 10 and m1 < 99, 1, 0)"', ("true", "false"), ""),
        ('"select AVG(CPUUtilization) from SCHEMA"', ("true", "false"), ""),
        ('"INSIGHT_RULE_METRIC(callers, UniqueContributors)"', ("true", "false"), ""),
        ('"m2 / m1 * 100"', ("true", "false"), "an expression uses the id m2"),
        ('"m1 * 100"', ("true", "true"), "2 queries return data, expected one"),
        ('"m1 * 100"', ("false", "null"), "0 queries return data, expected one"),
        ('"m1 * 100"', ("var.unset", "true"), ""),
    ],
)
def test_metric_math_has_its_metrics_and_one_result(
    read: Read, expression: str, results: tuple[str, str], what: str
) -> None:
    found = wrong(read, ALARM % ("threshold = 5", expression, *results))
    assert [what in each for each in found] == [True] * bool(what)


def test_a_band_is_a_second_result(read: Read) -> None:
    band = ALARM % ('threshold_metric_id = "rate"', '"ANOMALY_DETECTION_BAND(m1, 2)"', "true", "true")
    assert wrong(read, band) == []
