package daemon

import (
	"cmp"
	"context"
	"errors"
	"strconv"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// tail is how far this host has read what the others did.
type tail struct {
	next uint64     // the first entry of the chain that it has not seen; 0: it has read none
	end  chain.Hash // of the last one that it has
}

// follow reads what is new in the chain. It costs one small question while nothing is.
func (d *Daemon) follow(ctx context.Context) {
	t := &d.hosts.tail
	head, hash, err := d.store.Head(ctx)
	switch {
	case err != nil, *t == tail{head + 1, hash}:
		return
	case t.next == 0:
		d.beginTail(ctx, head, hash)
		return
	}
	policy, same := d.readTail(ctx)
	if !same { // the store lost entries that were read, and a person accepts that
		*t = tail{}
		d.beginTail(ctx, head, hash)
		policy = d.hosts.policyInForce()
	}
	if policy != "" && d.leads() {
		d.reloading.Lock()
		d.setPolicies(ctx)
		d.reloading.Unlock()
	}
	d.touch()
}

// beginTail has this host read on after the end of the chain.
func (d *Daemon) beginTail(ctx context.Context, head uint64, hash chain.Hash) {
	if d.readPolicy(ctx) == nil {
		d.hosts.tail = tail{head + 1, hash}
		d.hosts.saw(head, "")
	}
}

var errOtherChain = errors.New("the chain has other entries")

// readTail reads on after the last entry that was read, as far as it gets, and returns the configuration that is in
// force since; "": the one before. same: the chain still has that last entry.
func (d *Daemon) readTail(ctx context.Context) (policy string, same bool) {
	t := &d.hosts.tail
	same = t.next == 1
	err := d.store.Audit(ctx, t.next-1, func(c chain.Linked) error {
		if !same {
			if same = c.Seq == t.next-1 && c.Hash == t.end; !same {
				return errOtherChain
			}
			return nil
		}
		if p := c.Fields[chain.FieldPolicy]; p != "" && acts(c.Event) {
			policy = p
		}
		d.happenedElsewhere(c)
		*t = tail{c.Seq + 1, c.Hash}
		return nil
	})
	if same = same || err != nil && !errors.Is(err, errOtherChain); same {
		d.hosts.saw(t.next-1, policy)
	}
	return policy, same
}

// saw notes how far the chain was seen, and which configuration is in force; "": the one before.
func (h *hosts) saw(head uint64, policy string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.head = head
	if policy != "" {
		h.policy = policy
	}
}

// happenedElsewhere has the leader come to what somebody asked for on another host, and has a follower show what the
// leader did.
func (d *Daemon) happenedElsewhere(c chain.Linked) {
	switch {
	case !d.leads():
		if e, ok := eventOf(c); ok {
			if name := d.vaultNames()[e.Vault]; name != "" {
				e.Vault = name
			}
			d.hub.publish(e)
		}
	case !wanted(c.Entry):
	case stored.IsVault(c.Key):
		d.loop.PokeVault(c.Key, priority.Operator)
	default:
		d.loop.Poke(c.Key, priority.Operator)
	}
}

// wanted reports whether an entry is of a person, about a key or a vault: what the leader did itself it knows.
func wanted(e chain.Entry) bool { return e.Key != "" && e.Event.Anybodys() && e.Actor != "keyd" }

// steps are the events of the loop that an entry of the chain tells of.
var steps = map[chain.Event]struct {
	step  plan.Kind
	phase status.Phase
}{
	chain.GenerationReserved: {plan.Reserve, status.Done},
	chain.SparePromoted:      {plan.Promote, status.Done},
	chain.GenerationIntended: {plan.Generate, status.Begin},
	chain.GenerationMade:     {plan.Generate, status.Done},
	chain.GenerationPinned:   {plan.Pin, status.Done},
	chain.ImportIntended:     {plan.Import, status.Begin},
	chain.Imported:           {plan.Import, status.Done},
	chain.ImportVoid:         {plan.Import, status.Failed},
	chain.ProofPassed:        {plan.Prove, status.Done},
	chain.ProofRefuted:       {plan.Prove, status.Failed},
	chain.RotationFinished:   {plan.Finish, status.Done},
	chain.KeyHeld:            {plan.Hold, status.Done},
	chain.Enabled:            {plan.Enable, status.Done},
	chain.EnableAborted:      {plan.Enable, status.Failed},
}

// eventOf is what an entry of the chain tells of the leader's loop.
func eventOf(c chain.Linked) (e status.Event, ok bool) {
	s, ok := steps[c.Event]
	if !ok || stored.IsVault(c.Key) {
		return e, false
	}
	e = status.Event{At: c.Time, Key: c.Key, Step: string(s.step), Phase: s.phase, Vault: c.Fields["vault"],
		Version: c.Fields["version"], Detail: cmp.Or(c.Fields["why"], c.Fields["reason"])}
	e.Generation, _ = strconv.Atoi(c.Fields["generation"]) // none is 0
	if s.phase == status.Failed {
		e.Error = cmp.Or(e.Detail, string(c.Event))
	}
	return e, true
}
