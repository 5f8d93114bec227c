package bolt

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/term"
)

func TestATermCostsNoCommitOfItsOwn(t *testing.T) {
	s, all, commits := saved(t, 1)
	lease, err := s.Take(t.Context(), "one", [16]byte{1}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	under := term.With(t.Context(), lease.Epoch)
	if _, err := s.Renew(under, lease.Epoch, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.PutStatus(under, "proofs", []byte("passed")); err != nil {
		t.Fatal(err)
	}
	if *commits != 0 {
		t.Errorf("a term, its renewal and a status took %d commits, want none", *commits)
	}
	if _, err := s.Save(under, all[0], chain.Entry{Event: "changed"}); err != nil {
		t.Fatal(err)
	}
	if *commits != 1 {
		t.Errorf("a save in a term took %d commits, want 1", *commits)
	}
}

func TestATermBeginsOnAFullDiskAndIsInTheFileWithItsFirstWrite(t *testing.T) {
	dir := stateDir(t)
	s := openIn(t, dir)
	s.commit = func(*bbolt.Tx) error { return errDisk }
	lease, err := s.Take(t.Context(), "one", [16]byte{1}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	under := term.With(t.Context(), lease.Epoch)
	if err := s.Append(under, chain.Entry{Event: "lost"}); !errors.Is(err, errDisk) {
		t.Fatalf("%v, want the disk's error", err)
	}
	s.commit = (*bbolt.Tx).Commit
	if err := s.Append(under, chain.Entry{Event: "kept"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := openIn(t, dir).Lease(t.Context())
	if err != nil || l.Epoch != lease.Epoch || l.Holder != "one" || l.Left > 0 {
		t.Errorf("another process finds %+v, %v; want %+v", l, err, lease)
	}
}

func TestATermThatIsOverDoesNotMakeTheStoreUnhealthy(t *testing.T) {
	s, all, _ := saved(t, 1)
	late := term.With(t.Context(), term.Epoch{Number: 1})
	if _, err := s.Save(late, all[0], chain.Entry{Event: "changed"}); err == nil {
		t.Fatal("a late write was saved")
	}
	if err := s.Healthy(); err != nil {
		t.Errorf("the store says %v", err)
	}
}

func TestADamagedEpochIsNamed(t *testing.T) {
	s := openIn(t, stateDir(t))
	err := s.write(t.Context(), func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keyEpoch, []byte("short"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lease(t.Context()); !isCorrupt(err) {
		t.Errorf("%v, want a CorruptError", err)
	}
}
