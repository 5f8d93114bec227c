package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Handles opens one more handle on the same store, as another host would. RunEngine closes it.
type Handles func(t *testing.T) stored.Engine

// RunEngine runs the contract of an engine; fresh makes a fresh, empty store each time.
func RunEngine(t *testing.T, fresh func(t *testing.T) Handles) {
	contract := map[string]func(*testing.T, *engines){
		"a fresh store is empty":                                  engineEmpty,
		"another handle sees a change whole":                      engineSeen,
		"a handle that is opened later sees everything":           engineReopened,
		"the chain is read from any number on, a part at a time":  engineParts,
		"a change needs the tip, the records and the epoch":       engineRefusals,
		"a change without an epoch is anybody's":                  engineAnybody,
		"a record that changes has a new head":                    engineHeads,
		"an engine takes the largest change and the largest blob": engineLargest,
		"a cancelled context changes nothing":                     engineCancelled,
		"two handles make one chain without a gap or a fork":      engineRace,
		"a sealed store takes no changes":                         engineSealed,

		"a blob is replaced, listed and removed":        engineBlobs,
		"any bytes and any prefix do for a blob":        engineBlobBytes,
		"a blob with an epoch needs it to be in force":  engineBlobEpoch,
		"a lease has one holder":                        engineLease,
		"one of several hosts takes a free lease":       engineTakeRace,
		"a renewal prolongs only the lease in force":    engineRenew,
		"a released lease is free at once":              engineRelease,
		"a lease ends by itself, by the engine's clock": engineExpiry,
	}
	for name, check := range contract {
		t.Run(name, func(t *testing.T) {
			open := fresh(t)
			check(t, &engines{open: open, Engine: opened(t, open)})
		})
	}
}

// engines is a handle on a store, with the way to others.
type engines struct {
	stored.Engine
	open Handles
}

func (e *engines) another(t *testing.T) stored.Engine {
	t.Helper()
	return opened(t, e.open)
}

func opened(t *testing.T, open Handles) stored.Engine {
	t.Helper()
	e := open(t)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close %s: %v", e.Name(), err)
		}
	})
	return e
}

// must fails the test if something that a good engine does was not done.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func tip(t *testing.T, e stored.Engine) stored.Tip {
	t.Helper()
	return must[stored.Tip](t)(e.Tip(t.Context()))
}

// saving is a change of one record, with so many entries about it, after a tip.
func saving(t *testing.T, at stored.Tip, name string, was stored.Head, body string, entries int) stored.Change {
	t.Helper()
	r := stored.NewRecord(name, at.Seq+uint64(entries), []byte(body))
	c := stored.Change{Tip: at, Records: []stored.Changed{{Name: name, Was: was, Value: r.Encode()}}}
	for i := range entries {
		sum := ""
		if i == entries-1 {
			sum = r.Sum.String()
		}
		c.Entries = append(c.Entries, follow(t, c, name, "saved", sum))
	}
	return c
}

// noting is a change of no record, after a tip.
func noting(t *testing.T, at stored.Tip, events ...chain.Event) stored.Change {
	t.Helper()
	c := stored.Change{Tip: at}
	for _, event := range events {
		c.Entries = append(c.Entries, follow(t, c, "", event, ""))
	}
	return c
}

// follow is the entry that follows a change's last one.
func follow(t *testing.T, c stored.Change, name string, event chain.Event, sum string) chain.Linked {
	t.Helper()
	end := c.Tip
	if n := len(c.Entries); n > 0 {
		end = stored.Tip{Seq: c.Entries[n-1].Seq, Hash: c.Entries[n-1].Hash}
	}
	e := entry(event)
	e.Key = name
	return must[chain.Linked](t)(chain.Append(end.Seq, end.Hash, e, sum))
}

func commit(t *testing.T, e stored.Engine, c stored.Change) {
	t.Helper()
	if err := e.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// ends is the tip after a change.
func ends(c stored.Change) stored.Tip {
	last := c.Entries[len(c.Entries)-1]
	return stored.Tip{Seq: last.Seq, Hash: last.Hash}
}

// state is all that an engine keeps in the chain.
type state struct {
	Tip     stored.Tip
	Heads   map[string]stored.Head
	Records map[string][]byte
	Entries []chain.Linked
}

func stateOf(t *testing.T, e stored.Engine) state {
	t.Helper()
	heads, at, err := e.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := state{Tip: at, Heads: map[string]stored.Head{}, Records: map[string][]byte{}}
	for name, head := range heads {
		s.Heads[name] = head
		if s.Records[name], _, err = e.Record(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	s.Entries = must[[]chain.Linked](t)(e.Entries(t.Context(), 1, 10_000))
	return s
}

// wantState compares what an engine keeps.
func wantState(t *testing.T, after string, e stored.Engine, want state) {
	t.Helper()
	if diff := cmp.Diff(want, stateOf(t, e)); diff != "" {
		t.Errorf("after %s (-want +got):\n%s", after, diff)
	}
}

// wantRefused requires a refusal, and that it is not called ambiguous.
func wantRefused(t *testing.T, what string, err, want error) {
	t.Helper()
	var engine *stored.EngineError
	if !errors.Is(err, want) || errors.As(err, &engine) && engine.Ambiguous {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// take has a host lead, and its lease last through the test.
func take(t *testing.T, e stored.Engine, host string, nonce byte) stored.Lease {
	t.Helper()
	return must[stored.Lease](t)(e.Take(t.Context(), host, [16]byte{nonce}, time.Hour))
}

// foreign are epochs that are not in force when e is.
func foreign(e term.Epoch) map[string]term.Epoch {
	other := e
	other.Nonce[15]++
	return map[string]term.Epoch{
		"the number with another nonce": other,
		"an earlier number":             {Number: e.Number - 1, Nonce: e.Nonce},
		"a later number":                {Number: e.Number + 1, Nonce: e.Nonce},
		"no epoch":                      {},
	}
}
