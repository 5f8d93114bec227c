package shared

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// primary is the engine that the hosts' connections lead to: a test promotes another one.
type primary struct {
	stored.Engine
	now atomic.Pointer[storetest.Memory]
}

func (p *primary) Tip(ctx context.Context) (stored.Tip, error) { return p.now.Load().Tip(ctx) }

func (p *primary) Record(ctx context.Context, name string) ([]byte, stored.Tip, error) {
	return p.now.Load().Record(ctx, name)
}

func (p *primary) Heads(ctx context.Context) (map[string]stored.Head, stored.Tip, error) {
	return p.now.Load().Heads(ctx)
}

func (p *primary) Entries(ctx context.Context, from uint64, limit int) ([]chain.Linked, error) {
	return p.now.Load().Entries(ctx, from, limit)
}

func (p *primary) Commit(ctx context.Context, c stored.Change) error {
	return p.now.Load().Commit(ctx, c)
}

func (p *primary) Blob(ctx context.Context, name string) ([]byte, error) {
	return p.now.Load().Blob(ctx, name)
}

func (p *primary) Blobs(ctx context.Context, prefix string) ([]string, error) {
	return p.now.Load().Blobs(ctx, prefix)
}

func (p *primary) PutBlob(ctx context.Context, b stored.Blob) error {
	return p.now.Load().PutBlob(ctx, b)
}

// failover is three hosts on a primary, whose standby misses the last commits.
type failover struct {
	primary         *primary
	standby         *storetest.Memory
	one, two, three *Store
	dirs            [3]string
	seen            stored.Tip // by the first host: its own save, which the standby misses
}

func newFailover(t *testing.T) *failover {
	t.Helper()
	f := &failover{primary: &primary{Engine: storetest.NewMemory(clock)},
		dirs: [3]string{t.TempDir(), t.TempDir(), t.TempDir()}}
	f.primary.now.Store(storetest.NewMemory(clock))
	f.one = on(t, f.primary, "one", f.dirs[0])
	f.two = on(t, f.primary, "two", f.dirs[1])
	f.three = on(t, f.primary, "three", f.dirs[2])
	save(t, f.two, load(t, f.two, "k"), asked("kept"))
	f.standby = f.primary.now.Load().Clone()
	save(t, f.one, load(t, f.one, "k"), asked("lost"))
	f.seen = head(t, f.one)
	return f
}

func head(t *testing.T, s *Store) stored.Tip {
	t.Helper()
	seq, hash, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stored.Tip{Seq: seq, Hash: hash}
}

// promote makes the standby the primary.
func (f *failover) promote() { f.primary.now.Store(f.standby) }

func wantMissing(t *testing.T, what string, err error, seen stored.Tip) {
	t.Helper()
	var missing *HeadMissing
	if !errors.As(err, &missing) || missing.Seen != seen || key.ClassOf(err) != key.Refused {
		t.Errorf("%s: %v, want that entry %d is missing", what, err, seen.Seq)
	}
}

func wantHalted(t *testing.T, what string, err error) {
	t.Helper()
	var halted *HaltedError
	if !errors.As(err, &halted) || halted.Halt.Host != "one" || key.ClassOf(err) != key.Refused {
		t.Errorf("%s: %v, want that host one halted it", what, err)
	}
}

// writes are all ways in which a host changes a store.
func writes(t *testing.T, s *Store) map[string]error {
	_, save := s.Save(t.Context(), load(t, s, "k"), asked("late"))
	_, take := s.Take(t.Context(), "x", [16]byte{9}, time.Hour)
	return map[string]error{"a save": save, "an entry": s.Append(t.Context(), asked("late")), "a term": take,
		"a ledger": s.SaveLedger(t.Context(), "k", []byte("late"))}
}

func TestAStoreThatLostWhatAHostSawStopsEveryHost(t *testing.T) {
	for name, meanwhile := range map[string]func(t *testing.T, f *failover){
		"it ends earlier": func(*testing.T, *failover) {},
		"other entries have the same numbers": func(t *testing.T, f *failover) {
			f.promote() // the second host had not seen the lost entry yet, and goes on
			save(t, f.two, load(t, f.two, "k"), asked("instead"))
		},
		"it is longer by now": func(t *testing.T, f *failover) {
			f.promote()
			save(t, f.two, load(t, f.two, "k"), asked("instead"), asked("and"), asked("more"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFailover(t)
			meanwhile(t, f)
			f.promote()
			before := head(t, f.two)
			for what, err := range writes(t, f.one) {
				wantMissing(t, what, err, f.seen)
			}
			for what, err := range writes(t, f.two) {
				wantHalted(t, what+" on another host", err)
			}
			if got := head(t, f.two); got != before {
				t.Errorf("the chain went on to entry %d", got.Seq)
			}
			if got := reasons(t, f.one); got[0] != "kept" || load(t, f.one, "k").Revision == 0 {
				t.Errorf("the first host does not read what there is: %q", got)
			}
			if err := f.one.PutStatus(t.Context(), "host/one", []byte("stopped")); err != nil {
				t.Errorf("a status while all is stopped: %v", err)
			}
			if f.one.Healthy() == nil {
				t.Error("the store calls itself healthy")
			}
		})
	}
}

func TestAFollowerFindsByReadingAloneThatTheStoreLostChanges(t *testing.T) {
	f := newFailover(t)
	head(t, f.three) // sees the lost entry
	f.promote()
	head(t, f.three)
	wantMissing(t, "its health", f.three.Healthy(), f.seen)
	if h, err := f.two.Halted(t.Context()); err != nil || h == nil || h.Host != "three" {
		t.Errorf("halted: %+v, %v; want by host three", h, err)
	}
}

func TestARestartForgetsNothingOfWhatAHostSaw(t *testing.T) {
	f := newFailover(t)
	f.promote()
	if err := f.one.Close(); err != nil {
		t.Fatal(err)
	}
	again := on(t, f.primary, "one", f.dirs[0])
	wantMissing(t, "an entry", again.Append(t.Context(), asked("late")), f.seen)
	if missing, err := again.Missing(t.Context()); err != nil || missing == nil {
		t.Errorf("missing: %v, %v", missing, err)
	}
}

func TestAStoreThatComesBackWithEverythingIsWrittenAgain(t *testing.T) {
	f := newFailover(t)
	good := f.primary.now.Load()
	f.promote()
	wantMissing(t, "an entry", f.one.Append(t.Context(), asked("late")), f.seen)
	f.primary.now.Store(good)
	head(t, f.one)
	if err := f.one.Append(t.Context(), asked("again")); err != nil {
		t.Error(err)
	}
}

func TestAcceptingGoesOnWithTheStoreAsItIsAndIsAudited(t *testing.T) {
	f := newFailover(t)
	head(t, f.three) // it sees the lost entry, too
	f.promote()
	wantMissing(t, "an entry", f.one.Append(t.Context(), asked("late")), f.seen)
	if err := f.one.Accept(t.Context(), "uid 0 (root)", "the old primary burnt"); err != nil {
		t.Fatal(err)
	}
	last := recentOne(t, f.one)
	if last.Event != chain.StoreAccepted || last.Actor != "uid 0 (root)" || last.Fields["host"] != "one" ||
		last.Fields["reason"] != "the old primary burnt" || last.Fields["seen hash"] != f.seen.Hash.String() {
		t.Errorf("the last entry is %+v", last.Entry)
	}
	if why, err := f.two.LoadLedger(t.Context(), AcceptedLedger); err != nil || string(why) != "the old primary burnt" {
		t.Errorf("the next leader learns of it: %q, %v", why, err)
	}
	if err := f.one.Append(t.Context(), asked("on")); err != nil {
		t.Errorf("the host that accepted: %v", err)
	}
	if err := f.two.Append(t.Context(), asked("on")); err != nil {
		t.Errorf("a host that misses nothing: %v", err)
	}
	// The third host misses an entry, too: it stops all of them again, until it accepts.
	wantMissing(t, "the host that did not accept", f.three.Append(t.Context(), asked("late")), f.seen)
	if err := f.one.Append(t.Context(), asked("late")); err == nil {
		t.Error("the instance goes on, although a host did not accept")
	}
	if err := f.three.Accept(t.Context(), "uid 0 (root)", "as on host one"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{f.one, f.two, f.three} {
		if err := s.Append(t.Context(), asked("on")); err != nil {
			t.Errorf("host %s: %v", s.host, err)
		}
	}
	if err := f.one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := on(t, f.primary, "one", f.dirs[0]).Append(t.Context(), asked("on")); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func recentOne(t *testing.T, s *Store) chain.Linked {
	t.Helper()
	found, err := s.Recent(t.Context(), 1)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d entries, %v", len(found), err)
	}
	return found[0]
}

func TestAnotherStoreIsNamedAsSuch(t *testing.T) {
	f := newFailover(t)
	f.primary.now.Store(storetest.NewMemory(clock))
	err := f.one.Append(t.Context(), asked("late"))
	var missing *HeadMissing
	if !errors.As(err, &missing) || !missing.Another {
		t.Errorf("%v, want that it is another store", err)
	}
}
