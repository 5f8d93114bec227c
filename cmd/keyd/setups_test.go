package main

import "github.com/keyd-project/keyd/internal/status"

// setups are the lines of a check that goes through the set-up of consumers.
func setups() []status.Check {
	const st, my = "storage account stcmkdemo", "MySQL flexible server my-erp"
	ok := func(subject, name, detail string) status.Check {
		return status.Check{Area: "consumer", Subject: subject, Name: name, Result: status.CheckOK, Detail: detail}
	}
	return []status.Check{
		ok("contoso-weu", "kind of vault", "Premium: it holds keys in an HSM"),
		ok("contoso-weu", "soft delete and purge protection", "on: a deleted key can be recovered for 90 days"),
		ok(st, "set to the key", "it is, and follows new versions"),
		ok(st, "identity", "its own, object 5f0c9d4e-1b7a-4c7e-9a53-2d1e8f6b0a11"),
		{Area: "consumer", Subject: st, Name: "rights on the key", Result: status.CheckFailed,
			Detail: "object 5f0c9d4e-1b7a-4c7e-9a53-2d1e8f6b0a11 lacks Microsoft.KeyVault/vaults/keys/unwrap/action",
			Remedy: `az role assignment create --role "Key Vault Crypto Service Encryption User" ` +
				`--assignee-object-id 5f0c9d4e-1b7a-4c7e-9a53-2d1e8f6b0a11 ` +
				`--assignee-principal-type ServicePrincipal ` +
				`--scope "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/keyd-weu/providers/` +
				`Microsoft.KeyVault/vaults/contoso-weu/keys/sa-cmk-key" (a new right takes a few minutes to work)`},
		ok(st, "way into the vault", "the vault lets trusted services in, and this is one"),
		{Area: "consumer", Subject: my, Name: "set to the key", Result: status.CheckWarning,
			Detail: "keyd does not see it: " + my + ": look at it: HTTP 403 AuthorizationFailed",
			Remedy: "let keyd's identity look there; a new assignment takes a few minutes to work: " +
				"az role assignment create --role Reader --assignee-object-id e2b1c6f0-7d0e-4a55-8f5c-90c1b2a3d4e5 " +
				`--assignee-principal-type ServicePrincipal ` +
				`--scope "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/erp/providers/` +
				`Microsoft.DBforMySQL/flexibleServers/my-erp"`},
	}
}
