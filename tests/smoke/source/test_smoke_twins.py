"""Two services of one image run two programs; each logs into its own group; a firewall lets somebody in."""

import json

import pytest

from smoke.source.infrastructure.connections import Address, connected
from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.infrastructure.tasks import logged, twins
from tests.smoke.source.terraform_files import Read

ROWS = [{"ecs": "api", "image": "p-api"}, {"ecs": "worker", "image": "p-api"}, {"ecs": "other", "image": ""}]
API = '{ name = "NODE_ENV", value = "production" }, { name = "PEER_URL", value = "http://x:1" }'


def task(name: str, more: str, logs: str = "") -> str:
    group = logs or f"/ecs/p/{name}"
    return f"""
resource "aws_ecs_task_definition" "{name}" {{
  family                = "p-{name}"
  container_definitions = jsonencode([{{
    name = "{name}", image = "registry/p-api:${{var.tag}}", {more}
    logConfiguration = {{ logDriver = "awslogs", options = {{ "awslogs-group" = "{group}" }} }}
  }}])
}}
resource "aws_ecs_service" "{name}" {{ task_definition = aws_ecs_task_definition.{name}.arn }}
"""


@pytest.mark.parametrize(
    ("api", "worker", "same"),
    [
        (f"environment = [{API}],", "", False),
        (f"environment = [{API}],", 'command = ["node", "worker.js"],', False),
        (f"environment = [{API}],", 'entryPoint = ["worker"],', False),
        ("", 'environment = [{ name = "ROLE", value = "worker" }],', False),
        ("", 'environment = [{ name = "WORKER", value = "1" }],', False),
        ('environment = [{ name = "SERVE", value = "true" }],', "", False),
        ("", 'environment = [{ name = "ROLE", value = var.role }],', False),
        ("", 'environmentFiles = [{ type = "s3", value = "arn" }],', False),
        ('command = ["node", "api.js"],', 'command = ["node", "worker.js"],', False),
        ("", "", True),
        ('environment = [{ name = "PEER_URL", value = "http://x:1" }],', "", True),
        ('environment = [{ name = "POOL", value = "15" }],', 'secrets = [{ name = "K" }],', True),
        ('command = ["node", "api.js"],', 'command = ["node", "api.js"],', True),
    ],
)  # fmt: skip
def test_two_services_of_one_image_run_two_programs(read: Read, api: str, worker: str, same: bool) -> None:
    api = api.replace(API, API + ', { name = "ROLE", value = "api" }')
    files = read('variable "tag" {}\nvariable "role" {}', task("api", api), task("worker", worker))
    defined = read_definitions(files, ["api", "worker"])
    assert [len(twins(defined, ROWS, row)) for row in ROWS] == [0, int(same), 0]


@pytest.mark.parametrize(
    ("logs", "count"),
    [("/ecs/p/api", 0), ("${var.logs}", 0), ("/ecs/p/apis", 1), ("/ecs/p/worker", 1), ("/aws/ecs/api", 1)],
)
def test_a_service_logs_into_its_own_group(read: Read, logs: str, count: int) -> None:
    files = read('variable "logs" {}', task("api", "", logs), task("another-teams", "", "/logs"))
    defined = read_definitions(files, ["api", "worker"])
    assert len(logged(defined, "/ecs/p/", ["api", "worker"])) == count


BALANCER = """
resource "aws_lb" "main" { name = "p" }
resource "aws_lb" "other" { name = "o" }
resource "aws_lb_target_group" "api" { target_type = "ip" }
resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.main.arn
  port              = 443
  protocol          = "HTTPS"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.api.arn
  }
}
resource "aws_ecs_task_definition" "api" {
  container_definitions = jsonencode([{ name = "api", portMappings = [{ containerPort = 80 }] }])
}
resource "aws_ecs_service" "api" {
  cluster         = "c"
  task_definition = aws_ecs_task_definition.api.arn
  load_balancer {
    target_group_arn = aws_lb_target_group.api.arn
    container_name   = "api"
    container_port   = 80
  }
}
resource "aws_wafv2_web_acl_association" "it" {
  resource_arn = aws_lb.main.arn
  web_acl_arn  = aws_wafv2_web_acl.it.arn
}
resource "aws_wafv2_web_acl" "it" {
  default_action {
    block {}
  }
  #RULE
}
"""
BLOCKING = """rule {
    name = "r"
    action {
      block {}
    }
    statement {
      %s
    }
  }"""
PATHS = """byte_match_statement {
        search_string         = "%s"
        positional_constraint = "%s"
        field_to_match {
          uri_path {}
        }
      }"""
EVERYBODY = BLOCKING % "ip_set_reference_statement {\n arn = aws_wafv2_ip_set.all.arn\n }"
SET = """
resource "aws_wafv2_ip_set" "all" {
  addresses = %s
}
"""
RULE = """rule {
    name = "r"
    action {
      %s {}
    }
    statement {
      %s { arn = "x" }
    }
  }"""


@pytest.mark.parametrize(
    ("find", "replace", "count"),
    [
        ("#RULE", "", 1),
        ("#RULE", RULE % ("count", "geo_match_statement"), 1),
        ("#RULE", RULE % ("allow", "geo_match_statement"), 0),
        ("#RULE", RULE % ("count", "rule_group_reference_statement"), 0),
        ("#RULE", 'rule_json = file("rules.json")', 0),
        ("#RULE", "lifecycle {\n    ignore_changes = [rule]\n  }", 0),
        ("block {}", "allow {}", 0),
        ("resource_arn = aws_lb.main.arn", "resource_arn = aws_lb.other.arn", 0),
        ("resource_arn = aws_lb.main.arn", "count = 0\n  resource_arn = aws_lb.main.arn", 0),
    ],
)
def test_a_firewall_lets_somebody_in(read: Read, find: str, replace: str, count: int) -> None:
    assert find in BALANCER
    configuration = read(BALANCER.replace(find, replace))
    address = Address(public="api.example.org", health="")
    examined = connected(configuration, read_definitions(configuration, ["api"]), {"api": address})
    assert ["blocks every request" in each.what for each in examined.findings] == [True] * count


@pytest.mark.parametrize(
    ("rule", "addresses", "count"),
    [
        (BLOCKING % (PATHS % ("/", "STARTS_WITH")), [], 1),
        (BLOCKING % (PATHS % ("/", "CONTAINS")), [], 1),
        (BLOCKING % (PATHS % ("/", "EXACTLY")), [], 0),
        (BLOCKING % (PATHS % ("/admin", "STARTS_WITH")), [], 0),
        (BLOCKING % ("not_statement {\n statement {\n " + PATHS % ("/", "CONTAINS") + "\n }\n }"), [], 0),
        (RULE % ("allow", "geo_match_statement") + "\n  " + BLOCKING % (PATHS % ("/", "CONTAINS")), [], 0),
        (EVERYBODY, ["0.0.0.0/1", "128.0.0.0/1"], 1),
        (EVERYBODY, ["0.0.0.0/1"], 0),
        (EVERYBODY, ["everybody"], 0),
        (EVERYBODY.replace("block {}", "count {}"), ["0.0.0.0/1", "128.0.0.0/1"], 0),
    ],
)
def test_no_rule_of_a_firewall_blocks_everybody(
    read: Read, rule: str, addresses: list[str], count: int
) -> None:
    text = BALANCER.replace("#RULE", rule).replace(
        "default_action {\n    block", "default_action {\n    allow"
    )
    ranges = json.dumps(addresses)
    for kept in ("", "\nlifecycle {\n  ignore_changes = [addresses]\n}"):
        configuration = read(text + SET % (ranges + kept))
        address = Address(public="api.example.org", health="")
        examined = connected(configuration, read_definitions(configuration, ["api"]), {"api": address})
        expected = 0 if kept and rule is EVERYBODY else count
        assert ["blocks every request" in each.what for each in examined.findings] == [True] * expected


@pytest.mark.parametrize(
    ("mode", "more", "count"),
    [
        ("block-bidirectional", "", 1),
        ("block-ingress", "", 1),
        ("off", "", 0),
        ("block-ingress", 'resource "aws_vpc_block_public_access_exclusion" "one" {}', 0),
        ("block-ingress", 'resource "broken {', 0),
    ],
)
def test_public_access_to_a_balancer_is_not_blocked(read: Read, mode: str, more: str, count: int) -> None:
    text = BALANCER.replace("    block {}", "    allow {}")
    options = f'{{\n  internet_gateway_block_mode = "{mode}"\n}}\n'
    text += f'resource "aws_vpc_block_public_access_options" "it" {options}'
    configuration = read(text, more)
    address = Address(public="api.example.org", health="")
    examined = connected(configuration, read_definitions(configuration, ["api"]), {"api": address})
    assert [f"is {mode}: nobody can reach api" in each.what for each in examined.findings] == [True] * count
