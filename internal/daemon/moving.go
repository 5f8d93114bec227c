package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/move"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// CopyStore moves the state from the store that one configuration names to that of another, and closes the old one.
// While it runs no daemon leads.
func CopyStore(ctx context.Context, from, to string) (done move.Done, err error) {
	old, err := config.Load(from)
	if err != nil {
		return done, err
	}
	next, err := config.Load(to)
	if err != nil {
		return done, err
	}
	if old.Instance != next.Instance {
		return done, fmt.Errorf("one configuration says instance: %s and the other one instance: %s: a state moves "+
			"within its instance", old.Instance, next.Instance)
	}
	if storeName(old) == storeName(next) {
		return done, fmt.Errorf("both configurations have the state in one place, %s: name two", storeName(old))
	}
	source, closeSource, err := sourceOf(ctx, old)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, closeSource()) }()
	target, closeTarget, err := targetOf(ctx, next)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, closeTarget()) }()
	host, err := os.Hostname()
	if err != nil {
		return done, err
	}
	return move.Move(ctx, source, target, move.Order{Host: host, Now: time.Now})
}

func sourceOf(ctx context.Context, cfg *config.Config) (move.Source, func() error, error) {
	if cfg.Store.Shared() {
		e, err := openOwn(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		s, done, err := readShared(ctx, e)
		if err != nil {
			return nil, nil, errors.Join(err, e.Close())
		}
		return leavingEngine{movedEngine{e, storeName(cfg)}, s}, done, nil
	}
	s, err := bolt.OpenToMove(cfg.StateDir)
	if err != nil {
		return nil, nil, forAPerson(cfg, "state_dir", err)
	}
	return leavingFile{s, storeName(cfg)}, s.Close, nil
}

func targetOf(ctx context.Context, cfg *config.Config) (move.Target, func() error, error) {
	if cfg.Store.Shared() {
		e, err := openEngine(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		if err := checkInstance(ctx, e, cfg.Instance); err != nil {
			return nil, nil, errors.Join(err, e.Close())
		}
		return movedEngine{e, storeName(cfg)}, e.Close, nil
	}
	a, err := bolt.Arrive(cfg.StateDir)
	if err != nil {
		return nil, nil, forAPerson(cfg, "state_dir", err)
	}
	return arrivingFile{a, storeName(cfg)}, a.Close, nil
}

// movedEngine is a store for several hosts, as one side of a move.
type movedEngine struct {
	stored.Engine
	name string
}

func (e movedEngine) Name() string { return e.name }

func (e movedEngine) HashAt(ctx context.Context, seq uint64) (chain.Hash, error) {
	found, err := e.Entries(ctx, seq, 1)
	if err != nil || len(found) == 0 || found[0].Seq != seq {
		return chain.Hash{}, err
	}
	return found[0].Hash, nil
}

// leavingEngine is a verified store for several hosts that moves elsewhere.
type leavingEngine struct {
	movedEngine
	store *shared.Store
}

func (e leavingEngine) Walk(ctx context.Context, v stored.Visitor) error { return e.store.Walk(ctx, v) }

// unclosed is an engine that outlives the store on it.
type unclosed struct{ stored.Engine }

func (unclosed) Close() error { return nil }

func (e movedEngine) Begin(ctx context.Context) error {
	return e.PutBlob(ctx, stored.Blob{Name: copyingBlob, Value: []byte{1}})
}

func (e movedEngine) Fill(ctx context.Context, from stored.Walker) error {
	if err := shared.Fill(ctx, e.Engine, from); err != nil {
		return err
	}
	_, done, err := readShared(ctx, unclosed{e.Engine})
	if err != nil {
		return err
	}
	return done()
}

func (e movedEngine) Finish(ctx context.Context) error {
	return e.PutBlob(ctx, stored.Blob{Name: copyingBlob})
}

// leavingFile is the state of one host that moves elsewhere.
type leavingFile struct {
	*bolt.Store
	name string
}

func (f leavingFile) Name() string { return f.name }

// arrivingFile is the state of one host that comes from elsewhere. keyd finds it only after Finish, so that nobody
// else can lead in it.
type arrivingFile struct {
	*bolt.Arriving
	name string
}

func (f arrivingFile) Name() string { return f.name }

func (arrivingFile) Begin(context.Context) error { return nil }

func (arrivingFile) Sealed(context.Context) (string, error) { return "", nil }

func (arrivingFile) Take(context.Context, string, [16]byte, time.Duration) (stored.Lease, error) {
	return stored.Lease{}, nil
}

func (arrivingFile) Renew(context.Context, term.Epoch, time.Duration) (stored.Lease, error) {
	return stored.Lease{}, nil
}

func (arrivingFile) Release(context.Context, term.Epoch) error { return nil }
