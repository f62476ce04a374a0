# Alarms in a map with defaults, metric math on memory, and a topic that lets only events publish.
resource "aws_ecs_cluster" "main" { name = "p-cluster" }
resource "aws_sns_topic" "alerts" { name = "p-alerts" }
variable "tag" { type = string }
variable "region" {
  type    = string
  default = "us-east-1"
}
variable "vpc_id" { type = string }
variable "subnets" { type = list(string) }
data "aws_caller_identity" "me" {}

resource "aws_sns_topic_subscription" "mail" {
  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = "on-call@example.org"
}

resource "aws_secretsmanager_secret" "finn" { name = "p/finn/key" }
resource "aws_iam_role" "finn" {
  name               = "p-finn"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ecs-tasks.amazonaws.com" } }] })
}
resource "aws_iam_role_policy_attachment" "finn" {
  role       = aws_iam_role.finn.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "finn" {
  role   = aws_iam_role.finn.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = ["secretsmanager:GetSecretValue"], Resource = [aws_secretsmanager_secret.finn.arn] }] })
}

resource "aws_secretsmanager_secret" "dixie" { name = "p/dixie/key" }
resource "aws_iam_role" "dixie" {
  name               = "p-dixie"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ecs-tasks.amazonaws.com" } }] })
}
resource "aws_iam_role_policy_attachment" "dixie" {
  role       = aws_iam_role.dixie.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "dixie" {
  role   = aws_iam_role.dixie.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = ["secretsmanager:GetSecretValue"], Resource = [aws_secretsmanager_secret.dixie.arn] }] })
}

resource "aws_cloudwatch_log_group" "finn" { name = "/ecs/p/finn" }
resource "aws_security_group" "finn" {
  name   = "p-finn"
  vpc_id = var.vpc_id
}
resource "aws_ecs_task_definition" "finn" {
  family                   = "p-finn"
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.finn.arn
  container_definitions = jsonencode([{
    name             = "finn"
    image            = "123456789012.dkr.ecr.us-east-1.amazonaws.com/p-finn:${var.tag}"
    essential        = true
    secrets          = [{ name = "KEY", valueFrom = aws_secretsmanager_secret.finn.arn }]
    logConfiguration = { logDriver = "awslogs", options = { "awslogs-group" = aws_cloudwatch_log_group.finn.name, "awslogs-region" = var.region, "awslogs-stream-prefix" = "finn" } }
  }])

}

resource "aws_cloudwatch_log_group" "dixie" { name = "/ecs/p/dixie" }
resource "aws_security_group" "dixie" {
  name   = "p-dixie"
  vpc_id = var.vpc_id
}
resource "aws_ecs_task_definition" "dixie" {
  family                   = "p-dixie"
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.dixie.arn
  container_definitions = jsonencode([{
    name             = "dixie"
    image            = "123456789012.dkr.ecr.us-east-1.amazonaws.com/p-dixie:${var.tag}"
    essential        = true
    secrets          = [{ name = "KEY", valueFrom = aws_secretsmanager_secret.dixie.arn }]
    logConfiguration = { logDriver = "awslogs", options = { "awslogs-group" = aws_cloudwatch_log_group.dixie.name, "awslogs-region" = var.region, "awslogs-stream-prefix" = "dixie" } }
  }])

}

resource "aws_ecs_service" "finn" {
  name            = "p-finn"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.finn.arn
  desired_count   = 1
  launch_type     = "FARGATE"
  network_configuration {
    subnets         = var.subnets
    security_groups = [aws_security_group.finn.id]
  }

}

resource "aws_ecs_service" "dixie" {
  name            = "p-dixie"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.dixie.arn
  desired_count   = 1
  launch_type     = "FARGATE"
  network_configuration {
    subnets         = var.subnets
    security_groups = [aws_security_group.dixie.id]
  }

}

locals {
  alarms = {
    cpu   = { metric = "CPUUtilization", threshold = 80 }
    tasks = { metric = "RunningTaskCount", namespace = "ECS/ContainerInsights", threshold = 1, op = "LessThanThreshold", stat = "Minimum", missing = "breaching" }
  }
}
resource "aws_cloudwatch_metric_alarm" "finn" {
  for_each            = local.alarms
  alarm_name          = "p-finn-${each.key}"
  namespace           = try(each.value.namespace, "AWS/ECS")
  metric_name         = each.value.metric
  statistic           = lookup(each.value, "stat", "Average")
  comparison_operator = try(each.value.op, "GreaterThanThreshold")
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = try(each.value.periods, 3)
  treat_missing_data  = try(each.value.missing, null)
  alarm_actions       = [aws_sns_topic.alerts.arn]
  dimensions          = { ClusterName = aws_ecs_cluster.main.name, ServiceName = aws_ecs_service.finn.name }
}

resource "aws_sns_topic_policy" "p" {
  arn    = aws_sns_topic.alerts.arn
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Principal = { Service = "events.amazonaws.com" }, Action = "sns:Publish", Resource = aws_sns_topic.alerts.arn }] })
}
resource "aws_cloudwatch_metric_alarm" "m" {
  alarm_name          = "m"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 80
  evaluation_periods  = 3
  alarm_actions       = [aws_sns_topic.alerts.arn]
  metric_query {
    id          = "e1"
    expression  = "100*m1/m2"
    return_data = true
  }
  metric_query {
    id = "m1"
    metric {
      namespace   = "ECS/ContainerInsights"
      metric_name = "MemoryUtilized"
      period      = 60
      stat        = "Average"
      dimensions  = { ClusterName = aws_ecs_cluster.main.name, ServiceName = aws_ecs_service.finn.name }
    }
  }
  metric_query {
    id = "m2"
    metric {
      namespace   = "ECS/ContainerInsights"
      metric_name = "MemoryReserved"
      period      = 60
      stat        = "Average"
      dimensions  = { ClusterName = aws_ecs_cluster.main.name, ServiceName = aws_ecs_service.finn.name }
    }
  }
}
