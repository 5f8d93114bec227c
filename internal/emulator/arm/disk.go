package arm

import "time"

// diskEncryption is Microsoft.Compute/diskEncryptionSets: its key identifier always has
// a version, and it looks for new ones within the hour if rotation is enabled.
var diskEncryption = &kind{
	word: "disk", path: "Microsoft.Compute/diskEncryptionSets",
	delay: time.Hour, bits: []int{2048, 3072, 4096},
	moving:     10 * time.Minute, // Microsoft says that all is done within an hour
	keyPerItem: true, inSteps: true, needsVersion: true,
	puts: byOperation, patches: byOperation,
	sameRegion: true, whole: [][]string{{"properties", "activeKey"}},
	wants: func(c *consumer, d document) (want, error) {
		key, err := parseKeyRef(d.text("properties", "activeKey", "keyUrl"))
		if err != nil {
			return want{}, err
		}
		who, err := systemAssigned(c, d)
		if err != nil { // or else its only user-assigned one
			for user := range d.sub("identity", "userAssignedIdentities") {
				who, err = identity{resourceID: user}, nil
			}
		}
		return want{key, d.flag("properties", "rotationToLatestKeyVersionEnabled"), who}, err
	},
	shows: func(c *consumer, d document) {
		if d.text("properties", "encryptionType") == "" {
			d.set("EncryptionAtRestWithCustomerKey", "properties", "encryptionType")
		}
		if c.key == (keyRef{}) {
			return
		}
		d.set(c.shownActive().String(), "properties", "activeKey", "keyUrl")
		d.set(timestamp(c.rotated), "properties", "lastKeyRotationTimestamp")
		previous := []any{}
		for _, k := range c.previous {
			previous = append(previous, document{"keyUrl": k.String()})
		}
		d.set(previous, "properties", "previousKeys")
		d.unset("properties", "autoKeyRotationError")
		if c.rotationError != nil {
			d.set(keyRefused(c.rotationError).detail(), "properties", "autoKeyRotationError")
		}
	},
	keyPatch: func(_ *consumer, k keyRef, follow bool) document {
		return document{"properties": document{
			"activeKey": document{"keyUrl": k.String()}, "rotationToLatestKeyVersionEnabled": follow,
		}}
	},
}
