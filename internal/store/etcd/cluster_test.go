package etcd

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

// A member that hangs keeps its connections, and most of three still decide.
func TestAMemberThatHangsStopsNobody(t *testing.T) {
	in := etcdtest.Start(t, etcdtest.Options{Members: 3})
	c := fresh(t, in)
	c.patience = 3 * time.Second
	e := open(t, c)
	lease, err := e.Take(t.Context(), "one", [16]byte{1}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	in.Members[0].Pause()
	for i := range 4 { // some go to the member that hangs
		event := chain.Event(rune('a' + i))
		saveOnce(t, e, event)
	}
	until(t, func() bool { _, err := e.Renew(t.Context(), lease.Epoch, time.Minute); return err == nil })
	warnings, err := e.Warnings(t.Context())
	if err != nil || !slices.ContainsFunc(warnings, func(w string) bool {
		return strings.Contains(w, strings.TrimPrefix(in.Members[0].URL, "http://")+": it does not answer")
	}) {
		t.Errorf("warnings: %q, %v", warnings, err)
	}
	entries, err := e.Entries(t.Context(), 1, 100)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d entries, %v", len(entries), err)
	}

	in.Members[0].Continue()
	in.Members[1].Kill()
	in.Members[2].Kill()
	until(t, func() bool { return !in.Members[0].Healthy() })
	at := entries[len(entries)-1]
	last := noting(t, stored.Tip{Seq: at.Seq, Hash: at.Hash}, "without a leader", 1)
	failed := e.Commit(t.Context(), last)
	warnings, err = e.Warnings(t.Context())
	if err != nil || !slices.ContainsFunc(warnings, func(w string) bool {
		return strings.Contains(w, "it sees no leader")
	}) {
		t.Errorf("warnings: %q, %v", warnings, err)
	}
	for _, m := range in.Members[1:] {
		if err := m.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool { _, err := e.Tip(t.Context()); return err == nil })
	var engine *stored.EngineError
	if !errors.As(failed, &engine) {
		t.Errorf("saved without a leader: %v", failed)
	} else if now := tipOf(t, e); !engine.Ambiguous && now.Seq != at.Seq {
		t.Errorf("%v, but the tip is %+v", failed, now)
	}
}

// saveOnce saves one entry, as a store does: after an ambiguous answer it looks for its entry before it goes on.
func saveOnce(t *testing.T, e *Engine, event chain.Event) {
	t.Helper()
	var mine stored.Change
	until(t, func() bool {
		now, err := e.Tip(t.Context())
		if err != nil {
			return false
		}
		if mine.Entries != nil && now == ends(mine) {
			return true
		}
		mine = noting(t, now, event, 1)
		return e.Commit(t.Context(), mine) == nil
	})
}
