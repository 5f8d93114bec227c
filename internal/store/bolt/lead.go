package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
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

// keyEpoch has, in the meta bucket, the newest term in which something was written:
// number (8) ‖ nonce (16) ‖ since, in ns (8) ‖ holder.
var keyEpoch = []byte("epoch")

// epochHead is the length of what lies before the holder, in bytes.
const epochHead = 8 + 16 + 8

func encodeTerm(l stored.Lease) []byte {
	b := append(stored.Number(l.Epoch.Number), l.Epoch.Nonce[:]...)
	return append(binary.BigEndian.AppendUint64(b, uint64(l.Since.UnixNano())), l.Holder...)
}

// newest is the newest term; zero for none yet. One that this process has begun need not be in the file yet.
func (s *Store) newest(tx *bbolt.Tx) (l stored.Lease, err error) {
	if l, began := s.began(); began {
		return l, nil
	}
	v := tx.Bucket(bucketMeta).Get(keyEpoch)
	switch {
	case v == nil:
		return l, nil
	case len(v) < epochHead:
		return l, s.corrupt("its epoch is cut short")
	}
	return stored.Lease{
		Epoch: term.Epoch{Number: binary.BigEndian.Uint64(v), Nonce: [16]byte(v[8:24])}, Holder: string(v[epochHead:]),
		Since: time.Unix(0, int64(binary.BigEndian.Uint64(v[24:epochHead]))).UTC(),
	}, nil
}

// began is the term that this process began last.
func (s *Store) began() (l stored.Lease, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term, !s.term.Epoch.IsZero()
}

// guarded is fn, if the epoch of ctx is in force. The first such write of a term puts the term into the file. Without
// an epoch the write is anybody's.
func (s *Store) guarded(ctx context.Context, fn func(*bbolt.Tx) error) func(*bbolt.Tx) error {
	e, ok := term.Of(ctx)
	if !ok {
		return fn
	}
	return func(tx *bbolt.Tx) error {
		now, err := s.newest(tx)
		if err != nil {
			return err
		}
		if err := inForce(e, now); err != nil {
			return err
		}
		if meta, v := tx.Bucket(bucketMeta), encodeTerm(now); !bytes.Equal(meta.Get(keyEpoch), v) {
			if err := meta.Put(keyEpoch, v); err != nil {
				return err
			}
		}
		return fn(tx)
	}
}

// inForce refuses what is done under the epoch of another term.
func inForce(e term.Epoch, now stored.Lease) error {
	if now.Epoch != e || e.IsZero() {
		return &stored.EpochError{Had: e, Now: now.Epoch}
	}
	return nil
}

// Lease is who leads. It ends with the process, or with Release.
func (s *Store) Lease(ctx context.Context) (l stored.Lease, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) (err error) {
		l, err = s.newest(tx)
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

// Take begins a new term. It writes nothing, so that a daemon leads on a full disk, too: nobody else can have the file
// open, and a term in which nothing was written leaves nothing to be told apart from the next one.
func (s *Store) Take(ctx context.Context, holder string, nonce [16]byte, _ time.Duration) (stored.Lease, error) {
	was, err := s.Lease(ctx)
	if err != nil {
		return stored.Lease{}, err
	}
	taken := stored.Lease{
		Epoch: term.Epoch{Number: was.Epoch.Number + 1, Nonce: nonce}, Holder: holder, Since: s.now().UTC(),
	}
	s.mu.Lock()
	s.term, s.leads = taken, true
	s.mu.Unlock()
	return s.held(taken), nil
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
func (s *Store) Release(_ context.Context, e term.Epoch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term.Epoch == e {
		s.leads = false
	}
	return nil
}

// PutStatus keeps what is shown of this daemon; an empty blob removes it. It ends with the process, as what it tells of
// does. Errors: *stored.EpochError.
func (s *Store) PutStatus(ctx context.Context, name string, blob []byte) error {
	if e, ok := term.Of(ctx); ok {
		l, err := s.Lease(ctx)
		if err == nil {
			err = inForce(e, l)
		}
		if err != nil {
			return err
		}
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
