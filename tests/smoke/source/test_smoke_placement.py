"""Services that run nowhere, elsewhere, or never again: regions, task counts, versions of secrets."""

import pytest

from smoke.source.infrastructure import definitions
from smoke.source.infrastructure.addresses import pinned
from smoke.source.infrastructure.alarms import connection_alarms
from smoke.source.infrastructure.connections import Address, connected
from smoke.source.infrastructure.grants import grants
from smoke.source.infrastructure.starting import stuck, unscaled, without_task
from smoke.source.infrastructure.tasks import inventory
from tests.smoke.source.terraform_files import Read, service

ROW = {"ecs": "finn", "cpu": 512, "memory": 1024, "image": ""}
TARGET = """
resource "aws_appautoscaling_target" "finn" {{
  min_capacity = 0
  max_capacity = {}
  resource_id  = "service/x/${{aws_ecs_service.finn.name}}"
}}"""
NIGHT = """
resource "aws_appautoscaling_scheduled_action" "night" {
  resource_id = aws_appautoscaling_target.finn.resource_id
  scalable_target_action {
    max_capacity = 0
  }
}"""


def numbers(read: Read, inside: str, *parts: str) -> list[str]:
    text = service("finn").replace(
        "container_definitions =", "cpu = 512\n  memory = 1024\n  container_definitions ="
    )
    text = text.replace("  network_configuration", f"  {inside}\n  network_configuration")
    configuration = read(text, *parts)
    found = inventory(configuration, definitions.read(configuration, ["finn"]), ROW)[1]
    return [each.what for each in found.findings]


@pytest.mark.parametrize(
    ("inside", "parts", "what"),
    [
        ("desired_count = 1", [], ""),
        ("", [], ""),
        ("desired_count = 0", [], "runs no task"),
        ("", [TARGET.format(4)], ""),
        ("desired_count = 1", [TARGET.format(0)], "can be scaled to at most 0 tasks"),
        (
            "desired_count = 1",
            [TARGET.format(4), NIGHT],
            "to 0 tasks by aws_appautoscaling_scheduled_action.night",
        ),
        ("desired_count = 1\n  deployment_maximum_percent = 100", [], "no deployment can replace one"),
        (
            "desired_count = 1\n  deployment_maximum_percent = 100\n  deployment_minimum_healthy_percent = 0",
            [],
            "",
        ),
    ],
)
def test_a_service_runs_tasks_and_can_replace_them(
    read: Read, inside: str, parts: list[str], what: str
) -> None:
    found = numbers(read, inside, *parts)
    assert [what in each for each in found] == [True] * bool(what)


@pytest.mark.parametrize(
    ("tasks", "least", "most", "never"),
    [(1, 100, 200, False), (1, 100, 100, True), (1, 50, 100, True), (2, 50, 100, False), (3, 100, 120, True),
     (4, 100, 125, False), (2, 0, 100, False)],
)  # fmt: skip
def test_ecs_rounds_against_a_deployment(tasks: int, least: float, most: float, never: bool) -> None:
    assert stuck(tasks, least, most) is never


ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:p/finn/key-AbCdEf"


@pytest.mark.parametrize(
    ("reference", "one"),
    [
        (ARN, False), (f"{ARN}:privateKey::", False), (f"{ARN}::AWSCURRENT:", False),
        (f"{ARN}::AWSPREVIOUS:", True),
        (f"{ARN}:::11111111-2222", True), ("${aws_secretsmanager_secret.x.arn}:key::", False),
        ("${aws_secretsmanager_secret.x.arn}:::1", True), ("arn:aws:ssm:us-east-1:1:parameter/p/finn", False),
        ("p/finn/key", False),
    ],
)  # fmt: skip
def test_a_secret_is_given_in_its_newest_version(reference: str, one: bool) -> None:
    assert pinned(reference) is one


ROLES = """
resource "aws_iam_role" "a" {{
  name = "a"
}}
resource "aws_secretsmanager_secret" "s" {{
  name = "s"
}}
resource "aws_iam_role" "b" {{
  name               = "b"
  assume_role_policy = jsonencode({{ Statement = [{{
    Effect = "Allow", Action = "sts:AssumeRole", Principal = {}
  }}] }})
}}
resource "aws_iam_role_policy" "b" {{
  role   = aws_iam_role.b.id
  policy = jsonencode({{ Statement = [{{
    Effect = "Allow", Action = "secretsmanager:GetSecretValue", Resource = aws_secretsmanager_secret.s.arn
  }}] }})
}}"""


@pytest.mark.parametrize(
    ("principal", "roles"),
    [
        ("{ AWS = aws_iam_role.a.arn }", {"a", "b"}),
        ('{ AWS = ["arn:aws:iam::123456789012:role/a"] }', {"a", "b"}),
        ('{ Service = "ecs-tasks.amazonaws.com" }', {"b"}),
        ('{ AWS = "arn:aws:iam::123456789012:role/people" }', {"b"}),
    ],
)
def test_a_role_reads_what_another_one_may_that_trusts_it(
    read: Read, principal: str, roles: set[str]
) -> None:
    found = grants(read(ROLES.format(principal))).found
    assert {role.rpartition(" ")[2] for each in found for role in each.roles} == roles


DATABASE = """
terraform {{
  required_providers {{
    aws = {{ source = "hashicorp/aws", version = "{}" }}
  }}
}}
resource "aws_db_instance" "main" {{ identifier = "x" }}
resource "aws_cloudwatch_metric_alarm" "c" {{
  alarm_name          = "c"
  namespace           = "AWS/RDS"
  metric_name         = "DatabaseConnections"
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 70
  period              = 60
  evaluation_periods  = 1
  dimensions          = {{ DBInstanceIdentifier = aws_db_instance.main.{} }}
}}"""


@pytest.mark.parametrize(
    ("version", "attribute", "count"),
    [("~> 5.40", "identifier", 0), ("~> 5.40", "id", 1), ("~> 4.67", "id", 0), (">= 6", "id", 1)],
)
def test_the_id_of_a_database_is_not_an_identifier(
    read: Read, version: str, attribute: str, count: int
) -> None:
    found = connection_alarms(
        read(DATABASE.format(version, attribute)), 70, {"health_s": 600, "others_s": 900}
    )[1]
    assert len(found.findings) == count


BALANCED = """
resource "aws_lb" "main" {{
{}
}}
resource "aws_lb_target_group" "finn" {{
  port        = 3000
  protocol    = "{}"
  target_type = "ip"
  health_check {{
    path = "/health"
  }}
}}
resource "aws_lb_listener" "https" {{
  load_balancer_arn = aws_lb.main.arn
  port              = 443
  protocol          = "HTTPS"
  default_action {{
    type             = "forward"
    target_group_arn = aws_lb_target_group.finn.arn
  }}
}}"""
ASKS = 'healthCheck = { command = ["CMD-SHELL", "curl -f http://localhost:3000/health"] }\n    secrets = '
BEHIND = """cluster = "x"
  load_balancer {
    target_group_arn = aws_lb_target_group.finn.arn
    container_name   = "finn"
    container_port   = 3000
  }
  network_configuration"""


@pytest.mark.parametrize(
    ("inside", "protocol", "more", "what"),
    [
        ("", "HTTP", "", ""),
        ("  internal = true", "HTTP", "", "aws_lb.main is internal"),
        ("  internal = true", "HTTP", 'resource "aws_cloudfront_distribution" "x" {}', ""),
        ("  internal = true", "HTTP", 'resource "aws_lb" "front" {}', ""),
        ("  internal = var.unset", "HTTP", 'variable "unset" {}', ""),
        ("  idle_timeout = 10", "HTTP", "", "silent for 10 s"),
        ("  idle_timeout = 300", "HTTP", "", ""),
        ("", "HTTPS", "", "speaks HTTPS to finn"),
    ],
)
def test_the_balancer_is_found_and_speaks_as_its_service(
    read: Read, inside: str, protocol: str, more: str, what: str
) -> None:
    text = service("finn").replace("secrets = ", ASKS).replace("network_configuration", BEHIND)
    text = text.replace('name    = "finn"', 'name    = "finn"\n    portMappings = [{ containerPort = 3000 }]')
    configuration = read(text, BALANCED.format(inside, protocol), more)
    address = Address(public="finn.example.com", health="/health")
    found = connected(configuration, definitions.read(configuration, ["finn"]), {"finn": address})
    assert [what in each.what for each in found.findings] == [True] * bool(what)


@pytest.mark.parametrize(
    ("task", "more", "fixed"),
    [
        ('"${aws_ecs_task_definition.finn.family}:12"', "", True),
        ('"arrakis-staging-finn:3"', "", True),
        ('"arrakis-staging-finn:1"', "lifecycle {\n    ignore_changes = [task_definition]\n  }", False),
        ('"${aws_ecs_task_definition.finn.family}:${aws_ecs_task_definition.finn.revision}"', "", False),
        ('"arrakis-staging-finn"', "", False),
        ('"arrakis-staging-finn:${var.revision}"', "", False),
        ("local.fixed", "", True),
        ("local.first", "", False),
        ('var.none != "" ? var.none : "arrakis-staging-finn:12"', "", False),
        ('coalesce(var.none, "arrakis-staging-finn:12")', "", False),
        ("var.revision_of_a_variable", "", False),
        ('var.old ? aws_ecs_task_definition.finn.arn : "arrakis-staging-finn:3"', "", False),
    ],
)
def test_a_service_follows_its_task_definition(read: Read, task: str, more: str, fixed: bool) -> None:
    text = service("finn").replace(
        "task_definition = aws_ecs", f"{more}\n  task_definition = {task} # aws_ecs"
    )
    configuration = read(
        text,
        'variable "revision" {\n  default = 12\n}\nvariable "old" {}\n'
        'variable "revision_of_a_variable" {\n  default = "arrakis-staging-finn:12"\n}\n'
        'locals {\n  fixed = "arrakis-staging-finn:12"\n'
        '  first = var.none != "" ? var.none : "arrakis-staging-finn:12"\n}\n'
        'variable "none" {\n  default = ""\n}',
    )
    made = next(iter(configuration.of_type("aws_ecs_service")))
    said = [each.what for each in without_task(configuration, made, "finn")]
    assert [each.startswith("finn always runs revision") for each in said] == [True] * fixed


READS = 'data "aws_ecs_service" "d" {\n  service_name = "p-else"\n}'


@pytest.mark.parametrize(
    ("of", "made", "found"),
    [("service/p-cluster/p-fin", "p-finn", 1), ("service/p-cluster/p-finn", "p-finn", 0),
     ("service/other/p-fin", "p-finn", 0), ("service/p-cluster/${var.unset}", "p-finn", 0),
     ("table/p-cluster", "p-finn", 0), ("service/p-cluster/p-else", "p-finn", 0),
     ("service/p-cluster/p-fin", "p-api", 0), ("service/p-cluster/p-fin", "${var.unset}", 0)],
)  # fmt: skip
def test_what_is_scaled_exists(read: Read, of: str, made: str, found: int) -> None:
    target = f'variable "unset" {{}}\nresource "aws_appautoscaling_target" "t" {{\n  resource_id = "{of}"\n}}'
    own = f'resource "aws_ecs_service" "s" {{\n  name = "{made}"\n}}'
    assert len([*unscaled(read(target, own, READS), ["p-finn"], "p-cluster")]) == found


@pytest.mark.parametrize(("written", "fixed"), [('"arrakis-staging-finn:12"', True), ("var.newest", False)])
def test_a_call_of_a_module_fixes_no_revision(read: Read, written: str, fixed: bool) -> None:
    inside = service("finn").replace("task_definition = aws_ecs", "task_definition = var.task # aws_ecs")
    call = f'variable "newest" {{}}\nmodule "finn" {{\n  source = "./finn"\n  task   = {written}\n}}'
    configuration = read(call, files={"tf/finn/main.tf": inside + '\nvariable "task" {}'})
    made = next(iter(configuration.of_type("aws_ecs_service")))
    said = [each.what for each in without_task(configuration, made, "finn")]
    assert [each.startswith("finn always runs revision 12") for each in said] == [True] * fixed
