# They are there only after the waits: whoever sees them can go on.

output "vault_url" {
  description = "For `url` in keyd.yaml."
  value       = trimsuffix(azurerm_key_vault.keyd.vault_uri, "/")
  depends_on  = [time_sleep.keyd, time_sleep.reader]
}

output "identities" {
  description = "The object id of each service's identity, as the vault's log shows it."
  value       = { for name, identity in azurerm_user_assigned_identity.consumer : name => identity.principal_id }
  depends_on  = [time_sleep.consumer]
}
