package arm

import (
	"strings"
	"time"
)

// sqlServer is Microsoft.Sql/servers and sqlInstance Microsoft.Sql/managedInstances: transparent data encryption, whose
// protector is a resource of its own, encryptionProtector/current, and names one of the server's keys, which are also
// resources. With autoRotationEnabled a server looks for new versions hourly.
var (
	sqlServer   = newSQLServer("sql", "Microsoft.Sql/servers", ".database.windows.net")
	sqlInstance = newSQLServer("sqlmi", "Microsoft.Sql/managedInstances", ".dns.database.windows.net")
)

// A server's document holds the protector as {serverKeyType, serverKeyName, uri, autoRotationEnabled}, and the keys as
// NAME: {uri, creationDate}.
const sqlProtector, sqlKeys = "protector", "keys"

var sqlCodes = refusalCodes{
	kind: "AzureKeyVaultRsaKeyNotSupported", size: "AzureKeyVaultRsaKeyNotSupported",
	disabled: "AzureKeyVaultKeyDisabled", expiry: "AzureKeyVaultInvalidExpirationDate",
}

func newSQLServer(word, path, domain string) *kind {
	return &kind{
		word: word, path: path,
		delay: time.Hour, bits: []int{2048, 3072}, needsVersion: true, codes: sqlCodes,
		puts: byAcceptance, patches: byAcceptance,
		inside: []string{sqlProtector, sqlKeys},
		keeps:  func(document) time.Duration { return 7 * 24 * time.Hour }, // by default
		wants: func(c *consumer, d document) (want, error) {
			p := d.sub(sqlProtector)
			uri := p.text("uri")
			if p == nil {
				uri = d.text("properties", "keyId")
			}
			if uri == "" {
				return want{}, nil
			}
			key, err := parseKeyRef(uri)
			if err != nil {
				return want{}, err
			}
			w := want{key: key, follows: p.flag("autoRotationEnabled")}
			w.who, err = chosenIdentity(c, d, d.text("properties", "primaryUserAssignedIdentityId"))
			return w, err
		},
		shows: func(c *consumer, d document) {
			d.set(c.name+domain, "properties", "fullyQualifiedDomainName")
			d.set("Ready", "properties", "state")
			d.unset("properties", "keyId")
			if c.key != (keyRef{}) {
				d.set(c.shownActive().String(), "properties", "keyId")
			}
		},
		keyPatch: func(_ *consumer, k keyRef, follow bool) document {
			return document{
				sqlKeys: document{sqlKeyName(k): document{"uri": k.String()}},
				sqlProtector: document{"serverKeyType": "AzureKeyVault", "serverKeyName": sqlKeyName(k),
					"uri": k.String(), "autoRotationEnabled": follow},
			}
		},
	}
}

// sqlKeyName is a server key's name, which its URI determines: VAULT_KEY_VERSION.
func sqlKeyName(k keyRef) string {
	vault, _, _ := strings.Cut(strings.TrimPrefix(k.vault, "https://"), ".")
	return strings.TrimSuffix(vault+"_"+k.name+"_"+k.version, "_")
}

// serverKeys are a server's keys by their URIs, with the one that it rotated to by itself.
func (c *consumer) serverKeys() map[string]string {
	names := map[string]string{}
	keys := c.doc.sub(sqlKeys)
	for name := range keys {
		names[keys.text(name, "uri")] = name
	}
	if c.active != (keyRef{}) {
		names[c.active.String()] = sqlKeyName(c.active)
	}
	return names
}
