variable "subscription_id" {
  description = "The subscription of the vault and of the resource group."
  type        = string
}

variable "location" {
  description = "The region of the vault. An AI account must be in the region of its vault."
  type        = string
}

variable "resource_group_name" {
  description = "The resource group, which this configuration makes."
  type        = string
}

variable "vault_name" {
  description = "The vault's name, unique in all of Azure: https://NAME.vault.azure.net."
  type        = string
}

variable "keyd_principal_id" {
  description = "The object id of keyd's identity: the Arc machine's, or the service principal's."
  type        = string
}

variable "keyd_addresses" {
  description = "Public addresses (or CIDR blocks) of keyd's host; none behind a private endpoint."
  type        = list(string)
}

variable "admin_addresses" {
  description = "Public addresses (or CIDR blocks) of those who look after the vault, and of the host of Terraform."
  type        = list(string)

  validation {
    condition     = length(var.admin_addresses) > 0
    error_message = "Without an address of its own, Terraform cannot read the key that keyd imports."
  }
}

variable "consumers" {
  description = "A name for each service that encrypts under a key of this vault. Each gets an identity of its own."
  type        = set(string)
  default     = ["storage"]
}

variable "retire" {
  description = "Whether a key has a retire rule: keyd then needs the role for disabling old versions, too."
  type        = bool
  default     = false
}

variable "role_wait" {
  description = "How long to wait after a role assignment: README.md says why."
  type        = string
  default     = "10m"
}
