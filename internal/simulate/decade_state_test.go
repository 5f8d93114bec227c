package simulate

import (
	"context"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/bolt"
)

// decadeState writes what a decade saves into the real store as well, to see what ten years of records and of their
// audit chain cost. Several writers save at once, each the records of some keys, so that saves share their fsyncs.
type decadeState struct {
	t       *testing.T
	dir     string
	store   *bolt.Store
	writers []chan decadeSave
	done    sync.WaitGroup
	keys    map[string]bool
}

// decadeSave is a record to be saved, with its entries.
type decadeSave struct {
	rec     record.Record
	entries []chain.Entry
}

const decadeWriters = 64

func newDecadeState(t *testing.T) *decadeState {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	s, err := bolt.Open(dir, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &decadeState{t: t, dir: dir, store: s, keys: map[string]bool{}}
	for range decadeWriters {
		saves := make(chan decadeSave, 16)
		d.writers = append(d.writers, saves)
		d.done.Go(func() { d.write(saves) })
	}
	return d
}

func (s *decadeState) saved(rec record.Record, entries []chain.Entry) {
	s.keys[rec.Key] = true
	writer := crc32.ChecksumIEEE([]byte(rec.Key)) % decadeWriters
	s.writers[writer] <- decadeSave{rec.Clone(), slices.Clone(entries)}
}

func (s *decadeState) write(saves <-chan decadeSave) {
	revisions := map[string]uint64{}
	for x := range saves {
		x.rec.Revision = revisions[x.rec.Key]
		saved, err := s.store.Save(context.Background(), x.rec, x.entries...)
		if err != nil {
			s.t.Errorf("save the record of %s: %v", x.rec.Key, err)
		}
		revisions[x.rec.Key] = saved.Revision
	}
}

// report prints how large the state is, and how long it takes to open it, which checks all of it, to read every
// record, as a start does, and to verify the audit chain.
func (s *decadeState) report() {
	s.t.Helper()
	for _, w := range s.writers {
		close(w)
	}
	s.done.Wait()
	if err := s.store.Close(); err != nil {
		s.t.Fatal(err)
	}
	begun := time.Now()
	opened, err := bolt.Open(s.dir, time.Now, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer opened.Close()
	load := time.Since(begun)
	for name := range s.keys {
		if _, err := opened.Load(s.t.Context(), name); err != nil {
			s.t.Fatal(err)
		}
	}
	start := time.Since(begun)
	begun = time.Now()
	report, err := opened.Verify(s.t.Context())
	if err != nil || !report.Consistent() {
		s.t.Fatalf("%s, %v", report, err)
	}
	verify := time.Since(begun)
	size := s.size()
	fmt.Printf("the state: %d records, %d audit entries, %d bytes, which is %d an entry; load %s, start %s, "+
		"verify %s\n",
		report.Records, report.Entries, size, size/max(1, int64(report.Entries)),
		load.Round(time.Millisecond), start.Round(time.Millisecond), verify.Round(time.Millisecond))
}

// size is how many bytes of a disk the file takes: without the space that bbolt has reserved at its end.
func (s *decadeState) size() int64 {
	s.t.Helper()
	var file unix.Stat_t
	if err := unix.Stat(filepath.Join(s.dir, "keyd.db"), &file); err != nil {
		s.t.Fatal(err)
	}
	const block = 512 // the unit of st_blocks, by stat(2)
	return file.Blocks * block
}
