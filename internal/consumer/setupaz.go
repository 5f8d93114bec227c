package consumer

import (
	"regexp"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/service"
)

// mend is how az gives a resource an identity and a key. In a command, NAME, GROUP and PARENT are the names of the
// resource, of its resource group and of the resource that it belongs to; KEY is the id of the key, VAULT the URL of
// its vault and KEYNAME its name. VERSION and IDENTITY_ID remain for whoever enters the command.
type mend struct{ identity, key string }

var mends = map[string]mend{
	"microsoft.storage/storageaccounts": {
		identity: "az storage account update --name NAME --resource-group GROUP --identity-type SystemAssigned",
		key: "az storage account update --name NAME --resource-group GROUP --encryption-key-source " +
			`Microsoft.Keyvault --encryption-key-vault VAULT --encryption-key-name KEYNAME --encryption-key-version ""`,
	},
	"microsoft.storage/storageaccounts/encryptionscopes": {
		identity: "az storage account update --name PARENT --resource-group GROUP --identity-type SystemAssigned",
		key: "az storage account encryption-scope update --account-name PARENT --resource-group GROUP --name NAME " +
			"--key-source Microsoft.KeyVault --key-uri KEY",
	},
	"microsoft.documentdb/databaseaccounts": {
		identity: "az cosmosdb identity assign --name NAME --resource-group GROUP, then: az cosmosdb update " +
			"--name NAME --resource-group GROUP --default-identity SystemAssignedIdentity",
		key: "az cosmosdb update --name NAME --resource-group GROUP --key-uri KEY",
	},
	"microsoft.cognitiveservices/accounts": {
		identity: "az cognitiveservices account identity assign --name NAME --resource-group GROUP",
		key: "az cognitiveservices account update --name NAME --resource-group GROUP --encryption " +
			`'{"keySource": "Microsoft.KeyVault", "keyVaultProperties": {"keyName": "KEYNAME", ` +
			`"keyVersion": "VERSION", "keyVaultUri": "VAULT"}}'`,
	},
	"microsoft.compute/diskencryptionsets": {
		identity: "az disk-encryption-set identity assign --name NAME --resource-group GROUP --system-assigned",
		key: "az disk-encryption-set update --name NAME --resource-group GROUP --key-url KEY/VERSION " +
			"--enable-auto-key-rotation true",
	},
	"microsoft.sql/servers": {
		identity: "az sql server update --name NAME --resource-group GROUP -i",
		key: "az sql server key create --server NAME --resource-group GROUP --kid KEY/VERSION, then: az sql server " +
			"tde-key set --server NAME --resource-group GROUP --server-key-type AzureKeyVault --kid KEY/VERSION " +
			"--auto-rotation-enabled true",
	},
	"microsoft.sql/servers/databases": {
		identity: "",
		key: "az resource update --ids ID --api-version 2025-01-01 --set " +
			"properties.encryptionProtector=KEY/VERSION properties.encryptionProtectorAutoRotation=true",
	},
	"microsoft.sql/managedinstances": {
		identity: "az sql mi update --name NAME --resource-group GROUP -i",
		key: "az sql mi key create --managed-instance NAME --resource-group GROUP --kid KEY/VERSION, then: az sql mi " +
			"tde-key set --managed-instance NAME --resource-group GROUP --server-key-type AzureKeyVault " +
			"--kid KEY/VERSION --auto-rotation-enabled true",
	},
	"microsoft.containerregistry/registries": {
		identity: "az acr identity assign --name NAME --resource-group GROUP --identities [system]",
		key:      "az acr encryption rotate-key --name NAME --resource-group GROUP --key-encryption-key KEY",
	},
	"microsoft.eventhub/namespaces": {
		identity: "az eventhubs namespace identity assign --namespace-name NAME --resource-group GROUP " +
			"--system-assigned true",
		key: "az eventhubs namespace encryption add --namespace-name NAME --resource-group GROUP " +
			"--encryption-config key-name=KEYNAME key-vault-uri=VAULT",
	},
	"microsoft.dbforpostgresql/flexibleservers": {
		identity: "az postgres flexible-server identity assign --server-name NAME --resource-group GROUP " +
			"--identity IDENTITY_ID",
		key: "az postgres flexible-server update --name NAME --resource-group GROUP --key KEY --identity IDENTITY_ID",
	},
	"microsoft.dbformysql/flexibleservers": {
		identity: "az mysql flexible-server identity assign --server-name NAME --resource-group GROUP " +
			"--identity IDENTITY_ID",
		key: "az mysql flexible-server update --name NAME --resource-group GROUP --key KEY/VERSION " +
			"--identity IDENTITY_ID",
	},
}

// giveIdentity is the command that gives a resource an identity.
func giveIdentity(id string) string {
	if text := mends[service.TypeOf(id)].identity; text != "" {
		return filled(text, id, keyRef{})
	}
	return "give it an identity in Azure's portal"
}

// giveKey is the command that sets a resource to a key.
func giveKey(id string, to keyRef) string {
	return filled(mends[service.TypeOf(id)].key, id, to)
}

// SetTo is the command by which a person sets a resource to a version of a key, or to the key that it then follows.
func SetTo(id, vaultURL, name, version string) string {
	text := giveKey(id, keyRef{vault: vaultURL, name: name})
	if text == "" {
		return "set it to " + vaultURL + "/keys/" + name + " in Azure's portal"
	}
	return strings.ReplaceAll(text, "VERSION", version)
}

func filled(text, id string, to keyRef) string {
	return strings.NewReplacer("IDENTITY_ID", "IDENTITY_ID", "KEYNAME", to.name, "PARENT", word(nameAt(id, 3)),
		"NAME", word(service.NameOf(id)), "GROUP", word(groupOf(id)), "VAULT", to.vault,
		"KEY", to.vault+"/keys/"+to.name, "ID", word(id)).Replace(text)
}

var plainWord = regexp.MustCompile(`^[\w./-]+$`)

// word is a name or an id as a shell takes it. Azure lets people name a resource so that a shell would run it: a SQL
// database can be named $(reboot).
func word(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// inQuotes is word for what is always in quotes.
func inQuotes(text string) string {
	if plainWord.MatchString(text) {
		return `"` + text + `"`
	}
	return word(text)
}

// nameAt is a part of an id, counted from its end.
func nameAt(id string, fromEnd int) string {
	parts := strings.Split(id, "/")
	if len(parts) < fromEnd {
		return ""
	}
	return parts[len(parts)-fromEnd]
}

// groupOf is the resource group in an id.
func groupOf(id string) string {
	parts := strings.Split(id, "/")
	for i := range parts[:len(parts)-1] {
		if strings.EqualFold(parts[i], "resourceGroups") {
			return parts[i+1]
		}
	}
	return "GROUP"
}

// giveRights is the command that lets an identity use a key.
func giveRights(v key.Vault, vaultID, name, identity string, p vaultProperties, needs []string) string {
	const role = "Crypto Service Encryption User"
	switch {
	case v.Kind == key.ManagedHSM:
		return `az keyvault role assignment create ` + v.AzScope() + ` --role "Managed HSM ` + role +
			`" --assignee-object-id ` + identity + ` --assignee-principal-type ServicePrincipal --scope /keys/` + name
	case p.Roles == nil || !*p.Roles:
		have := permissionsOf(p, identity)
		for _, n := range needs {
			have = addFold(have, n)
		}
		return "az keyvault set-policy " + azShow(v) + " --object-id " + identity + " --key-permissions " +
			strings.Join(have, " ")
	}
	return `az role assignment create --role "Key Vault ` + role + `" --assignee-object-id ` + identity +
		` --assignee-principal-type ServicePrincipal --scope ` + inQuotes(vaultID+"/keys/"+name)
}

func addFold(all []string, text string) []string {
	for _, have := range all {
		if strings.EqualFold(have, text) {
			return all
		}
	}
	return append(all, text)
}
