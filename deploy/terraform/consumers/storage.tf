# A storage account under a key of keyd's. It follows new versions by itself, because its key id has no version.

variable "storage_account_name" {
  description = "The account's name, unique in all of Azure: 3 to 24 lower-case letters and digits."
  type        = string
}

variable "storage_key_name" {
  description = "The key's name in keyd.yaml. RSA of 2048, 3072 or 4096 bits."
  type        = string
  default     = "storage-cmk"
}

data "azurerm_user_assigned_identity" "storage" {
  name                = "${var.vault_name}-storage"
  resource_group_name = var.resource_group_name
}

data "azurerm_key_vault_key" "storage" {
  name         = var.storage_key_name
  key_vault_id = data.azurerm_key_vault.keyd.id

  lifecycle {
    postcondition {
      condition     = self.key_type == "RSA-HSM" && contains(keys(self.tags), "keyd-instance")
      error_message = "keyd did not import this key: it is in no HSM, or has no tag of keyd's. Find out who made it."
    }
  }
}

resource "azurerm_storage_account" "storage" {
  name                     = var.storage_account_name
  resource_group_name      = data.azurerm_resource_group.keyd.name
  location                 = data.azurerm_resource_group.keyd.location
  account_kind             = "StorageV2"
  account_tier             = "Standard"
  account_replication_type = "LRS"

  # Only an account that is made with these encrypts queues and tables under the key, too.
  queue_encryption_key_type = "Account"
  table_encryption_key_type = "Account"

  identity {
    type         = "UserAssigned"
    identity_ids = [data.azurerm_user_assigned_identity.storage.id]
  }

  customer_managed_key {
    key_vault_key_id          = data.azurerm_key_vault_key.storage.versionless_id
    user_assigned_identity_id = data.azurerm_user_assigned_identity.storage.id
  }

  lifecycle {
    prevent_destroy = true
  }
}
