package emulator

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func startWithFile(t testing.TB, path string) *Emulator {
	t.Helper()
	e, err := Start(Options{StateFile: path,
		Vaults: []VaultConfig{{Host: testVault}, {Host: testHSM, Profile: ManagedHSM}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

const (
	testVault = "v.vault.azure.net"
	testHSM   = "h.managedhsm.azure.net"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wrapped(t *testing.T, v *Vault, name string) []byte {
	t.Helper()
	_, ver, err := v.current().version(name, "")
	check(t, err)
	r, err := ver.compute(opWrap, operationRequest{Algorithm: "RSA-OAEP-256", Value: []byte("x")})
	check(t, err)
	return r.Value
}

func TestAStateFileKeepsEverythingFromRunToRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	e := startWithFile(t, path)
	v := e.Vault(testVault)
	for _, name := range []string{"Plain", "gone", "deleted", "swapped"} {
		_, err := v.AddForeignVersion(name)
		check(t, err)
	}
	_, err := v.AddForeignVersion("Plain")
	check(t, err)
	check(t, v.SetTags("Plain", "", map[string]string{"a": "b"}))
	check(t, v.SetEnabled("Plain", v.Versions("Plain")[0].ID, false))
	check(t, v.SetValidity("Plain", "", time.Unix(1, 0), time.Unix(2, 0)))
	check(t, v.SetNativeRotation("Plain", true))
	check(t, v.SwapModulus("swapped", ""))
	check(t, v.DeleteKey("deleted"))
	check(t, v.DeleteKey("gone"))
	check(t, v.PurgeKey("gone"))
	_, err = e.Vault(testHSM).create("aes", createRequest{Kty: "oct-HSM"})
	check(t, err)
	_, err = e.Vault(testHSM).create("ec", createRequest{Kty: "EC-HSM", Crv: "P-521"})
	check(t, err)
	secrets := map[string][]byte{"Plain": wrapped(t, v, "Plain"), "swapped": wrapped(t, v, "swapped")}
	before := describe(e)
	check(t, e.Close())

	again := startWithFile(t, path)
	if after := describe(again); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	for name, ciphertext := range secrets {
		if opened, err := again.Vault(testVault).Unwrap(name, "", "RSA-OAEP-256", ciphertext); err != nil ||
			string(opened) != "x" {
			t.Errorf("%s: %q, %v", name, opened, err)
		}
	}
	check(t, again.Vault(testVault).RecoverKey("deleted"))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
}

// describe returns everything that the vaults hold except the material.
func describe(e *Emulator) string {
	var b strings.Builder
	for _, host := range []string{testVault, testHSM} {
		v := e.Vault(host)
		for _, op := range []string{opList, opListDeleted} {
			rows, _ := v.rows(target{operation: op})
			for _, row := range rows {
				b.Write(mustJSON(row.item))
				b.WriteByte('\n')
			}
		}
		for _, name := range v.Keys() {
			k, err := v.current().key(name)
			if err != nil {
				continue
			}
			b.Write(mustJSON(v.shownPolicy(k)))
			for _, ver := range k.versions {
				bundle := v.bundle(name, ver)
				bundle.Key.KeyOps = nil // in random order
				b.Write(mustJSON(bundle))
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

// mustJSON encodes a value that cannot fail to encode.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func TestAStateFileCutShortByACrashLosesOnlyItsLastRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	e := startWithFile(t, path)
	for _, name := range []string{"one", "two"} {
		_, err := e.Vault(testVault).create(name, createRequest{Kty: "EC"})
		check(t, err)
	}
	check(t, e.Close())
	data, err := os.ReadFile(path)
	check(t, err)
	last := bytes.LastIndex(data, []byte(`{"vault"`)) - 12
	check(t, os.WriteFile(path, data[:last+5], 0o600))
	for range 2 { // what was cut off is gone for good
		again := startWithFile(t, path)
		if got := again.Vault(testVault).Keys(); len(got) != 2 {
			t.Errorf("keys: %v", got)
		}
		_, err = again.Vault(testVault).create("two", createRequest{Kty: "EC"})
		check(t, err)
		check(t, again.Close())
	}
}

func TestAStateFileThatCannotBeRightIsRefused(t *testing.T) {
	directory := t.TempDir()
	good := filepath.Join(directory, "good")
	e := startWithFile(t, good)
	_, err := e.Vault(testVault).create("k", createRequest{Kty: "EC"})
	check(t, err)
	start := func(path string, hosts ...string) error {
		var vaults []VaultConfig
		for _, h := range hosts {
			vaults = append(vaults, VaultConfig{Host: h})
		}
		again, err := Start(Options{StateFile: path, Vaults: vaults})
		if err == nil {
			check(t, again.Close())
		}
		return err
	}
	inUse := start(good, testVault)
	check(t, e.Close())
	data, err := os.ReadFile(good)
	check(t, err)
	data[len(journalHeader)+20] ^= 1
	damaged, foreign := filepath.Join(directory, "damaged"), filepath.Join(directory, "foreign")
	check(t, os.WriteFile(damaged, data, 0o600))
	check(t, os.WriteFile(foreign, []byte("something else"), 0o600))
	for want, err := range map[string]error{
		"another emulator":  inUse,
		"damaged":           start(damaged, testVault),
		"not a state file":  start(foreign, testVault),
		"is not configured": start(good, "other.vault.azure.net"),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestAStateFileWithMostlyOldRecordsIsRewritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	e := startWithFile(t, path)
	_, err := e.Vault(testVault).create("k", createRequest{Kty: "EC"})
	check(t, err)
	for i := range 50 {
		check(t, e.Vault(testVault).SetEnabled("k", "", i%2 == 0))
	}
	before := describe(e)
	check(t, e.Close())
	old, err := os.Stat(path)
	check(t, err)
	again := startWithFile(t, path)
	fresh, err := os.Stat(path)
	check(t, err)
	if fresh.Size() >= old.Size()/5 {
		t.Errorf("%d bytes became %d", old.Size(), fresh.Size())
	}
	check(t, again.Vault(testVault).SetTags("k", "", map[string]string{"still": "writable"}))
	check(t, again.Close())
	third := startWithFile(t, path)
	if got := describe(third); !strings.Contains(got, "writable") ||
		strings.Count(got, "\n") != strings.Count(before, "\n") {
		t.Errorf("after:\n%s", got)
	}
}

// A lagging replica is the present state without the later changes.
func TestTheReplicaShowsTheStateOfThatTime(t *testing.T) {
	now := time.Unix(1000, 0)
	v := newVault(VaultConfig{Host: testHSM, Profile: ManagedHSM}, Options{
		Now: func() time.Time { return now }, ReplicationDelay: time.Minute,
	})
	seen := map[time.Time]int{}
	for range 10 {
		_, err := v.create("k", createRequest{Kty: "EC-HSM"})
		check(t, err)
		now = now.Add(20 * time.Second)
		count := 0
		if k, err := v.replica().key("k"); err == nil {
			count = len(k.versions)
		}
		seen[now] = count
	}
	for i := range 10 {
		at := time.Unix(1000+20*int64(i+1), 0)
		if want := max(0, i-1); seen[at] != want {
			t.Errorf("at %d s the replica had %d versions, not %d", 20*(i+1), seen[at], want)
		}
	}
}

func BenchmarkStartWithAThousandKeysOfTwentyVersions(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state")
	fillStateFile(b, path)
	info, err := os.Stat(path)
	check(b, err)
	for b.Loop() {
		e, err := Start(Options{StateFile: path, Vaults: []VaultConfig{{Host: testVault}}})
		check(b, err)
		b.StopTimer()
		check(b, e.Close())
		b.StartTimer()
	}
	b.ReportMetric(float64(info.Size())/1e6, "MB")
}

// fillStateFile uses few keys many times: generating twenty thousand takes long.
func fillStateFile(b *testing.B, path string) {
	b.Helper()
	e, err := Start(Options{StateFile: path, Vaults: []VaultConfig{{Host: testVault}}})
	check(b, err)
	m, err := generateRSA(2048, 0)
	check(b, err)
	v := e.Vault(testVault)
	check(b, v.change(func(s *state) error {
		for range 1000 {
			name, err := newRequestID()
			check(b, err)
			for range 20 {
				ver, err := v.newVersion("RSA-HSM", nil, m)
				check(b, err)
				ver.tags = map[string]string{"keyd-attempt": ver.id, "keyd-generation": "7"}
				check(b, v.add(s, name, ver))
			}
		}
		return nil
	}))
	check(b, e.Close())
}

// Reading twenty thousand private keys at the start would take longer than most runs last, so a damaged key shows
// only when it is used.
func TestAStartReadsNoPrivateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	e := startWithFile(t, path)
	v := e.Vault(testVault)
	broken := newDeferred("RSA", jsonWebKey{N: bytes.Repeat([]byte{0xff}, 256), E: []byte{1, 0, 1}},
		[]byte("not a private key"))
	ver, err := v.newVersion("RSA-HSM", nil, broken)
	check(t, err)
	check(t, v.change(func(s *state) error { return v.add(s, "k", ver) }))
	check(t, e.Close())

	again := startWithFile(t, path).Vault(testVault)
	if got := again.Versions("k"); len(got) != 1 || got[0].N.BitLen() != 2048 {
		t.Errorf("%+v", got)
	}
	if _, err := again.PrivateKey("k", ""); err == nil {
		t.Error("the key was read")
	}
}
