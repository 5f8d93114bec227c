package arm

import (
	"strings"
	"time"
)

// registry is Microsoft.ContainerRegistry/registries: it looks for new versions hourly. It takes a key only when it is
// made, and keeps having one.
var registry = &kind{
	word: "acr", path: "Microsoft.ContainerRegistry/registries",
	delay: time.Hour, bits: []int{2048, 3072, 4096},
	puts: byOperation, patches: byOperation,
	atCreation: true, keysOnly: true,
	whole: [][]string{{"properties", "encryption"}},
	wants: func(c *consumer, d document) (want, error) {
		e := d.sub("properties", "encryption")
		if !strings.EqualFold(e.text("status"), "enabled") {
			return want{}, nil
		}
		p := e.sub("keyVaultProperties")
		key, err := parseKeyRef(p.text("keyIdentifier"))
		if err != nil {
			return want{}, err
		}
		w := want{key: key, follows: key.version == ""}
		if client := p.text("identity"); client != "" {
			w.who = identity{clientID: client}
			return w, nil
		}
		w.who, err = systemAssigned(c, d)
		return w, err
	},
	shows: func(c *consumer, d document) {
		d.set(c.name+".azurecr.io", "properties", "loginServer")
		if c.key == (keyRef{}) {
			d.set("disabled", "properties", "encryption", "status")
			return
		}
		at := func(value any, name string) { d.set(value, "properties", "encryption", "keyVaultProperties", name) }
		at(c.shownActive().String(), "versionedKeyIdentifier")
		at(c.follows, "keyRotationEnabled")
		at(timestamp(c.rotated), "lastKeyRotationTimestamp")
	},
	keyPatch: func(c *consumer, k keyRef, _ bool) document {
		return document{"properties": document{"encryption": document{"status": "enabled",
			"keyVaultProperties": document{"keyIdentifier": k.String(), "identity": c.identity.clientID}}}}
	},
}
