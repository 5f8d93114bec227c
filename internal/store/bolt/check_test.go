package bolt_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/softhsm-test/rights"
)

func TestCheckFindsNothingWhereThereIsNoStateOrAGoodOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := bolt.Check(dir); err != nil {
		t.Errorf("without a state: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the check made the directory")
	}
	s, err := bolt.Open(dir, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := bolt.Check(dir); err != nil {
		t.Errorf("a good state: %v", err)
	}
}

// A copy that root put back belongs to root, and the daemon cannot open it.
func TestCheckNamesAStateOfAnotherUserThanItsDirectory(t *testing.T) {
	rights.ToBecomeAnotherUser(t)
	dir := filepath.Join(t.TempDir(), "state")
	s, err := bolt.Open(dir, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	err = bolt.Check(dir)
	want := "keyd.db belongs to root, and its directory to nobody; to give it back: `sudo chown -R nobody:"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}
