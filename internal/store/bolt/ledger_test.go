package bolt

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/key"
)

func TestADamagedLedgerIsNamedAndRefused(t *testing.T) {
	dir := history(t)
	s := openIn(t, dir)
	if err := s.SaveLedger(t.Context(), "https://v", []byte("seen")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if report := verify(t, dir); !report.Consistent() {
		t.Fatalf("before the damage: %s", report)
	}
	tamper(t, dir, func(tx *bbolt.Tx) error {
		ledgers := tx.Bucket(bucketLedgers)
		return ledgers.Put([]byte("https://v"), append(bytes.Clone(ledgers.Get([]byte("https://v"))), '!'))
	})
	want := `the ledger of "https://v" does not match its checksum`
	if report := verify(t, dir); report.Consistent() || !strings.Contains(report.String(), want) {
		t.Errorf("got %s, want %s", report, want)
	}
	if _, err := Open(dir, clock, nil); !isCorrupt(err) {
		t.Errorf("Open: %v, want a CorruptError", err)
	}
}

// The chain's head does not show whether a transaction without entries took effect.
func TestALedgersFailedCommitIsAmbiguousAndCheckedLater(t *testing.T) {
	s := openIn(t, stateDir(t))
	for name, commit := range map[string]func(*bbolt.Tx) error{
		"without": func(tx *bbolt.Tx) error { return errors.Join(errDisk, tx.Rollback()) },
		"with":    func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), errDisk) },
	} {
		s.commit = commit
		err := s.SaveLedger(t.Context(), name, []byte("seen"))
		if !errors.Is(err, errDisk) || key.ClassOf(err) != key.Ambiguous {
			t.Errorf("%s effect: %v (%v), want the disk's error with class ambiguous", name, err, key.ClassOf(err))
		}
		s.commit = (*bbolt.Tx).Commit
		before := s.db
		blob, err := s.LoadLedger(t.Context(), name)
		if s.db == before {
			t.Errorf("%s effect: the file was not opened again", name)
		}
		if err != nil || (blob != nil) != (name == "with") {
			t.Errorf("%s effect: %q, %v", name, blob, err)
		}
	}
}
