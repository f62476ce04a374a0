# One-shot tasks that the pipeline runs before it deploys. They belong to no service.

resource "aws_ecs_task_definition" "freeside_migration" {
  family                   = "${local.name_prefix}-freeside-migration"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.ecs_execution_freeside_migration.arn

  container_definitions = jsonencode([
    {
      name      = "freeside-migration"
      image     = "${aws_ecr_repository.api.repository_url}:${var.api_image_tag}"
      essential = true
      command   = ["node", "dist/migrate.js"]

      environment = [
        { name = "MIGRATION_TIMEOUT_MS", value = "90000" },
      ]

      secrets = [
        { name = "DATABASE_URL", valueFrom = aws_secretsmanager_secret.freeside_db_url.arn },
      ]

      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.freeside_migration.name
          "awslogs-region"        = var.aws_region
          "awslogs-stream-prefix" = "migration"
        }
      }
    }
  ])
}

resource "aws_ecs_task_definition" "dixie_migration" {
  family                   = "${local.name_prefix}-dixie-migration"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.ecs_execution_dixie_migration.arn

  container_definitions = jsonencode([
    {
      name      = "dixie-migration"
      image     = "${aws_ecr_repository.dixie.repository_url}:${var.dixie_image_tag}"
      essential = true
      command   = ["node", "dist/migrate.js"]

      environment = [
        { name = "MIGRATION_TIMEOUT_MS", value = "90000" },
      ]

      secrets = [
        { name = "DATABASE_URL", valueFrom = aws_secretsmanager_secret.dixie_db_url.arn },
      ]

      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.dixie_migration.name
          "awslogs-region"        = var.aws_region
          "awslogs-stream-prefix" = "migration"
        }
      }
    }
  ])
}
