package postgres_test

import (
	"errors"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/postgres"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// cut is an engine behind a proxy that does something with each COMMIT.
func cut(t *testing.T, fn func(*passage)) (e *postgres.Engine, p *proxy, name string) {
	t.Helper()
	s := server(t)
	name = database(t, s)
	p = newProxy(t, net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	p.atCommit(fn)
	return open(t, options(p.url(s.URL(daemon, name)))), p, name
}

func wantAmbiguous(t *testing.T, what string, err error) {
	t.Helper()
	var engine *stored.EngineError
	if !errors.As(err, &engine) || !engine.Ambiguous || key.ClassOf(err) != key.Ambiguous {
		t.Errorf("%s: %v, want an ambiguous error", what, err)
	}
}

// wantCertain requires an error of the engine that says that nothing happened.
func wantCertain(t *testing.T, what string, err error) {
	t.Helper()
	var engine *stored.EngineError
	if !errors.As(err, &engine) || engine.Ambiguous || key.ClassOf(err) != key.Retry {
		t.Errorf("%s: %v, want an error after which certainly nothing happened", what, err)
	}
}

func TestACommitWhoseAnswerIsLostIsAmbiguousAndTheTipShowsThatItHappened(t *testing.T) {
	e, p, _ := cut(t, func(c *passage) {
		_ = c.client.Close()
		_, _ = c.server.Write(c.commit)
	})
	c := after(t, stored.Tip{}, "1")
	wantAmbiguous(t, "a COMMIT without an answer", e.Commit(t.Context(), c))
	p.atCommit(nil)
	wantTip(t, e, end(c))
}

func TestACommitThatNeverArrivesIsAmbiguousAndTheTipShowsThatItDidNotHappen(t *testing.T) {
	e, p, _ := cut(t, func(c *passage) {
		_ = c.client.Close()
		_ = c.server.Close()
	})
	wantAmbiguous(t, "a COMMIT that did not arrive", e.Commit(t.Context(), after(t, stored.Tip{}, "1")))
	p.atCommit(nil)
	wantTip(t, e, stored.Tip{})
	must(t, e.Commit(t.Context(), after(t, stored.Tip{}, "2")))
}

// A COMMIT can be on its way still when the engine is asked for the tip.
func TestTheTipAfterAnAmbiguousCommitWaitsUntilThatHasEnded(t *testing.T) {
	late := make(chan *passage, 1)
	e, p, name := cut(t, func(c *passage) {
		_ = c.client.Close()
		late <- c
	})
	c := after(t, stored.Tip{}, "1")
	wantAmbiguous(t, "a COMMIT that is on its way", e.Commit(t.Context(), c))
	p.atCommit(nil)
	if heads, tip, err := e.Heads(t.Context()); len(heads) != 0 || tip != (stored.Tip{}) || err != nil {
		t.Errorf("meanwhile others read %v at %+v, %v", heads, tip, err)
	}
	type answer struct {
		tip stored.Tip
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		tip, err := e.Tip(t.Context())
		answers <- answer{tip, err}
	}()
	waiting := `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '` + name + `'`
	must(t, server(t).Until("postgres", waiting, "1"))
	arriving := <-late
	_, err := arriving.server.Write(arriving.commit)
	must(t, err)
	if got := <-answers; got.tip != end(c) || got.err != nil {
		t.Errorf("the chain ends with %+v, %v; want the late one, %+v", got.tip, got.err, end(c))
	}
}

func TestALeaseAndABlobWhoseCommitIsCutAreAmbiguous(t *testing.T) {
	e, _, _ := cut(t, func(c *passage) {
		_ = c.client.Close()
		_ = c.server.Close()
	})
	_, err := e.Take(t.Context(), "one", [16]byte{1}, time.Hour)
	wantAmbiguous(t, "a lease", err)
	wantAmbiguous(t, "a blob", e.PutBlob(t.Context(), stored.Blob{Name: "b", Value: []byte("1")}))
}
