package daemon

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/term"
)

// watchedStore tells of each look for records that have changed, which proofs begin with.
type watchedStore struct {
	Store
	read chan struct{}
}

func (s watchedStore) Revisions(ctx context.Context) (map[string]uint64, error) {
	select {
	case s.read <- struct{}{}:
	default:
	}
	return s.Store.Revisions(ctx)
}

func TestTheLastLeaderGoesOnWithTheProofsWhileNobodyLeads(t *testing.T) {
	a, b, _ := twoHosts(t)
	var ahead atomic.Int64
	done := errors.New("done")
	for _, d := range []*Daemon{a, b} {
		d.boot = func() time.Duration { return term.Boottime() + time.Duration(ahead.Load()) }
		d.hosts.leads(false, time.Now().Add(-time.Hour))
	}
	for _, d := range []*Daemon{b, a} { // host-a is the last
		if err := d.elector.Run(t.Context(), func(context.Context) error { return done }); !errors.Is(err, done) {
			t.Fatal(err)
		}
	}
	if a.lastInCharge() {
		t.Error("host-a is in charge as the last one, while its lease may hold")
	}
	ahead.Store(int64(time.Hour))
	if !a.inCharge() || !a.lastInCharge() {
		t.Errorf("host-a, the last that led: in charge %v, proves %v", a.inCharge(), a.lastInCharge())
	}
	a.store = watchedStore{a.store, make(chan struct{}, 1)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { a.keepProving(ctx); close(ended) }()
	<-a.store.(watchedStore).read
	stop()
	<-ended
	a.hosts.leads(true, time.Now())
	if a.lastInCharge() {
		t.Error("host-a goes on with the proofs, while a host leads")
	}
}
