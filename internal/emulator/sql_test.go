package emulator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

const (
	sqlID       = group + "Microsoft.Sql/servers/sql1"
	secondaryID = group + "Microsoft.Sql/servers/sql2"
	keyPrefix   = "contoso-safe_cmk_"
)

// serverKey puts a server key: the first of the two calls that repoint a server.
func (g generic) serverKey(server, version string) error {
	return g.put(server+"/keys/"+keyPrefix+version,
		`{"properties":{"serverKeyType":"AzureKeyVault","uri":"`+cmkURL+"/"+version+`"}}`)
}

// protector puts the protector: the second.
func (g generic) protector(server, version, more string) error {
	return g.put(server+"/encryptionProtector/current",
		`{"properties":{"serverKeyType":"AzureKeyVault","serverKeyName":"`+keyPrefix+version+`"`+more+`}}`)
}

// sqlServersTakeTwoCalls tests a fact.
func sqlServersTakeTwoCalls(t *testing.T) {
	t.Helper()
	for _, id := range []string{sqlID, strings.Replace(sqlID, "servers", "managedInstances", 1)} {
		s := newEstate(t, emulator.Options{})
		v1 := s.rotate()
		g := newGeneric(t, s.Emulator)
		must(t, g.put(id, `{`+withIdentity+`"properties":{}}`))
		g.wantShown(id+"/encryptionProtector/current", `"serverKeyType":"ServiceManaged"`)
		s.write("sql1")
		if err := g.protector(id, v1, ""); err == nil || !strings.Contains(err.Error(), "ServerKeyNotFound") {
			t.Errorf("without its key: %v", err)
		}
		must(t, g.serverKey(id, v1))
		must(t, g.protector(id, v1, `,"autoRotationEnabled":true`))
		g.wantShown(id+"/encryptionProtector/current", `"uri":"`+cmkURL+"/"+v1+`"`,
			`"serverKeyName":"`+keyPrefix+v1+`"`, `"autoRotationEnabled":true`)
		v2 := s.rotate()
		s.later(time.Hour)
		g.wantShown(id+"/encryptionProtector/current", `"uri":"`+cmkURL+"/"+v2+`"`)
		g.wantShown(id+"/keys/"+keyPrefix+v2, `"serverKeyType":"AzureKeyVault"`)
		must(t, g.protector(id, v1, "")) // what it leaves out is off
		g.wantShown(id+"/encryptionProtector/current", `"autoRotationEnabled":false`)
		s.later(24 * time.Hour)
		s.wantInUse(map[string]string{"sql1": v1})
		must(t, g.put(id, `{`+withIdentity+`"tags":{"a":"b"},"properties":{}}`)) // the protector is another resource
		s.wantInUse(map[string]string{"sql1": v1})
		s.wantReadable()
	}
}

func TestASQLServerRefusesInItsOwnWords(t *testing.T) {
	s := newEstate(t, emulator.Options{Vaults: []emulator.VaultConfig{{Host: remote}}})
	v1 := s.rotate()
	s.enable(v1, false)
	importBig(t, newClient(t, s.Emulator, protected))
	big, err := newClient(t, s.Emulator, protected).GetKey(t.Context(), "big", "", nil)
	must(t, err)
	foreign(t, s.Emulator, remote, "cmk")
	unsafe, err := newClient(t, s.Emulator, remote).GetKey(t.Context(), "cmk", "", nil)
	must(t, err)
	g := newGeneric(t, s.Emulator)
	must(t, g.put(sqlID, `{`+withIdentity+`"properties":{}}`))
	key := func(id azkeys.ID, name string) error {
		return g.put(sqlID+"/keys/"+name+id.Version(),
			`{"properties":{"serverKeyType":"AzureKeyVault","uri":"`+string(id)+`"}}`)
	}
	for why, err := range map[string]error{
		"AzureKeyVaultRsaKeyNotSupported": key(*big.Key.KID, "contoso-safe_big_"),
		"AzureKeyVaultKeyDisabled":        g.serverKey(sqlID, v1),
		"KeyVaultPolicyError":             key(*unsafe.Key.KID, "contoso-neu_cmk_"),
		"InvalidKeyName":                  key(*unsafe.Key.KID, "other_"),
		"InvalidKeyType": g.put(sqlID+"/encryptionProtector/current",
			`{"properties":{"serverKeyName":"`+keyPrefix+v1+`"}}`),
	} {
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %s", err, why)
		}
	}
}

// geo is a server with a database that another server replicates, both under version v1.
func geo(t *testing.T) (s *estate, g generic, v1 string) {
	t.Helper()
	s = newEstate(t, emulator.Options{})
	v1 = s.rotate()
	g = newGeneric(t, s.Emulator)
	for _, id := range []string{sqlID, secondaryID} {
		must(t, g.put(id, `{`+withIdentity+`"properties":{}}`))
	}
	must(t, g.serverKey(sqlID, v1))
	must(t, g.protector(sqlID, v1, ""))
	must(t, g.put(sqlID+"/databases/db", `{"location":"westeurope","properties":{}}`))
	const replica = `{"location":"westeurope","properties":{"createMode":"Secondary","sourceDatabaseId":"` + sqlID +
		`/databases/db"}}`
	if err := g.put(secondaryID+"/databases/db", replica); err == nil ||
		!strings.Contains(err.Error(), "KeyMaterialNotFoundOnRemoteServer") {
		t.Errorf("before the secondary server has the key: %v", err)
	}
	must(t, g.serverKey(secondaryID, v1))
	must(t, g.put(secondaryID+"/databases/db", replica))
	return s, g, v1
}

// secondariesComeFirst tests a fact.
func secondariesComeFirst(t *testing.T) {
	t.Helper()
	s, g, v1 := geo(t)
	s.write("sql1/db") // under the server's protector
	if r := s.report("sql2/db"); r.Read != 1 {
		t.Errorf("the secondary reads %d", r.Read)
	}
	v2 := s.rotate()
	must(t, g.serverKey(sqlID, v2))
	if err := g.protector(sqlID, v2, ""); err == nil ||
		!strings.Contains(err.Error(), "KeyMaterialNotFoundOnRemoteServer") {
		t.Errorf("the primary first: %v", err)
	}
	must(t, g.serverKey(secondaryID, v2))
	must(t, g.protector(sqlID, v2, ""))
	s.wantReadable()
	s.later(8 * 24 * time.Hour)
	s.enable(v1, false)
	s.wantReadable()
	s.enable(v2, false)
	s.wantLost("KeyDisabled", "sql1", "sql2/db")
}

func TestReplicationLinksNameThePartner(t *testing.T) {
	s, _, _ := geo(t)
	header := bearer(token(t, managedIdentity(t, s.Emulator), "https://management.azure.com"))
	for path, role := range map[string]string{
		sqlID + "/replicationLinks": "Primary", sqlID + "/databases/db/replicationLinks": "Primary",
		secondaryID + "/replicationLinks": "Secondary",
	} {
		res, body := do(
			t,
			s.Emulator,
			"GET",
			"https://management.azure.com"+path+"?api-version="+anyVersion,
			header,
			"",
		)
		if res.StatusCode != 200 || strings.Count(body, `"role":"`+role+`"`) != 1 ||
			strings.Count(body, `"partnerDatabaseId"`) != 1 {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
}

func TestADatabaseCanHaveAProtectorOfItsOwn(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	g := newGeneric(t, s.Emulator)
	must(t, g.put(sqlID, `{`+withIdentity+`"properties":{}}`))
	const id = sqlID + "/databases/db"
	own := func(version string) string {
		return `"properties":{"encryptionProtector":"` + cmkURL + "/" + version + `"}}`
	}
	if err := g.put(id, `{`+withIdentity+own(v1)); err == nil ||
		!strings.Contains(err.Error(), "has no user-assigned identity") {
		t.Errorf("without an identity: %v", err)
	}
	must(t, g.put(id, `{`+withUser+own(v1)))
	s.write("sql1/db")
	v2 := s.rotate()
	must(t, g.patch(id, `{`+own(v2)))
	g.wantShown(id, `"encryptionProtector":"`+cmkURL+"/"+v2)
	s.later(8 * 24 * time.Hour)
	s.enable(v1, false)
	s.wantReadable()
	s.enable(v2, false)
	s.wantLost("KeyDisabled", "sql1/db")
}
