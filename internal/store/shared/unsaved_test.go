package shared

import (
	"context"
	"errors"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// What a host saw and could not write down is on no disk, but the host itself still knows it.
func TestAHostNoticesTheLossOfWhatItCouldNotRemember(t *testing.T) {
	f := newFailover(t)
	_, fail := countFlushes(f.three)
	*fail = errors.New("no space left on device")
	head(t, f.three) // sees the entry that the standby misses
	*fail = nil
	f.promote()
	head(t, f.three) // as a host that follows asks all the time
	wantMissing(t, "an entry", f.three.Append(t.Context(), asked("late")), f.seen)
	if err := f.three.Close(); err != nil {
		t.Fatal(err)
	}
	again := on(t, f.primary, "three", f.dirs[2])
	wantMissing(t, "after a restart", again.Append(t.Context(), asked("late")), f.seen)
}

// turning is an engine whose connections lead to the old primary and to the new one in turn.
type turning struct {
	stored.Engine
	old *storetest.Memory
}

func (e *turning) Heads(ctx context.Context) (map[string]stored.Head, stored.Tip, error) {
	if e.old != nil {
		return e.old.Heads(ctx)
	}
	return e.Engine.Heads(ctx)
}

// A failover may come between two questions. The answer of the server that lags does not make a host forget.
func TestAHostForgetsNothingWhenOneOfItsConnectionsLagsBehind(t *testing.T) {
	primary := storetest.NewMemory(clock)
	engine, dir := &turning{Engine: primary}, t.TempDir()
	s := on(t, engine, "one", dir)
	save(t, s, load(t, s, "k"), asked("old"))
	lags := primary.Clone()
	save(t, s, load(t, s, "k"), asked("new"))
	seen := head(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	engine.old = lags
	s, err := open(t.Context(), engine, Options{Dir: dir, Host: "one", Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := readSeen(t, dir); got.Tip != seen {
		t.Errorf("the host remembers entry %d, and had seen %d", got.Seq, seen.Seq)
	}
}

// unsteady is an engine that fails once when it is asked again for the entries from a number on.
type unsteady struct {
	stored.Engine
	from  uint64
	calls int
}

func (e *unsteady) Entries(ctx context.Context, from uint64, most int) ([]chain.Linked, error) {
	if from == e.from {
		if e.calls++; e.calls == 2 {
			return nil, &stored.EngineError{Engine: "unsteady", Doing: "read", Err: errors.New("cut off")}
		}
	}
	return e.Engine.Entries(ctx, from, most)
}

// The store has another history, and this host could not find out whether that has what it saw.
func TestAHostThatCouldNotCompareTheStoreChangesNothingThere(t *testing.T) {
	primary := storetest.NewMemory(clock)
	engine := &unsteady{Engine: primary}
	s := on(t, engine, "one", t.TempDir())
	save(t, s, load(t, s, "k"), asked("old"))
	standby := primary.Clone()
	save(t, s, load(t, s, "k"), asked("new"))
	seen := head(t, s)
	engine.Engine, engine.from = standby, seen.Seq
	if _, _, err := s.Head(t.Context()); err == nil {
		t.Fatal("the engine did not fail")
	}
	wantMissing(t, "an entry", s.Append(t.Context(), asked("late")), seen)
	if _, tip, err := standby.Heads(t.Context()); err != nil || tip.Seq >= seen.Seq {
		t.Errorf("the store that lost a change ends with entry %d, %v", tip.Seq, err)
	}
}
