environment        = "staging"
vpc_id             = "vpc-0a1b2c3d4e5f60718"
private_subnets    = ["subnet-0aa11bb22cc33dd44", "subnet-0ee55ff66aa77bb88"]
log_retention_days = 30
certificate_arn    = "arn:aws:acm:us-east-1:123456789012:certificate/5d2c7f0e-8a41-4b6c-9e53-1f7a60b2c9d4"
