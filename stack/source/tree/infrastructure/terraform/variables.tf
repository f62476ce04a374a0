variable "environment" {
  type        = string
  description = "Which deployment this is; part of every name."
}

variable "aws_region" {
  type    = string
  default = "us-east-1"
}

variable "vpc_id" {
  type = string
}

variable "private_subnets" {
  type = list(string)
}

variable "certificate_arn" {
  type = string
}

# The pipeline passes the commit that it has built. There is no default: a plan without a commit must fail.
variable "api_image_tag" {
  type = string

  validation {
    condition     = can(regex("^[0-9a-f]{7,40}$", var.api_image_tag))
    error_message = "Expected a git sha."
  }
}

variable "finn_image_tag" {
  type = string

  validation {
    condition     = can(regex("^[0-9a-f]{7,40}$", var.finn_image_tag))
    error_message = "Expected a git sha."
  }
}

variable "dixie_image_tag" {
  type = string

  validation {
    condition     = can(regex("^[0-9a-f]{7,40}$", var.dixie_image_tag))
    error_message = "Expected a git sha."
  }
}

variable "log_retention_days" {
  type    = number
  default = 30
}

# db.t3.micro takes about 85 connections; the rest is for administration and for the unexpected.
variable "rds_connections_alarm" {
  type    = number
  default = 70
}
