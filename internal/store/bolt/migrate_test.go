package bolt

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// schema1 is a state directory as the last keyd that wrote schema 1 left it. testdata/schema1_test.go.txt is the test
// that made it, with that keyd's own store: put it into that keyd's internal/store and run it with FIXTURE set to a
// directory.
func schema1(t *testing.T) (dir string) {
	t.Helper()
	dir = stateDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("testdata/schema1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAStateOfSchema1IsMigratedWithItsKEKs(t *testing.T) {
	const (
		weu = "https://contoso-weu.vault.azure.net"
		hsm = "https://contoso.managedhsm.azure.net"
		neu = "https://contoso-neu.vault.azure.net"
	)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	both := func(after time.Duration) record.Moment {
		return record.Moment{Here: at.Add(after), There: at.Add(after)}
	}
	print := func(c string) key.Fingerprint { return key.Fingerprint("sha256:" + strings.Repeat(c, 64)) }
	kid := func(url, c string) string { return url + "/keys/keyd-kek/" + strings.Repeat(c, 32) }
	dir := schema1(t)
	s := openIn(t, dir)

	rec := load(t, s, "sa-cmk-key")
	var states []key.PlacementState
	for _, g := range rec.Generations {
		for _, p := range g.Placements {
			states = append(states, p.State)
		}
	}
	if want := []key.PlacementState{key.Disabling, key.Lifted, key.Proven, key.Proven}; !cmp.Equal(want, states) {
		t.Errorf("the placements are %v, want %v", states, want)
	}

	last := record.Moment{Here: at.Add(24 * time.Hour), There: at.Add(24*time.Hour + 2*time.Second)}
	want := map[string][]record.KEK{
		// The KEK that keyd made and wraps for.
		weu: {{State: key.KEKActive, By: "keyd", Kid: kid(weu, "a"), Fingerprint: print("a"), Begun: both(-time.Hour),
			Made: last, Used: last}},
		// One that others made, approved in its place.
		hsm: {{State: key.KEKActive, Found: true, Kid: kid(hsm, "e"), Fingerprint: print("e"), Begun: last,
			Made: last, Used: last}},
		// One whose answer was lost.
		neu: {{State: key.KEKMaking, By: "keyd", Begun: both(30 * time.Hour)}},
	}
	for url, keks := range want {
		got, err := s.LoadVault(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(keks, got.KEKs); diff != "" || got.Instance != "hq-1" || got.Revision == 0 {
			t.Errorf("%s, instance %q, revision %d (-want +got):\n%s", url, got.Instance, got.Revision, diff)
		}
	}
	names, err := s.Names(t.Context())
	if want := []string{"sa-cmk-key", "sql-tde"}; err != nil || !cmp.Equal(want, names) {
		t.Errorf("keys %v, %v; want %v", names, err, want)
	}
	if report, err := s.Verify(t.Context()); err != nil || !report.Consistent() || report.Records != 5 {
		t.Errorf("%v, %v; want two keys and three vaults", report, err)
	}
	kept := filepath.Join(dir, "keyd.db.schema-1")
	if info, err := os.Stat(kept); err != nil || info.Size() == 0 {
		t.Errorf("no copy of schema 1 is kept: %v", err)
	}
}

func TestADamagedRecordOfAVaultIsFound(t *testing.T) {
	dir := stateDir(t)
	s := openIn(t, dir)
	rec, err := s.LoadVault(t.Context(), "https://v.vault.azure.net")
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.SaveVault(t.Context(), rec, entryOf("one"))
	if err != nil {
		t.Fatal(err)
	}
	old := raw(t, s, rec.URL)
	if _, err := s.SaveVault(t.Context(), first, entryOf("two")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tamper(t, dir, func(tx *bbolt.Tx) error { return tx.Bucket(bucketRecords).Put([]byte(rec.URL), old) })
	if report := verify(t, dir); report.Consistent() || !strings.Contains(report.String(),
		"an older record was put back") {
		t.Errorf("got %s", report)
	}
}

func entryOf(event chain.Event) chain.Entry { return chain.Entry{Event: event, Actor: "keyd"} }

// raw is a record as the file holds it.
func raw(t *testing.T, s *Store, name string) (value []byte) {
	t.Helper()
	err := s.view(t.Context(), func(tx *bbolt.Tx) error {
		value = bytes.Clone(tx.Bucket(bucketRecords).Get([]byte(name)))
		return nil
	})
	if err != nil || value == nil {
		t.Fatalf("no record of %s: %v", name, err)
	}
	return value
}
