package etcd

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

// noting is a change of so many entries after a tip.
func noting(t *testing.T, at stored.Tip, event chain.Event, entries int) stored.Change {
	t.Helper()
	c := stored.Change{Tip: at}
	for range entries {
		noted := chain.Entry{Time: time.Unix(1, 0).UTC(), Event: event, Actor: "keyd"}
		l, err := chain.Append(at.Seq, at.Hash, noted, "")
		if err != nil {
			t.Fatal(err)
		}
		c.Entries, at = append(c.Entries, l), stored.Tip{Seq: l.Seq, Hash: l.Hash}
	}
	return c
}

// ends is the tip after a change.
func ends(c stored.Change) stored.Tip {
	last := c.Entries[len(c.Entries)-1]
	return stored.Tip{Seq: last.Seq, Hash: last.Hash}
}

func commit(t *testing.T, e *Engine, c stored.Change) {
	t.Helper()
	if err := e.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func tipOf(t *testing.T, e *Engine) stored.Tip {
	t.Helper()
	at, err := e.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// wantFailed requires an error of the engine, and says whether the change may have been made.
func wantFailed(t *testing.T, err error, ambiguous bool) {
	t.Helper()
	var failed *stored.EngineError
	if !errors.As(err, &failed) || failed.Ambiguous != ambiguous {
		t.Errorf("%v, want an error of the engine, ambiguous: %t", err, ambiguous)
	}
}

func TestALostAnswerIsAmbiguousWhetherTheChangeWasMadeOrNot(t *testing.T) {
	direct := fresh(t, running)
	witness := open(t, direct)
	for _, made := range []bool{true, false} {
		p := newProxy(t, running.Members[0])
		through := direct
		through.Endpoints = []string{p.URL}
		e := open(t, through)
		before := tipOf(t, e)
		c := noting(t, before, chain.Event(strings.Repeat("noted", 4000)), 2)
		p.loseAnswers.Store(made)
		p.loseAsked.Store(!made)
		certain := func() bool { return p.lost.Load() > 20_000 } // most of the change, and none of HTTP/2's own frames
		if made {
			certain = func() bool { return moved(t, witness, before) }
		}
		go func() {
			until(t, certain)
			p.cut()
		}()
		wantFailed(t, e.Commit(t.Context(), c), true)
		want := before
		if made {
			want = ends(c)
		}
		p.loseAnswers.Store(false)
		p.loseAsked.Store(false)
		for name, e := range map[string]*Engine{"the host itself": e, "a witness": witness} {
			if now := tipOf(t, e); now != want {
				t.Errorf("made: %t: %s sees the tip %+v, want %+v", made, name, now, want)
			}
		}
	}
}

// A member that hangs goes on with what it had received, long after keyd gave up and looked.
func TestAChangeThatArrivesAfterKeydLookedIsNotMade(t *testing.T) {
	in := etcdtest.Start(t, etcdtest.Options{}) // nobody else writes here
	direct := fresh(t, in)
	witness := open(t, direct)
	p := newProxy(t, in.Members[0])
	through := direct
	through.Endpoints = []string{p.URL}
	e := open(t, through)
	first := noting(t, stored.Tip{}, "noted", 1)
	commit(t, e, first)

	ctx, cancel := context.WithCancel(t.Context())
	p.keep.Store(true)
	go func() {
		// A save names the tip to compare it, to write it and to read it, which is the last that it says.
		until(t, func() bool { return p.holds(direct.Prefix+"tip") == 3 })
		p.loseAsked.Store(true) // nor does the member hear that keyd gave up
		cancel()
	}()
	late := noting(t, ends(first), "late", 1)
	wantFailed(t, e.Commit(ctx, late), true)
	p.hangUp()
	p.keep.Store(false)
	p.loseAsked.Store(false)
	if now := tipOf(t, e); now != ends(first) {
		t.Fatalf("the tip is %+v before the change arrived", now)
	}
	applied := func() uint64 {
		s, err := witness.client.Status(t.Context(), direct.Endpoints[0])
		if err != nil {
			t.Fatal(err)
		}
		return s.RaftAppliedIndex
	}
	before := applied()
	p.pour(t)
	until(t, func() bool { return applied() > before })
	if now := tipOf(t, witness); now != ends(first) {
		t.Errorf("the late change was made: the tip is %+v", now)
	}
	commit(t, e, noting(t, ends(first), "noted", 1))
}

// until waits, while the test runs.
func until(t *testing.T, is func() bool) {
	for t.Context().Err() == nil && !is() {
		time.Sleep(time.Millisecond)
	}
}

func moved(t *testing.T, e *Engine, from stored.Tip) bool {
	now, err := e.Tip(t.Context())
	return err == nil && now != from
}

func TestACancelledCallerMayHaveMadeTheChange(t *testing.T) {
	direct := fresh(t, running)
	witness := open(t, direct)
	p := newProxy(t, running.Members[0])
	through := direct
	through.Endpoints = []string{p.URL}
	e := open(t, through)
	ctx, cancel := context.WithCancel(t.Context())
	p.loseAnswers.Store(true)
	go func() {
		until(t, func() bool { return moved(t, witness, stored.Tip{}) })
		cancel()
	}()
	err := e.Commit(ctx, noting(t, stored.Tip{}, "noted", 1))
	wantFailed(t, err, true)
	if !errors.Is(err, context.Canceled) || key.ClassOf(err) != key.Ambiguous {
		t.Errorf("%v, class %v", err, key.ClassOf(err))
	}
}

func TestNothingHappenedIfNoMemberCouldBeReached(t *testing.T) {
	t.Parallel()
	in := etcdtest.Start(t, etcdtest.Options{})
	c := fresh(t, in)
	c.patience = 300 * time.Millisecond
	e := open(t, c)
	in.Members[0].Kill()
	for range 2 { // the first may find the broken connection
		_, err := e.Tip(t.Context())
		wantFailed(t, err, false)
	}
	err := e.Commit(t.Context(), noting(t, stored.Tip{}, "noted", 1))
	wantFailed(t, err, false)
	if key.ClassOf(err) != key.Retry {
		t.Errorf("%v, class %v", err, key.ClassOf(err))
	}
	wantUnopened(t, c, "connection refused")
}

// intercept has fn stand around each request.
func intercept(fn func(ctx context.Context, req any, invoke func() error) error) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any,
		conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		return fn(ctx, req, func() error { return invoke(ctx, method, req, reply, conn, opts...) })
	})}
}

// etcd compacts the revision away between two pages, each time.
func TestACompactionBetweenTwoPagesHarmsNoReader(t *testing.T) {
	c := fresh(t, running)
	admin := open(t, c)
	commit(t, admin, noting(t, stored.Tip{}, "noted", 9))
	var pages, compacted atomic.Int64
	c.dial = intercept(func(ctx context.Context, req any, invoke func() error) error {
		if _, isRange := req.(*pb.RangeRequest); isRange && pages.Add(1) > 1 {
			r, err := admin.client.Put(ctx, c.Prefix+"other", "x")
			if err != nil {
				return err
			}
			if _, err := admin.client.Compact(ctx, r.Header.Revision); err != nil {
				return err
			}
			compacted.Add(1)
		}
		return invoke()
	})
	e := open(t, c)
	e.page = 2
	entries, err := e.Entries(t.Context(), 1, 100)
	if err != nil || len(entries) != 9 || compacted.Load() == 0 {
		t.Fatalf("%d entries, %v, after %d compactions", len(entries), err, compacted.Load())
	}
	for i, l := range entries {
		if l.Seq != uint64(i+1) {
			t.Errorf("entry %d is number %d", i, l.Seq)
		}
	}
	if pages.Load() < 5 {
		t.Errorf("read %d pages of 2", pages.Load())
	}
}

// The host that does not know whether it leads takes the lease again, under a new epoch.
func TestALeaseWhoseAnswerWasLostIsTakenAgain(t *testing.T) {
	direct := fresh(t, running)
	witness := open(t, direct)
	p := newProxy(t, running.Members[0])
	through := direct
	through.Endpoints = []string{p.URL}
	through.dial = intercept(func(_ context.Context, req any, invoke func() error) error {
		err := invoke()
		if _, granted := req.(*pb.LeaseGrantRequest); granted {
			p.loseAnswers.Store(true)
		}
		return err
	})
	e := open(t, through)
	go func() {
		until(t, func() bool { l, err := witness.Lease(t.Context()); return err == nil && !l.Epoch.IsZero() })
		p.loseAnswers.Store(false)
		p.cut()
	}()
	_, err := e.Take(t.Context(), "one", [16]byte{1}, time.Minute)
	wantFailed(t, err, true)
	if _, err := witness.Take(t.Context(), "two", [16]byte{2}, time.Minute); !errors.Is(err, stored.ErrHeld) {
		t.Errorf("another host took the lease meanwhile: %v", err)
	}
	again, err := witness.Take(t.Context(), "one", [16]byte{3}, time.Minute)
	if err != nil || again.Epoch.Number != 2 {
		t.Errorf("took %+v, %v", again, err)
	}
}

// A member with a slow disk can revoke a lease whose renewals it has not seen.
func TestARevokedLeaseEndsTheTermAndNotTheEpoch(t *testing.T) {
	e := open(t, fresh(t, running))
	first, err := e.Take(t.Context(), "one", [16]byte{1}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.leading(t.Context(), "look")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.client.Revoke(t.Context(), l.hold.id); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Renew(t.Context(), first.Epoch, time.Minute); !errors.Is(err, stored.ErrEpoch) {
		t.Errorf("renewed: %v", err)
	}
	if now, err := e.Lease(t.Context()); err != nil || now.Left > 0 || now.Epoch != first.Epoch ||
		now.Holder != "one" {
		t.Errorf("the lease is %+v, %v", now, err)
	}
	c := noting(t, stored.Tip{}, "noted", 1)
	c.Epoch = &first.Epoch
	commit(t, e, c)
	second, err := e.Take(t.Context(), "two", [16]byte{2}, time.Minute)
	if err != nil || second.Epoch.Number != first.Epoch.Number+1 {
		t.Fatalf("%+v, %v", second, err)
	}
	late := noting(t, ends(c), "noted", 1)
	late.Epoch = &first.Epoch
	if err := e.Commit(t.Context(), late); !errors.Is(err, stored.ErrEpoch) {
		t.Errorf("the term before saved: %v", err)
	}
}

func TestARenewalBeginsTheTimeAnewWithoutAWrite(t *testing.T) {
	e := open(t, fresh(t, running))
	first, err := e.Take(t.Context(), "one", [16]byte{1}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	revision := func() int64 {
		r, err := e.client.Get(t.Context(), e.key("lease"))
		if err != nil {
			t.Fatal(err)
		}
		return r.Header.Revision
	}
	before := revision()
	for range 3 {
		now, err := e.Renew(t.Context(), first.Epoch, time.Minute)
		if err != nil || now.Left != time.Minute || now.Epoch != first.Epoch || !now.Since.Equal(first.Since) {
			t.Errorf("renewed to %+v, %v", now, err)
		}
	}
	if after := revision(); after != before {
		t.Errorf("3 renewals made %d revisions in etcd's history", after-before)
	}
}
