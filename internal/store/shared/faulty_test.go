package shared

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// faulty is an engine on which a test has things go wrong.
type faulty struct {
	stored.Engine

	mu      sync.Mutex
	commits []stored.Change // that were asked for
	faults  []fault         // of the next commits; after the last one all is well
	mute    bool            // no read answers
}

// fault is what becomes of a commit; do makes it.
type fault func(c stored.Change, do func() error) error

func (f *faulty) Commit(ctx context.Context, c stored.Change) error {
	f.mu.Lock()
	f.commits = append(f.commits, c)
	next := fault(func(_ stored.Change, do func() error) error { return do() })
	if len(f.faults) > 0 {
		next, f.faults = f.faults[0], f.faults[1:]
	}
	f.mu.Unlock()
	anyway := context.WithoutCancel(ctx) // a change may land after its caller has given up
	err := next(c, func() error { return f.Engine.Commit(anyway, c) })
	if ctx.Err() != nil {
		return lost()
	}
	return err
}

func (f *faulty) answers() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mute {
		return &stored.EngineError{Engine: "faulty", Doing: "read", Err: errLine}
	}
	return nil
}

func (f *faulty) silent(mute bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mute = mute
}

func (f *faulty) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.commits)
}

func (f *faulty) Entries(ctx context.Context, from uint64, limit int) ([]chain.Linked, error) {
	if err := f.answers(); err != nil {
		return nil, err
	}
	return f.Engine.Entries(ctx, from, limit)
}

func (f *faulty) Tip(ctx context.Context) (stored.Tip, error) {
	if err := f.answers(); err != nil {
		return stored.Tip{}, err
	}
	return f.Engine.Tip(ctx)
}

var errLine = errors.New("the line is dead")

func lost() error {
	return &stored.EngineError{Engine: "faulty", Doing: "save a change", Err: errLine, Ambiguous: true}
}

// Faults of one commit.
var (
	happened    fault = func(_ stored.Change, do func() error) error { return errors.Join(lost(), do()) }
	notHappened fault = func(stored.Change, func() error) error { return lost() }
)

// instance is two hosts on one engine; what the first one does may go wrong.
type instance struct {
	engine   *faulty
	one, two *Store
}

func newInstance(t *testing.T) *instance {
	t.Helper()
	m := storetest.NewMemory(clock)
	f := &faulty{Engine: m}
	return &instance{engine: f, one: on(t, f, "one", t.TempDir()), two: on(t, m, "two", t.TempDir())}
}

// elsewhere has the second host append an entry.
func (i *instance) elsewhere(t *testing.T) {
	t.Helper()
	if err := i.two.Append(t.Context(), asked("of the other host")); err != nil {
		t.Error(err)
	}
}

// A save whose answer was lost ends as one that had an answer, whatever became of it, and is in the chain once.
func TestASaveWhoseAnswerWasLostIsInTheChainOnce(t *testing.T) {
	for name, c := range map[string]struct {
		faults func(t *testing.T, i *instance) []fault
		want   []string
	}{
		"it happened": {
			func(*testing.T, *instance) []fault { return []fault{happened} }, []string{"mine"},
		},
		"it did not happen": {
			func(*testing.T, *instance) []fault { return []fault{notHappened} }, []string{"mine"},
		},
		"it did not happen, and another host's entry has its number": {
			func(t *testing.T, i *instance) []fault {
				return []fault{func(stored.Change, func() error) error { i.elsewhere(t); return lost() }}
			}, []string{"of the other host", "mine"},
		},
		"it happened, and another host's entry followed": {
			func(t *testing.T, i *instance) []fault {
				return []fault{func(_ stored.Change, do func() error) error {
					err := do()
					i.elsewhere(t)
					return errors.Join(lost(), err)
				}}
			}, []string{"mine", "of the other host"},
		},
		"it happens while it is looked for": {
			func(*testing.T, *instance) []fault {
				var late func() error
				return []fault{
					func(_ stored.Change, do func() error) error { late = do; return lost() },
					func(_ stored.Change, do func() error) error { return errors.Join(late(), do()) },
				}
			}, []string{"mine"},
		},
		"another host is first while it is looked for": {
			func(t *testing.T, i *instance) []fault {
				return []fault{notHappened, func(_ stored.Change, do func() error) error {
					i.elsewhere(t)
					return do()
				}}
			}, []string{"of the other host", "mine"},
		},
		"answers are lost twice": {
			func(*testing.T, *instance) []fault { return []fault{notHappened, happened} }, []string{"mine"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := newInstance(t)
			i.engine.faults = c.faults(t, i)
			saved := save(t, i.one, load(t, i.one, "k"), asked("mine"))
			wantReasons(t, i, c.want...)
			if got := load(t, i.two, "k").Revision; got != saved.Revision {
				t.Errorf("the record is at revision %d, and was saved at %d", got, saved.Revision)
			}
			save(t, i.one, saved, asked("next"))
			wantReasons(t, i, append(c.want, "next")...)
		})
	}
}

func TestASaveOfUnknownFateIsAmbiguousAndTheNextWriteGoesOnFromWhatHappened(t *testing.T) {
	for name, first := range map[string]fault{"it happened": happened, "it did not": notHappened} {
		t.Run(name, func(t *testing.T) {
			i := newInstance(t)
			i.engine.faults = []fault{func(c stored.Change, do func() error) error {
				i.engine.silent(true)
				return first(c, do)
			}}
			_, err := i.one.Save(t.Context(), load(t, i.one, "k"), asked("mine"))
			if key.ClassOf(err) != key.Ambiguous || !errors.Is(err, errLine) {
				t.Fatalf("%v (%v), want the line's error with class ambiguous", err, key.ClassOf(err))
			}
			if i.one.Healthy() == nil {
				t.Error("the store calls itself healthy")
			}
			i.engine.silent(false)
			rec, want := load(t, i.one, "k"), []string{"mine", "next"}
			if rec.Revision == 0 {
				want = want[1:]
			}
			save(t, i.one, rec, asked("next"))
			wantReasons(t, i, want...)
			if err := i.one.Healthy(); err != nil {
				t.Errorf("after a good write: %v", err)
			}
		})
	}
}

func TestAWriteThatTheEngineRefusedChangesNothing(t *testing.T) {
	i := newInstance(t)
	full := &stored.EngineError{Engine: "faulty", Doing: "save a change", Err: errors.New("no space")}
	i.engine.faults = []fault{func(stored.Change, func() error) error { return full }}
	rec := load(t, i.one, "k")
	_, err := i.one.Save(t.Context(), rec, asked("mine"))
	if !errors.Is(err, full) || key.ClassOf(err) != key.Retry || i.one.Healthy() == nil {
		t.Errorf("%v (%v), and the store says %v", err, key.ClassOf(err), i.one.Healthy())
	}
	wantReasons(t, i)
	save(t, i.one, rec, asked("mine"))
	wantReasons(t, i, "mine")
}

func TestAHostThatIsNeverFirstGivesUp(t *testing.T) {
	i := newInstance(t)
	for range maxTries {
		i.engine.faults = append(i.engine.faults, func(_ stored.Change, do func() error) error {
			i.elsewhere(t)
			return do()
		})
	}
	err := i.one.Append(t.Context(), asked("mine"))
	if !errors.Is(err, stored.ErrTip) || key.ClassOf(err) != key.Retry || i.engine.count() != maxTries {
		t.Errorf("%v (%v) after %d tries, want %d", err, key.ClassOf(err), i.engine.count(), maxTries)
	}
	if err := i.one.Append(t.Context(), asked("mine")); err != nil {
		t.Error(err)
	}
}

func wantReasons(t *testing.T, i *instance, want ...string) {
	t.Helper()
	for name, s := range map[string]*Store{"one": i.one, "two": i.two} {
		if got := reasons(t, s); !slices.Equal(got, want) {
			t.Errorf("host %s finds the entries %q, want %q", name, got, want)
		}
	}
}
