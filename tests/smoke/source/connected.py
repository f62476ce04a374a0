"""A small platform with connected services, and the findings about it after an edit."""

from smoke.source.checkout import Examined
from smoke.source.infrastructure.connections import Address, connected
from smoke.source.infrastructure.definitions import named
from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.infrastructure.network import reached
from smoke.source.infrastructure.shapes import misshapen
from smoke.source.infrastructure.starting import starts
from tests.smoke.source.terraform_files import Read

PLATFORM = """
variable "unset" {}
variable "vpc" { default = "vpc-1" }
resource "aws_ecs_cluster" "main" { name = "p-cluster" }
resource "aws_ecr_repository" "finn" { name = "p-finn" }
resource "aws_secretsmanager_secret" "finn" { name = "p/finn/key" }
data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}
resource "aws_iam_role" "finn" {
  name               = "p-finn"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}
resource "aws_iam_role_policy_attachment" "finn" {
  role       = aws_iam_role.finn.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}
resource "aws_iam_role_policy" "finn" {
  role   = aws_iam_role.finn.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [{
    Effect = "Allow", Action = "secretsmanager:GetSecretValue", Resource = aws_secretsmanager_secret.finn.arn
  }] })
}
resource "aws_ecs_task_definition" "finn" {
  family                   = "p-finn"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.finn.arn
  container_definitions = jsonencode([{
    name         = "finn"
    image        = "${aws_ecr_repository.finn.repository_url}:${var.unset}"
    portMappings = [{ containerPort = 3000 }]
    secrets      = [{ name = "KEY", valueFrom = aws_secretsmanager_secret.finn.arn }]
    healthCheck  = { command = ["CMD", "true"], interval = 30 }
    logConfiguration = { logDriver = "awslogs", options = {
      awslogs-group = "/ecs/p/finn", awslogs-region = "us-east-1", awslogs-stream-prefix = "finn"
    } }
  }])
}
resource "aws_security_group" "finn" { name = "finn" }
resource "aws_security_group" "api" { name = "api" }
resource "aws_security_group_rule" "out" {
  type              = "egress"
  security_group_id = aws_security_group.api.id
  cidr_blocks       = ["0.0.0.0/0"]
  from_port         = 0
  to_port           = 0
  protocol          = "-1"
}
resource "aws_security_group_rule" "in" {
  type                     = "ingress"
  security_group_id        = aws_security_group.finn.id
  source_security_group_id = aws_security_group.api.id
  from_port                = 3000
  to_port                  = 3000
  protocol                 = "tcp"
}
resource "aws_ecs_service" "finn" {
  name            = "p-finn"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.finn.arn
  network_configuration {
    subnets         = ["subnet-1"]
    security_groups = [aws_security_group.finn.id]
  }
  load_balancer {
    target_group_arn = aws_lb_target_group.finn.arn
    container_name   = "finn"
    container_port   = 3000
  }
  service_registries { registry_arn = aws_service_discovery_service.of["finn"].arn }
}
resource "aws_ecs_service" "api" {
  name            = "p-api"
  task_definition = "p-api"
  network_configuration {
    subnets         = ["subnet-1"]
    security_groups = [aws_security_group.api.id]
  }
}
resource "aws_service_discovery_private_dns_namespace" "main" {
  name = "p.local"
  vpc  = var.vpc
}
resource "aws_service_discovery_service" "of" {
  for_each = toset(["finn"])
  name     = each.key
  dns_config {
    namespace_id = aws_service_discovery_private_dns_namespace.main.id
    dns_records {
      ttl  = 10
      type = "A"
    }
  }
}
resource "aws_lb" "main" { subnets = ["subnet-1", "subnet-2"] }
resource "aws_lb_target_group" "finn" {
  port        = 3000
  protocol    = "HTTP"
  vpc_id      = var.vpc
  target_type = "ip"
  health_check { path = "/health" }
}
resource "aws_lb_target_group" "other" { target_type = "lambda" }
resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.main.arn
  port              = 443
  protocol          = "HTTPS"
  certificate_arn   = var.unset
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.other.arn
  }
}
resource "aws_lb_listener_rule" "finn" {
  listener_arn = aws_lb_listener.https.arn
  action {
    type = "forward"
    forward {
      target_group {
        arn = aws_lb_target_group.finn.arn
      }
    }
  }
  condition {
    host_header { values = ["finn.example.org"] }
  }
}
"""
GIVEN = "  certificate_arn   = var.unset"
OF_HTTP = """  protocol    = "HTTP"
  vpc_id      = var.vpc
  target_type = "ip"
  health_check { path = "/health" }
}"""
OF_TCP = """  protocol    = "TCP"
  vpc_id      = var.vpc
  target_type = "ip"
}"""


def earlier(path: str, listener: str = "aws_lb_listener.https.arn", group: str = "other") -> str:
    """A rule for one path on every host, with a priority before finn's rule."""
    return f"""resource "aws_lb_listener_rule" "paths" {{
  listener_arn = {listener}
  priority     = 100
  action {{
    type             = "forward"
    target_group_arn = aws_lb_target_group.{group}.arn
  }}
  condition {{
    path_pattern {{ values = ["{path}"] }}
  }}
}}
resource "aws_lb_target_group" "other" {{
  target_type = "ip"
  protocol    = "HTTP"
  port        = 80
  vpc_id      = var.vpc
}}
resource "aws_lb_listener_rule" "finn" {{"""


FINN = Address("finn", "p.local", "finn.example.org", "/health")


def findings(read: Read, find: str = "", replace: str = "") -> dict[str, Examined]:
    assert find in PLATFORM
    configuration = read(PLATFORM.replace(find, replace) if find else PLATFORM)
    defined = read_definitions(configuration, ["finn", "api"])
    return {
        "shape": misshapen(configuration)[1],
        "start": starts(configuration, defined),
        "address": connected(configuration, defined, {"finn": FINN}),
        "way": reached(configuration, defined, {"finn": ["api"]})[1],
        "name": named(configuration, {"aws_ecs_cluster": ["p-cluster"], "aws_ecs_service": ["p-finn"]}),
    }
