package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// Store is the state of one host. Any goroutine may call its methods.
type Store struct {
	path     string
	format   format
	now      func() time.Time
	readOnly bool
	metrics  *stored.Metrics
	commit   func(*bbolt.Tx) error // bbolt's Commit; tests put a failing disk here

	records  *stored.Kept[record.Record]
	vaults   *stored.Kept[record.Vault] // by URL
	settings *stored.Kept[record.Settings]

	waiting waiting
	writing sync.Mutex // held over one whole transaction

	mu       sync.Mutex // guards the fields below
	db       *bbolt.DB  // nil: closed, or to be opened again
	closed   bool
	doubt    bool  // a commit failed that may have taken effect
	stuck    bool  // bbolt panicked in a write and still holds its locks
	broken   error // damage found while running: every call returns it
	lastFail error
	entries  uint64
	names    map[string]string // of the records, by the name in lower case; nil: not read yet
	term     stored.Lease      // that this process began last
	leads    bool              // it was not released
	statuses map[string][]byte
}

// newStore is a store whose file is not open yet.
func newStore(path string, f format) *Store {
	return &Store{
		path: path, format: f, commit: (*bbolt.Tx).Commit, statuses: map[string][]byte{},
		records: stored.NewKept(record.Record.Clone), vaults: stored.NewKept(record.Vault.Clone),
		settings: stored.NewKept(record.Settings.Clone),
	}
}

// Append adds entries that change no record, such as the daemon's start, a reload, or a refused request. Errors:
// *WriteError.
func (s *Store) Append(ctx context.Context, entries ...chain.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	return s.write(ctx, func(tx *bbolt.Tx) error { return s.link(tx, "", "", entries) })
}

// link appends entries. The last one carries the hash of the record, if there is one.
func (s *Store) link(tx *bbolt.Tx, name, record string, entries []chain.Entry) error {
	seq, prev := head(tx)
	audit := tx.Bucket(bucketAudit)
	audit.FillPercent = 1 // entries are only ever added at the end: a page that is full stays so
	for i, e := range entries {
		if e.Key == "" {
			e.Key = name
		}
		if e.Time.IsZero() {
			e.Time = s.now()
		}
		sum := ""
		if i == len(entries)-1 {
			sum = record
		}
		l, err := chain.Append(seq, prev, e, sum)
		if err != nil {
			return err
		}
		if err := audit.Put(stored.Number(l.Seq), stored.EncodeEntry(l)); err != nil {
			return err
		}
		seq, prev = l.Seq, l.Hash
	}
	return nil
}

// head is the number and the hash of the last entry; zero for an empty chain.
func head(tx *bbolt.Tx) (uint64, chain.Hash) {
	k, v := tx.Bucket(bucketAudit).Cursor().Last()
	if len(k) != 8 || len(v) < 2*len(chain.Hash{}) {
		return 0, chain.Hash{}
	}
	return binary.BigEndian.Uint64(k), chain.Hash(v[len(chain.Hash{}) : 2*len(chain.Hash{})])
}

// Head returns the number and the hash of the last entry of the audit chain; zero
// for an empty one.
func (s *Store) Head(ctx context.Context) (seq uint64, hash chain.Hash, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		seq, hash = head(tx)
		return nil
	})
	return seq, hash, err
}

// Names lists the keys that have a record, in byte order.
func (s *Store) Names(ctx context.Context) ([]string, error) {
	var names []string
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketRecords).ForEach(func(k, _ []byte) error {
			if stored.IsKey(string(k)) {
				names = append(names, string(k))
			}
			return nil
		})
	})
	return names, err
}

// Revisions returns the revision of the record of every key that has one. It reads no record.
func (s *Store) Revisions(ctx context.Context) (map[string]uint64, error) {
	revisions := map[string]uint64{}
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketRecords).ForEach(func(k, value []byte) error {
			if !stored.IsKey(string(k)) {
				return nil
			}
			head, err := stored.ParseHead(string(k), value)
			if err != nil {
				return s.corrupt("%v", err)
			}
			revisions[string(k)] = head.Revision
			return nil
		})
	})
	return revisions, err
}

// Healthy returns nil, or why the last write failed or the file is damaged.
func (s *Store) Healthy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	return s.lastFail
}

// Close waits for running calls and closes the file. A second call does nothing.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	db := s.db
	s.db = nil
	if db == nil || s.stuck {
		return nil
	}
	return db.Close()
}

// view runs fn in a read transaction. fn must not call the store.
func (s *Store) view(ctx context.Context, fn func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	db, err := s.handle()
	if err != nil {
		return err
	}
	return s.remember(s.guard(func() error { return db.View(fn) }))
}

// transact runs one write transaction. bbolt commits by writing its meta page and by nothing else, so after a failed
// commit the head of the chain shows whether it can have happened. It does not show that of a transaction that added no
// entry (a ledger's): that one is in doubt.
func (s *Store) transact(db *bbolt.DB, fn func(*bbolt.Tx) error) error {
	tx, err := db.Begin(true)
	if err != nil {
		return &WriteError{Path: s.path, Err: err, class: key.Retry}
	}
	defer func() { _ = tx.Rollback() }() // says only that the commit closed it
	before, _ := head(tx)
	if err := fn(tx); err != nil {
		return err
	}
	wanted, _ := head(tx)
	failed := s.commit(tx)
	if failed == nil {
		s.setHead(wanted, false)
		return nil
	}
	_ = tx.Rollback() // bbolt leaves some failed commits open
	var found uint64
	err = db.View(func(tx *bbolt.Tx) error {
		found, _ = head(tx)
		return nil
	})
	if err == nil && found == before && wanted > before {
		return &WriteError{Path: s.path, Err: failed, class: key.Retry}
	}
	s.setHead(found, true)
	return &WriteError{Path: s.path, Err: failed, class: key.Ambiguous}
}

func (s *Store) setHead(seq uint64, doubt bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries, s.doubt = seq, doubt
	if doubt {
		s.names = nil
	}
}

// handle returns the open file. If in doubt it closes the file, makes the kernel drop its pages, and checks again
// what is on the disk.
func (s *Store) handle() (*bbolt.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, stored.ErrClosed
	case s.broken != nil:
		return nil, s.broken
	case !s.doubt:
		return s.db, nil
	}
	if s.db != nil {
		err := s.db.Close()
		s.db = nil
		if err != nil {
			return nil, fmt.Errorf("look again at %s: %w", s.path, err)
		}
	}
	if err := dropCache(s.path); err != nil {
		return nil, fmt.Errorf("look again at %s: %w", s.path, err)
	}
	if err := s.open(); err != nil {
		return nil, s.rememberLocked(err)
	}
	s.doubt = false
	return s.db, nil
}

// remember keeps the damage: once this process has seen the file damaged, it does not use it again.
func (s *Store) remember(err error) error {
	if !isCorrupt(err) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rememberLocked(err)
}

func (s *Store) rememberLocked(err error) error {
	if isCorrupt(err) && s.broken == nil {
		s.broken = err
	}
	return err
}

// guard turns bbolt's panics, and faults on a file cut short under its memory
// map, into a *CorruptError.
func (s *Store) guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = s.corrupt("%v", p)
		}
	}()
	return fn()
}

func (s *Store) corrupt(format string, args ...any) error {
	return &CorruptError{Path: s.path, What: fmt.Sprintf(format, args...)}
}

func isCorrupt(err error) bool {
	var c *CorruptError
	return errors.As(err, &c)
}
