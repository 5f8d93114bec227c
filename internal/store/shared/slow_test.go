package shared

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// hanging is an engine whose connection hangs for some calls, as after a cable was pulled.
type hanging struct {
	*storetest.Memory
	commits int  // that hang, and then have happened or not
	happen  bool // they have
	reads   bool // hang
}

func hang(ctx context.Context, ambiguous bool) error {
	<-ctx.Done()
	return &stored.EngineError{Engine: "hanging", Doing: "wait", Err: ctx.Err(), Ambiguous: ambiguous}
}

func (e *hanging) Commit(ctx context.Context, c stored.Change) error {
	if e.commits == 0 {
		return e.Memory.Commit(ctx, c)
	}
	e.commits--
	if e.happen {
		if err := e.Memory.Commit(ctx, c); err != nil {
			return err
		}
	}
	return hang(ctx, true)
}

func (e *hanging) Record(ctx context.Context, name string) ([]byte, stored.Tip, error) {
	if e.reads {
		return nil, stored.Tip{}, hang(ctx, false)
	}
	return e.Memory.Record(ctx, name)
}

func TestACallThatHangsEndsAndIsSettled(t *testing.T) {
	for name, happen := range map[string]bool{"it happened": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &hanging{Memory: storetest.NewMemory(clock)}
				s := with(t, e, Options{Dir: t.TempDir(), Host: "one", Now: clock})
				rec := load(t, s, "k")
				e.commits, e.happen = 1, happen
				begun := time.Now()
				save(t, s, rec, asked("once"))
				if took := time.Since(begun); took != callTime {
					t.Errorf("it took %s, want the %s of one call", took, callTime)
				}
				if got := reasons(t, s); len(got) != 1 {
					t.Errorf("the entries %q, want one", got)
				}
			})
		})
	}
}

func TestAnEngineThatHangsForGoodEndsAWriteAndARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &hanging{Memory: storetest.NewMemory(clock)}
		s := with(t, e, Options{Dir: t.TempDir(), Host: "one", Now: clock})
		rec := load(t, s, "k")
		e.commits, e.reads = 1000, true
		begun := time.Now()
		_, err := s.Save(t.Context(), rec, asked("lost"))
		if took := time.Since(begun); key.ClassOf(err) != key.Ambiguous || took > 3*callTime {
			t.Errorf("%v (%v) after %s, want it ambiguous within %s", err, key.ClassOf(err), took, 3*callTime)
		}
		begun = time.Now()
		_, err = s.Load(t.Context(), "k")
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != callTime {
			t.Errorf("a read: %v after %s, want an error after %s", err, took, callTime)
		}
	})
}
