package simulate

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// A failover loses what the standby had not got. Then operators accept the store as it is, some hours later, on each
// host.

// standby is the state as it was when replication stopped.
type standby struct {
	engine  *storetest.Memory
	tip     stored.Tip
	state   state
	consent map[*managed]*consented
}

// lag has replication stop for a while, until the standby takes over.
func (hs *hosts) lag(within time.Duration) {
	w := hs.w
	if hs.behind != nil || w.calm {
		return
	}
	b := &standby{engine: hs.engine.Clone(), tip: hs.tip(), consent: map[*managed]*consented{},
		state: state{maps.Clone(w.store.records), maps.Clone(w.store.vaults)}}
	for _, k := range w.keys {
		b.consent[k] = k.retiring.consent
	}
	hs.behind = b
	w.log("the standby falls behind entry %d", b.tip.Seq)
	w.later(hs.spell(time.Second, within), hs.failOver)
}

func (hs *hosts) tip() stored.Tip {
	tip, _ := hs.engine.Tip(context.Background())
	return tip
}

// failOver has the standby take over.
func (hs *hosts) failOver() {
	w, b := hs.w, hs.behind
	if hs.behind = nil; b == nil || w.calm {
		return
	}
	lost := hs.tip().Seq - b.tip.Seq
	was, _ := hs.engine.Lease(context.Background())
	hs.ends(was)
	hs.engine = b.engine
	w.log("the standby takes over, and %d entries are lost", lost)
	halt, _ := hs.engine.Blob(context.Background(), "halt")
	if halt == nil {
		hs.halted = time.Time{}
	}
	if lost == 0 {
		return
	}
	w.result.Lost++
	w.revert(b.state, func(_, is uint64) uint64 { return is })
	w.forgetPins()
	for k, c := range b.consent {
		k.retiring.consent = c
	}
	for _, s := range hs.saved {
		if s.lost.IsZero() && s.seq > b.tip.Seq {
			s.lost = w.now
		}
	}
	for _, d := range w.daemons {
		if d.host.lacks.IsZero() && d.host.saw != (stored.Tip{}) && !hs.has(d.host.saw) {
			d.host.lacks = w.now
			if hs.trusting {
				w.soon = append(w.soon, d.host.forget)
			}
		}
	}
}

// forget has a host accept a store although nobody asked for it.
func (h *host) forget() {
	h.directly(func() { _ = h.store.Accept(context.Background(), "keyd", "nobody asked") })
}

// forgetPins has the judges know no pin that no record has any more, of a pair that never left the HSM: keyd destroys
// it like one that nobody asked for.
func (w *World) forgetPins() {
	known := map[key.ID]bool{}
	for _, rec := range w.store.records {
		for _, g := range slices.Concat(rec.Generations, rec.Spares) {
			known[g.ID] = known[g.ID] || g.Fingerprint != ""
		}
	}
	for id := range w.hsm.pinned {
		if o := w.hsm.pair(id); !known[id] && o != nil && !o.wrapped {
			delete(w.hsm.pinned, id)
		}
	}
}

// has reports whether an entry is in the chain.
func (hs *hosts) has(at stored.Tip) bool {
	found, _ := hs.engine.Entries(context.Background(), at.Seq, 1)
	return len(found) == 1 && found[0].Hash == at.Hash
}

// attend has operators accept the store on each host, some hours after a host missed something.
func (hs *hosts) attend() {
	if hs == nil || hs.attended || !hs.missed() {
		return
	}
	hs.attended = true
	hs.w.later(hs.spell(10*time.Minute, 6*time.Hour), func() {
		hs.w.soon = append(hs.w.soon, func() {
			hs.attended = false
			for _, d := range hs.w.daemons {
				d.host.accept()
			}
		})
	})
}

// missed reports whether a host misses an entry, or has stopped all hosts because it did.
func (hs *hosts) missed() bool {
	for _, d := range hs.w.daemons {
		if !d.host.lacks.IsZero() {
			return true
		}
	}
	return !hs.halted.IsZero()
}

// accept does what keyd store accept does.
func (h *host) accept() {
	if !h.d.heeds() {
		return
	}
	h.directly(func() {
		err := h.store.Accept(context.Background(), operatorName, "the standby had not got it")
		h.hs.w.log("%s accepts the store: %v", h.d.name, err)
		if err == nil {
			h.saw, h.lacks = h.hs.tip(), time.Time{}
			for _, k := range h.hs.w.keys {
				k.retiring.consent = nil // what ended one may be lost
			}
		}
	})
}

// doubtRecords does what a daemon does once its store was accepted.
func (h *host) doubtRecords(ctx context.Context) error {
	why, err := h.store.LoadLedger(ctx, shared.AcceptedLedger)
	if err != nil || len(why) == 0 || h.hs.credulous {
		return err
	}
	if err := h.d.r.EndConsents(ctx, operatorName, string(why)); err != nil {
		return err
	}
	return h.store.SaveLedger(ctx, shared.AcceptedLedger, nil)
}

// settleHosts has the world's hosts work again, except for one.
func (w *World) settleHosts() {
	if w.hosts != nil {
		w.hosts.behind = nil
		w.hosts.disturb()
	}
}
