# What keyd may do in the vault: the roles that keyd ships, read from the files that it ships.
locals {
  role_files = merge(
    { keyd = "key-vault-role.json" },
    var.retire ? { retire = "key-vault-retire-role.json" } : {},
  )
  roles = { for name, json in local.role_files : name => jsondecode(file("${path.module}/../../azure/${json}")) }
}

resource "azurerm_role_definition" "keyd" {
  for_each = local.roles

  name              = each.value.Name
  description       = each.value.Description
  scope             = data.azurerm_subscription.current.id
  assignable_scopes = [data.azurerm_subscription.current.id]

  permissions {
    actions          = each.value.Actions
    not_actions      = each.value.NotActions
    data_actions     = each.value.DataActions
    not_data_actions = each.value.NotDataActions
  }
}

resource "azurerm_role_assignment" "keyd" {
  for_each = azurerm_role_definition.keyd

  scope              = azurerm_key_vault.keyd.id
  role_definition_id = each.value.role_definition_resource_id
  principal_id       = var.keyd_principal_id
  principal_type     = "ServicePrincipal"
}

# An assignment takes a while to take effect. A new assignment makes Terraform wait anew.
resource "time_sleep" "keyd" {
  create_duration = var.role_wait
  triggers        = { for name, assignment in azurerm_role_assignment.keyd : name => assignment.id }
}

# What the services may do: read, wrap and unwrap. Each has an identity of its own, so that the vault's log tells them
# apart.
resource "azurerm_user_assigned_identity" "consumer" {
  for_each = var.consumers

  name                = "${var.vault_name}-${each.key}"
  resource_group_name = azurerm_resource_group.keyd.name
  location            = azurerm_resource_group.keyd.location
}

resource "azurerm_role_assignment" "consumer" {
  for_each = azurerm_user_assigned_identity.consumer

  scope                = azurerm_key_vault.keyd.id
  role_definition_name = "Key Vault Crypto Service Encryption User"
  principal_id         = each.value.principal_id
  principal_type       = "ServicePrincipal"
}

resource "time_sleep" "consumer" {
  create_duration = var.role_wait
  triggers        = { for name, assignment in azurerm_role_assignment.consumer : name => assignment.id }
}

# What Terraform itself may do: read public keys and names, for the second part. It also suffices for comparing the
# fingerprint of the key exchange key.
resource "azurerm_role_assignment" "reader" {
  scope                = azurerm_key_vault.keyd.id
  role_definition_name = "Key Vault Reader"
  principal_id         = data.azurerm_client_config.current.object_id
}

resource "time_sleep" "reader" {
  create_duration = var.role_wait
  triggers        = { reader = azurerm_role_assignment.reader.id }
}
