package bolt

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"
)

// crashed is a state directory with the file as it is now. metas, if not empty, is an older copy whose two meta pages
// it has: they say which of the other pages count, and bbolt writes one of them last.
func crashed(t *testing.T, s *Store, metas string) (dir string) {
	t.Helper()
	file, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if metas != "" {
		older, err := os.ReadFile(filepath.Join(metas, fileName))
		if err != nil {
			t.Fatal(err)
		}
		copy(file, older[:2*os.Getpagesize()])
	}
	dir = stateDir(t)
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, fileName), file, 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A crash leaves what the disk has. Before the commit, and while only its pages are there, that is none of the group's
// saves; afterwards it is all of them. No save is confirmed before that.
func TestACrashInACommitLeavesNoneOfAGroupOrAllAndNoneWasConfirmed(t *testing.T) {
	s, all, _ := saved(t, 8)
	var before, torn, after string
	var confirmed atomic.Int32
	s.commit = func(tx *bbolt.Tx) error {
		if before != "" {
			t.Error("the group took more than one commit")
		}
		before = crashed(t, s, "")
		if err := tx.Commit(); err != nil {
			return err
		}
		if n := confirmed.Load(); n != 0 {
			t.Errorf("%d saves were confirmed before the commit was whole", n)
		}
		torn, after = crashed(t, s, before), crashed(t, s, "")
		return nil
	}
	gatherEach(t, s, all, func(_ int, err error) {
		if err != nil {
			t.Error(err)
		}
		confirmed.Add(1)
	})
	for _, c := range []struct {
		when  string
		state string
		all   bool
	}{{"before the commit", before, false}, {"before its meta page", torn, false}, {"after the commit", after, true}} {
		found := openIn(t, c.state)
		for _, rec := range all {
			if now := load(t, found, rec.Key); now.Revision > rec.Revision != c.all {
				t.Errorf("after a crash %s %s is at revision %d, and was at %d",
					c.when, rec.Key, now.Revision, rec.Revision)
			}
		}
		if r, err := found.Verify(t.Context()); err != nil || !r.Consistent() {
			t.Errorf("after a crash %s the chain does not verify: %v %v", c.when, r, err)
		}
	}
}
