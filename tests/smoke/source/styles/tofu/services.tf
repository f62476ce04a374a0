# Terraform's file of that name, which OpenTofu does not read.
this is not read
