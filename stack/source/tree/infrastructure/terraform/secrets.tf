# The values are put in by the bootstrap, never by Terraform.

resource "aws_secretsmanager_secret" "freeside_es256" {
  name                    = "${local.name_prefix}/freeside/es256-private-key"
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret" "finn_es256" {
  name                    = "${local.name_prefix}/finn/es256-private-key"
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret" "dixie_es256" {
  name                    = "${local.name_prefix}/dixie/es256-private-key"
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret" "freeside_db_url" {
  name                    = "${local.name_prefix}/freeside/db-url"
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret" "finn_db_url" {
  name                    = "${local.name_prefix}/finn/db-url"
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret" "dixie_db_url" {
  name                    = "${local.name_prefix}/dixie/db-url"
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret" "dixie_api_keys" {
  name                    = "${local.name_prefix}/dixie/api-keys"
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret" "pgbouncer_userlist" {
  name                    = "${local.name_prefix}/pgbouncer/userlist"
  recovery_window_in_days = 7
}
