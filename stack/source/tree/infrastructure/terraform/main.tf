terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.40"
    }
  }

  backend "s3" {
    key = "arrakis/terraform.tfstate"
  }
}

provider "aws" {
  region = var.aws_region
}

locals {
  name_prefix = "arrakis-${var.environment}"
  dns_name    = "${local.name_prefix}.local"
}

resource "aws_ecs_cluster" "main" {
  name = "${local.name_prefix}-cluster"

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_service_discovery_private_dns_namespace" "main" {
  name = local.dns_name
  vpc  = var.vpc_id
}

resource "aws_service_discovery_service" "internal" {
  for_each = toset(["freeside", "finn", "dixie", "pgbouncer"])
  name     = each.key

  dns_config {
    namespace_id   = aws_service_discovery_private_dns_namespace.main.id
    routing_policy = "MULTIVALUE"

    dns_records {
      ttl  = 10
      type = "A"
    }
  }
}
