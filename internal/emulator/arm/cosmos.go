package arm

import (
	"strings"
	"time"
)

// firstParty is Azure Cosmos DB's own application, the identity of an account that
// names no other.
const firstParty = "a232010e-820c-4083-83bb-3ace5fc29d0b"

// cosmos is Microsoft.DocumentDB/databaseAccounts: it looks for new versions within the
// hour. It keeps backups by itself if its document has a backup policy.
var cosmos = &kind{
	word: "cosmos", path: "Microsoft.DocumentDB/databaseAccounts",
	delay: time.Hour, bits: []int{2048, 3072, 4096},
	puts: byOperation, patches: byOperation,
	keeps: func(d document) time.Duration {
		policy := d.sub("properties", "backupPolicy")
		switch tier := strings.ToLower(policy.text("continuousModeProperties", "tier")); {
		case tier == "continuous7days":
			return 7 * 24 * time.Hour
		case strings.EqualFold(policy.text("type"), "Continuous"):
			return 30 * 24 * time.Hour
		}
		return time.Duration(policy.number("periodicModeProperties", "backupRetentionIntervalInHours")) * time.Hour
	},
	wants: func(c *consumer, d document) (want, error) {
		uri := d.text("properties", "keyVaultKeyUri")
		if uri == "" {
			return want{}, nil
		}
		key, err := parseKeyRef(uri)
		if err != nil {
			return want{}, err
		}
		w := want{key: key, follows: key.version == ""}
		kind, user, _ := strings.Cut(d.text("properties", "defaultIdentity"), "=")
		switch strings.ToLower(kind) {
		case "", "firstpartyidentity":
			w.who = identity{clientID: firstParty}
		case "systemassignedidentity":
			w.who, err = systemAssigned(c, d)
		case "userassignedidentity":
			w.who, err = userAssigned(c, d, user)
		default:
			err = badKey("The default identity %q is none of FirstPartyIdentity, SystemAssignedIdentity, "+
				"UserAssignedIdentity=ID.", kind)
		}
		return w, err
	},
	shows: func(c *consumer, d document) {
		d.set("https://"+c.name+".documents.azure.com:443/", "properties", "documentEndpoint")
		d.unset("properties", "keyVaultKeyUriVersion")
		if c.key != (keyRef{}) {
			d.set(c.shownActive().String(), "properties", "keyVaultKeyUriVersion")
		}
		switch {
		case c.key == (keyRef{}):
		case c.trouble != nil:
			d.set("Access to your account is currently revoked because the service cannot use the "+
				"customer-managed key: "+c.trouble.Error(),
				"properties", "customerManagedKeyStatus")
		default:
			d.set("Access to the configured customer managed key confirmed.", "properties", "customerManagedKeyStatus")
		}
	},
	keyPatch: func(_ *consumer, k keyRef, _ bool) document {
		return document{"properties": document{"keyVaultKeyUri": k.String(),
			"defaultIdentity": "SystemAssignedIdentity"}}
	},
}
