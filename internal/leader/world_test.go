package leader_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/leader"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

const ttl = 15 * time.Second

// world is several hosts on one store. It fails the test when two of them lead at once.
type world struct {
	t     *testing.T
	store *leases
	mu    sync.Mutex
	hosts []*host
	terms int
}

func newWorld(t *testing.T) *world {
	t.Cleanup(func() { time.Sleep(2 * ttl) }) // for what sleeps still
	return &world{t: t, store: &leases{}}
}

// pass lets time pass, and everything that follows from it happen.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// lead fails the test unless the host leads, and returns its term.
func (w *world) lead(h *host) context.Context {
	w.t.Helper()
	if !h.leads() {
		w.t.Fatalf("host %s does not lead: %+v", h.name, h.State())
	}
	return h.term()
}

// host is one host: its process may be stopped for a time, while time goes on.
type host struct {
	*leader.Elector
	name string
	stop context.CancelFunc

	mu        sync.Mutex
	running   *sync.Cond
	paused    bool
	present   context.Context
	finishing time.Duration // how long its work takes to end
	waits     time.Duration // how long the lease must be over before it takes it
}

// set changes how the host behaves.
func (h *host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *host) mayLead(over time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return over >= h.waits
}

func (w *world) host(name string, seed uint64) *host {
	h := &host{name: name}
	h.running = sync.NewCond(&h.mu)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	began := time.Now()
	h.Elector = leader.New(leader.Config{
		Store: hostStore{w.store, h}, Host: name, TTL: ttl, Boot: func() time.Duration { return time.Since(began) },
		After: h.after, Random: rand.NewChaCha8(key), May: h.mayLead,
	})
	return h
}

// start starts a host, which stops at the end of the test.
func (w *world) start(name string, seed uint64) *host {
	h := w.host(name, seed)
	ctx, cancel := context.WithCancel(w.t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = h.Run(ctx, func(ctx context.Context) error { return w.led(ctx, h) }) })
	h.stop = cancel
	w.t.Cleanup(func() { w.store.fails(nil); h.resume(); cancel(); run.Wait() })
	w.mu.Lock()
	w.hosts = append(w.hosts, h)
	w.mu.Unlock()
	return h
}

// led is what a host does while it leads.
func (w *world) led(ctx context.Context, h *host) error {
	w.mu.Lock()
	for _, other := range w.hosts {
		if other != h && other.leads() && !other.still() {
			w.t.Errorf("host %s leads while host %s does", h.name, other.name)
		}
	}
	w.terms++
	h.mu.Lock()
	h.present = ctx
	h.mu.Unlock()
	w.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	finishing := h.finishing
	h.mu.Unlock()
	time.Sleep(finishing)
	return ctx.Err()
}

func (h *host) term() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.present
}

func (h *host) leads() bool {
	ctx := h.term()
	return ctx != nil && ctx.Err() == nil
}

func (h *host) still() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.paused
}

func (h *host) pause() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paused = true
}

func (h *host) resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paused = false
	h.running.Broadcast()
}

// runs returns once the host's process runs.
func (h *host) runs() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.paused {
		h.running.Wait()
	}
}

func (h *host) after(d time.Duration) <-chan time.Time {
	c := make(chan time.Time, 1)
	go func() {
		time.Sleep(d)
		h.runs()
		c <- time.Now()
	}()
	return c
}

// fault is what goes wrong with one call.
type fault struct {
	before, after time.Duration // it takes so long until the store acts, and until the answer is there
	gone, lost    bool          // the store does not act; the answer is lost
}

var errFault = errors.New("no answer")

// leases is a store with a lease.
type leases struct {
	endless bool
	fault   func() fault // nil: none

	mu    sync.Mutex
	calls int
	lease stored.Lease
	until time.Time
}

// fails has the calls from now on go wrong; nil: none does.
func (s *leases) fails(f func() fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// call does something with the lease as it is then.
func (s *leases) call(ctx context.Context, act func(now time.Time) error) (l stored.Lease, err error) {
	s.mu.Lock()
	s.calls++
	var f fault
	if s.fault != nil {
		f = s.fault()
	}
	s.mu.Unlock()
	if !sleep(ctx, f.before) || f.gone {
		return l, errFault
	}
	s.mu.Lock()
	now := time.Now()
	err = act(now)
	l = s.lease
	l.Left, l.Now = s.until.Sub(now), now
	if s.endless && l.Left > 0 {
		l.Left = math.MaxInt64
	}
	s.mu.Unlock()
	if !sleep(ctx, f.after) || f.lost {
		return stored.Lease{}, errFault
	}
	return l, err
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
		}
	}
	return ctx.Err() == nil
}

func (s *leases) Lease(ctx context.Context) (stored.Lease, error) {
	return s.call(ctx, func(time.Time) error { return nil })
}

func (s *leases) Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (stored.Lease, error) {
	return s.call(ctx, func(now time.Time) error {
		if s.lease.Holder != holder && now.Before(s.until) {
			return stored.ErrHeld
		}
		s.lease = stored.Lease{Epoch: term.Epoch{Number: s.lease.Epoch.Number + 1, Nonce: nonce}, Holder: holder,
			Since: now}
		s.until = now.Add(ttl)
		return nil
	})
}

func (s *leases) Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error) {
	return s.call(ctx, func(now time.Time) error {
		if s.lease.Epoch != e || !now.Before(s.until) {
			return stored.ErrEpoch
		}
		s.until = now.Add(ttl)
		return nil
	})
}

func (s *leases) Release(ctx context.Context, e term.Epoch) error {
	_, err := s.call(ctx, func(now time.Time) error {
		if s.lease.Epoch == e {
			s.until = now
		}
		return nil
	})
	return err
}

// hostStore is the store as a host sees it, whose process may stand still before it asks and before it hears.
type hostStore struct {
	*leases
	h *host
}

func (s hostStore) Lease(ctx context.Context) (stored.Lease, error) {
	s.h.runs()
	defer s.h.runs()
	return s.leases.Lease(ctx)
}

func (s hostStore) Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (stored.Lease, error) {
	s.h.runs()
	defer s.h.runs()
	return s.leases.Take(ctx, holder, nonce, ttl)
}

func (s hostStore) Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error) {
	s.h.runs()
	defer s.h.runs()
	return s.leases.Renew(ctx, e, ttl)
}
