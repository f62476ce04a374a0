# Finn is a module of the registry; dixie and the alarms are written here.
variable "tag" {}
resource "aws_sns_topic" "alerts" { name = "p-alerts" }
resource "aws_sns_topic_subscription" "mail" {
  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = "on-call@example.org"
}
resource "aws_ecs_cluster" "main" { name = "p-cluster" }

module "vpc" {
  source  = "terraform-aws-modules/vpc/aws"
  version = "5.8.1"
  name    = "p"
}

module "finn" {
  source  = "terraform-aws-modules/ecs/aws//modules/service"
  version = "5.11.0"
  name    = "p-finn"
}

resource "aws_iam_role" "dixie" { name = "p-dixie" }
resource "aws_secretsmanager_secret" "dixie" { name = "p/dixie/key" }

resource "aws_ecs_task_definition" "dixie" {
  family             = "p-dixie"
  cpu                = 256
  memory             = 512
  execution_role_arn = aws_iam_role.dixie.arn
  container_definitions = jsonencode([{
    name             = "dixie"
    image            = "registry.example.org/p-dixie:${var.tag}"
    secrets          = [{ name = "KEY", valueFrom = aws_secretsmanager_secret.dixie.arn }]
    logConfiguration = { options = { awslogs-group = "/ecs/dixie" } }
  }])
}

resource "aws_ecs_service" "dixie" {
  name            = "p-dixie"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.dixie.arn
  network_configuration {
    subnets         = module.vpc.private_subnets
    security_groups = [module.vpc.default_security_group_id]
  }
}

resource "aws_cloudwatch_metric_alarm" "database" {
  alarm_name          = "connections"
  namespace           = "AWS/RDS"
  metric_name         = "DatabaseConnections"
  statistic           = "Maximum"
  dimensions          = { DBInstanceIdentifier = "p-postgres" }
  comparison_operator = "GreaterThanThreshold"
  threshold           = 120
  alarm_actions       = [aws_sns_topic.alerts.arn]
}
