package simulate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// These judges look at what hosts with a shared store do: whose saves count, and when an effect may begin.

// proofHolds is how long after its save an effect may begin without another look at who leads.
const proofHolds = 2 * time.Second

// effect is what a daemon is about to do outside.
type effect struct {
	what   string
	of     intent
	within time.Duration // of its intent's save; 0: it has no deadline of its own
	judge  func()        // what else is judged, if it comes right after its save; nil: nothing
}

// saved is when an intent was saved last.
type saved struct {
	at      time.Time
	seq     uint64    // no entry of it has a higher number
	lost    time.Time // in a failover; zero: it is not
	overdue bool      // its effect landed after its deadline
}

// unsent is the error of a call that certainly was not made.
type unsent struct{ error }

func (unsent) Class() key.Class { return key.Retry }

func (e unsent) Unwrap() error { return e.error }

// begins is the moment at which an effect leaves its host. The daemon may stand still right before it looks at its
// clocks, and right after.
func (w *World) begins(ctx context.Context, e effect) error {
	hs := w.hosts
	if hs == nil {
		if e.judge != nil {
			e.judge()
		}
		return nil
	}
	d := w.acting
	w.alive()
	switch {
	case w.calm:
	case hs.behind != nil && hs.oneIn(2):
		hs.stand(d, hs.spell(time.Second, time.Minute))
		w.alive()
	case hs.oneIn(15):
		hs.stand(d, hs.spell(time.Second, 15*time.Minute))
		w.alive()
	}
	if err := term.Check(ctx); err != nil {
		w.log("%s: %v", e.what, err)
		return unsent{err}
	}
	w.alive()
	hs.judgeBegin(ctx, d, e)
	switch {
	case hs.linger != nil && hs.linger(e.what):
		hs.stand(d, 40*time.Minute)
	case !w.calm && hs.oneIn(15):
		hs.stand(d, hs.spell(time.Second, 20*time.Minute))
	}
	if s := hs.saved[e.of]; s != nil && e.within > 0 && w.now.Sub(s.at) >= e.within {
		s.overdue = true
		w.result.Late++
		w.log("%s lands after its deadline", e.what)
	}
	return nil
}

// judgeBegin fails if an effect begins after its deadline, or a while after its save although its daemon does not lead,
// or its store is stopped or lost the intent.
func (hs *hosts) judgeBegin(ctx context.Context, d *daemon, e effect) {
	w, s := hs.w, hs.saved[e.of]
	if s == nil {
		if e.judge != nil {
			e.judge()
		}
		return
	}
	since := w.now.Sub(s.at)
	if e.within > 0 && since >= e.within {
		w.violate("%s begins %s %s after its deadline", d.name, e.what, since-e.within)
	}
	if since <= proofHolds {
		if e.judge != nil && s.lost.IsZero() {
			e.judge()
		}
		return
	}
	epoch, _ := term.Of(ctx)
	switch {
	case !hs.leads(epoch):
		w.violate("%s begins %s %s after its save without leading", d.name, e.what, since)
	case hs.longSince(s.lost):
		w.violate("%s begins %s %s after its save, and the store lost its intent", d.name, e.what, since)
	case hs.longSince(d.host.lacks):
		w.violate("%s begins %s, and its store lost what it saw", d.name, e.what)
	case hs.longSince(hs.halted):
		w.violate("%s begins %s, and all hosts are stopped", d.name, e.what)
	}
}

// longSince reports whether something happened, and before the proof that an effect may still rely on.
func (hs *hosts) longSince(at time.Time) bool { return !at.IsZero() && hs.w.now.Sub(at) > proofHolds }

// leads reports whether an epoch was in force just now, and its lease held.
func (hs *hosts) leads(e term.Epoch) bool {
	l, _ := hs.engine.Lease(context.Background())
	if l.Epoch == e && l.Left > -proofHolds {
		return true
	}
	end, ended := hs.ended[e]
	return ended && hs.w.now.Sub(end) <= proofHolds
}

// ends notes that the lease of a term is over.
func (hs *hosts) ends(l stored.Lease) { hs.ended[l.Epoch] = hs.w.now.Add(min(l.Left, 0)) }

// intended notes that an intent is saved.
func (hs *hosts) intended(i intent) {
	if hs != nil {
		hs.saved[i] = &saved{at: hs.w.now, seq: hs.tip().Seq}
	}
}

// landsLate reports whether the effect of an intent lands after its deadline, or when the store has lost the intent.
func (w *World) landsLate(i intent) bool {
	if w.hosts == nil {
		return false
	}
	s := w.hosts.saved[i]
	return s != nil && (s.overdue || !s.lost.IsZero())
}

// judgeCommit fails unless a host may change the store now, and what it changes counts.
func (hs *hosts) judgeCommit(h *host, c stored.Change) {
	w, event := hs.w, c.Entries[0].Event
	if event == chain.StoreAccepted {
		return
	}
	if !h.lacks.IsZero() {
		w.violate("%s saves %q, and its store lost what it saw", h.d.name, event)
	}
	if !hs.halted.IsZero() && w.acting.began.After(hs.halted) {
		w.violate("%s saves %q, and all hosts are stopped", h.d.name, event)
	}
	for _, l := range c.Entries {
		if c.Epoch == nil && !l.Event.Anybodys() {
			w.violate("%s saves %q without an epoch", h.d.name, l.Event)
		}
	}
	if l, _ := hs.engine.Lease(context.Background()); c.Epoch != nil && *c.Epoch != l.Epoch {
		w.violate("%s saves %q under epoch %s, and %s is in force", h.d.name, event, c.Epoch, l.Epoch)
	}
}

// judgeAsked fails if the store refuses what an operator asks for, because only the leader may record it.
func (h *host) judgeAsked(err error, entries []chain.Entry) {
	asked := slices.ContainsFunc(entries, func(e chain.Entry) bool { return e.Actor == operatorName })
	if asked && errors.Is(err, shared.ErrLeaders) {
		h.hs.w.violate("%s asks for what only the leader may record: %v", h.d.name, err)
	}
}

// judgeOwn fails if a host takes a save for done, and the chain has another host's entry with its number.
func (h *host) judgeOwn(name string, number uint64, entries []chain.Entry) {
	last := entries[len(entries)-1]
	found, _ := h.hs.engine.Entries(context.Background(), number, 1)
	if len(found) != 1 || found[0].Key != name || found[0].Event != last.Event || !found[0].Time.Equal(last.Time) {
		h.hs.w.violate("forked: %s takes entry %d for its own %q, and the chain has another", h.d.name, number,
			last.Event)
	}
}

// judgeUndone fails if, in the end, a version is disabled that the record does not have as disabled. A compromised one
// may stay as it is.
func (w *World) judgeUndone(v *vault, name string, g *record.Generation, p *record.Placement, x *version) {
	if w.hosts != nil && g.Compromised.IsZero() && !x.Enabled && p.State != key.Disabled &&
		!slices.Contains(p.DisabledVersions, x.ID) {
		w.violate("version %s of %s in %s was disabled late, and nobody undid it", x.ID, name, v.Name)
	}
}

// sees notes that a host was told that its change happened.
func (h *host) sees(c stored.Change) {
	last := c.Entries[len(c.Entries)-1]
	at := stored.Tip{Seq: last.Seq, Hash: last.Hash}
	if !h.hs.has(at) {
		h.hs.w.violate("forked: %s takes entry %d for its own, and the chain has another", h.d.name, at.Seq)
	}
	h.saw = at
}

// judgeHosts fails if, in the end, the store is not one chain with its records, or the hosts are still stopped.
func (w *World) judgeHosts() {
	hs := w.hosts
	if hs == nil {
		return
	}
	if hs.missed() {
		w.violate("the hosts are stopped in the end")
	}
	s, err := shared.Open(context.Background(), hs.engine, shared.Options{Dir: hs.dir, Host: "judge",
		Now: func() time.Time { return w.now }})
	if err == nil {
		err = s.Close()
	}
	if damaged := new(shared.DamagedError); errors.As(err, &damaged) {
		w.violate("forked: %v", err)
	} else if err != nil {
		panic(err)
	}
}
