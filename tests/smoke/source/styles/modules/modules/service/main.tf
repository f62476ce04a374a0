variable "name" { type = string }
variable "image_tag" { type = string }
variable "cpu" {
  type    = number
  default = 256
}
variable "memory" {
  type    = number
  default = 512
}
variable "log_group" {
  type    = string
  default = null
}
variable "topics" { type = list(string) }

locals {
  log_group = coalesce(var.log_group, "/ecs/p-${var.name}")
  measures = {
    cpu    = { namespace = "AWS/ECS", metric = "CPUUtilization", sign = "GreaterThanThreshold", threshold = 80 }
    memory = { namespace = "AWS/ECS", metric = "MemoryUtilization", sign = "GreaterThanThreshold", threshold = 80 }
    tasks  = { namespace = "ECS/ContainerInsights", metric = "RunningTaskCount", sign = "LessThanThreshold", threshold = 1 }
  }
}

resource "aws_secretsmanager_secret" "key" { name = "p/${var.name}/key" }
resource "aws_security_group" "this" { name_prefix = var.name }

resource "aws_iam_role" "execution" {
  name = "p-${var.name}-execution"

  inline_policy {
    name = "secrets"
    policy = jsonencode({
      Statement = [{
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = "${aws_secretsmanager_secret.key.arn}*"
      }]
    })
  }
}

resource "aws_ecs_task_definition" "this" {
  family             = "p-${var.name}"
  cpu                = var.cpu
  memory             = var.memory
  execution_role_arn = aws_iam_role.execution.arn

  container_definitions = jsonencode([
    merge(
      { name = var.name, image = "registry.example.org/p-${var.name}:${var.image_tag}" },
      { secrets = [{ name = "KEY", valueFrom = aws_secretsmanager_secret.key.arn }] },
      { logConfiguration = { logDriver = "awslogs", options = { awslogs-group = local.log_group } } },
    )
  ])
}

resource "aws_ecs_service" "this" {
  name            = "p-${var.name}"
  task_definition = aws_ecs_task_definition.this.arn
  network_configuration { security_groups = [aws_security_group.this.id] }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.measures

  alarm_name          = "p-${var.name}-${each.key}"
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  statistic           = "Average"
  comparison_operator = each.value.sign
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = 2
  treat_missing_data  = "breaching"
  alarm_actions       = var.topics
  dimensions          = { ClusterName = "p-cluster", ServiceName = aws_ecs_service.this.name }
}

output "log_group" { value = local.log_group }
