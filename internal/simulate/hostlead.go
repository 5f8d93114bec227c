package simulate

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/leader"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// The real elector has goroutines of its own, and nothing runs concurrently here. So a host's tick, between the steps,
// does what they do: it takes, renews and hands over by the real decisions of package leader, and the real elector
// proves that a host leads.

// leading is what one process knows of who leads.
type leading struct {
	store    *shared.Store // nil: it could not be opened yet
	wire     *wire
	elector  *leader.Elector
	peers    leader.Peers
	handover leader.Handover
	report   leader.Report
	leads    bool
	epoch    term.Epoch
	until    time.Duration // by boot, when the term could be over
	over     bool          // the lease is
	overAt   time.Duration // since then, by boot
}

func newLeading(h *host) *leading {
	l := &leading{
		wire:   &wire{h: h},
		report: leader.Report{Host: h.d.name, Run: hex.EncodeToString(h.nonce()), Policy: "p"},
	}
	l.elector = leader.New(leader.Config{Store: leases{h}, Host: h.d.name, TTL: h.hs.lease, Boot: h.boot})
	return l
}

// leases is the store for the elector of whichever process runs.
type leases struct{ h *host }

func (l leases) Lease(ctx context.Context) (stored.Lease, error) { return l.h.store.Lease(ctx) }

func (l leases) Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (stored.Lease, error) {
	return l.h.store.Take(ctx, holder, nonce, ttl)
}

func (l leases) Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error) {
	return l.h.store.Renew(ctx, e, ttl)
}

func (l leases) Release(ctx context.Context, e term.Epoch) error { return l.h.store.Release(ctx, e) }

func (h *host) nonce() []byte {
	b := make([]byte, 16)
	for i := range b {
		b[i] = byte(h.hs.rnd.Uint32())
	}
	return b
}

// tick looks who leads, and takes, renews or hands over the lease.
func (h *host) tick() {
	h.hs.w.later(h.hs.lease/3-h.hs.spell(0, h.hs.lease/30), h.tick)
	if !h.runsNow() || h.store == nil {
		return
	}
	took := false
	h.directly(func() {
		h.publish()
		h.hear()
		if h.leads {
			h.renew()
		} else {
			took = h.follow()
		}
	})
	if took {
		h.d.act(h.begin)
	}
}

// begin begins a term.
func (h *host) begin() {
	hs, ctx := h.hs, h.d.ctx()
	switch {
	case hs.w.calm:
	case hs.doze && hs.nested == 0:
		hs.stand(h.d, 45*time.Minute)
	case hs.oneIn(15):
		hs.stand(h.d, hs.spell(time.Second, 20*time.Minute))
	}
	hs.w.alive()
	h.directly(func() {
		_ = h.refused(ctx, h.store.Append(ctx, chain.Entry{Event: chain.LeaderChanged, Actor: "keyd",
			Fields: map[string]string{"host": h.d.name, "epoch": h.epoch.String()}}))
		_ = h.doubtRecords(ctx) // and before a disabling once more
	})
	h.d.assemble() // a term begins as a process does
}

// trouble is why the host cannot work; "": it can.
func (h *host) trouble() string {
	now, off := h.hs.w.now, h.d.offset.Abs()
	switch {
	case h.hs.proud:
	case now.Before(h.noHSM):
		return "HSM"
	case now.Before(h.noNet):
		return "Azure"
	case off > 5*time.Minute:
		return "clock"
	}
	return ""
}

func (h *host) publish() {
	h.report.Beat++
	h.report.Trouble, h.report.Leads = h.trouble(), h.leads
	text, err := json.Marshal(h.report)
	if err != nil {
		panic(err)
	}
	h.hs.reports[string(text)] = h.report
	_ = h.store.PutStatus(context.Background(), leader.Name(h.d.name), text) // or with the next tick
}

// hear reads what the other hosts published.
func (h *host) hear() {
	names, err := h.store.Statuses(context.Background(), leader.Prefix)
	if err != nil {
		return
	}
	for _, name := range names {
		text, err := h.store.Status(context.Background(), name)
		if err != nil || text == nil || strings.TrimPrefix(name, leader.Prefix) == h.d.name {
			continue
		}
		if r, ok := h.hs.reports[string(text)]; ok {
			h.peers.Saw(h.boot(), r)
		}
	}
}

// candidates are this host and the others that live, as they are compared.
func (h *host) candidates() (me leader.Candidate, alive []leader.Candidate) {
	return h.report.Candidate("p"), leader.Candidates(h.peers.Alive(h.boot(), h.hs.lease), "p")
}

func (h *host) renew() {
	if h.boot() >= h.until {
		h.lose(h.epoch, "the lease could not be renewed in time")
		return
	}
	asked := h.boot()
	l, err := h.store.Renew(context.Background(), h.epoch, h.hs.lease)
	switch {
	case errors.Is(err, stored.ErrEpoch):
		h.lose(h.epoch, err.Error())
		return
	case err == nil:
		h.until = asked + leader.Holds(l, h.hs.lease)
	}
	me, alive := h.candidates()
	next, to := h.handover.Next(h.boot(), me, alive, h.hs.lease)
	if h.handover = next; to != "" {
		h.hs.w.log("%s hands over to %s: %s", h.d.name, to, me.Host)
		h.stop()
	}
}

// follow reports whether the host has taken the lease.
func (h *host) follow() bool {
	asked := h.boot()
	l, err := h.store.Lease(context.Background())
	if err != nil {
		return false
	}
	if over := l.Left <= 0; over != h.over {
		h.over, h.overAt = over, asked
	}
	me, alive := h.candidates()
	own := l.Holder == h.d.name && l.Left > 0
	if !own && (!h.over || !leader.MayLead(me, alive, h.boot()-h.overAt, h.hs.lease)) {
		return false
	}
	if h.hs.doze && h.hs.nested == 0 {
		h.hs.lag(20 * time.Minute)
	}
	l, err = h.store.Take(context.Background(), h.d.name, [16]byte(h.nonce()), h.hs.lease)
	if err != nil {
		return false
	}
	h.leads, h.epoch, h.until, h.handover = true, l.Epoch, asked+leader.Holds(l, h.hs.lease), leader.Handover{}
	h.hs.w.log("%s leads, epoch %d", h.d.name, l.Epoch.Number)
	h.hs.w.result.Terms++
	return true
}

// lose ends a term.
func (h *host) lose(e term.Epoch, why string) {
	if h.leads && h.epoch == e {
		h.leads = false
		h.hs.w.log("%s leads no more: %s", h.d.name, why)
	}
}

// stop ends the term so that another host may lead at once.
func (h *host) stop() {
	if !h.leads {
		return
	}
	h.directly(func() { _ = h.store.Release(context.Background(), h.epoch) })
	h.lose(h.epoch, "it stops")
}

// prove is how an effect makes sure that the host still leads.
func (h *host) prove(ctx context.Context) error {
	defer h.calls()()
	err := h.elector.Prove(ctx)
	if over := new(leader.OverError); errors.As(err, &over) {
		h.lose(over.Epoch, err.Error())
	}
	return err
}
