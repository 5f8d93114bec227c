# What the first part made. Nothing here may make Terraform read a key at apply time only: a key id that is not known
# yet looks like a new one, and some services are replaced for a new one. So no data source has depends_on, and none
# refers to a resource.

data "azurerm_resource_group" "keyd" {
  name = var.resource_group_name
}

data "azurerm_key_vault" "keyd" {
  name                = var.vault_name
  resource_group_name = var.resource_group_name
}
