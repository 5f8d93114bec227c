# An AI account (Azure OpenAI) under a key of keyd's. It takes RSA-2048 only, and it does not follow new versions:
# somebody points it to each new one. Delete this file if you need none.

variable "ai_account_name" {
  description = "The account's name, also of its subdomain, unique in all of Azure."
  type        = string
}

variable "ai_key_name" {
  description = "The key's name in keyd.yaml, where it needs `spec: RSA-2048`."
  type        = string
  default     = "ai-cmk"
}

data "azurerm_user_assigned_identity" "ai" {
  name                = "${var.vault_name}-ai"
  resource_group_name = var.resource_group_name
}

data "azurerm_key_vault_key" "ai" {
  name         = var.ai_key_name
  key_vault_id = data.azurerm_key_vault.keyd.id

  lifecycle {
    postcondition {
      condition     = self.key_type == "RSA-HSM" && contains(keys(self.tags), "keyd-instance")
      error_message = "keyd did not import this key: it is in no HSM, or has no tag of keyd's. Find out who made it."
    }
    # The provider leaves key_size empty. A modulus of 2048 bits has 342 characters.
    postcondition {
      condition     = length(self.n) == 342
      error_message = "AI accounts take RSA-2048 only: write `spec: RSA-2048` under the key, before keyd makes it."
    }
  }
}

resource "azurerm_cognitive_account" "ai" {
  name                  = var.ai_account_name
  resource_group_name   = data.azurerm_resource_group.keyd.name
  location              = data.azurerm_resource_group.keyd.location
  kind                  = "OpenAI"
  sku_name              = "S0"
  custom_subdomain_name = var.ai_account_name

  identity {
    type         = "UserAssigned"
    identity_ids = [data.azurerm_user_assigned_identity.ai.id]
  }

  lifecycle {
    prevent_destroy = true

    # The resource below sets it. Without this line, Terraform would take the key away again.
    ignore_changes = [customer_managed_key]
  }
}

resource "azurerm_cognitive_account_customer_managed_key" "ai" {
  cognitive_account_id = azurerm_cognitive_account.ai.id
  identity_client_id   = data.azurerm_user_assigned_identity.ai.client_id

  # The version that is newest when the account gets its key.
  key_vault_key_id = data.azurerm_key_vault_key.ai.id

  lifecycle {
    prevent_destroy = true

    # From then on the version is not Terraform's. It would follow a rotation at its next apply, whenever that is, or
    # go back to a version that somebody has left on purpose.
    ignore_changes = [key_vault_key_id]
  }
}
