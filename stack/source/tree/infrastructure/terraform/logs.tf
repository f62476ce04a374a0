# One log group per task.

resource "aws_cloudwatch_log_group" "api" {
  name              = "/ecs/${local.name_prefix}/api"
  retention_in_days = var.log_retention_days
}

resource "aws_cloudwatch_log_group" "worker" {
  name              = "/ecs/${local.name_prefix}/worker"
  retention_in_days = var.log_retention_days
}

resource "aws_cloudwatch_log_group" "finn" {
  name              = "/ecs/${local.name_prefix}/finn"
  retention_in_days = var.log_retention_days
}

resource "aws_cloudwatch_log_group" "dixie" {
  name              = "/ecs/${local.name_prefix}/dixie"
  retention_in_days = var.log_retention_days
}

resource "aws_cloudwatch_log_group" "pgbouncer" {
  name              = "/ecs/${local.name_prefix}/pgbouncer"
  retention_in_days = var.log_retention_days
}

resource "aws_cloudwatch_log_group" "freeside_migration" {
  name              = "/ecs/${local.name_prefix}/freeside-migration"
  retention_in_days = var.log_retention_days
}

resource "aws_cloudwatch_log_group" "dixie_migration" {
  name              = "/ecs/${local.name_prefix}/dixie-migration"
  retention_in_days = var.log_retention_days
}
