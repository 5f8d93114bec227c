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

// A member that hangs keeps its connections, and most of three still decide. One of three does not.
func TestMostMembersDecideAndOneDoesNot(t *testing.T) {
	t.Parallel()
	in := etcdtest.Start(t, etcdtest.Options{Members: 3,
		Args: []string{"--heartbeat-interval=50", "--election-timeout=500"}})
	e := open(t, fresh(t, in))
	var lease stored.Lease
	until(t, func() (took bool) {
		var err error
		lease, err = e.Take(t.Context(), "one", [16]byte{1}, time.Minute)
		return err == nil
	})
	in.Members[0].Pause()
	e.cfg.patience = time.Second
	for _, event := range []chain.Event{"a", "b", "c"} { // one of them goes to the member that hangs
		saveOnce(t, e, event)
	}
	wantWarning(t, e, strings.TrimPrefix(in.Members[0].URL, "http://")+": it does not answer")
	e.cfg.patience = patience
	until(t, func() bool { _, err := e.Renew(t.Context(), lease.Epoch, time.Minute); return err == nil })
	entries, err := e.Entries(t.Context(), 1, 100)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}

	at := tipOf(t, e)
	in.Members[0].Continue()
	in.Members[1].Kill()
	in.Members[2].Kill()
	until(t, func() bool { return !in.Members[0].Healthy() })
	e.cfg.patience = time.Second
	failed := e.Commit(t.Context(), noting(t, at, "without a leader", 1))
	wantWarning(t, e, "it sees no leader")
	e.cfg.patience = patience
	for _, m := range in.Members[1:] {
		if err := m.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool { _, err := e.Tip(t.Context()); return err == nil })
	var engine *stored.EngineError
	if !errors.As(failed, &engine) {
		t.Errorf("saved without a leader: %v", failed)
	} else if now := tipOf(t, e); !engine.Ambiguous && now != at {
		t.Errorf("%v, but the tip is %+v", failed, now)
	}
}

func wantWarning(t *testing.T, e *Engine, text string) {
	t.Helper()
	warnings, err := e.Warnings(t.Context())
	if err != nil || !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, text) }) {
		t.Errorf("warnings: %q, %v; want one with %q", warnings, err, text)
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
		if mine.Entries != nil {
			if now == ends(mine) {
				return true
			}
			// The members take turns. Without this question, each try of three calls would go to the one that hangs.
			_, _ = e.Sealed(t.Context())
		}
		mine = noting(t, now, event, 1)
		return e.Commit(t.Context(), mine) == nil
	})
}
