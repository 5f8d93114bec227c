package arm

import (
	"strings"
	"time"
)

// aiServices is Microsoft.CognitiveServices/accounts: it never looks for a new version
// and takes keys of one size, in one vault. One that is set is in effect minutes later.
var aiServices = &kind{
	word: "ai", path: "Microsoft.CognitiveServices/accounts",
	bits: []int{2048}, needsVersion: true,
	moving: 5 * time.Minute,
	puts:   byState, patches: byState,
	vaultOnly: true, sameRegion: true, oneVault: true, etagged: true,
	whole: [][]string{{"properties", "encryption"}},
	wants: func(c *consumer, d document) (want, error) {
		e := d.sub("properties", "encryption")
		if e.sub("keyVaultProperties") != nil && e.text("keySource") == "" {
			return want{}, badKey("properties.encryption.keySource is required.")
		}
		if !strings.EqualFold(e.text("keySource"), "Microsoft.KeyVault") {
			return want{}, nil
		}
		p := e.sub("keyVaultProperties")
		key, err := newKeyRef(p.text("keyVaultUri"), p.text("keyName"), p.text("keyVersion"))
		if err != nil {
			return want{}, err
		}
		if client := p.text("identityClientId"); client != "" {
			return want{key: key, who: identity{clientID: client}}, nil
		}
		who, err := systemAssigned(c, d)
		return want{key: key, who: who}, err
	},
	shows: func(c *consumer, d document) {
		d.set("https://"+c.name+".cognitiveservices.azure.com/", "properties", "endpoint")
		d.set(timestamp(c.made), "properties", "dateCreated")
	},
	keyPatch: func(_ *consumer, k keyRef, _ bool) document {
		return document{"properties": document{"encryption": document{
			"keySource":          "Microsoft.KeyVault",
			"keyVaultProperties": document{"keyVaultUri": k.vault, "keyName": k.name, "keyVersion": k.version},
		}}}
	},
}
