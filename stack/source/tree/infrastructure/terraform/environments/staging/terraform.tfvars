environment        = "staging"
vpc_id             = "vpc-0a1b2c3d4e5f60718"
private_subnets    = ["subnet-0aa11bb22cc33dd44", "subnet-0ee55ff66aa77bb88"]
log_retention_days = 30
