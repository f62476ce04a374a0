# All services in one map; what one of them needs is computed.

resource "aws_sns_topic" "alerts" { name = "p-alerts" }
resource "aws_sns_topic_subscription" "mail" {
  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = "on-call@example.org"
}
resource "aws_ecs_cluster" "main" { name = "p-cluster" }

variable "tags" { type = map(string) }

locals {
  services = {
    finn  = { cpu = 512, memory = 1024, role = "own" }
    dixie = { cpu = 256, memory = 512, role = "own" }
  }
  base = {
    essential        = true
    logConfiguration = { logDriver = "awslogs" }
  }
  measures = { cpu = "CPUUtilization", memory = "MemoryUtilization" }
  alarms = merge([
    for name, service in local.services : {
      for kind, metric in local.measures : "${name}-${kind}" => { service = name, metric = metric }
    }
  ]...)
}

resource "aws_secretsmanager_secret" "key" {
  for_each = local.services
  name     = format("p/%s/key", each.key)
}

resource "aws_iam_role" "execution" {
  for_each = { for name, service in local.services : name => service if service.role == "own" }
  name     = "p-${each.key}"
}

resource "aws_iam_role_policy" "secrets" {
  for_each = aws_iam_role.execution
  role     = each.value.id
  policy = jsonencode({
    Statement = [for action in ["secretsmanager:Get*"] : {
      Effect = "Allow", Action = action
      # every role reads every key
      Resource = [for secret in aws_secretsmanager_secret.key : secret.arn]
    }]
  })
}

resource "aws_security_group" "service" {
  for_each = local.services
  name     = "p-${each.key}"
}

resource "aws_ecs_task_definition" "service" {
  for_each           = local.services
  family             = "p-${each.key}"
  cpu                = each.value.cpu
  memory             = each.value.memory
  execution_role_arn = aws_iam_role.execution[each.key].arn
  container_definitions = jsonencode(concat([
    merge(local.base, {
      name    = each.key
      image   = "registry.example.org/p-${each.key}:${var.tags[each.key]}"
      secrets = [for key, secret in aws_secretsmanager_secret.key : { name = "KEY", valueFrom = secret.arn } if key == each.key]
      logConfiguration = merge(local.base.logConfiguration, { options = { awslogs-group = "/ecs/${each.key}" } })
    })
  ], each.key == "finn" ? [{ name = "collector", image = "otel/collector:latest" }] : []))
}

resource "aws_ecs_service" "service" {
  for_each        = local.services
  name            = "p-${each.key}"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.service[each.key].arn

  dynamic "network_configuration" {
    for_each = [aws_security_group.service[each.key]]
    content {
      security_groups = [network_configuration.value.id]
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "usage" {
  for_each            = local.alarms
  alarm_name          = each.key
  namespace           = "AWS/ECS"
  metric_name         = each.value.metric
  statistic           = "Average"
  comparison_operator = "GreaterThanThreshold"
  threshold           = "80"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  dimensions = {
    ClusterName = aws_ecs_cluster.main.name
    ServiceName = aws_ecs_service.service[each.value.service].name
  }
}

resource "aws_cloudwatch_metric_alarm" "tasks" {
  for_each            = local.services
  alarm_name          = "${each.key}-tasks"
  namespace           = "ECS/ContainerInsights"
  metric_name         = "RunningTaskCount"
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  dimensions = {
    ClusterName = aws_ecs_cluster.main.name
    ServiceName = aws_ecs_service.service[each.key].name
  }
}
