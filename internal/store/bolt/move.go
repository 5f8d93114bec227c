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
)

// OpenToMove opens the state in dir to move it elsewhere, also one that was sealed. Nobody else has it open meanwhile.
// Errors: those of Open; fs.ErrNotExist if there is no state.
func OpenToMove(dir string) (*Store, error) {
	if err := private(dir); err != nil {
		return nil, ownership.Explain(err, dir)
	}
	s := newStore(filepath.Join(dir, fileName), current())
	s.now, s.metrics = time.Now, stored.NewMetrics(nil)
	if err := s.open(); err != nil {
		return nil, ownership.Explain(err, s.path)
	}
	why, err := s.Sealed(context.Background())
	if err == nil && why == "" {
		err = s.migrate()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Seal has keyd refuse the file from now on, and say why.
func (s *Store) Seal(ctx context.Context, why string) error {
	return s.writeAlone(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keySealed, []byte(strings.TrimSpace(why)))
	})
}

// Sealed is why the file takes no changes any more; "" if it does.
func (s *Store) Sealed(ctx context.Context) (why string, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		why = string(tx.Bucket(bucketMeta).Get(keySealed))
		return nil
	})
	return why, err
}

// Heads returns the heads of all records by name, with the end of the chain.
func (s *Store) Heads(ctx context.Context) (heads map[string]stored.Head, t stored.Tip, err error) {
	heads = map[string]stored.Head{}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		t.Seq, t.Hash = head(tx)
		return tx.Bucket(bucketRecords).ForEach(func(k, v []byte) error {
			h, err := stored.ParseHead(string(k), v)
			heads[string(k)] = h
			return err
		})
	})
	return heads, t, err
}

// HashAt is the hash of an entry; zero for none.
func (s *Store) HashAt(ctx context.Context, seq uint64) (hash chain.Hash, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketAudit).Get(stored.Number(seq))
		if v == nil {
			return nil
		}
		l, err := stored.ParseEntry(stored.Number(seq), v)
		hash = l.Hash
		return err
	})
	return hash, err
}

// Arriving is the state that is being moved to a folder. It gets its name when it is whole.
type Arriving struct {
	*Store // nil before Fill
	target string
}

// Arrive begins a state in dir. A state that is there already must be sealed.
func Arrive(dir string) (*Arriving, error) {
	if err := privateDir(dir); err != nil {
		return nil, ownership.Explain(err, dir)
	}
	a := &Arriving{target: filepath.Join(dir, fileName)}
	return a, replaceable(a.target)
}

func (a *Arriving) path() string { return filepath.Join(filepath.Dir(a.target), "."+fileName+".copy") }

// Fill makes the file anew of all that another store holds, and verifies it.
func (a *Arriving) Fill(ctx context.Context, from stored.Walker) error {
	if err := a.Close(); err != nil {
		return err
	}
	if err := os.Remove(a.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := CopyFile(ctx, a.path(), from); err != nil {
		return err
	}
	var err error
	a.Store, err = OpenReadOnly(a.path())
	return err
}

// Heads is Store.Heads; before Fill there are none.
func (a *Arriving) Heads(ctx context.Context) (map[string]stored.Head, stored.Tip, error) {
	if a.Store == nil {
		return nil, stored.Tip{}, nil
	}
	return a.Store.Heads(ctx)
}

// Finish gives the file its name and its folder's owner. A sealed state of that name is kept beside it, as
// keyd.db.sealed-NUMBER.
func (a *Arriving) Finish(ctx context.Context) error {
	_, tip, err := a.Heads(ctx)
	if err := errors.Join(err, a.Close(), giveTo(a.path(), filepath.Dir(a.target))); err != nil {
		return err
	}
	if err := keepSealed(a.target, tip.Seq); err != nil {
		return err
	}
	if err := os.Rename(a.path(), a.target); err != nil {
		return err
	}
	return syncDir(filepath.Dir(a.target))
}

// keepSealed gives a sealed state a second name. The first one stays until another state takes it: where there is none,
// keyd would begin a new state.
func keepSealed(path string, seq uint64) error {
	kept := path + ".sealed-" + strconv.FormatUint(seq, 10)
	if _, err := os.Lstat(path); err != nil {
		return ifThere(err)
	}
	return errors.Join(ifThere(os.Remove(kept)), os.Link(path, kept)) // a move may have been cut short in between
}

// ifThere is the error of something that need not exist.
func ifThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close closes the file.
func (a *Arriving) Close() error {
	s := a.Store
	a.Store = nil
	if s == nil {
		return nil
	}
	return s.Close()
}

// replaceable refuses to take the place of a state that is in use.
func replaceable(path string) error {
	return refuseInUse(path, "which nothing replaces: name another state_dir, or move the file away if you know that "+
		"nobody needs it")
}

// CheckLeft refuses a folder that has a state in use, where the state should have moved elsewhere.
func CheckLeft(dir string) error {
	return refuseInUse(filepath.Join(dir, fileName), "and the configuration names another store: move it there with "+
		"keyd store copy --from OLD.yaml --to NEW.yaml; if nobody needs it, move the file away")
}

// refuseInUse refuses a state file that was not sealed, and says what to do. No file is none in use.
func refuseInUse(path, todo string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, err := OpenReadOnly(path)
	if err != nil {
		return err
	}
	why, err := s.Sealed(context.Background())
	if err == nil && why == "" {
		err = fmt.Errorf("%s is a state in use, %s", path, todo)
	}
	return errors.Join(err, s.Close())
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
