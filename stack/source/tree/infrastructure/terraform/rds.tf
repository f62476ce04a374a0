# The database behind the pooler.

resource "aws_db_instance" "main" {
  identifier          = "${local.name_prefix}-postgres"
  engine              = "postgres"
  engine_version      = "15.10"
  instance_class      = "db.t3.micro"
  allocated_storage   = 20
  deletion_protection = true

  manage_master_user_password = true
  username                    = "arrakis_admin"
  vpc_security_group_ids      = [aws_security_group.rds.id]
}
