package shared

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Lease is who leads, by the engine's own clock. Nobody may take it for proof that nobody else acts. A host that waits
// asks for it all the time, and so follows the chain; where that is not possible now, it learns who leads all the same.
func (s *Store) Lease(ctx context.Context) (stored.Lease, error) {
	if err := s.follow(ctx); errors.Is(err, stored.ErrClosed) {
		return stored.Lease{}, err
	}
	return s.engine.Lease(ctx)
}

// Take begins a term of this host. A host that must not write does not lead. Errors: stored.ErrHeld, *HeadMissing,
// *HaltedError, *stored.EngineError.
func (s *Store) Take(
	ctx context.Context, holder string, nonce [16]byte, ttl time.Duration,
) (stored.Lease, error) {
	if err := s.mayLead(ctx); err != nil {
		return stored.Lease{}, err
	}
	taken, err := s.engine.Take(ctx, holder, nonce, ttl)
	if err == nil || errors.Is(err, stored.ErrHeld) || !inDoubt(err) {
		return taken, s.sealed(err)
	}
	// The answer was lost. The nonce is of this very call: nobody else can have taken the lease with it.
	now, lookErr := s.engine.Lease(ctx)
	if lookErr != nil || now.Epoch.Nonce != nonce {
		return stored.Lease{}, errors.Join(err, lookErr)
	}
	return now, nil
}

// Renew has the lease end after ttl from now. Errors: *stored.EpochError if it is over, or another one is in force; and
// those of Take, so that a host that must not write soon leads no more.
func (s *Store) Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error) {
	if err := s.mayLead(ctx); err != nil {
		return stored.Lease{}, err
	}
	l, err := s.engine.Renew(ctx, e, ttl)
	return l, s.sealed(late(e, err))
}

// mayLead follows the chain first: a store that lost changes shows there.
func (s *Store) mayLead(ctx context.Context) error {
	if err := s.follow(ctx); err != nil {
		return err
	}
	return s.writable(ctx)
}

// Release ends the lease of an epoch, so that another host may lead at once.
func (s *Store) Release(ctx context.Context, e term.Epoch) error { return s.engine.Release(ctx, e) }

// late is the engine's refusal of an epoch as the store's users know it.
func late(e term.Epoch, err error) error {
	if errors.Is(err, stored.ErrEpoch) {
		return &stored.EpochError{Had: e}
	}
	return err
}

// StatusPrefix is what the names of statuses begin with in an engine.
const StatusPrefix = "status/"

// Names of other blobs begin with these.
const (
	ledgerBlob = "ledger/"
	partBlob   = "part/"
)

// PutStatus keeps what is shown of a daemon, outside the chain; an empty blob removes it. A halt does not stop it: that
// is when all hosts must be seen. Errors: *stored.EpochError, *stored.EngineError.
func (s *Store) PutStatus(ctx context.Context, name string, blob []byte) error {
	name = StatusPrefix + name
	if len(blob) <= partSize && (len(blob) == 0 || blob[0] != 0) {
		return s.putBlob(ctx, name, blob)
	}
	had, err := s.engine.Blob(ctx, name)
	if err != nil {
		return err
	}
	side := byte(0)
	if inParts(had) {
		side = 1 - had[1]&1
	}
	head, err := putParts(ctx, side, name, blob, s.putBlob)
	if err != nil {
		return err
	}
	return s.putBlob(ctx, name, append([]byte{0}, head...))
}

// inParts reports whether a status is kept in parts. No other begins with a zero byte.
func inParts(blob []byte) bool { return len(blob) > 2 && blob[0] == 0 }

// putBlob replaces a blob, under the epoch of ctx if it has one.
func (s *Store) putBlob(ctx context.Context, name string, value []byte) error {
	b := stored.Blob{Name: name, Value: value}
	e, ok := term.Of(ctx)
	if ok {
		b.Epoch = &e
	}
	return s.sealed(late(e, s.engine.PutBlob(ctx, b)))
}

// Status returns what PutStatus kept last under a name; nil for nothing. If it is large, and is replaced twice meanwhile,
// parts of two may come: who keeps what is so large must find that out.
func (s *Store) Status(ctx context.Context, name string) ([]byte, error) {
	name = StatusPrefix + name
	blob, err := s.engine.Blob(ctx, name)
	if err != nil || !inParts(blob) {
		return blob, err
	}
	return s.joined(ctx, name, blob[1:])
}

// Statuses lists the names with a prefix, sorted.
func (s *Store) Statuses(ctx context.Context, prefix string) ([]string, error) {
	names, err := s.engine.Blobs(ctx, StatusPrefix+prefix)
	for i, name := range names {
		names[i] = strings.TrimPrefix(name, StatusPrefix)
	}
	return names, err
}
