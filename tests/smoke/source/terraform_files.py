"""Terraform text for the tests: a service with its own role, secret, security group and log group."""

from collections.abc import Callable

from smoke.source.infrastructure.shapes import misshapen
from smoke.source.terraform.configuration import Configuration

#: Reads parts of text as one configuration; `files` are further ones, beside or below it.
Read = Callable[..., Configuration]

BASE = """
variable "environment" {}
locals {
  prefix = "arrakis-${var.environment}"
}
"""


def service(
    name: str, *, role: str = "", secret: str = "", group: str = "", logs: str = "", image: str = ""
) -> str:
    return f"""
resource "aws_iam_role" "{name}" {{ name = "${{local.prefix}}-{name}" }}
resource "aws_secretsmanager_secret" "{name}" {{ name = "${{local.prefix}}/{name}/es256-private-key" }}
resource "aws_security_group" "{name}" {{ name = "{name}" }}
resource "aws_cloudwatch_log_group" "{name}" {{ name = "/ecs/{name}" }}
locals {{
  {name}_containers = [{{
    name    = "{name}"
    image   = "{image or f"{name}:${{var.tag}}"}"
    secrets = [{{ name = "KEY", valueFrom = "${{aws_secretsmanager_secret.{secret or name}.arn}}:key::" }}]
    logConfiguration = {{ options = {{ "awslogs-group" = aws_cloudwatch_log_group.{logs or name}.name }} }}
  }}]
}}
resource "aws_ecs_task_definition" "{name}" {{
  family                = "${{local.prefix}}-{name}"
  execution_role_arn    = aws_iam_role.{role or name}.arn
  container_definitions = jsonencode(concat(local.{name}_containers, []))
}}
resource "aws_ecs_service" "{name}" {{
  task_definition = aws_ecs_task_definition.{name}.arn
  network_configuration {{ security_groups = [aws_security_group.{group or name}.id] }}
}}
"""


def wrong(read: Read, *parts: str) -> list[str]:
    count, examined = misshapen(read(*parts))
    assert count
    assert not examined.not_examined
    return [each.what for each in examined.findings]
