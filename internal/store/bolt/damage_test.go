package bolt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// history makes a closed state with two records and ten entries, and returns
// its directory. Entries 3 and 6 saved record a, 9 saved record b; 10 saved none.
func history(t *testing.T) string {
	t.Helper()
	dir := stateDir(t)
	s := openIn(t, dir)
	a := save(t, s, load(t, s, "a"), "1", "2", "3")
	save(t, s, a, "4", "5", "6")
	save(t, s, load(t, s, "b"), "7", "8", "9")
	if err := s.Append(t.Context(), chain.Entry{Event: "10"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tamper changes the file behind keyd's back.
func tamper(t *testing.T, dir string, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, fileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, dir string) chain.Report {
	t.Helper()
	s, err := OpenReadOnly(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	report, err := s.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func audit(tx *bbolt.Tx) *bbolt.Bucket   { return tx.Bucket(bucketAudit) }
func records(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket(bucketRecords) }

func drop(seqs ...uint64) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		for _, n := range seqs {
			if err := audit(tx).Delete(stored.Number(n)); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestVerifyNamesThePlaceOfTampering(t *testing.T) {
	cases := map[string]struct {
		tamper func(tx *bbolt.Tx) error
		want   string
	}{
		"changed entry": {
			func(tx *bbolt.Tx) error {
				v := string(audit(tx).Get(stored.Number(2)))
				return audit(tx).Put(stored.Number(2), []byte(strings.Replace(v, `"event":"2"`, `"event":"x"`, 1)))
			},
			"audit entry 2: does not match its hash: it was changed",
		},
		"changed entry with a hash of its own": {
			func(tx *bbolt.Tx) error {
				k := stored.Number(2)
				c, err := stored.ParseEntry(k, audit(tx).Get(k))
				if err != nil {
					return err
				}
				body := []byte(strings.Replace(string(c.Body), `"event":"2"`, `"event":"x"`, 1))
				return audit(
					tx,
				).Put(k, stored.EncodeEntry(chain.Linked{Prev: c.Prev, Hash: chain.LinkHash(c.Prev, 2, c.Key,
					chain.BodySum(body)), Body: body}))
			},
			"audit entry 3: does not follow the entry before it: one of them was changed, moved or removed",
		},
		"removed entry": {drop(4), "audit entry 4: missing; the next one is 5"},
		"reordered entries": {
			func(tx *bbolt.Tx) error {
				one, two := string(audit(tx).Get(stored.Number(1))), string(audit(tx).Get(stored.Number(2)))
				return errors.Join(
					audit(tx).Put(stored.Number(1), []byte(two)),
					audit(tx).Put(stored.Number(2), []byte(one)),
				)
			},
			"audit entry 1: does not follow the entry before it: one of them was changed, moved or removed",
		},
		"end cut off, a record is newer": {
			drop(9, 10),
			"record of b: the chain has no entry for it",
		},
		"end cut off, before a record's last change": {
			drop(5, 6, 7, 8, 9, 10),
			"record of a: it was saved with entry 6 and the chain knows only up to entry 3: " +
				"entries were removed from its end",
		},
		"record removed": {
			func(tx *bbolt.Tx) error { return records(tx).Delete([]byte("a")) },
			"record of a: entry 6 describes it, but it is gone",
		},
		"record changed with a sum of its own": {
			func(tx *bbolt.Tx) error {
				r, err := stored.ParseRecord("a", records(tx).Get([]byte("a")))
				if err != nil {
					return err
				}
				return records(tx).Put([]byte("a"), stored.NewRecord("a", r.Revision, append(r.Body, ' ')).Encode())
			},
			"record of a: it is not the one that entry 6 was saved with",
		},
		"older record put back": {
			func(tx *bbolt.Tx) error {
				r, err := stored.ParseRecord("a", records(tx).Get([]byte("a")))
				if err != nil {
					return err
				}
				return records(tx).Put([]byte("a"), stored.NewRecord("a", 3, r.Body).Encode())
			},
			"record of a: it was saved with entry 3 and entry 6 records a later change: an older record was put back",
		},
		"record cut short": {
			func(tx *bbolt.Tx) error { return records(tx).Put([]byte("a"), []byte("x")) },
			`record of a: the record of "a" is cut short`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := history(t)
			tamper(t, dir, c.tamper)
			report := verify(t, dir)
			if report.Consistent() || !strings.Contains(report.String(), c.want) {
				t.Errorf("got %s\nwant %s", report, c.want)
			}
			if _, err := Open(dir, clock, nil); !isCorrupt(err) {
				t.Errorf("Open: %v, want a CorruptError", err)
			}
		})
	}
}

func TestACutOffEndWithoutRecordsShowsOnlyInCountAndHead(t *testing.T) {
	dir := history(t)
	before := verify(t, dir)
	tamper(t, dir, drop(10))
	after := verify(t, dir)
	if !after.Consistent() {
		t.Fatalf("got %s", after)
	}
	if after.Entries != before.Entries-1 || after.Head == before.Head {
		t.Errorf("count %d and head %s do not show the loss", after.Entries, after.Head)
	}
}

func TestTheReportOfAGoodState(t *testing.T) {
	report := verify(t, history(t))
	want := fmt.Sprintf("internally consistent: 10 entries, head %s, 2 records covered", report.Head)
	if report.String() != want {
		t.Errorf("got %q, want %q", report, want)
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	dir := history(t)
	tamper(t, dir, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keySchema, stored.Number(record.SchemaVersion+1))
	})
	var newer *SchemaError
	if _, err := Open(dir, clock, nil); !errors.As(err, &newer) {
		t.Errorf("got %v, want a SchemaError", err)
	}
}

func TestATruncatedFileIsNamed(t *testing.T) {
	for _, size := range []int64{0, 1, 4096, 8192, 12288, 16384} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := history(t)
			if err := os.Truncate(filepath.Join(dir, fileName), size); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, clock, nil); !isCorrupt(err) {
				t.Errorf("got %v, want a CorruptError", err)
			}
		})
	}
}

// Whichever single bit is flipped, keyd refuses the state or reads it as it was written. The test flips every bit in
// the headers of pages that lead to others, and some bits everywhere else.
func TestAFlippedBitIsRefusedOrHasNoEffect(t *testing.T) {
	const header, samples = 32, 300
	pageSize := os.Getpagesize()
	clean, want := branchedState(t)
	random := rand.New(rand.NewPCG(1, 2))
	var bits []int
	branched := false
	for page := 0; page < len(clean); page += pageSize {
		flags := u16(clean[page+8:])
		if flags == flagLeaf {
			continue
		}
		branched = branched || flags == flagBranch
		for bit := range header * 8 {
			bits = append(bits, page*8+bit)
		}
	}
	if !branched {
		t.Fatal("no page of the state leads to others")
	}
	for range samples {
		bits = append(bits, random.IntN(len(clean)*8))
	}

	path := filepath.Join(privateTemp(t), fileName)
	refused := 0
	for _, bit := range bits {
		damaged := append([]byte(nil), clean...)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(filepath.Dir(path), clock, nil)
		if err != nil {
			if !isCorrupt(err) && !isSchema(err) {
				t.Fatalf("bit %d: %v, want a CorruptError", bit, err)
			}
			refused++
			continue
		}
		// cmp takes longer than everything else, so it only describes a difference.
		if got := contents(t, s); !reflect.DeepEqual(want, got) {
			t.Errorf("bit %d was accepted (-want +got):\n%s", bit, cmp.Diff(want, got))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if refused < len(bits)/2 {
		t.Errorf("only %d of %d flipped bits were noticed", refused, len(bits))
	}
}

// branchedState is a state whose chain is just long enough to need a page that leads to others: the bytes of its
// file, and its content.
func branchedState(t *testing.T) ([]byte, map[string]any) {
	t.Helper()
	s := openIn(t, stateDir(t))
	for i := range 6 {
		save(t, s, load(t, s, fmt.Sprintf("key-%d", i)), "1", "2", "3", "4", "5")
	}
	path := filepath.Join(t.TempDir(), "compact")
	if err := s.BackupFile(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	clean, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return clean, contents(t, s)
}

func privateTemp(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// bbolt by itself would fall back to the other meta page, and so lose the last transaction.
func TestADamagedMetaPageDoesNotRestoreAnOlderState(t *testing.T) {
	for page := range 2 {
		path := filepath.Join(history(t), fileName)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[page*os.Getpagesize()+pageHeader+metaSize-1] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(filepath.Dir(path), clock, nil); !isCorrupt(err) {
			t.Errorf("meta page %d: got %v, want a CorruptError", page, err)
		}
	}
}

func isSchema(err error) bool {
	var e *SchemaError
	return errors.As(err, &e)
}

func contents(t *testing.T, s *Store) map[string]any {
	t.Helper()
	names, err := s.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"events": events(t, s)}
	for _, n := range names {
		all["record "+n] = load(t, s, n)
	}
	return all
}

func TestAnOlderSchemaIsMigratedAndACopyIsKept(t *testing.T) {
	dir := history(t)
	next := format{version: record.SchemaVersion + 1, from: map[int]migration{
		record.SchemaVersion: func(old map[string]json.RawMessage) (map[string]json.RawMessage, error) {
			for name, body := range old {
				var rec record.Record
				if err := json.Unmarshal(body, &rec); err != nil {
					return nil, err
				}
				rec.Schema++
				rec.Instance = "migrated"
				old[name], _ = json.Marshal(rec)
			}
			return old, nil
		},
	}}
	s, err := openAs(next, dir, clock, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := load(t, s, "a"); got.Instance != "migrated" || got.Schema != next.version {
		t.Errorf("got %+v, want the migrated record", got)
	}
	report, err := s.Verify(t.Context())
	if err != nil || !report.Consistent() || report.Entries != 12 {
		t.Errorf("after the migration: %v, %v; want an entry more for each record", report, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	kept, err := OpenReadOnly(filepath.Join(dir, "keyd.db.schema-"+strconv.Itoa(record.SchemaVersion)))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if got := load(t, kept, "a"); got.Instance != "" {
		t.Errorf("the copy holds %+v", got)
	}
}

func TestAFailedMigrationChangesNothing(t *testing.T) {
	dir := history(t)
	broken := errors.New("unheard of")
	next := format{version: record.SchemaVersion + 1, from: map[int]migration{
		record.SchemaVersion: func(map[string]json.RawMessage) (map[string]json.RawMessage, error) {
			return nil,
				broken
		},
	}}
	if _, err := openAs(next, dir, clock, nil); !errors.Is(err, broken) {
		t.Fatalf("got %v, want the migration's error", err)
	}
	if report := verify(t, dir); !report.Consistent() || report.Entries != 10 {
		t.Errorf("got %s", report)
	}
}

func FuzzStructure(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "state")
	s, err := Open(dir, clock, nil)
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		size := os.Getpagesize()
		for page := range 2 { // with valid checksums, or every input would end there
			if at := page*size + pageHeader; len(b) >= at+metaSize {
				sum := fnv.New64a()
				sum.Write(b[at : at+metaSize-8])
				binary.NativeEndian.PutUint64(b[at+metaSize-8:], sum.Sum64())
			}
		}
		_ = checkStructure(bytes.NewReader(b), int64(len(b)), size) // must end, and not panic
	})
}

func FuzzParseEntry(f *testing.F) {
	body := []byte(`{"time":"2026-01-02T03:04:05Z","key":"k","event":"e","actor":"keyd"}`)
	f.Add(
		stored.Number(1),
		stored.EncodeEntry(chain.Linked{Hash: chain.LinkHash(chain.Hash{}, 1, "k", chain.BodySum(body)),
			Body: body}),
	)
	f.Fuzz(func(t *testing.T, k, value []byte) {
		c, err := stored.ParseEntry(k, value)
		if err == nil && !bytes.Equal(value, stored.EncodeEntry(c)) {
			t.Errorf("%q was read as another entry", value)
		}
	})
}
