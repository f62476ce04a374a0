resource "aws_sns_topic" "this" { name = "p-alerts" }

resource "aws_sns_topic_subscription" "this" {
  topic_arn = aws_sns_topic.this.arn
  protocol  = "https"
  endpoint  = "https://events.example.org/alerts"
}

output "topic_arn" { value = aws_sns_topic.this.arn }
