# PgBouncer: transaction pooling in front of the database.

resource "aws_ecs_task_definition" "pgbouncer" {
  family                   = "${local.name_prefix}-pgbouncer"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.ecs_execution_pgbouncer.arn

  container_definitions = jsonencode([
    {
      name      = "pgbouncer"
      image     = "docker.io/edoburu/pgbouncer:1.21.0-p2"
      essential = true

      portMappings = [{ containerPort = 6432, protocol = "tcp" }]

      environment = [
        { name = "POOL_MODE", value = "transaction" },
        { name = "LISTEN_PORT", value = "6432" },
        { name = "DB_HOST", value = aws_db_instance.main.address },
      ]

      secrets = [
        { name = "AUTH_FILE", valueFrom = aws_secretsmanager_secret.pgbouncer_userlist.arn },
      ]

      healthCheck = {
        command  = ["CMD-SHELL", "nc -z localhost 6432"]
        interval = 30
        timeout  = 5
        retries  = 3
      }

      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.pgbouncer.name
          "awslogs-region"        = var.aws_region
          "awslogs-stream-prefix" = "pgbouncer"
        }
      }
    }
  ])
}

resource "aws_ecs_service" "pgbouncer" {
  name            = "${local.name_prefix}-pgbouncer"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.pgbouncer.arn
  desired_count   = 1
  launch_type     = "FARGATE"

  network_configuration {
    subnets         = var.private_subnets
    security_groups = [aws_security_group.pgbouncer.id]
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  service_registries {
    registry_arn = aws_service_discovery_service.internal["pgbouncer"].arn
  }
}
