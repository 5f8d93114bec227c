package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/ownership"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Raw is a state file as bytes, for copies from one store to another. Nobody else has the file open meanwhile.
type Raw struct {
	s      *Store
	target string // the name that the file gets when it is whole; "": it has its name
}

// OpenRaw opens the state in dir, which may be sealed, and checks all that is in it. Errors: those of Open; one of the
// file system if there is no state.
func OpenRaw(dir string) (*Raw, error) {
	if err := private(dir); err != nil {
		return nil, ownership.Explain(err, dir)
	}
	s := rawStore(filepath.Join(dir, fileName))
	if err := s.open(); err != nil {
		return nil, ownership.Explain(err, s.path)
	}
	why, err := s.sealed(context.Background())
	if err == nil && why == "" {
		err = s.migrate()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &Raw{s: s}, nil
}

func rawStore(path string) *Store {
	s := newStore(path, current())
	s.now, s.metrics = time.Now, stored.NewMetrics(nil)
	return s
}

// NewRaw begins an empty state in dir, which Finish gives its name. A state that is there already must be sealed. What
// an earlier try left is removed.
func NewRaw(dir string) (*Raw, error) {
	if err := privateDir(dir); err != nil {
		return nil, ownership.Explain(err, dir)
	}
	target := filepath.Join(dir, fileName)
	if err := replaceable(target); err != nil {
		return nil, err
	}
	r, err := newRaw(filepath.Join(dir, "."+fileName+".copy"))
	if err != nil {
		return nil, err
	}
	r.target = target
	return r, nil
}

// newRaw makes an empty state file.
func newRaw(path string) (*Raw, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := ensureFile(current(), path); err != nil {
		return nil, err
	}
	s := rawStore(path)
	if err := s.open(); err != nil {
		return nil, err
	}
	return &Raw{s: s}, nil
}

// NewRawFile begins a state in a file of its own, for a backup. There must be none of that name.
func NewRawFile(path string) (*Raw, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("make %s: %w", path, fs.ErrExist)
	}
	return newRaw(path)
}

// replaceable refuses to take the place of a state that is in use.
func replaceable(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, err := OpenReadOnly(path)
	if err != nil {
		return err
	}
	why, err := s.sealed(context.Background())
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	if why == "" {
		return fmt.Errorf("%s is a state in use, which nothing replaces: name another state_dir, or move the file away "+
			"if you know that nobody needs it", path)
	}
	return nil
}

// Finish closes a new state and gives it its name and its folder's owner. A sealed state of that name is kept beside
// it, as keyd.db.sealed-NUMBER.
func (r *Raw) Finish() error {
	tip, err := r.Tip(context.Background())
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if err := giveTo(r.s.path, filepath.Dir(r.target)); err != nil {
		return err
	}
	if _, err := os.Lstat(r.target); err == nil {
		if err := os.Rename(r.target, r.target+".sealed-"+strconv.FormatUint(tip.Seq, 10)); err != nil {
			return err
		}
	}
	if err := os.Rename(r.s.path, r.target); err != nil {
		return err
	}
	return syncDir(filepath.Dir(r.target))
}

// giveTo gives a file to the owner of a folder, so that the daemon can open it.
func giveTo(path, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}

// Close closes the file. A new state without its name stays beside it until the next try.
func (r *Raw) Close() error { return r.s.Close() }

// Name says which file it is.
func (r *Raw) Name() string {
	if r.target != "" {
		return "the file " + r.target
	}
	return "the file " + r.s.path
}

// Tip is the end of the chain.
func (r *Raw) Tip(ctx context.Context) (t stored.Tip, err error) {
	t.Seq, t.Hash, err = r.s.Head(ctx)
	return t, err
}

// Heads returns the heads of all records by name, with the tip.
func (r *Raw) Heads(ctx context.Context) (heads map[string]stored.Head, t stored.Tip, err error) {
	heads = map[string]stored.Head{}
	err = r.s.view(ctx, func(tx *bbolt.Tx) error {
		t.Seq, t.Hash = head(tx)
		return tx.Bucket(bucketRecords).ForEach(func(k, v []byte) error {
			h, err := stored.ParseHead(string(k), v)
			heads[string(k)] = h
			return err
		})
	})
	return heads, t, err
}

// Record returns the bytes of one record with the tip; nil for none.
func (r *Raw) Record(ctx context.Context, name string) (value []byte, t stored.Tip, err error) {
	err = r.s.view(ctx, func(tx *bbolt.Tx) error {
		t.Seq, t.Hash = head(tx)
		value = append(value, tx.Bucket(bucketRecords).Get([]byte(name))...)
		return nil
	})
	return value, t, err
}

// Entries returns at most limit entries from a number on, in order.
func (r *Raw) Entries(ctx context.Context, from uint64, limit int) (page []chain.Linked, err error) {
	err = r.s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketAudit).Cursor()
		for k, v := c.Seek(stored.Number(from)); k != nil && len(page) < limit; k, v = c.Next() {
			l, err := stored.ParseEntry(k, v)
			if err != nil {
				return r.s.corrupt("audit entry %d: %v", l.Seq, err)
			}
			page = append(page, l)
		}
		return nil
	})
	return page, err
}

// Commit makes a change, or nothing of it. Whoever has the file open leads, so that no epoch counts.
func (r *Raw) Commit(ctx context.Context, c stored.Change) error {
	return r.s.writeAlone(ctx, func(tx *bbolt.Tx) error {
		if seq, hash := head(tx); (stored.Tip{Seq: seq, Hash: hash}) != c.Tip {
			return stored.ErrTip
		}
		records, audit := tx.Bucket(bucketRecords), tx.Bucket(bucketAudit)
		for _, changed := range c.Records {
			var was stored.Head
			if v := records.Get([]byte(changed.Name)); v != nil {
				var err error
				if was, err = stored.ParseHead(changed.Name, v); err != nil {
					return err
				}
			}
			if was != changed.Was {
				return stored.ErrRecord
			}
			if err := records.Put([]byte(changed.Name), changed.Value); err != nil {
				return err
			}
		}
		audit.FillPercent = 1
		for _, l := range c.Entries {
			if err := audit.Put(stored.Number(l.Seq), stored.EncodeEntry(l)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Ledgers returns all ledgers by name, as they are stored.
func (r *Raw) Ledgers(ctx context.Context) (all map[string][]byte, err error) {
	all = map[string][]byte{}
	err = r.s.view(ctx, func(tx *bbolt.Tx) error {
		ledgers := tx.Bucket(bucketLedgers)
		if ledgers == nil {
			return nil
		}
		return ledgers.ForEach(func(k, v []byte) error {
			all[string(k)] = append([]byte(nil), v...)
			return nil
		})
	})
	return all, err
}

// PutLedger keeps a ledger as it is stored elsewhere.
func (r *Raw) PutLedger(ctx context.Context, name string, value []byte) error {
	blob, err := stored.ParseLedger(name, value)
	if err != nil {
		return err
	}
	return r.s.SaveLedger(ctx, name, blob)
}

// Take and the others find that whoever has the file open leads.
func (r *Raw) Take(
	ctx context.Context, holder string, nonce [16]byte, ttl time.Duration,
) (stored.Lease, error) {
	return r.s.Take(ctx, holder, nonce, ttl)
}

// Renew says that the lease still holds.
func (r *Raw) Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error) {
	return r.s.Renew(ctx, e, ttl)
}

// Release ends the lease.
func (r *Raw) Release(ctx context.Context, e term.Epoch) error { return r.s.Release(ctx, e) }

// Seal has keyd refuse the file from now on, and say why.
func (r *Raw) Seal(ctx context.Context, why string) error {
	return r.s.writeAlone(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keySealed, []byte(strings.TrimSpace(why)))
	})
}

// Sealed is why the file takes no changes any more; "" if it does.
func (r *Raw) Sealed(ctx context.Context) (string, error) { return r.s.sealed(ctx) }
