# Who may speak to whom. Each service has a group of its own.

resource "aws_security_group" "api" {
  name   = "${local.name_prefix}-api"
  vpc_id = var.vpc_id
}

resource "aws_security_group" "worker" {
  name   = "${local.name_prefix}-worker"
  vpc_id = var.vpc_id
}

resource "aws_security_group" "finn" {
  name   = "${local.name_prefix}-finn"
  vpc_id = var.vpc_id
}

resource "aws_security_group" "dixie" {
  name   = "${local.name_prefix}-dixie"
  vpc_id = var.vpc_id
}

resource "aws_security_group" "pgbouncer" {
  name   = "${local.name_prefix}-pgbouncer"
  vpc_id = var.vpc_id
}

resource "aws_security_group" "rds" {
  name   = "${local.name_prefix}-rds"
  vpc_id = var.vpc_id
}

resource "aws_security_group_rule" "api_egress" {
  type              = "egress"
  security_group_id = aws_security_group.api.id
  cidr_blocks       = ["0.0.0.0/0"]
  from_port         = 0
  to_port           = 65535
  protocol          = "tcp"
}

resource "aws_security_group_rule" "worker_egress" {
  type              = "egress"
  security_group_id = aws_security_group.worker.id
  cidr_blocks       = ["0.0.0.0/0"]
  from_port         = 0
  to_port           = 65535
  protocol          = "tcp"
}

resource "aws_security_group_rule" "finn_egress" {
  type              = "egress"
  security_group_id = aws_security_group.finn.id
  cidr_blocks       = ["0.0.0.0/0"]
  from_port         = 0
  to_port           = 65535
  protocol          = "tcp"
}

resource "aws_security_group_rule" "dixie_egress" {
  type              = "egress"
  security_group_id = aws_security_group.dixie.id
  cidr_blocks       = ["0.0.0.0/0"]
  from_port         = 0
  to_port           = 65535
  protocol          = "tcp"
}

resource "aws_security_group_rule" "pgbouncer_egress" {
  type              = "egress"
  security_group_id = aws_security_group.pgbouncer.id
  cidr_blocks       = ["0.0.0.0/0"]
  from_port         = 0
  to_port           = 65535
  protocol          = "tcp"
}

resource "aws_security_group_rule" "finn_from_api" {
  type                     = "ingress"
  security_group_id        = aws_security_group.finn.id
  source_security_group_id = aws_security_group.api.id
  from_port                = 3000
  to_port                  = 3000
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "finn_from_worker" {
  type                     = "ingress"
  security_group_id        = aws_security_group.finn.id
  source_security_group_id = aws_security_group.worker.id
  from_port                = 3000
  to_port                  = 3000
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "api_from_finn" {
  type                     = "ingress"
  security_group_id        = aws_security_group.api.id
  source_security_group_id = aws_security_group.finn.id
  from_port                = 3000
  to_port                  = 3000
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "dixie_from_finn" {
  type                     = "ingress"
  security_group_id        = aws_security_group.dixie.id
  source_security_group_id = aws_security_group.finn.id
  from_port                = 3001
  to_port                  = 3001
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "dixie_from_api" {
  type                     = "ingress"
  security_group_id        = aws_security_group.dixie.id
  source_security_group_id = aws_security_group.api.id
  from_port                = 3001
  to_port                  = 3001
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "finn_from_dixie" {
  type                     = "ingress"
  security_group_id        = aws_security_group.finn.id
  source_security_group_id = aws_security_group.dixie.id
  from_port                = 3000
  to_port                  = 3000
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "api_from_dixie" {
  type                     = "ingress"
  security_group_id        = aws_security_group.api.id
  source_security_group_id = aws_security_group.dixie.id
  from_port                = 3000
  to_port                  = 3000
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "pgbouncer_from_api" {
  type                     = "ingress"
  security_group_id        = aws_security_group.pgbouncer.id
  source_security_group_id = aws_security_group.api.id
  from_port                = 6432
  to_port                  = 6432
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "pgbouncer_from_worker" {
  type                     = "ingress"
  security_group_id        = aws_security_group.pgbouncer.id
  source_security_group_id = aws_security_group.worker.id
  from_port                = 6432
  to_port                  = 6432
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "pgbouncer_from_finn" {
  type                     = "ingress"
  security_group_id        = aws_security_group.pgbouncer.id
  source_security_group_id = aws_security_group.finn.id
  from_port                = 6432
  to_port                  = 6432
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "pgbouncer_from_dixie" {
  type                     = "ingress"
  security_group_id        = aws_security_group.pgbouncer.id
  source_security_group_id = aws_security_group.dixie.id
  from_port                = 6432
  to_port                  = 6432
  protocol                 = "tcp"
}

resource "aws_security_group_rule" "rds_from_pgbouncer" {
  type                     = "ingress"
  security_group_id        = aws_security_group.rds.id
  source_security_group_id = aws_security_group.pgbouncer.id
  from_port                = 5432
  to_port                  = 5432
  protocol                 = "tcp"
}
