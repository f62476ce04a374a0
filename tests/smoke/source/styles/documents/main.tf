# Policies as data sources that extend each other, attached in every way.
data "aws_iam_policy_document" "logs" {
  statement {
    actions   = ["logs:*"]
    resources = ["*"]
  }
}

data "aws_iam_policy_document" "finn" {
  source_policy_documents = [data.aws_iam_policy_document.logs.json]

  dynamic "statement" {
    for_each = [aws_secretsmanager_secret.finn.arn]
    content {
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value]
    }
  }
}

data "aws_iam_policy_document" "dixie" {
  statement {
    effect    = "Allow"
    actions   = ["secretsmanager:Get?ecretValue"]
    resources = ["arn:aws:secretsmanager:*:*:secret:p/*"]
  }
  statement {
    not_actions = ["iam:*", "secretsmanager:*", "ssm:*"]
    resources   = ["*"]
  }
}

data "aws_iam_policy_document" "pipeline" {
  statement {
    not_actions = ["organizations:*"]
    resources   = ["*"]
  }
}

data "aws_iam_policy" "parameters" { name = "AmazonSSMReadOnlyAccess" }

resource "aws_secretsmanager_secret" "finn" { name = "p/finn/key" }
resource "aws_secretsmanager_secret" "dixie" { name = "p/dixie/key" }

resource "aws_iam_role" "finn" {
  name                = "p-finn"
  managed_policy_arns = [aws_iam_policy.finn.arn, data.aws_iam_policy.parameters.arn]
}
resource "aws_iam_role" "dixie" { name = "p-dixie" }
resource "aws_iam_role" "pipeline" { name = "p-pipeline" }

resource "aws_iam_policy" "finn" { policy = data.aws_iam_policy_document.finn.json }
resource "aws_iam_policy" "dixie" { policy = data.aws_iam_policy_document.dixie.json }

resource "aws_iam_policy_attachment" "dixie" {
  name       = "dixie"
  roles      = [aws_iam_role.dixie.name]
  policy_arn = aws_iam_policy.dixie.arn
}

resource "aws_iam_role_policy" "pipeline" {
  role   = aws_iam_role.pipeline.id
  policy = data.aws_iam_policy_document.pipeline.json
}

resource "aws_ecs_task_definition" "finn" {
  family             = "p-finn"
  cpu                = 512
  memory             = 1024
  execution_role_arn = aws_iam_role.finn.arn
  container_definitions = jsonencode([{
    image            = "registry.example.org/p-finn@sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    secrets          = [{ name = "KEY", valueFrom = "${aws_secretsmanager_secret.finn.arn}:key::" }]
    logConfiguration = { options = { awslogs-group = "/ecs/finn" } }
  }])
}

resource "aws_ecs_task_definition" "dixie" {
  family             = "p-dixie"
  cpu                = 256
  memory             = 512
  execution_role_arn = aws_iam_role.dixie.arn
  container_definitions = jsonencode([{
    image            = "registry.example.org/p-dixie:1.4.2"
    secrets          = [{ name = "KEY", valueFrom = aws_secretsmanager_secret.dixie.arn }]
    logConfiguration = { options = { awslogs-group = "/ecs/dixie" } }
  }])
}

resource "aws_ecs_service" "finn" {
  name            = "p-finn"
  task_definition = aws_ecs_task_definition.finn.arn
  network_configuration { security_groups = ["sg-1"] }
}
resource "aws_ecs_service" "dixie" {
  name            = "p-dixie"
  task_definition = aws_ecs_task_definition.dixie.arn
  network_configuration { security_groups = ["sg-2"] }
}
