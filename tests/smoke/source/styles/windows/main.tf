# Written on Windows: a byte order mark, CRLF, and a block that is not valid.
variable "tag" {}
resource "aws_iam_role" "finn" { name = "p-finn" }
resource "aws_secretsmanager_secret" "finn" { name = "p/finn/key" }
resource "aws_ecs_task_definition" "finn" {
  family             = "p-finn"
  cpu                = 1024 / 2
  memory             = 1024
  execution_role_arn = aws_iam_role.finn.arn
  container_definitions = <<EOT
[{"image": "registry.example.org/p-finn:${var.tag}", "secrets": [{"valueFrom": "${aws_secretsmanager_secret.finn.arn}"}],
  "logConfiguration": {"options": {"awslogs-group": "/ecs/finn"}}}]
EOT  
}
resource "aws_ecs_service" "finn" {
  name            = "p-finn"
  task_definition = aws_ecs_task_definition.finn.arn
  network_configuration { security_groups = ["sg-1"] }
}
resource "aws_ecs_service" "dixie" {
  name = = "p-dixie"
}
output "all" { value = aws_lb.gone.arn }
