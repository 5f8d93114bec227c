package leader

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// refusing is a store that nobody may lead now.
type refusing struct{ err error }

func (r refusing) Lease(context.Context) (stored.Lease, error) { return stored.Lease{}, nil }

func (r refusing) Take(context.Context, string, [16]byte, time.Duration) (stored.Lease, error) {
	return stored.Lease{}, r.err
}

func (r refusing) Renew(context.Context, term.Epoch, time.Duration) (stored.Lease, error) {
	return stored.Lease{}, r.err
}

func (r refusing) Release(context.Context, term.Epoch) error { return r.err }

// A halted instance may stay so for days, and its hosts ask every second.
func TestAHostKeepsNoNonceOfATermThatItCertainlyDidNotGet(t *testing.T) {
	for what, c := range map[string]struct {
		err  error
		kept int
	}{
		"another host has the lease": {stored.ErrHeld, 0},
		"certainly nothing happened": {&stored.EngineError{Err: errors.New("the server is read-only")}, 0},
		"the answer was lost":        {&stored.EngineError{Err: errors.New("no answer"), Ambiguous: true}, 3},
	} {
		e := New(Config{Store: refusing{c.err}, Host: "a", TTL: time.Minute, Random: rand.Reader,
			Boot: func() time.Duration { return time.Hour }})
		for range 3 {
			e.take(t.Context())
		}
		if len(e.nonces) != c.kept {
			t.Errorf("%s: %d nonces are kept, want %d", what, len(e.nonces), c.kept)
		}
	}
}
