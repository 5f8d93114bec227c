package arm

import (
	"strings"
	"time"
)

// storage is Microsoft.Storage/storageAccounts: it looks for new versions daily, unless
// the key version is pinned.
var storage = &kind{
	word: "storage", path: "Microsoft.Storage/storageAccounts",
	delay: 24 * time.Hour, bits: []int{2048, 3072, 4096},
	puts: byLocation, patches: atOnce,
	whole: [][]string{{"properties", "encryption"}},
	wants: func(c *consumer, d document) (want, error) {
		e := d.sub("properties", "encryption")
		if e.sub("keyvaultproperties") != nil && e.text("keySource") == "" {
			return want{}, badKey("properties.encryption.keySource is required.")
		}
		if !strings.EqualFold(e.text("keySource"), "Microsoft.Keyvault") {
			return want{}, nil
		}
		key, err := newKeyRef(e.text("keyvaultproperties", "keyvaulturi"), e.text("keyvaultproperties", "keyname"),
			e.text("keyvaultproperties", "keyversion"))
		if err != nil {
			return want{}, err
		}
		who, err := chosenIdentity(c, d, e.text("identity", "userAssignedIdentity"))
		return want{key, key.version == "", who}, err
	},
	shows: func(c *consumer, d document) {
		d.set(timestamp(c.made), "properties", "creationTime")
		d.set("https://"+c.name+".blob.core.windows.net/", "properties", "primaryEndpoints", "blob")
		if c.key == (keyRef{}) {
			d.set("Microsoft.Storage", "properties", "encryption", "keySource")
			return
		}
		at := func(value any, name string) { d.set(value, "properties", "encryption", "keyvaultproperties", name) }
		at(c.shownActive().String(), "currentVersionedKeyIdentifier")
		at(timestamp(c.rotated), "lastKeyRotationTimestamp")
		d.unset("properties", "encryption", "keyvaultproperties", "currentVersionedKeyExpirationTimestamp")
		if !c.expires.IsZero() {
			at(timestamp(c.expires), "currentVersionedKeyExpirationTimestamp")
		}
	},
	keyPatch: func(_ *consumer, k keyRef, _ bool) document {
		return document{"properties": document{"encryption": document{
			"keySource":          "Microsoft.Keyvault",
			"keyvaultproperties": document{"keyvaulturi": k.vault, "keyname": k.name, "keyversion": k.version},
		}}}
	},
}
