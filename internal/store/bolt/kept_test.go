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
	save(t, s, load(t, s, "k"), "made")
	first := stored.Record{Head: headOf(t, s, "k")}
	// What the store keeps is marked, to see that the second load decodes nothing.
	marked := load(t, s, "k")
	marked.Instance = "kept"
	s.records.Put("k", first, marked)
	if got := load(t, s, "k"); got.Instance != "kept" {
		t.Error("the second load of a revision decoded it again")
	}
	save(t, s, load(t, s, "k"), "changed")
	marked.Instance = "stale"
	s.records.Put("k", first, marked) // as a slower reader of the earlier revision would
	if got := load(t, s, "k"); got.Instance == "stale" {
		t.Error("a load returned what was kept of an earlier revision")
	}
}

func headOf(t *testing.T, s *Store, name string) (head stored.Head) {
	t.Helper()
	err := s.view(t.Context(), func(tx *bbolt.Tx) (err error) {
		head, err = stored.ParseHead(name, tx.Bucket(bucketRecords).Get([]byte(name)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return head
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
			Requester: "schedule",
			Fingerprint: key.Fingerprint(
				"sha256:" + strings.Repeat("ab", 32),
			), Reserved: at, Pinned: at, Finished: at,
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
