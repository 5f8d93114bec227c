resource "azurerm_resource_group" "keyd" {
  name     = var.resource_group_name
  location = var.location
}

resource "azurerm_key_vault" "keyd" {
  name                = var.vault_name
  resource_group_name = azurerm_resource_group.keyd.name
  location            = azurerm_resource_group.keyd.location
  tenant_id           = data.azurerm_client_config.current.tenant_id

  # Only a Premium vault holds keys in an HSM, and so takes keys from one.
  sku_name                   = "premium"
  rbac_authorization_enabled = true

  # Purge protection cannot be taken back, and the retention cannot be changed: services refuse a vault without the
  # first, and the second is how long a deleted key can be recovered.
  purge_protection_enabled   = true
  soft_delete_retention_days = 90

  # Services come through the firewall as trusted ones. Everybody else comes from an address in this list, or through a
  # private endpoint.
  public_network_access_enabled = true

  network_acls {
    default_action = "Deny"
    bypass         = "AzureServices"
    ip_rules       = concat(var.admin_addresses, var.keyd_addresses)
  }

  lifecycle {
    prevent_destroy = true
  }
}
