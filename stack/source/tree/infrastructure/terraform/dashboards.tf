# What one looks at first.

resource "aws_cloudwatch_dashboard" "overview" {
  dashboard_name = "${local.name_prefix}-overview"

  dashboard_body = jsonencode({
    widgets = [
      {
        type = "alarm"
        properties = {
          title  = "Alarms"
          alarms = [aws_cloudwatch_metric_alarm.api_health.arn, aws_cloudwatch_metric_alarm.rds_connections.arn]
        }
      },
    ]
  })
}

resource "aws_cloudwatch_dashboard" "service_health" {
  dashboard_name = "${local.name_prefix}-service-health"

  dashboard_body = jsonencode({
    widgets = [
      {
        type = "alarm"
        properties = {
          title  = "Health"
          alarms = [aws_cloudwatch_metric_alarm.api_health.arn, aws_cloudwatch_metric_alarm.rds_connections.arn]
        }
      },
    ]
  })
}
