# Switches: what their defaults leave out is not there, what nothing decides is both.
variable "slack_channel" { default = "" }
variable "alarms_enabled" { default = "true" }
variable "firewall" {
  type    = bool
  default = false
}
variable "pinned" {}
variable "topic" {}
variable "tag" {}

locals {
  nobody = compact([""])
  chat   = var.slack_channel != ""
}

resource "aws_sns_topic" "alerts" { name = "p-alerts" }
resource "aws_sns_topic" "pager" { name = "p-pager" }
resource "aws_sns_topic_subscription" "pager" {
  topic_arn = aws_sns_topic.pager.arn
  protocol  = "https"
  endpoint  = "https://pager.example.org"
}
resource "aws_chatbot_slack_channel_configuration" "alerts" {
  count          = local.chat ? 1 : 0
  sns_topic_arns = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "chat" { alarm_actions = [aws_sns_topic.alerts.arn] }
resource "aws_cloudwatch_metric_alarm" "nobody" { alarm_actions = local.nobody }
resource "aws_cloudwatch_metric_alarm" "default" { alarm_actions = var.slack_channel == "" ? [] : [aws_sns_topic.pager.arn] }
resource "aws_cloudwatch_metric_alarm" "both" { alarm_actions = var.pinned ? [aws_sns_topic.pager.arn] : [] }
resource "aws_cloudwatch_metric_alarm" "off" {
  actions_enabled = "false"
  alarm_actions   = [aws_sns_topic.pager.arn]
}
resource "aws_cloudwatch_metric_alarm" "on" {
  actions_enabled = var.alarms_enabled
  alarm_actions   = [aws_sns_topic.pager.arn]
}
resource "aws_cloudwatch_metric_alarm" "gone" {
  count         = 0
  alarm_actions = [aws_sns_topic.pager.arn]
}
resource "aws_networkfirewall_firewall" "main" { count = var.firewall ? 1 : 0 }
resource "aws_cloudwatch_metric_alarm" "firewall" {
  count         = var.firewall ? 1 : 0
  alarm_actions = [aws_sns_topic.pager.arn]
  dimensions    = { FirewallName = aws_networkfirewall_firewall.main[0].name }
}
resource "aws_cloudwatch_metric_alarm" "given" { alarm_actions = [var.topic] }
resource "aws_cloudwatch_metric_alarm" "lower" {
  namespace           = "AWS/RDS"
  metric_name         = "DatabaseConnections"
  statistic           = "Maximum"
  dimensions          = { DBInstanceIdentifier = "p-postgres" }
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  alarm_actions       = [aws_sns_topic.pager.arn]
}
resource "aws_cloudwatch_metric_alarm" "upper" {
  namespace           = "AWS/RDS"
  metric_name         = "DatabaseConnections"
  statistic           = "Maximum"
  dimensions          = { DBInstanceIdentifier = "p-postgres" }
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = var.pinned ? "70" : 90
  alarm_actions       = [aws_sns_topic.pager.arn]
}

resource "aws_ecs_task_definition" "finn" {
  family = "p-finn"
  cpu    = 512
  memory = 1024
  container_definitions = jsonencode([{
    image = var.pinned ? "registry.example.org/p-finn:${var.tag}" : "registry.example.org/p-finn:main"
  }])
}
