package arm

// mysql is Microsoft.DBforMySQL/flexibleServers: it never looks for a new version, and takes no key with an expiry
// date.
var mysql = &kind{
	word: "mysql", path: "Microsoft.DBforMySQL/flexibleServers",
	bits: []int{2048, 3072, 4096}, needsVersion: true, noExpiry: true,
	puts: byAcceptance, patches: byAcceptance,
	ownIdentity: true, restores: true,
	whole: [][]string{{"properties", "dataEncryption"}},
	keeps: serverBackups, wants: wantsServerKey(false), wantsGeo: wantsGeoKey,
	shows: func(c *consumer, d document) {
		showServer(c, d, ".mysql.database.azure.com")
		if c.key == (keyRef{}) {
			d.set("SystemManaged", "properties", "dataEncryption", "type")
		}
	},
	keyPatch: serverKeyPatch,
}
