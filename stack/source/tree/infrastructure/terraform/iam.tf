# One execution role per task: each reads the secrets of its own task and no others.

data "aws_iam_policy_document" "ecs_tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "ecs_execution_api" {
  name               = "${local.name_prefix}-ecs-execution-api"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy_attachment" "ecs_execution_api" {
  role       = aws_iam_role.ecs_execution_api.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "ecs_execution_api_secrets" {
  name = "secrets"
  role = aws_iam_role.ecs_execution_api.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = ["secretsmanager:GetSecretValue"]
        Resource = [
          aws_secretsmanager_secret.freeside_es256.arn,
          aws_secretsmanager_secret.freeside_db_url.arn,
        ]
      },
    ]
  })
}

resource "aws_iam_role" "ecs_execution_worker" {
  name               = "${local.name_prefix}-ecs-execution-worker"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy_attachment" "ecs_execution_worker" {
  role       = aws_iam_role.ecs_execution_worker.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "ecs_execution_worker_secrets" {
  name = "secrets"
  role = aws_iam_role.ecs_execution_worker.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = ["secretsmanager:GetSecretValue"]
        Resource = [
          aws_secretsmanager_secret.freeside_db_url.arn,
        ]
      },
    ]
  })
}

resource "aws_iam_role" "ecs_execution_finn" {
  name               = "${local.name_prefix}-ecs-execution-finn"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy_attachment" "ecs_execution_finn" {
  role       = aws_iam_role.ecs_execution_finn.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "ecs_execution_finn_secrets" {
  name = "secrets"
  role = aws_iam_role.ecs_execution_finn.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = ["secretsmanager:GetSecretValue"]
        Resource = [
          aws_secretsmanager_secret.finn_es256.arn,
          aws_secretsmanager_secret.finn_db_url.arn,
        ]
      },
    ]
  })
}

resource "aws_iam_role" "ecs_execution_dixie" {
  name               = "${local.name_prefix}-ecs-execution-dixie"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy_attachment" "ecs_execution_dixie" {
  role       = aws_iam_role.ecs_execution_dixie.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "ecs_execution_dixie_secrets" {
  name = "secrets"
  role = aws_iam_role.ecs_execution_dixie.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = ["secretsmanager:GetSecretValue"]
        Resource = [
          aws_secretsmanager_secret.dixie_es256.arn,
          aws_secretsmanager_secret.dixie_db_url.arn,
          aws_secretsmanager_secret.dixie_api_keys.arn,
        ]
      },
    ]
  })
}

resource "aws_iam_role" "ecs_execution_pgbouncer" {
  name               = "${local.name_prefix}-ecs-execution-pgbouncer"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy_attachment" "ecs_execution_pgbouncer" {
  role       = aws_iam_role.ecs_execution_pgbouncer.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "ecs_execution_pgbouncer_secrets" {
  name = "secrets"
  role = aws_iam_role.ecs_execution_pgbouncer.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = ["secretsmanager:GetSecretValue"]
        Resource = [
          aws_secretsmanager_secret.pgbouncer_userlist.arn,
        ]
      },
    ]
  })
}

resource "aws_iam_role" "ecs_execution_freeside_migration" {
  name               = "${local.name_prefix}-ecs-execution-freeside-migration"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy_attachment" "ecs_execution_freeside_migration" {
  role       = aws_iam_role.ecs_execution_freeside_migration.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "ecs_execution_freeside_migration_secrets" {
  name = "secrets"
  role = aws_iam_role.ecs_execution_freeside_migration.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = ["secretsmanager:GetSecretValue"]
        Resource = [
          aws_secretsmanager_secret.freeside_db_url.arn,
        ]
      },
    ]
  })
}

resource "aws_iam_role" "ecs_execution_dixie_migration" {
  name               = "${local.name_prefix}-ecs-execution-dixie-migration"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy_attachment" "ecs_execution_dixie_migration" {
  role       = aws_iam_role.ecs_execution_dixie_migration.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "ecs_execution_dixie_migration_secrets" {
  name = "secrets"
  role = aws_iam_role.ecs_execution_dixie_migration.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = ["secretsmanager:GetSecretValue"]
        Resource = [
          aws_secretsmanager_secret.dixie_db_url.arn,
        ]
      },
    ]
  })
}
