// Package vault speaks to one vault: an Azure Key Vault (Premium) or a Managed
// HSM. Its rule: it is the only importer of Azure's data plane, and every error
// that leaves it says whether something may have happened in the vault.
package vault
