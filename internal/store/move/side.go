package move

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Side is a store as bytes.
type Side interface {
	// Name says where it is, for people; it is another one for each store.
	Name() string
	Tip(ctx context.Context) (stored.Tip, error)
	Record(ctx context.Context, name string) (value []byte, tip stored.Tip, err error)
	Heads(ctx context.Context) (map[string]stored.Head, stored.Tip, error)
	Entries(ctx context.Context, from uint64, limit int) ([]chain.Linked, error)
	Commit(ctx context.Context, c stored.Change) error

	// Ledgers are all of them by name, as they are stored.
	Ledgers(ctx context.Context) (map[string][]byte, error)
	PutLedger(ctx context.Context, name string, value []byte) error

	Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (stored.Lease, error)
	Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error)
	Release(ctx context.Context, e term.Epoch) error

	Seal(ctx context.Context, why string) error
	Sealed(ctx context.Context) (why string, err error)
	Close() error
}

// Target is a store that receives a copy.
type Target interface {
	Side
	// Begin has keyd refuse the store until Finish.
	Begin(ctx context.Context) error
	Finish(ctx context.Context) error
}

// copying is the blob of a store whose copy is not whole.
const copying = "copying"

// Unfinished says whether a copy into the store was cut short; nil if none was.
func Unfinished(ctx context.Context, e stored.Engine) error {
	mark, err := e.Blob(ctx, copying)
	if err == nil && len(mark) > 0 {
		err = fmt.Errorf("%s: %s; run the same keyd store copy again", e.Name(), mark)
	}
	return err
}

// engine is a store for several hosts.
type engine struct {
	stored.Engine
	name string
}

// Engine is a store for several hosts under a name that no other one has.
func Engine(e stored.Engine, name string) Target { return engine{e, name} }

func (e engine) Name() string { return e.name }

func (e engine) Begin(ctx context.Context) error {
	return e.PutBlob(ctx, stored.Blob{Name: copying, Value: []byte("a copy into it is not whole")})
}

func (e engine) Finish(ctx context.Context) error { return e.PutBlob(ctx, stored.Blob{Name: copying}) }

// ledgerPrefix is what the names of blobs begin with that are ledgers.
const ledgerPrefix = "ledger/"

func (e engine) Ledgers(ctx context.Context) (map[string][]byte, error) {
	names, err := e.Blobs(ctx, ledgerPrefix)
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for _, name := range names {
		value, err := e.Blob(ctx, name)
		if err != nil {
			return nil, err
		}
		all[strings.TrimPrefix(name, ledgerPrefix)] = value
	}
	return all, nil
}

func (e engine) PutLedger(ctx context.Context, name string, value []byte) error {
	return e.PutBlob(ctx, stored.Blob{Name: ledgerPrefix + name, Value: value})
}

// file is the state of one host.
type file struct{ *bolt.Raw }

// OldFile is the state in a folder, from which a copy is made.
func OldFile(dir string) (Side, error) {
	r, err := bolt.OpenRaw(dir)
	if err != nil {
		return nil, err
	}
	return file{r}, nil
}

// NewFile is the state in a folder, into which a copy is made.
func NewFile(dir string) (Target, error) {
	r, err := bolt.NewRaw(dir)
	if err != nil {
		return nil, err
	}
	return file{r}, nil
}

// Begin does nothing: the file has no name yet under which keyd finds it.
func (f file) Begin(context.Context) error { return nil }

// Finish gives the file its name.
func (f file) Finish(context.Context) error { return f.Raw.Finish() }
