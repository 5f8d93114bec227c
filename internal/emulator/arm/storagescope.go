package arm

import (
	"strings"
	"time"
)

// storageScope is an encryption scope of a storage account: it has a key of its own, which it uses with the account's
// identity.
var storageScope = &kind{
	word: "scope", path: storage.path + "/encryptionScopes",
	delay: 24 * time.Hour, bits: []int{2048, 3072, 4096},
	puts: atOnce, patches: atOnce,
	parent: storage, stays: true,
	whole: [][]string{{"properties", "keyVaultProperties"}},
	wants: func(c *consumer, d document) (want, error) {
		if !strings.EqualFold(d.text("properties", "source"), "Microsoft.KeyVault") {
			return want{}, nil
		}
		key, err := parseKeyRef(d.text("properties", "keyVaultProperties", "keyUri"))
		if err != nil {
			return want{}, err
		}
		w := want{key: key, follows: key.version == ""}
		if account := c.parent(); account != nil {
			of := account.settings()
			w.who, err = chosenIdentity(account, of,
				of.text("properties", "encryption", "identity", "userAssignedIdentity"))
		}
		return w, err
	},
	shows: func(c *consumer, d document) {
		if d.text("properties", "state") == "" {
			d.set("Enabled", "properties", "state")
		}
		d.set(timestamp(c.made), "properties", "creationTime")
		if c.key == (keyRef{}) {
			d.set("Microsoft.Storage", "properties", "source")
			return
		}
		d.set(c.shownActive().String(), "properties", "keyVaultProperties", "currentVersionedKeyIdentifier")
		d.set(timestamp(c.rotated), "properties", "keyVaultProperties", "lastKeyRotationTimestamp")
	},
	keyPatch: func(_ *consumer, k keyRef, _ bool) document {
		return document{"properties": document{"source": "Microsoft.KeyVault", "state": "Enabled",
			"keyVaultProperties": document{"keyUri": k.String()}}}
	},
}
