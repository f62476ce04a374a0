# One module for every service, followed by its outputs.
variable "tag" {}

module "finn" {
  source    = "./modules/service"
  name      = "finn"
  cpu       = 512
  memory    = 1024
  image_tag = var.tag
  topics    = [module.alerts.topic_arn]
}

module "dixie" {
  source     = "./modules/service"
  name       = "dixie"
  image_tag  = var.tag
  log_group  = module.finn.log_group # what is finn's
  topics     = []                    # dixie notifies nobody
}

module "alerts" {
  source = "./modules/alerts"
}
