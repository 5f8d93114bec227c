# A Cosmos DB account under a key of keyd's. It follows new versions by itself. Delete this file if you need none.

variable "cosmosdb_account_name" {
  description = "The account's name, unique in all of Azure."
  type        = string
}

variable "cosmosdb_key_name" {
  description = "The key's name in keyd.yaml."
  type        = string
  default     = "cosmosdb-cmk"
}

data "azurerm_user_assigned_identity" "cosmosdb" {
  name                = "${var.vault_name}-cosmosdb"
  resource_group_name = var.resource_group_name
}

data "azurerm_key_vault_key" "cosmosdb" {
  name         = var.cosmosdb_key_name
  key_vault_id = data.azurerm_key_vault.keyd.id

  lifecycle {
    postcondition {
      condition     = self.key_type == "RSA-HSM" && contains(keys(self.tags), "keyd-instance")
      error_message = "keyd did not import this key: it is in no HSM, or has no tag of keyd's. Find out who made it."
    }
  }
}

resource "azurerm_cosmosdb_account" "cosmosdb" {
  name                = var.cosmosdb_account_name
  resource_group_name = data.azurerm_resource_group.keyd.name
  location            = data.azurerm_resource_group.keyd.location
  offer_type          = "Standard"

  # Terraform replaces the account when this changes. It names no version, so a rotation does not change it.
  key_vault_key_id      = data.azurerm_key_vault_key.cosmosdb.versionless_id
  default_identity_type = "UserAssignedIdentity=${data.azurerm_user_assigned_identity.cosmosdb.id}"

  identity {
    type         = "UserAssigned"
    identity_ids = [data.azurerm_user_assigned_identity.cosmosdb.id]
  }

  consistency_policy {
    consistency_level = "Session"
  }

  geo_location {
    location          = data.azurerm_resource_group.keyd.location
    failover_priority = 0
  }

  lifecycle {
    prevent_destroy = true
  }
}
