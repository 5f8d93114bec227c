package emulator_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// cmkURL is a key in the vault that has purge protection, which consumers need.
const cmkURL = "https://" + protected + "/keys/cmk"

// estate is an emulator whose consumers look only when a test says so, on its own clock.
type estate struct {
	*emulator.Emulator
	t     *testing.T
	clock *clock
	vault *emulator.Vault
}

func newEstate(t *testing.T, opts emulator.Options) *estate {
	t.Helper()
	c := newClock()
	opts.Now, opts.ConsumersByHand, opts.TokenLifetime = c.Now, true, 365*24*time.Hour
	e := start(t, opts)
	return &estate{e, t, c, e.Vault(protected)}
}

// rotate makes a new version of the key and returns its id.
func (s *estate) rotate() string {
	s.t.Helper()
	id, err := s.vault.AddForeignVersion("cmk")
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// make makes consumers from specs, in which KEY is the key and VERSION its newest version.
func (s *estate) make(specs ...string) {
	s.t.Helper()
	for _, text := range specs {
		versions := s.vault.Versions("cmk")
		w, err := arm.ParseSpec(strings.NewReplacer("KEY", cmkURL, "VERSION",
			versions[len(versions)-1].ID).Replace(text))
		if err != nil {
			s.t.Fatal(err)
		}
		if err := s.Consumers().Make(s.t.Context(), w); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *estate) write(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if err := s.Consumers().Write(s.t.Context(), name, []byte("data of "+name)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// later moves the clock and makes due consumers look.
func (s *estate) later(d time.Duration) {
	s.clock.advance(d)
	s.Consumers().Poll(s.t.Context())
}

func (s *estate) enable(version string, enabled bool) {
	s.t.Helper()
	if err := s.vault.SetEnabled("cmk", version, enabled); err != nil {
		s.t.Fatal(err)
	}
}

func (s *estate) report(name string) arm.Reading {
	s.t.Helper()
	for _, c := range s.Consumers().ReadEverything(s.t.Context()).Consumers {
		if c.Name == name {
			return c
		}
	}
	s.t.Fatalf("there is no consumer %s", name)
	return arm.Reading{}
}

// wantReadable requires that every consumer can read everything.
func (s *estate) wantReadable() {
	s.t.Helper()
	r := s.Consumers().ReadEverything(s.t.Context())
	if err := r.Err(); err != nil || !r.EverythingReadable {
		s.t.Errorf("not everything can be read: %v", err)
	}
}

// wantLost requires that exactly these consumers cannot read, for a reason that contains why.
func (s *estate) wantLost(why string, names ...string) {
	s.t.Helper()
	var lost []string
	for _, c := range s.Consumers().ReadEverything(s.t.Context()).Consumers {
		if len(c.Lost) > 0 {
			lost = append(lost, c.Name)
		}
		for _, l := range c.Lost {
			if !strings.Contains(l.Why, why) {
				s.t.Errorf("%s cannot read %s because %s; want %q", c.Name, l.What, l.Why, why)
			}
		}
	}
	slices.Sort(lost)
	slices.Sort(names)
	if !slices.Equal(lost, names) {
		s.t.Errorf("cannot read: %v, not %v", lost, names)
	}
}

// wantInUse requires the version that each consumer uses.
func (s *estate) wantInUse(want map[string]string) {
	s.t.Helper()
	for name, version := range want {
		if got := s.report(name).InUse; got != cmkURL+"/"+version {
			s.t.Errorf("%s uses %s, not version %s", name, got, version)
		}
	}
}

func TestEachConsumerFollowsItsKeyOnItsServicesDelay(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	s.make("storage=st,key=KEY", "storage=stpin,key=KEY/VERSION", "cosmos=db,key=KEY", "cosmos=dbpin,key=KEY/VERSION",
		"disk=des,key=KEY", "disk=despin,key=KEY/VERSION", "ai=ai,key=KEY")
	all := []string{"st", "stpin", "db", "dbpin", "des", "despin", "ai"}
	s.write(all...)
	v2 := s.rotate()
	s.later(59 * time.Minute)
	s.wantInUse(map[string]string{"st": v1, "stpin": v1, "db": v1, "dbpin": v1, "des": v1, "despin": v1, "ai": v1})
	s.later(time.Minute)
	s.wantInUse(map[string]string{"st": v1, "stpin": v1, "db": v2, "dbpin": v1, "des": v2, "despin": v1, "ai": v1})
	s.later(22*time.Hour + 59*time.Minute)
	s.wantInUse(map[string]string{"st": v1})
	s.later(time.Minute)
	s.write(all...)
	s.later(30 * 24 * time.Hour)
	s.wantInUse(map[string]string{"st": v2, "stpin": v1, "db": v2, "dbpin": v1, "des": v2, "despin": v1, "ai": v1})
	s.wantReadable()
	if r := s.report("des"); r.Read != 2 || !r.Follows || len(r.Previous) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestDataIsUnreadableExactlyWhileTheVersionInUseIsDisabled(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	s.make("storage=stpin,key=KEY/VERSION", "ai=ai,key=KEY", "cosmos=db,key=KEY", "disk=des,key=KEY")
	s.write("stpin", "ai", "db", "des")
	v2 := s.rotate()
	s.later(time.Hour)
	s.later(time.Hour)
	s.enable(v1, false)
	s.wantLost("KeyDisabled", "stpin", "ai")
	if err := s.Consumers().Write(t.Context(), "ai", nil); err == nil || !strings.Contains(err.Error(), "KeyDisabled") {
		t.Errorf("writing under a disabled version: %v", err)
	}
	s.enable(v1, true)
	s.wantReadable()
	s.enable(v2, false)
	s.wantLost("KeyDisabled", "db", "des")
	s.enable(v2, true)
	s.wantReadable()
}

func TestAConsumerThatHasNotNoticedARotationStillNeedsTheOldVersion(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	s.make("storage=st,key=KEY")
	s.write("st")
	v2 := s.rotate()
	s.enable(v1, false)
	s.later(24 * time.Hour)
	s.wantLost("KeyDisabled", "st")
	if r := s.report("st"); !strings.Contains(r.Trouble, "unwrapkey of "+cmkURL+"/"+v1) {
		t.Errorf("its trouble is %q", r.Trouble)
	}
	s.enable(v1, true)
	s.wantReadable()
	s.later(24 * time.Hour)
	s.wantInUse(map[string]string{"st": v2})
}

func TestADiskEncryptionSetNeedsTheOldVersionUntilPreviousKeysIsEmpty(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	s.make("disk=des,key=KEY")
	s.write("des")
	v2 := s.rotate()
	s.later(time.Hour)
	s.write("des") // under the new version
	if r := s.report("des"); r.InUse != cmkURL+"/"+v2 || fmt.Sprint(r.Previous) != "["+cmkURL+"/"+v1+"]" {
		t.Errorf("it uses %s, and before %v", r.InUse, r.Previous)
	}
	s.enable(v1, false)
	s.wantLost("KeyDisabled", "des")
	if r := s.report("des"); r.Read != 1 {
		t.Errorf("%d disks were read, not the new one alone", r.Read)
	}
	s.enable(v1, true)
	s.later(10 * time.Minute)
	if r := s.report("des"); len(r.Previous) != 0 {
		t.Errorf("previous keys: %v", r.Previous)
	}
	s.enable(v1, false)
	s.wantReadable()
}

func TestABackupNeedsTheVersionUnderWhichItWasTaken(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	s.make("cosmos=db,key=KEY")
	s.write("db", "db")
	must(t, s.Consumers().Backup("db", 30*24*time.Hour))
	s.rotate()
	s.later(time.Hour)
	if r := s.report("db"); r.Read != 4 {
		t.Errorf("%d items were read, not two and two in the backup", r.Read)
	}
	s.enable(v1, false)
	s.wantLost("KeyDisabled", "db")
	if r := s.report("db"); r.Read != 2 || len(r.Lost) != 1 ||
		!strings.Contains(r.Lost[0].What, "item 0, 1 of the backup of ") {
		t.Errorf("%+v", r)
	}
	s.later(30 * 24 * time.Hour)
	s.wantReadable()
}

// guarded is an estate whose vault uses roles.
func guarded(t *testing.T) *estate {
	t.Helper()
	c := newClock()
	e := startVaults(t, emulator.Options{Now: c.Now, ConsumersByHand: true, TokenLifetime: 365 * 24 * time.Hour},
		emulator.VaultConfig{Host: protected, PurgeProtection: true, Access: emulator.RoleBased})
	return &estate{e, t, c, e.Vault(protected)}
}

// makeEarly makes a consumer that may not use its key yet.
func (s *estate) makeEarly(text string) error {
	s.t.Helper()
	w, err := arm.ParseSpec(strings.ReplaceAll(text, "KEY", cmkURL))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.Consumers().Make(s.t.Context(), w)
}

func TestAConsumerIsAuthorisedLikeEverybody(t *testing.T) {
	s := guarded(t)
	s.rotate()
	if err := s.makeEarly("storage=st,key=KEY"); err == nil || !strings.Contains(err.Error(), "ForbiddenByRbac") {
		t.Fatalf("without a role: %v", err)
	}
	role := emulator.RoleAssignment{Identity: s.report("st").Identity, Role: emulator.CryptoServiceEncryptionUser,
		Scope: "/keys/cmk"}
	must(t, s.vault.Assign(role))
	s.later(time.Second)
	if r := s.report("st"); r.Trouble != "" || r.Key != cmkURL {
		t.Fatalf("with its role: %+v", r)
	}
	s.write("st")
	s.vault.SetFirewall(&emulator.Firewall{IPRules: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	s.wantLost("ForbiddenByFirewall", "st")
	s.vault.SetFirewall(&emulator.Firewall{TrustedServices: true})
	s.wantReadable()
	must(t, s.vault.Unassign(role))
	s.wantLost("ForbiddenByRbac", "st")
}

func TestAnExpiredKeyBlocksWrappingAndNothingElse(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	s.rotate()
	s.make("storage=st,key=KEY", "disk=des,key=KEY")
	s.write("st", "des")
	must(t, s.vault.SetValidity("cmk", "", time.Time{}, s.clock.Now()))
	s.later(24 * time.Hour)
	s.write("st") // only needs to unwrap its data key
	s.wantReadable()
	if err := s.Consumers().Write(t.Context(), "des", nil); err == nil || !strings.Contains(err.Error(), "KeyExpired") {
		t.Errorf("a new disk under an expired key: %v", err)
	}
}

func TestAKeyThatTheServiceDoesNotAcceptIsRefused(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	c := newClient(t, s.Emulator, protected)
	for name, p := range map[string]azkeys.CreateKeyParameters{
		"large": {Kty: ptr(azkeys.KeyTypeRSAHSM), KeySize: ptr(int32(3072))},
		"curve": {Kty: ptr(azkeys.KeyTypeECHSM), Curve: ptr(azkeys.CurveNameP256)},
	} {
		if _, err := c.CreateKey(t.Context(), name, p, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Vault(premium).AddForeignVersion("cmk"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ spec, why string }{
		{"ai=a,key=https://" + protected + "/keys/large",
			"has 3072 bits; Microsoft.CognitiveServices/accounts takes RSA keys of [2048] bits only"},
		{"storage=b,key=https://" + protected + "/keys/large", ""},
		{"cosmos=c,key=https://" + protected + "/keys/curve", "is an EC-HSM key"},
		{"storage=d,key=https://" + premium + "/keys/cmk", "KeyVaultPolicyError"},
		{"disk=e,key=https://" + protected + "/keys/none", "KeyNotFound"},
	} {
		err := s.makeEarly(want.spec)
		if want.why == "" && err != nil || want.why != "" && (err == nil || !strings.Contains(err.Error(), want.why)) {
			t.Errorf("%s: %v, want %q", want.spec, err, want.why)
		}
	}
}

func TestAConsumerOfAManagedHSM(t *testing.T) {
	e := startVaults(t, emulator.Options{ConsumersByHand: true},
		emulator.VaultConfig{Host: managedHSM, Profile: emulator.ManagedHSM, PurgeProtection: true})
	foreign(t, e, managedHSM, "cmk")
	w, err := arm.ParseSpec("storage=st,key=https://" + managedHSM + "/keys/cmk")
	must(t, err)
	must(t, e.Consumers().Make(t.Context(), w))
	must(t, e.Consumers().Write(t.Context(), "st", []byte("data")))
	if r := e.Consumers().ReadEverything(t.Context()); r.Err() != nil || r.Consumers[0].Read != 1 {
		t.Errorf("%+v", r)
	}
}

// TestConsumersLookByThemselves makes a day last a quarter of a second.
func TestConsumersLookByThemselves(t *testing.T) {
	e := start(t, emulator.Options{ConsumerSpeed: 4 * 24 * 3600})
	v := e.Vault(protected)
	if _, err := v.AddForeignVersion("cmk"); err != nil {
		t.Fatal(err)
	}
	w, err := arm.ParseSpec("storage=st,key=" + cmkURL)
	must(t, err)
	must(t, e.Consumers().Make(t.Context(), w))
	v2, err := v.AddForeignVersion("cmk")
	must(t, err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r := e.Consumers().ReadEverything(t.Context())
		if strings.HasSuffix(r.Consumers[0].InUse, v2) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not follow: %+v", r)
		}
	}
}

func TestAConsumerHitsTheRulesLikeEverybody(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	s.rotate()
	s.make("storage=st,key=KEY")
	s.write("st")
	rule := s.Fail(emulator.Rule{Operation: "unwrap", Status: 429})
	s.wantLost("429 Throttled", "st")
	rule.Clear()
	s.wantReadable()
	s.Fail(emulator.Rule{Operation: "unwrap", Drop: emulator.DropBeforeCommit})
	s.wantLost("unwrapkey of "+cmkURL, "st")
}

func TestAVaultThatUnwrapsToSomethingElseIsNoticed(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	s.rotate()
	s.make("storage=st,key=KEY")
	s.write("st")
	must(t, s.vault.GarbleUnwrap("cmk", ""))
	s.wantLost("the vault gives another data key than was wrapped", "st")
}

func TestTheAdminEndpointHasTheConsumers(t *testing.T) {
	s := newEstate(t, emulator.Options{AdminListen: "127.0.0.1:0"})
	call := func(method, path, body string, want int) string {
		t.Helper()
		status, answer := adminCall(t, s.Emulator, method, path, body)
		if status != want {
			t.Errorf("%s %s: %d %s, want %d", method, path, status, answer, want)
		}
		return string(answer)
	}
	if why := call("POST", "/consumers", "storage=st,key="+cmkURL, 202); !strings.Contains(why, "KeyNotFound") {
		t.Errorf("it waits because %q", why)
	}
	v1 := s.rotate()
	s.clock.advance(time.Second)
	call("POST", "/consumers/poll", "", 204)
	call("POST", "/consumers/st/write", "data", 204)
	call("POST", "/consumers/st/backup?keep=24h", "", 204)
	v2 := s.rotate()
	call("POST", "/consumers/poll?all=true", "", 204)
	s.enable(v1, false)
	var r arm.Report
	must(t, json.Unmarshal([]byte(call("GET", "/consumers", "", 200)), &r))
	if r.EverythingReadable || len(r.Consumers) != 1 || r.Consumers[0].InUse != cmkURL+"/"+v2 ||
		r.Consumers[0].Read != 1 ||
		len(r.Consumers[0].Lost) != 1 || !strings.Contains(r.Consumers[0].Lost[0].Why, "KeyDisabled") {
		t.Errorf("%+v", r)
	}
	s.enable(v2, false)
	call("POST", "/consumers/st/write", "data", 409)
	call("POST", "/consumers", "storage=st", 400)
	call("POST", "/consumers/other/write", "data", 409)
	call("POST", "/consumers/st/backup?keep=long", "", 400)
}
