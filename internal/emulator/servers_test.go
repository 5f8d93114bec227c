package emulator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

const remote = "contoso-neu.vault.azure.net"

// withData is a flexible server's body with more fields of dataEncryption.
func withData(more string) string {
	return `{` + withUser + `"properties":{"dataEncryption":{"type":"AzureKeyVault","primaryUserAssignedIdentityId":"` +
		userID + `",` + more + `}}}`
}

// restoredServersNeedTheOldVersion tests a fact.
// A restored server needs the version of the backup as long as it lives.
func restoredServersNeedTheOldVersion(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	g := newGeneric(t, s.Emulator)
	must(t, g.put(postgresID, withData(`"primaryKeyURI":"`+cmkURL+`"`)))
	s.write("pg")
	before := s.clock.Now().Format(time.RFC3339)
	s.clock.advance(time.Minute)
	v2 := s.rotate()
	s.later(30 * time.Minute)
	restored := strings.Replace(withData(`"primaryKeyURI":"`+cmkURL+`"`), `"properties":{`,
		`"properties":{"createMode":"PointInTimeRestore","sourceServerResourceId":"`+postgresID+
			`","pointInTimeUTC":"`+before+`",`, 1)
	must(t, g.put(postgresID+"2", restored))
	s.wantInUse(map[string]string{"pg": v2, "pg2": v2})
	s.later(90 * 24 * time.Hour)
	s.enable(v1, false)
	s.wantLost("KeyDisabled", "pg2") // the source's own backup has expired
	must(t, g.patch(postgresID+"2", withData(`"primaryKeyURI":"`+cmkURL+`/`+v2+`"`)))
	s.wantLost("KeyDisabled", "pg2")
	p, err := g.BeginDeleteByID(t.Context(), postgresID+"2", anyVersion, nil)
	if _, err := done(t, p, err); err != nil {
		t.Fatal(err)
	}
	s.wantReadable()
}

func TestGeoRedundantBackupsHaveAKeyInAnotherRegion(t *testing.T) {
	s := newEstate(t, emulator.Options{Vaults: []emulator.VaultConfig{
		{Host: remote, PurgeProtection: true, Location: "northeurope"}}})
	version := s.rotate()
	foreign(t, s.Emulator, remote, "geo")
	g := newGeneric(t, s.Emulator)
	geo := func(host, name string) string {
		return `"geoBackupUserAssignedIdentityId":"` + userID +
			`","geoBackupKeyURI":"https://` + host + "/keys/" + name + `"`
	}
	for id, key := range map[string]string{postgresID: cmkURL, mysqlID: cmkURL + "/" + version} {
		primary := `"primaryKeyURI":"` + key + `",`
		if err := g.put(id, withData(primary+geo(protected, "cmk"))); err == nil ||
			!strings.Contains(err.Error(), "must be in another region") {
			t.Errorf("%s: a key of the same region: %v", id, err)
		}
		must(t, g.put(id, withData(primary+geo(remote, "geo"))))
		g.wantShown(id, `"geoBackupKeyURI":"https://`+remote+`/keys/geo"`)
		without := withData(`"primaryKeyURI":"` + key + `"`)
		without = strings.Replace(
			without,
			`"properties":{`,
			`"properties":{"backup":{"geoRedundantBackup":"Enabled"},`,
			1,
		)
		if err := g.patch(id, without); err == nil || !strings.Contains(err.Error(), "geoBackupKeyURI is required") {
			t.Errorf("%s: without its geo key: %v", id, err)
		}
	}
	s.write("pg", "my")
	s.wantReadable()
	must(t, s.Vault(remote).SetEnabled("geo", "", false))
	s.wantLost("KeyDisabled", "pg", "my")
	if r := s.report("pg"); r.Read != 1 || !strings.Contains(r.Lost[0].What, "geo-redundant backup") {
		t.Errorf("%+v", r)
	}
}

// mySQLTakesNoExpiryDate tests a fact.
func mySQLTakesNoExpiryDate(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	g := newGeneric(t, s.Emulator)
	if err := g.put(mysqlID, withData(`"primaryKeyURI":"`+cmkURL+`"`)); err == nil ||
		!strings.Contains(err.Error(), "must have a version") {
		t.Errorf("without a version: %v", err)
	}
	must(t, g.put(mysqlID, withData(`"primaryKeyURI":"`+cmkURL+`/`+v1+`"`)))
	v2 := s.rotate()
	must(t, s.vault.SetValidity("cmk", v2, time.Time{}, s.clock.Now().Add(time.Hour)))
	if err := g.patch(mysqlID, withData(`"primaryKeyURI":"`+cmkURL+`/`+v2+`"`)); err == nil ||
		!strings.Contains(err.Error(), "has an expiry date") {
		t.Errorf("with an expiry date: %v", err)
	}
	s.write("my")
	v3 := s.rotate()
	must(t, g.patch(mysqlID, withData(`"primaryKeyURI":"`+cmkURL+`/`+v3+`"`)))
	s.wantInUse(map[string]string{"my": v3})
	s.enable(v1, false)
	s.wantLost("KeyDisabled", "my") // its backup
	s.later(7 * 24 * time.Hour)
	s.wantReadable()
}

// changesAreAcceptedAndPolled tests a fact.
func changesAreAcceptedAndPolled(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{})
	s.rotate()
	header := bearer(token(t, managedIdentity(t, s.Emulator), "https://management.azure.com"))
	res, body := do(
		t,
		s.Emulator,
		"PUT",
		"https://management.azure.com"+postgresID+"?api-version="+anyVersion,
		header,
		withData(`"primaryKeyURI":"`+cmkURL+`"`),
	)
	operation, location := res.Header.Get("Azure-AsyncOperation"), res.Header.Get("Location")
	if res.StatusCode != 202 || body != "" || operation == "" || location == "" {
		t.Fatalf("%d %q %q %q", res.StatusCode, body, operation, location)
	}
	var seen []string
	for range 2 {
		_, body := do(t, s.Emulator, "GET", operation, header, "")
		for _, state := range []string{"InProgress", "Succeeded", "Failed"} {
			if strings.Contains(body, `"status":"`+state+`"`) {
				seen = append(seen, state)
			}
		}
	}
	if fmt.Sprint(seen) != "[InProgress Succeeded]" {
		t.Errorf("it goes through %v", seen)
	}
}
