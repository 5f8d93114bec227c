package arm

import (
	"strings"
	"time"
)

// postgres is Microsoft.DBforPostgreSQL/flexibleServers: it looks for new versions every half hour. It takes a key only
// when it is made, and keeps having one.
var postgres = &kind{
	word: "postgres", path: "Microsoft.DBforPostgreSQL/flexibleServers",
	delay: 30 * time.Minute, bits: []int{2048, 3072, 4096},
	puts: byAcceptance, patches: byAcceptance,
	atCreation: true, keysOnly: true, ownIdentity: true, restores: true,
	whole: [][]string{{"properties", "dataEncryption"}},
	keeps: serverBackups, wants: wantsServerKey(true), wantsGeo: wantsGeoKey,
	shows: func(c *consumer, d document) {
		showServer(c, d, ".postgres.database.azure.com")
		if c.key == (keyRef{}) {
			d.set("SystemManaged", "properties", "dataEncryption", "type")
			return
		}
		d.set(keyStatus(c.trouble), "properties", "dataEncryption", "primaryEncryptionKeyStatus")
		if c.geo.active != (keyRef{}) {
			d.set(keyStatus(c.trouble), "properties", "dataEncryption", "geoBackupEncryptionKeyStatus")
		}
	},
	keyPatch: serverKeyPatch,
}

func keyStatus(trouble error) string {
	if trouble != nil {
		return "Invalid"
	}
	return "Valid"
}

// serverBackups is how long a flexible server keeps its backups.
func serverBackups(d document) time.Duration {
	days := d.number("properties", "backup", "backupRetentionDays")
	if days == 0 {
		days = 7
	}
	return time.Duration(days) * 24 * time.Hour
}

// wantsServerKey parses a flexible server's dataEncryption. The identity must be user-assigned.
func wantsServerKey(follows bool) func(*consumer, document) (want, error) {
	return func(c *consumer, d document) (want, error) {
		e := d.sub("properties", "dataEncryption")
		uri, kind := e.text("primaryKeyURI"), e.text("type")
		switch {
		case uri == "" && !strings.EqualFold(kind, "AzureKeyVault"):
			return want{}, nil
		case !strings.EqualFold(kind, "AzureKeyVault"):
			return want{}, badKey(
				"properties.dataEncryption.type must be AzureKeyVault where there is a primaryKeyURI.",
			)
		}
		key, err := parseKeyRef(uri)
		if err != nil {
			return want{}, err
		}
		w := want{key: key, follows: follows && key.version == ""}
		w.who, err = userAssigned(c, d, e.text("primaryUserAssignedIdentityId"))
		return w, err
	}
}

// wantsGeoKey parses the key of geo-redundant backups, without which a server that makes them takes no key.
func wantsGeoKey(c *consumer, d document) (want, error) {
	e := d.sub("properties", "dataEncryption")
	uri := e.text("geoBackupKeyURI")
	if uri == "" {
		geo := strings.EqualFold(d.text("properties", "backup", "geoRedundantBackup"), "Enabled")
		if geo && e.text("primaryKeyURI") != "" {
			return want{}, badKey(
				"The server makes geo-redundant backups: properties.dataEncryption.geoBackupKeyURI " +
					"is required.",
			)
		}
		return want{}, nil
	}
	key, err := parseKeyRef(uri)
	if err != nil {
		return want{}, err
	}
	who, err := userAssigned(c, d, e.text("geoBackupUserAssignedIdentityId"))
	return want{key: key, who: who}, err
}

func showServer(c *consumer, d document, domain string) {
	d.set(c.name+domain, "properties", "fullyQualifiedDomainName")
	d.set("Ready", "properties", "state")
	if d.number("properties", "backup", "backupRetentionDays") == 0 {
		d.set(7, "properties", "backup", "backupRetentionDays")
	}
}

func serverKeyPatch(c *consumer, k keyRef, _ bool) document {
	return document{"properties": document{"dataEncryption": document{"type": "AzureKeyVault",
		"primaryKeyURI": k.String(), "primaryUserAssignedIdentityId": c.specIdentity()}}}
}
