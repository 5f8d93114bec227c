package bolt

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
)

func TestARecordIsDecodedOncePerRevision(t *testing.T) {
	s := openIn(t, stateDir(t))
	first := save(t, s, load(t, s, "k"), "made")
	load(t, s, "k")
	kept := s.records.records["k"]
	if kept.revision != first.Revision {
		t.Fatalf("revision %d is kept, want %d", kept.revision, first.Revision)
	}
	// What the store keeps is marked, to see that the second load decodes nothing.
	kept.record.Instance = "kept"
	s.records.records["k"] = kept
	if got := load(t, s, "k"); got.Instance != "kept" {
		t.Error("the second load of a revision decoded it again")
	}
	save(t, s, load(t, s, "k"), "changed")
	s.records.records["k"] = kept // as a slower reader of the earlier revision would
	kept.record.Instance = "stale"
	s.records.records["k"] = kept
	if got := load(t, s, "k"); got.Instance == "stale" {
		t.Error("a load returned what was kept of an earlier revision")
	}
}

func TestTheStoreKeepsNoMoreDecodedRecordsThanItsBound(t *testing.T) {
	s := openIn(t, stateDir(t))
	for i := range 20 {
		save(t, s, record.Record{Schema: s.format.version, Key: fmt.Sprintf("key-%02d", i)}, "made")
	}
	load(t, s, "key-00")
	one := s.records.size
	s.records.limit = 5 * one
	for i := range 20 {
		load(t, s, fmt.Sprintf("key-%02d", i))
	}
	if n := len(s.records.records); n != 5 || s.records.size != 5*one {
		t.Errorf("the store keeps %d records of %d bytes, want 5 of %d", n, s.records.size, 5*one)
	}
}

func TestAPageOfTheAuditChainIsFullBeforeTheNextBegins(t *testing.T) {
	s := openIn(t, stateDir(t))
	for range 200 {
		entries := make([]chain.Entry, 10)
		for i := range entries {
			entries[i] = chain.Entry{Event: "imported", Actor: "keyd", Key: "sa-cmk-key"}
		}
		if err := s.Append(t.Context(), entries...); err != nil {
			t.Fatal(err)
		}
	}
	var pages bbolt.BucketStats
	err := s.view(t.Context(), func(tx *bbolt.Tx) error {
		pages = tx.Bucket(bucketAudit).Stats()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if full := float64(pages.LeafInuse) / float64(pages.LeafAlloc); full < 0.9 {
		t.Errorf("the pages of the audit chain are %.0f%% full", 100*full)
	}
}

// generated is a record such as keyd has of a key after so many rotations.
func generated(schema int, name string, generations int) record.Record {
	rec := record.Record{Schema: schema, Key: name, Instance: "hq-1", Vaults: []key.Vault{{
		Name: "weu", URL: "https://contoso-weu.vault.azure.net", Kind: key.KeyVault,
	}}, Operations: []key.Operation{key.WrapKey, key.UnwrapKey}}
	for n := 1; n <= generations; n++ {
		at := clock().AddDate(0, 3*n, 0)
		rec.Generations = append(rec.Generations, record.Generation{
			Number: n, ID: key.ID(fmt.Sprintf("%032x", n)), Spec: "RSA-2048", Reason: "the schedule",
			Requester:   "schedule",
			Fingerprint: key.Fingerprint("sha256:" + strings.Repeat("ab", 32)), Reserved: at, Pinned: at, Finished: at,
			Placements: []record.Placement{{
				Seq: n, Vault: rec.Vaults[0].URL, VaultName: "weu", Attempt: key.ID(fmt.Sprintf("%032x", n)),
				State: key.Proven, At: at, Version: fmt.Sprintf("%032x", n), Created: at, ImportedAt: at, ProvenAt: at,
				Operations: rec.Operations,
			}},
		})
	}
	return rec
}

// BenchmarkLoad reads 4,000 records of two generations in turn, which is as many as are kept.
func BenchmarkLoad(b *testing.B) {
	s, err := Open(b.TempDir()+"/state", clock, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const keys = 4_000
	err = s.write(b.Context(), func(tx *bbolt.Tx) error {
		for i := range keys {
			name := fmt.Sprintf("key-%05d", i)
			body := encoded(b, generated(s.format.version, name, 2))
			if err := tx.Bucket(bucketRecords).Put([]byte(name), stored.NewRecord(name, 1, body).Encode()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	all := func() {
		for i := range keys {
			if _, err := s.Load(b.Context(), fmt.Sprintf("key-%05d", i)); err != nil {
				b.Fatal(err)
			}
		}
	}
	all()
	b.ReportAllocs()
	for b.Loop() {
		all()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/keys, "µs/record")
}

func encoded(b *testing.B, rec record.Record) []byte {
	b.Helper()
	body, err := json.Marshal(rec)
	if err != nil {
		b.Fatal(err)
	}
	return body
}
