# Finn: the internal gateway to the models. No load balancer: it is found through Cloud Map.

resource "aws_ecr_repository" "finn" {
  name                 = "${local.name_prefix}-finn"
  image_tag_mutability = "IMMUTABLE"
}

resource "aws_ecs_task_definition" "finn" {
  family                   = "${local.name_prefix}-finn"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.ecs_execution_finn.arn

  container_definitions = jsonencode([
    {
      name      = "finn"
      image     = "${aws_ecr_repository.finn.repository_url}:${var.finn_image_tag}"
      essential = true

      portMappings = [{ containerPort = 3000, protocol = "tcp" }]

      environment = [
        { name = "NODE_ENV", value = "production" },
        { name = "ARRAKIS_JWKS_URL", value = "http://freeside.${local.dns_name}:3000/.well-known/jwks.json" },
        { name = "DIXIE_BASE_URL", value = "http://dixie.${local.dns_name}:3001" },
      ]

      secrets = [
        { name = "ES256_PRIVATE_KEY", valueFrom = aws_secretsmanager_secret.finn_es256.arn },
        { name = "DATABASE_URL", valueFrom = aws_secretsmanager_secret.finn_db_url.arn },
      ]

      healthCheck = {
        command  = ["CMD-SHELL", "wget -q -O /dev/null http://localhost:3000/health"]
        interval = 30
        timeout  = 5
        retries  = 3
      }

      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.finn.name
          "awslogs-region"        = var.aws_region
          "awslogs-stream-prefix" = "finn"
        }
      }
    }
  ])
}

resource "aws_ecs_service" "finn" {
  name            = "${local.name_prefix}-finn"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.finn.arn
  desired_count   = 1
  launch_type     = "FARGATE"

  network_configuration {
    subnets         = var.private_subnets
    security_groups = [aws_security_group.finn.id]
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  service_registries {
    registry_arn = aws_service_discovery_service.internal["finn"].arn
  }
}
