# The containers are templates beside the code.
variable "tag" {}
variable "sidecars" {
  type    = map(string)
  default = { proxy = "envoyproxy/envoy:v1.31.2", shipper = "fluent/fluent-bit" }
}

locals {
  services = toset(["finn", "dixie"])
  size     = { finn = { cpu = 512, memory = 1024 }, dixie = { cpu = 256, memory = 512 } }
}

resource "aws_iam_role" "execution" {
  for_each = local.services
  name     = "p-${each.value}"
}

resource "aws_ssm_parameter" "key" {
  for_each = local.services
  name     = "/p/${each.value}/key"
  type     = "SecureString"
  value    = "set by hand"
}

resource "aws_ecs_task_definition" "task" {
  for_each           = local.services
  family             = "p-${each.value}"
  cpu                = local.size[each.value].cpu
  memory             = local.size[each.value].memory
  execution_role_arn = aws_iam_role.execution[each.value].arn
  container_definitions = templatefile("${path.module}/containers/${each.value}.json.tftpl", {
    name     = each.value
    tag      = var.tag
    secret   = aws_ssm_parameter.key[each.value].arn
    sidecars = each.value == "finn" ? var.sidecars : {}
  })
}

resource "aws_ecs_service" "service" {
  for_each        = local.services
  name            = "p-${each.value}"
  task_definition = aws_ecs_task_definition.task[each.value].arn
  network_configuration {
    security_groups = ["sg-${each.value}"]
  }
}
