package bolt

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Who has the file open leads: its lock is the lease, and ends with the process. The daemon takes it and writes under
// its epoch all the same, as it does on a store for several hosts. So a write that a term left behind is refused.

// keyEpoch has the newest term in the meta bucket: number (8) ‖ nonce (16) ‖ since, in ns (8) ‖ holder.
var keyEpoch = []byte("epoch")

// epochHead is the length of what lies before the holder, in bytes.
const epochHead = 8 + 16 + 8

func encodeTerm(l stored.Lease) []byte {
	b := append(stored.Number(l.Epoch.Number), l.Epoch.Nonce[:]...)
	return append(binary.BigEndian.AppendUint64(b, uint64(l.Since.UnixNano())), l.Holder...)
}

// termOf reads the newest term; zero for none yet.
func (s *Store) termOf(tx *bbolt.Tx) (l stored.Lease, err error) {
	v := tx.Bucket(bucketMeta).Get(keyEpoch)
	switch {
	case v == nil:
		return l, nil
	case len(v) < epochHead:
		return l, s.corrupt("its epoch is cut short")
	}
	return stored.Lease{
		Epoch: term.Epoch{
			Number: binary.BigEndian.Uint64(v),
			Nonce:  [16]byte(v[8:24]),
		}, Holder: string(v[epochHead:]),
		Since: time.Unix(0, int64(binary.BigEndian.Uint64(v[24:epochHead]))).UTC(),
	}, nil
}

// inForce refuses what is done under the epoch of another term.
func (s *Store) inForce(tx *bbolt.Tx, e term.Epoch) error {
	now, err := s.termOf(tx)
	if err != nil {
		return err
	}
	if now.Epoch != e || e.IsZero() {
		return &stored.EpochError{Had: e, Now: now.Epoch}
	}
	return nil
}

// guarded is fn, if the epoch of ctx is in force. Without an epoch the write is anybody's.
func (s *Store) guarded(ctx context.Context, fn func(*bbolt.Tx) error) func(*bbolt.Tx) error {
	e, ok := term.Of(ctx)
	if !ok {
		return fn
	}
	return func(tx *bbolt.Tx) error {
		if err := s.inForce(tx, e); err != nil {
			return err
		}
		return fn(tx)
	}
}

// Lease is who leads. It ends with the process, or with Release.
func (s *Store) Lease(ctx context.Context) (l stored.Lease, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) (err error) {
		l, err = s.termOf(tx)
		return err
	})
	return s.held(l), err
}

// held says how long a lease still holds.
func (s *Store) held(l stored.Lease) stored.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		l.Now = s.now()
	}
	if s.leads {
		l.Left = math.MaxInt64
	}
	return l
}

// Take begins a new term, at once: nobody else can have the file open. Errors: *WriteError.
func (s *Store) Take(
	ctx context.Context, holder string, nonce [16]byte, _ time.Duration,
) (taken stored.Lease, err error) {
	err = s.writeAs(ctx, &pending{alone: true, fn: func(tx *bbolt.Tx) error {
		was, err := s.termOf(tx)
		if err != nil {
			return err
		}
		taken = stored.Lease{Epoch: term.Epoch{Number: was.Epoch.Number + 1, Nonce: nonce}, Holder: holder,
			Since: s.now().UTC()}
		return tx.Bucket(bucketMeta).Put(keyEpoch, encodeTerm(taken))
	}})
	if err != nil {
		return stored.Lease{}, fmt.Errorf("begin a term: %w", err)
	}
	s.lead(true)
	return s.held(taken), nil
}

func (s *Store) lead(leads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads = leads
}

// Renew says that the lease still holds. Errors: *stored.EpochError.
func (s *Store) Renew(ctx context.Context, e term.Epoch, _ time.Duration) (stored.Lease, error) {
	l, err := s.Lease(ctx)
	if err == nil && (l.Left <= 0 || l.Epoch != e) {
		err = &stored.EpochError{Had: e, Now: l.Epoch}
	}
	if err != nil {
		return stored.Lease{}, err
	}
	return l, nil
}

// Release ends the lease of an epoch. The epoch stays in force until the next term.
func (s *Store) Release(ctx context.Context, e term.Epoch) error {
	l, err := s.Lease(ctx)
	if err == nil && l.Epoch == e {
		s.lead(false)
	}
	return err
}

// PutStatus keeps what is shown of this daemon; an empty blob removes it. It ends with the process, as what it tells of
// does. Errors: *stored.EpochError.
func (s *Store) PutStatus(ctx context.Context, name string, blob []byte) error {
	err := s.view(ctx, s.guarded(ctx, func(*bbolt.Tx) error { return nil }))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(blob) == 0 {
		delete(s.statuses, name)
		return nil
	}
	s.statuses[name] = slices.Clone(blob)
	return nil
}

// Status returns what PutStatus kept last under a name; nil for nothing.
func (s *Store) Status(_ context.Context, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.statuses[name]), nil
}

// Statuses lists the names with a prefix, sorted.
func (s *Store) Statuses(_ context.Context, prefix string) (names []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.statuses {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
