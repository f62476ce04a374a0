# Dixie: reputation.

resource "aws_ecr_repository" "dixie" {
  name                 = "${local.name_prefix}-dixie"
  image_tag_mutability = "IMMUTABLE"
}

resource "aws_lb_target_group" "dixie" {
  name        = "${local.name_prefix}-dixie"
  port        = 3001
  protocol    = "HTTP"
  target_type = "ip"
  vpc_id      = var.vpc_id

  health_check {
    path = "/api/health"
  }
}

resource "aws_ecs_task_definition" "dixie" {
  family                   = "${local.name_prefix}-dixie"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.ecs_execution_dixie.arn

  container_definitions = jsonencode([
    {
      name      = "dixie"
      image     = "${aws_ecr_repository.dixie.repository_url}:${var.dixie_image_tag}"
      essential = true

      portMappings = [{ containerPort = 3001, protocol = "tcp" }]

      environment = [
        { name = "NODE_ENV", value = "production" },
        { name = "NATS_OPTIONAL", value = "true" },
        { name = "LOA_FINN_JWKS_URL", value = "http://finn.${local.dns_name}:3000/.well-known/jwks.json" },
      ]

      secrets = [
        { name = "ES256_PRIVATE_KEY", valueFrom = aws_secretsmanager_secret.dixie_es256.arn },
        { name = "DATABASE_URL", valueFrom = aws_secretsmanager_secret.dixie_db_url.arn },
        { name = "API_KEYS", valueFrom = aws_secretsmanager_secret.dixie_api_keys.arn },
      ]

      healthCheck = {
        command  = ["CMD-SHELL", "wget -q -O /dev/null http://localhost:3001/api/health"]
        interval = 30
        timeout  = 5
        retries  = 3
      }

      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.dixie.name
          "awslogs-region"        = var.aws_region
          "awslogs-stream-prefix" = "dixie"
        }
      }
    }
  ])
}

resource "aws_ecs_service" "dixie" {
  name            = "${local.name_prefix}-dixie"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.dixie.arn
  desired_count   = 1
  launch_type     = "FARGATE"

  network_configuration {
    subnets         = var.private_subnets
    security_groups = [aws_security_group.dixie.id]
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.dixie.arn
    container_name   = "dixie"
    container_port   = 3001
  }

  service_registries {
    registry_arn = aws_service_discovery_service.internal["dixie"].arn
  }
}
