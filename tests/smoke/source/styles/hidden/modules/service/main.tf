
variable "name" { type = string }
variable "cluster" { type = object({ id = string, name = string }) }
variable "image" { type = string }
variable "size" {
  type    = object({ cpu = optional(number, 256), memory = optional(number, 512) })
  default = {}
}
variable "topic" { type = string }
variable "subnets" { type = list(string) }
variable "vpc_id" { type = string }
locals {
  secret_name = join("/", ["p", var.name, "key"])
  thresholds  = { CPUUtilization = 80, MemoryUtilization = 85 }
}
resource "aws_secretsmanager_secret" "this" { name = local.secret_name }
data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}
resource "aws_iam_role" "this" {
  name               = "p-${var.name}"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}
data "aws_iam_policy_document" "secrets" {
  statement {
    sid       = "Read"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.this.arn]
  }
}
resource "aws_iam_policy" "secrets" {
  name_prefix = "p-${var.name}-"
  policy      = data.aws_iam_policy_document.secrets.json
}
resource "aws_iam_role_policy_attachment" "all" {
  for_each = {
    base    = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
    secrets = aws_iam_policy.secrets.arn
  }
  role       = aws_iam_role.this.name
  policy_arn = each.value
}
resource "aws_cloudwatch_log_group" "this" { name = "/ecs/p/${var.name}" }
resource "aws_security_group" "this" {
  name   = "p-${var.name}"
  vpc_id = var.vpc_id
}
resource "aws_ecs_task_definition" "this" {
  family                   = "p-${var.name}"
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  cpu                      = var.size.cpu
  memory                   = var.size.memory
  execution_role_arn       = one(aws_iam_role.this[*].arn)
  container_definitions    = templatefile("${path.module}/containers.json.tftpl", { name = var.name, image = var.image, secrets = { KEY = aws_secretsmanager_secret.this.arn }, logs = aws_cloudwatch_log_group.this.name })
}
resource "aws_ecs_service" "this" {
  name            = "p-${var.name}"
  cluster         = var.cluster.id
  task_definition = aws_ecs_task_definition.this.arn
  desired_count   = 1
  launch_type     = "FARGATE"
  network_configuration {
    subnets         = var.subnets
    security_groups = [aws_security_group.this.id]
  }
}
resource "aws_cloudwatch_metric_alarm" "usage" {
  for_each            = local.thresholds
  alarm_name          = "p-${var.name}-${lower(each.key)}"
  namespace           = "AWS/ECS"
  metric_name         = each.key
  statistic           = "Average"
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value
  period              = 60
  evaluation_periods  = 3
  alarm_actions       = [var.topic]
  dimensions          = { ClusterName = var.cluster.name, ServiceName = aws_ecs_service.this.name }
}
resource "aws_cloudwatch_metric_alarm" "tasks" {
  alarm_name          = "p-${var.name}-tasks"
  namespace           = "ECS/ContainerInsights"
  metric_name         = "RunningTaskCount"
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 3
  treat_missing_data  = "breaching"
  alarm_actions       = [var.topic]
  dimensions          = { ClusterName = var.cluster.name, ServiceName = aws_ecs_service.this.name }
}
output "security_group_id" { value = aws_security_group.this.id }
