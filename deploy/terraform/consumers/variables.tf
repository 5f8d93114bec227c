variable "subscription_id" {
  description = "The subscription, as in the first part."
  type        = string
}

variable "resource_group_name" {
  description = "The resource group that the first part made."
  type        = string
}

variable "vault_name" {
  description = "The vault that the first part made."
  type        = string
}
