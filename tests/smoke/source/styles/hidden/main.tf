# The map of services has no value in the files: nothing of a service is known, and nothing is missing.
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

variable "services" { type = map(object({ cpu = number, memory = number })) }
module "service" {
  for_each = var.services
  source   = "./modules/service"
  name     = each.key
  cluster  = aws_ecs_cluster.main
  image    = "registry.example.org/p-${each.key}:${var.tag}"
  size     = { cpu = each.value.cpu, memory = each.value.memory }
  topic    = aws_sns_topic.alerts.arn
  subnets  = var.subnets
  vpc_id   = var.vpc_id
}
